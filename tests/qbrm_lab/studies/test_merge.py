"""The study of merging: its rivals by hand, and the whole of it on two small domains."""

import json
import math
from dataclasses import replace

import pytest
import torch

from fixtures.fake_encoder import FakeEncoder
from fixtures.preference_files import write_two_domains
from qbrm.cli.console import Reporter
from qbrm.data.pairs import PairData
from qbrm.energies import Residual
from qbrm.reward_models import REWARD_MODELS
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.studies import merge
from qbrm_lab.studies.merge import study_merge
from qbrm_lab.studies.merge_page import BOTH, MEAN

pytestmark = pytest.mark.usefixtures("one_thread")


def normals(*settings):
    """Residual scores whose density is a normal around r0 plus a shift, of a given deviation."""
    scores = []
    for shift, deviation in settings:
        score = Residual(2, deep=0)
        with torch.no_grad():
            score.a0.fill_(shift)
            score.a[0] = shift
            score.log_tau.fill_(math.log(deviation))
        scores.append(score.eval())
    return scores


def one_pair():
    embedding = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    return PairData(embedding, torch.tensor([0.2, 0.5]), torch.tensor([0]), torch.tensor([1]))


def test_the_rivals_are_the_normals_that_their_names_say():
    scores, pair = normals((1.0, 1.0), (4.0, 2.0)), one_pair()
    # Means of the chosen response: 0.2 + 2 and 0.2 + 8; of the rejected one 0.5 + 1 and 0.5 + 4.
    mean = merge._mean_of_scores(scores, pair)
    margin, deviation = (2.2 + 8.2) / 2 - (1.5 + 4.5) / 2, math.sqrt(2 * (1 + 4) / 2)
    expected = torch.special.log_ndtr(torch.tensor(margin / deviation, dtype=torch.float64))
    assert mean.nll[0] == pytest.approx(-float(expected), abs=1e-4)
    product = merge._gaussian_product(scores, pair)
    margin = (2.2 + 8.2 / 4) / 1.25 - (1.5 + 4.5 / 4) / 1.25
    expected = torch.special.log_ndtr(torch.tensor(margin / math.sqrt(2 / 1.25), dtype=torch.float64))
    assert product.nll[0] == pytest.approx(-float(expected), abs=1e-4)
    assert product.right[0] == mean.right[0] == 1


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setitem(REWARD_MODELS, "fake", FakeEncoder)
    monkeypatch.setattr(merge, "SCORES", ("residual",))
    source = write_two_domains(tmp_path / "both.jsonl", 100)
    return ComparisonSettings(source, tmp_path / "out", reward_model="fake", seeds=2, command="qbrm study merge")


def test_the_study_sets_every_way_to_merge_beside_its_rivals(settings, monkeypatch):
    text = study_merge(settings, Reporter()).read_text()
    content = json.loads((settings.out / "merge.json").read_text())
    assert content["domains"] == ["Old", "New"]
    ways = [row["way"] for row in content["rows"] if row["score"] == "residual"]
    merged = ["merged, equal", "merged, equal, gates", "merged, familiarity", "merged, validation"]
    assert ways == ["known domain alone", "new domain alone", *merged, MEAN, "Gaussian product", BOTH]
    rows = {row["way"]: row for row in content["rows"]}
    assert {way for way, row in rows.items() if row["joint"]} == {
        "merged, validation",
        BOTH,
        "rewards with a temperature",
    }
    assert rows[MEAN]["over_mean"] == rows[MEAN]["nll_over_mean"] == [0, 0, 0]
    assert rows[BOTH]["over_joint"] == [0, 0, 0]
    for row in content["rows"]:
        assert all(row[share][1] <= row[share][0] <= row[share][2] for share in ("known", "new", "both", "nll"))
    assert "- `residual`, merged, familiarity:" in text
    assert "merged, validation*" in text

    monkeypatch.setattr(merge, "_outcomes", lambda *given: pytest.fail("a finished seed was run again"))
    assert study_merge(settings, Reporter()).read_text() == text
    with pytest.raises(pytest.fail.Exception):
        study_merge(replace(settings, seed=5), Reporter())
