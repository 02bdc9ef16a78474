"""Messages with more than text: what the server takes of them, and what it refuses."""

import pytest

from fixtures.serving_client import serving

CALL = {"type": "function", "function": {"name": "multiply", "arguments": {"a": 2, "b": 3}}}
ASKED = {"role": "user", "content": "2 times 3?"}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "name": "multiply", "content": "6"}


@pytest.fixture(scope="module")
def server():
    with serving() as served:
        yield served


def test_calls_in_prompts_and_responses_are_scored_as_the_model_scores_them(server):
    prompts = [[ASKED], [ASKED, CALLED, RESULT]]
    answer = server.post("/v1/score", {"prompts": prompts, "responses": [CALLED, "It is 6."]})
    called = server.post("/get_reward", {"messages": [[ASKED, CALLED], [*prompts[1], {**ASKED, "role": "assistant"}]]})
    other = {**CALLED, "tool_calls": [{**CALL, "function": {"name": "delete"}}]}
    others = server.post("/v1/score", {"prompts": prompts[:1], "responses": [other]})
    assert [reply.status for reply in (answer, called, others)] == [200] * 3
    first, second = (row["reward"] for row in answer.json["rewards"])
    assert second == pytest.approx(server.model.score(prompts[1:], ["It is 6."]).refined.item(), abs=1e-5)
    assert called.json["rewards"][0] == pytest.approx(first, abs=1e-5)
    assert others.json["rewards"][0]["reward"] != pytest.approx(first, abs=1e-5)


@pytest.mark.parametrize(
    ("prompt", "response", "named"),
    [
        ([{"role": "user"}], "x", "content"),
        ([{**ASKED, "mood": "good"}], "x", "prompts.0"),
        ([{**ASKED, "tool_calls": "multiply"}], "x", "prompts.0"),
        ([ASKED], RESULT, "not the assistant's"),
        ([ASKED], {**RESULT, "content": "6" * 10_000}, "not the assistant's"),
    ],
    ids=["no text", "unknown key", "calls of no kind", "a tool's answer", "a long one"],
)
def test_a_message_that_is_not_as_expected_is_refused_in_one_short_line(server, prompt, response, named):
    reply = server.post("/v1/score", {"prompts": [prompt], "responses": [response]})
    assert reply.status == 422
    assert named in reply.detail
    assert len(reply.detail) < 300


def test_calls_count_among_a_prompts_characters(server):
    long = {**CALLED, "tool_calls": [{**CALL, "function": {"name": "m" * 100_000}}]}
    assert server.post("/v1/score", {"prompts": [[ASKED, long]], "responses": ["x"]}).status == 413
    assert server.post("/v1/score", {"prompts": [[ASKED]], "responses": [long]}).status == 413
