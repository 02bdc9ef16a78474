"""The model card of an exported reward model."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import ModelCardData

import qbrm
from qbrm.energies import EnergyScore, describe
from qbrm.model.export.tokenizer import Takes
from qbrm.model.model_card import TAGS, TASK
from qbrm.reward_models import Identity
from qbrm.reward_models.hub import HUB_ID

FOLDER = "FOLDER"  # where the reader has the model, which is not known here
ASKED, ANSWERED = "How do I boil an egg?", "Eight minutes in boiling water."
USAGE: dict[Takes, str] = {
    "conversation": f"""\
conversation = [{{"role": "user", "content": "{ASKED}"}}, {{"role": "assistant", "content": "{ANSWERED}"}}]
text = judge.tokenizer.apply_chat_template(conversation, tokenize=False)
reward = judge(text, add_special_tokens=False)[0]["score"]""",
    "pair": f"""\
reward = judge({{"text": "{ASKED}", "text_pair": "{ANSWERED}"}})["score"]""",
    "text": f"""\
reward = judge("{ASKED}\\n\\n{ANSWERED}")[0]["score"]""",
}


def classifier_card(identity: Identity, score: EnergyScore, *, remote_code: bool, takes: Takes) -> str:
    """What the folder is, and how transformers gives a reward with it: YAML front matter for the Hub, then Markdown."""
    kind = describe(score)["name"]
    base = identity.name if HUB_ID.fullmatch(identity.name) else None
    data = ModelCardData(base_model=base, library_name="transformers", pipeline_tag=TASK, tags=TAGS)
    trust = ", trust_remote_code=True" if remote_code else ""
    parts = [
        f"---\n{data.to_yaml().strip()}\n---",
        "# A refined reward model",
        f"`{base or Path(identity.name).name}` (revision `{identity.revision}`), its rewards refined by the energy "
        f"score `{kind}`. The logit is the refined reward. Exported by QBRM {qbrm.__version__}; scoring needs none.",
        "```python\nfrom transformers import pipeline\n\n"
        f'judge = pipeline("text-classification", "{FOLDER}"{trust})\n{USAGE[takes]}\n```',
    ]
    return "\n\n".join(parts) + "\n"
