"""How the chat templates of known policies write a conversation: marks around each role's text, as data.

To add a family is to add a row to :data:`FAMILIES`. The marks are those of the published templates; texts of tests are
rendered with templates of the same marks.
"""

from __future__ import annotations

from typing import NamedTuple

# What may stand before a first turn, and between two: beginning of text and padding.
BEGINNINGS = (
    "<s>", "</s>", "<bos>", "<eos>", "<pad>", "[PAD]", "<unk>", "<|begin_of_text|>", "<|end_of_text|>", "<|endoftext|>",
    "<|startoftext|>", "<|finetune_right_pad_id|>", "<BOS_TOKEN>", "<PAD>", "<｜begin▁of▁sentence｜>", "<｜▁pad▁｜>",
)  # fmt: skip
# Marks of other templates that a text may open with, beside <|this|> and <｜this｜>.
OTHER_MARKS = (
    r"\[INST\]", r"<<SYS>>", r"\[(?:SYSTEM_PROMPT|AVAILABLE_TOOLS|MODEL_SETTINGS|gMASK|BOS)\]", r"<sop>",
    r"<start_of_turn>", r"\[\|\w+\|\]", r"\]~!?b[\[\]]", r"<(?:extra_id_|reserved_|unused)\d+>", r"<SPECIAL_\d+>",
    r"<seed:bos>", r"<role>[A-Z]+</role>",
)  # fmt: skip


class Turn(NamedTuple):
    """How one role's text is written.

    Attributes:
        role: whose text it is; None for text that is not part of the conversation, such as earlier reasoning.
        opens: the mark before it.
        ends: marks after it, of which the first counts. One that opens the next turn belongs to that.
    """

    role: str | None
    opens: str
    ends: tuple[str, ...]


class Family(NamedTuple):
    """The marks of one family of chat templates.

    Attributes:
        name: the policies that use it, for people.
        turns: how each role's text is written.
        own_text: a pattern of system text that the template adds by itself, which is no part of the conversation.
        thoughts: pairs of marks around reasoning, which is no part of an answer.
        answer_opens: marks before an answer, inside the assistant's turn.
        answer_ends: marks after it.
        spaced: whether versions of the template differ by spaces around the texts.
    """

    name: str
    turns: tuple[Turn, ...]
    own_text: str | None = None
    thoughts: tuple[tuple[str, str], ...] = (("<think>", "</think>"),)
    answer_opens: tuple[str, ...] = ()
    answer_ends: tuple[str, ...] = ()
    spaced: bool = False


ROLES = {name: name for name in ("system", "developer", "user", "assistant", "tool")}


def _named(opens: str, *ends: str, roles: dict[str, str] | None = None) -> tuple[Turn, ...]:
    """One kind of mark for all roles, with the role's name in it."""
    return tuple(Turn(role, opens.format(name), ends) for name, role in (roles or ROLES).items())


CHATML = Family(
    "ChatML (Qwen, Yi, SmolLM)",
    _named("<|im_start|>{}\n", "<|im_end|>"),
    own_text=r"\A(?:You are Qwen, created by Alibaba Cloud\. You are a helpful assistant\."
    r"|You are a helpful and harmless assistant\. You are Qwen developed by Alibaba\. You should think step-by-step\."
    r"|You are a helpful AI assistant named SmolLM, trained by Hugging Face)(?:\Z|\n\n(?=# Tools\n))",
)
PHI_4 = Family("Phi-4", _named("<|im_start|>{}<|im_sep|>", "<|im_end|>"))
KIMI = Family(
    "Kimi",
    (
        Turn("system", "<|im_system|>system<|im_middle|>", ("<|im_end|>",)),
        Turn("tool", "<|im_system|>tool<|im_middle|>", ("<|im_end|>",)),
        Turn("user", "<|im_user|>user<|im_middle|>", ("<|im_end|>",)),
        Turn("assistant", "<|im_assistant|>assistant<|im_middle|>", ("<|im_end|>",)),
    ),
    own_text=r"\A(?:You are a helpful assistant|You are Kimi, an AI assistant created by Moonshot AI\.)\Z",
)
KIMI_3 = Family(
    "Kimi K3",
    (
        *_named('<|open|>message role="{}"<|sep|>', "<|close|>message<|sep|><|end_of_msg|>"),
        Turn(
            None,
            '<|open|>message role="system" type="thinking-effort"<|sep|>',
            ("<|close|>message<|sep|><|end_of_msg|>",),
        ),
    ),
    thoughts=(("<|open|>think<|sep|>", "<|close|>think<|sep|>"),),
    answer_opens=("<|open|>response<|sep|>",),
    answer_ends=("<|close|>message", "<|close|>response<|sep|>", "<|close|>response"),
)
LLAMA_3 = Family(
    "Llama 3",
    _named("<|start_header_id|>{}<|end_header_id|>\n\n", "<|eot_id|>", "<|eom_id|>", roles=ROLES | {"ipython": "tool"}),
    own_text=r"\ACutting Knowledge Date: [^\n]*\nToday Date: [^\n]*\n\n",
)
LLAMA_4 = Family(
    "Llama 4",
    _named("<|header_start|>{}<|header_end|>\n\n", "<|eot|>", "<|eom|>", roles=ROLES | {"ipython": "tool"}),
)
GEMMA = Family(
    "Gemma",
    _named("<start_of_turn>{}\n", "<end_of_turn>", roles={"system": "system", "user": "user", "model": "assistant"}),
)
GEMMA_4 = Family(
    "Gemma 4",
    _named("<|turn>{}\n", "<turn|>", roles={"system": "system", "user": "user", "model": "assistant", "tool": "tool"}),
    own_text=r"\A<\|think\|>\n?",
    thoughts=(("<|channel>thought\n", "<channel|>"),),
)
PHI_3 = Family("Phi-3", _named("<|{}|>\n", "<|end|>"))
PHI_4_MINI = Family("Phi-4-mini", _named("<|{}|>", "<|end|>"), spaced=True)
ZEPHYR = Family("Zephyr", _named("<|{}|>\n", "</s>"))
OLMO = Family(
    "OLMo, Tülu",
    (
        Turn("system", "<|system|>\n", ("\n<|user|>\n",)),
        Turn("user", "<|user|>\n", ("\n<|assistant|>\n",)),
        Turn("user", "\n<|user|>\n", ("\n<|assistant|>\n",)),
        Turn("assistant", "\n<|assistant|>\n", ("<|endoftext|>", "\n<|user|>\n")),
    ),
)
MISTRAL = Family(
    "Mistral, Llama 2",
    (
        Turn("system", "[SYSTEM_PROMPT]", ("[/SYSTEM_PROMPT]",)),
        Turn("system", "[INST] <<SYS>>\n", ("\n<</SYS>>\n\n",)),
        Turn("system", "[INST]<<SYS>>\n", ("\n<</SYS>>\n\n",)),
        Turn("user", "\n<</SYS>>\n\n", ("[/INST]",)),
        Turn("user", "[INST]", ("[/INST]",)),
        Turn("assistant", "[/INST]", ("</s>",)),
    ),
    own_text=r"\AYou are (?:Mistral Small 3|Devstral)[^\n]* (?:created|trained) by Mistral AI[\s\S]*",
    thoughts=(("[THINK]", "[/THINK]"), ("<think>", "</think>")),
    spaced=True,
)
DEEPSEEK = Family(
    "DeepSeek (V2.5, V3, R1)",
    (
        Turn("system", "<｜begin▁of▁sentence｜>", ("<｜User｜>",)),
        Turn("user", "<｜begin▁of▁sentence｜><｜User｜>", ("<｜Assistant｜>",)),
        Turn("user", "<｜User｜>", ("<｜Assistant｜>",)),
        Turn("assistant", "<｜Assistant｜>", ("<｜end▁of▁sentence｜>",)),
    ),
)
DEEPSEEK_2 = Family(
    "DeepSeek (V2)",
    (
        Turn("system", "<｜begin▁of▁sentence｜>", ("\n\nUser: ",)),
        Turn("user", "<｜begin▁of▁sentence｜>User: ", ("\n\nAssistant:",)),
        Turn("user", "\n\nUser: ", ("\n\nAssistant:",)),
        Turn("user", "<｜end▁of▁sentence｜>User: ", ("\n\nAssistant:",)),
        Turn("assistant", "\n\nAssistant:", ("<｜end▁of▁sentence｜>User: ", "<｜end▁of▁sentence｜>")),
    ),
    spaced=True,
)
GRANITE = Family(
    "Granite",
    _named("<|start_of_role|>{}<|end_of_role|>", "<|end_of_text|>", roles=ROLES | {"tool_response": "tool"}),
    own_text=r"\AKnowledge Cutoff Date: [^\n.]*\.\sToday's Date: [^\n.]*\.\sYou are Granite, developed by IBM\.[\s\S]*"
    r"|\AYou are a helpful assistant\. Please ensure responses are professional, accurate, and safe\.\Z",
    answer_opens=("<response>",),
    answer_ends=("</response>",),
)
COMMAND_R = Family(
    "Command-R",
    _named(
        "<|START_OF_TURN_TOKEN|><|{}_TOKEN|>",
        "<|END_OF_TURN_TOKEN|>",
        roles={"SYSTEM": "system", "USER": "user", "CHATBOT": "assistant"},
    ),
    own_text=r"\A# System Preamble\n[\s\S]*?(?:# Developer Preamble\n[^\n]*\n|\Z)",
    thoughts=(("<|START_THINKING|>", "<|END_THINKING|>"),),
    answer_opens=("<|START_RESPONSE|>",),
    answer_ends=("<|END_RESPONSE|>",),
)
GPT_OSS = Family(
    "gpt-oss (harmony)",
    (
        Turn("system", "<|start|>system<|message|>", ("<|end|>",)),
        Turn("system", "<|start|>developer<|message|># Instructions\n\n", ("\n\n<|end|>", "<|end|>")),
        Turn("system", "<|start|>developer<|message|>", ("<|end|>",)),
        Turn("user", "<|start|>user<|message|>", ("<|end|>",)),
        Turn(None, "<|start|>assistant<|channel|>analysis<|message|>", ("<|end|>",)),
        Turn("assistant", "<|start|>assistant<|channel|>final<|message|>", ("<|end|>", "<|return|>")),
        Turn("assistant", "<|start|>assistant", ("<|end|>", "<|return|>")),
    ),
    own_text=r"(?:You are ChatGPT, a large language model trained by OpenAI\.)?\nKnowledge cutoff: [\s\S]*",
    thoughts=(
        ("<|channel|>analysis<|message|>", "<|end|>"),
        ("<|channel|>commentary<|message|>", "<|end|>"),
    ),
    answer_opens=("<|start|>assistant", "<|channel|>final<|message|>"),
)

FAMILIES = (
    CHATML, PHI_4, LLAMA_3, LLAMA_4, MISTRAL, GEMMA, GEMMA_4, PHI_3, PHI_4_MINI, ZEPHYR, OLMO, DEEPSEEK, DEEPSEEK_2,
    GRANITE, COMMAND_R, GPT_OSS, KIMI, KIMI_3,
)  # fmt: skip
