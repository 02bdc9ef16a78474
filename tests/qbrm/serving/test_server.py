"""The JSON API says what the model says offline, refuses what it should in one line, and lets in whom it should."""

import base64
import hmac
import itertools
import json
import threading
import time

import pytest
import torch

from fixtures.candidate_sets import write_candidates
from fixtures.serving_client import MODEL_NAME, PROMPT, RESPONSES, serving, small_model, wait_until
from qbrm.errors import InputError
from qbrm.serving import authentication
from qbrm.serving.settings import Limits

TOKEN = "correct-horse-battery"
SCORE = {"prompts": [PROMPT], "responses": ["A drink."]}
SCORING = ("/v1/score", "/v1/prefer", "/v1/compare", "/v1/choose", "/get_reward", "/classify", "/remote_rm")
PROTECTED = (*SCORING, "/v1/model", "/metrics", "/nothing")
PUBLIC = ("/", "/docs", "/openapi.json", "/healthz", "/readyz")


@pytest.fixture(scope="module", autouse=True)
def quick(one_thread):
    """Small tensors, one thread."""


@pytest.fixture(scope="module")
def served(quick):
    limits = Limits(body_bytes=20_000, responses=8, characters=500, compared=4, batch=5)
    with serving(limits=limits) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(quick):
    with serving(token=TOKEN) as running:
        yield running


def test_scores_are_those_of_the_model(served):
    prompts = [PROMPT, "What is rain?", PROMPT, "And stones?"]
    rewards = served.post("/v1/score", {"prompts": prompts, "responses": RESPONSES}).json["rewards"]
    expected = served.model.score(prompts, RESPONSES)
    close = {"rtol": 0, "atol": 1e-5}
    for name in ("base", "mean", "mode", "std"):
        torch.testing.assert_close(torch.tensor([r[name] for r in rewards]), getattr(expected, name), **close)
    torch.testing.assert_close(torch.tensor([r["reward"] for r in rewards]), expected.refined, **close)
    for level, quantile in expected.quantiles.items():
        torch.testing.assert_close(torch.tensor([r["quantiles"][str(level)] for r in rewards]), quantile, **close)


def test_a_preference_is_that_of_the_model(served):
    for a, b in itertools.permutations(RESPONSES[:3], 2):
        answer = served.post("/v1/prefer", {"prompt": PROMPT, "a": a, "b": b}).json
        assert answer["probability"] == pytest.approx(served.model.prefer(PROMPT, a, b), abs=1e-4)


def test_a_comparison_ranks_by_refined_reward_and_tells_preferences(served):
    answer = served.post("/v1/compare", {"prompt": PROMPT, "responses": RESPONSES}).json
    refined = served.model.score([PROMPT] * 4, RESPONSES).refined.tolist()
    by_rank = sorted(range(4), key=lambda row: answer["responses"][row]["rank"])
    assert by_rank == sorted(range(4), key=lambda row: -refined[row])
    for (i, a), (j, b) in itertools.product(enumerate(RESPONSES), repeat=2):
        assert answer["preferences"][i][j] == pytest.approx(served.model.prefer(PROMPT, a, b), abs=1e-4)


def test_a_choice_is_the_models(served):
    answer = served.post("/v1/choose", {"prompt": PROMPT, "responses": RESPONSES}).json
    best, rewards, _ = served.model.choose(PROMPT, RESPONSES)
    assert (answer["best"], answer["good"]) == (best, None)
    assert answer["rewards"] == pytest.approx(rewards.tolist(), abs=1e-5)


def test_a_choice_is_made_in_view_of_all_candidates_where_the_model_has_a_machine_across_them(tmp_path):
    model = small_model()
    model.fit_candidates(write_candidates(tmp_path / "candidates.jsonl"))
    with serving(model) as running:
        answer = running.post("/v1/choose", {"prompt": PROMPT, "responses": RESPONSES}).json
    best, rewards, good = model.choose(PROMPT, RESPONSES)
    assert answer["best"] == best
    assert answer["rewards"] == pytest.approx(rewards.tolist(), abs=1e-5)
    assert answer["good"] == pytest.approx(good.tolist(), abs=1e-5)


def test_a_curve_is_a_density_with_the_mean_and_deviation_that_are_told(served):
    for response in served.post("/v1/compare", {"prompt": PROMPT, "responses": RESPONSES}).json["responses"]:
        reward, density = (torch.tensor(response["curve"][name]).double() for name in ("reward", "density"))
        assert torch.trapezoid(density, reward) == pytest.approx(1, abs=1e-4)
        mean = torch.trapezoid(density * reward, reward)
        assert mean == pytest.approx(response["mean"], abs=1e-3)
        variance = torch.trapezoid(density * (reward - mean) ** 2, reward)
        assert variance.sqrt() == pytest.approx(response["std"], abs=1e-3)
        assert reward[density.argmax()] == pytest.approx(response["mode"], abs=float(reward[1] - reward[0]))


def test_a_prompt_may_be_a_conversation(served):
    chat = [{"role": "user", "content": PROMPT}]
    of_chat = served.post("/v1/score", {"prompts": [chat], "responses": ["A drink."]}).json
    assert of_chat == served.post("/v1/score", SCORE).json


def test_nothing_asked_is_nothing_answered(served):
    assert served.post("/v1/score", {"prompts": [], "responses": []}).json == {"rewards": []}


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/v1/score", {"prompts": ["a", "b"], "responses": ["x"]}, "2 prompts and 1 responses"),
        ("/v1/score", {"prompts": "a", "responses": ["x"]}, "body.prompts"),
        ("/v1/score", {"responses": ["x"]}, "body.prompts: Field required"),
        ("/v1/score", {"prompts": ["a"], "responses": [3]}, "body.responses.0"),
        ("/v1/score", {"prompts": [[]], "responses": ["x"]}, "body.prompts.0"),
        ("/v1/score", {"prompts": [[{"role": "king", "content": "a"}]], "responses": ["x"]}, "body.prompts.0"),
        ("/v1/score", {"prompts": ["a"], "responses": ["x"], "temperature": 1}, "body.temperature"),
        ("/v1/score", ["a"], "body"),
        ("/v1/prefer", {"prompt": "a", "a": "x"}, "body.b: Field required"),
        ("/v1/compare", {"prompt": "a", "responses": ["only one"]}, "body.responses"),
        ("/v1/choose", {"prompt": "a", "responses": []}, "body.responses"),
    ],
)
def test_a_request_of_another_form_is_refused_in_one_line_that_says_where(served, path, body, told):
    reply = served.post(path, body)
    assert reply.status == 422
    assert told in reply.detail


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff\xfe\x00",
        b'{"prompts": ["a"], "responses": ["\\ud800"], "\\ud800": 1}',
        b"[" * 15_000,
        b'{"prompts": ["a"], "responses": [' + b"9" * 10_000 + b"]}",
        b'{"prompts": ["a"], "responses": [NaN]}',
        b'{"a": 1' * 1000,
        b"",
        b"\x00" * 100,
    ],
    ids=["cut", "binary", "surrogate key", "deep", "huge number", "nan", "nested", "empty", "zeros"],
)
def test_bytes_that_are_no_request_are_refused_and_harm_nobody(served, body):
    reply = served.post("/v1/score", body, raw=True)
    assert 400 <= reply.status < 500
    assert len(reply.detail) < 300
    assert served.post("/v1/score", SCORE).status == 200


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/v1/score", {"prompts": ["a"] * 9, "responses": ["x"] * 9}, "9 responses; expected at most 8"),
        ("/v1/compare", {"prompt": "a", "responses": ["x"] * 5}, "5 responses; expected at most 4"),
        ("/v1/choose", {"prompt": "a", "responses": ["x"] * 6}, "6 responses; expected at most 5"),
        ("/v1/prefer", {"prompt": "a", "a": "x", "b": "x" * 501}, "response 1 has 501 characters"),
        ("/v1/score", {"prompts": ["a" * 501], "responses": ["x"]}, "prompt 0 has 501 characters"),
        ("/v1/score", {"prompts": ["a"], "responses": ["x" * 21_000]}, "the body is too large"),
        (
            "/v1/score",
            {"prompts": [[{"role": "user", "content": "a" * 300}] * 2], "responses": ["x"]},
            "prompt 0 has 600 characters",
        ),
    ],
)
def test_too_much_is_refused_with_413(served, path, body, told):
    reply = served.post(path, body)
    assert reply.status == 413
    assert told in reply.detail


def test_half_a_surrogate_pair_in_a_text_does_no_harm(served):
    body = b'{"prompts": ["\\ud800"], "responses": ["\\ud800"]}'
    assert served.post("/v1/score", body, raw=True).status in (200, 422)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_form_that_a_browser_sends_unasked_is_refused(served, kind):
    reply = served.post("/v1/score", SCORE, headers={"content-type": kind})
    assert reply.status == 415


def test_unknown_paths_and_methods_are_refused(served):
    assert served.get("/nothing").status == 404
    assert served.get("/v1/score").status == 405
    assert served.request("TRACE", "/").status == 405


def test_what_many_clients_ask_at_once_is_answered_to_each_as_offline():
    """A short version of `qbrm bench serve`."""
    clients, rounds = 64, 6
    with serving() as served:
        answers, failures = {}, []

        def client(number):
            for turn in range(rounds):
                responses = [f"answer {number}.{turn}.{row}" for row in range(1 + (number + turn) % 3)]
                try:
                    body = {"prompts": [PROMPT] * len(responses), "responses": responses}
                    rewards = served.post("/v1/score", body).json["rewards"]
                    answers.update(zip(responses, (reward["reward"] for reward in rewards), strict=True))
                except Exception as error:
                    failures.append(error)

        threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert len(answers) == sum(1 + (number + turn) % 3 for number in range(clients) for turn in range(rounds))
        expected = served.model.score([PROMPT] * len(answers), list(answers)).refined
        torch.testing.assert_close(torch.tensor(list(answers.values())), expected, rtol=0, atol=1e-5)
        assert len(set(expected.tolist())) == len(answers)
        assert served.metric("qbrm_batch_responses_count") < clients * rounds / 2


@pytest.mark.parametrize("path", PROTECTED)
def test_without_the_token_nothing_is_told(guarded, path):
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": TOKEN}, {"authorization": "Basic !!"}):
        reply = guarded.request("GET" if path in ("/v1/model", "/metrics") else "POST", path, {}, headers)
        assert reply.status == 401
        assert reply.headers["www-authenticate"].startswith("Bearer")
        assert TOKEN not in reply.detail


@pytest.mark.parametrize("path", PUBLIC)
def test_the_page_the_documentation_and_health_are_for_everybody(guarded, path):
    assert guarded.get(path).status == 200
    assert MODEL_NAME.encode() not in guarded.get(path).body, "the model's name is for those with the token"


def test_the_token_opens_as_bearer_and_as_password(guarded):
    basic = base64.b64encode(f"any:{TOKEN}".encode()).decode()
    for value in (f"Bearer {TOKEN}", f"bearer  {TOKEN}", f"Basic {basic}"):
        assert guarded.post("/v1/score", SCORE, headers={"authorization": value}).status == 200


@pytest.mark.parametrize("given", ["", "Bearer x", f"Bearer {TOKEN}", f"Bearer {TOKEN}x", "Bearer " + "x" * 4000])
def test_tokens_are_compared_in_constant_time_whatever_their_length(monkeypatch, given):
    compared = []
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((len(a), len(b))) or a == b)
    check = authentication.bears(TOKEN, public=())
    refusal = check({"type": "http", "path": "/", "headers": [(b"authorization", given.encode())]})
    assert (refusal is None) == (given == f"Bearer {TOKEN}")
    assert compared == [(32, 32)]


def test_a_token_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("QBRM_TOKEN", raising=False)
    assert authentication.read_token(None) is None
    monkeypatch.setenv("QBRM_TOKEN", "from-the-environment")
    assert authentication.read_token(None) == "from-the-environment"
    (tmp_path / "token").write_text("from-a-file\n")
    assert authentication.read_token(tmp_path / "token") == "from-a-file"


@pytest.mark.parametrize("content", ["", "\n", "two words", "naïve", "a\nb"])
def test_a_token_that_no_header_can_hold_is_refused(tmp_path, content):
    (tmp_path / "token").write_text(content)
    with pytest.raises(InputError, match="not usable"):
        authentication.read_token(tmp_path / "token")
    with pytest.raises(InputError, match="cannot be read"):
        authentication.read_token(tmp_path / "missing")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200), ("127.0.0.1", 200), ("[::1]:80", 200), ("LOCALHOST", 200),
        ("evil.example", 421), ("127.0.0.1.evil.example:80", 421), ("localhost.evil.example", 421), ("", 421),
    ],
)  # fmt: skip
def test_a_server_on_loopback_answers_to_no_name_of_strangers(host, status):
    with serving(hosts=authentication.LOOPBACK_NAMES) as served:
        assert served.get("/healthz", headers={"host": host}).status == status


def test_every_answer_tells_browsers_to_take_no_liberties(served):
    for reply in (served.get("/"), served.get("/nothing"), served.post("/v1/score", b"{", raw=True)):
        headers = {name.lower(): value for name, value in reply.headers.items()}
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers


def test_the_documentation_needs_no_other_server(served):
    page = served.get("/docs")
    assert b"//" not in page.body.replace(b"// ", b"")
    assert "'unsafe" not in page.headers["content-security-policy"]
    assert len(served.get("/docs/swagger-ui-bundle.js").body) > 100_000
    assert len(served.get("/docs/swagger-ui.css").body) > 10_000


def test_the_api_describes_itself(served):
    description = served.get("/openapi.json").json
    assert {*SCORING, "/v1/model", "/metrics"} <= set(description["paths"])
    answer = description["paths"]["/v1/score"]["post"]["responses"]
    assert {"200", "401", "413", "422", "503"} <= set(answer)
    reward = description["components"]["schemas"]["Reward"]["properties"]
    assert set(reward) == {"reward", "base", "mean", "mode", "std", "quantiles"}


def test_metrics_count_what_was_asked_and_strangers_cannot_make_labels(served):
    before = served.metric("qbrm_responses_scored_total")
    served.post("/v1/score", {"prompts": [PROMPT] * 4, "responses": RESPONSES})
    assert served.metric("qbrm_responses_scored_total") == before + 4
    assert served.metric("qbrm_responses_waiting") == 0
    for number in range(5):
        served.request(f"X{number}", f"/guess/{number}")
    text = served.get("/metrics").body.decode()
    assert "guess" not in text
    assert 'method="other",path="other",status="404"' in text


def test_an_error_of_the_model_hides_its_details_and_serving_goes_on():
    class Failing:
        def __init__(self):
            self.model, self.fail = small_model(), True

        def score(self, prompts, responses):
            if self.fail:
                raise RuntimeError("secret path /home/someone")
            return self.model.score(prompts, responses)

    model = Failing()
    with serving(model) as served:
        reply = served.post("/v1/score", SCORE)
        assert (reply.status, reply.detail) == (500, "the model failed; the server's log says why.")
        model.fail = False
        assert served.post("/v1/score", SCORE).status == 200


def test_an_answer_that_is_not_a_number_is_an_error():
    class NotANumber:
        def score(self, prompts, responses):
            found = small_model().score(prompts, responses)
            return found._replace(refined=found.refined * float("nan"))

    with serving(NotANumber()) as served:
        assert served.post("/v1/score", SCORE).status == 500
        assert served.post("/get_reward", {"query": ["ab"], "prompts": ["a"]}).status == 500


def test_a_stuck_model_means_timeouts_then_not_ready_then_refusals():
    release = threading.Event()

    class Stuck:
        def score(self, prompts, responses):
            release.wait(20)
            return small_model().score(prompts, responses)

    with serving(Stuck(), Limits(answer_seconds=0.3)) as served:
        assert served.get("/readyz").status == 200
        reply = served.post("/v1/score", SCORE)
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert "no answer within 0.3 s" in reply.detail
        wait_until(lambda: served.get("/readyz").status == 503)
        assert served.get("/healthz").status == 200
        release.set()
        time.sleep(0.1)
        assert served.post("/v1/score", SCORE).status == 200
        assert json.loads(served.get("/readyz").body) == {"status": "ready"}
