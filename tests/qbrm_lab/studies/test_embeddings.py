"""What a richer embedding is worth: three embeddings from one pass, and the table of all."""

import numpy as np
import pytest

from fixtures.preference_files import write_preferences
from fixtures.tiny_models import save
from qbrm.cli.console import Reporter
from qbrm.errors import InputError
from qbrm.features import FeatureTable
from qbrm.preferences import read_preferences, response_id
from qbrm.reward_models import load_reward_model
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.results import read_results
from qbrm_lab.studies.embeddings import EMBEDDINGS, study_embeddings

pytestmark = pytest.mark.usefixtures("one_thread", "no_pictures")


@pytest.fixture
def settings(tmp_path):
    return ComparisonSettings(
        write_preferences(tmp_path / "train.jsonl", 0, 40),
        tmp_path / "out",
        methods=("length", "base", "residual"),
        reward_model=str(save(tmp_path / "model")),
        seeds=1,
        epochs=1,
        command="qbrm study embeddings",
    )


def test_each_embedding_is_what_the_reward_model_gives_for_it(settings):
    study_embeddings(settings, Reporter.silent())
    items = list(read_preferences(settings.train))[:5]
    for name in EMBEDDINGS:
        table = FeatureTable.open(settings.out / name / "features")
        model = load_reward_model(settings.reward_model, embedding=name)
        expected = model.embed([item.prompt for item in items], [item.chosen for item in items])
        found = table.rows([(item.prompt_id, response_id(item.chosen)) for item in items])
        np.testing.assert_allclose(found.embedding, expected.embedding, atol=1e-5)
        np.testing.assert_allclose(found.reward, expected.reward, atol=1e-5)
        assert table.identity == model.identity


def test_all_embeddings_share_the_base_and_the_page_has_a_column_for_each(settings):
    page = study_embeddings(settings, Reporter.silent()).read_text()
    assert page.count("last, pairwise") == page.count("layers, pairwise") == 1
    of_each = [read_results(settings.out / name) for name in EMBEDDINGS]
    bases = [[row.accuracy for row in of_one.summary if row.method == "base"] for of_one in of_each]
    assert bases[0] == bases[1] == bases[2]


def test_an_encoder_without_a_score_layer_is_refused(settings):
    with pytest.raises(InputError, match="all-MiniLM-L6-v2 takes no embedding"):
        study_embeddings(
            ComparisonSettings(settings.train, settings.out, reward_model="all-MiniLM-L6-v2"), Reporter.silent()
        )
