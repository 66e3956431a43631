import subprocess
import sys
from pathlib import Path

import pytest

from tests.in_process import in_process
from training.config import Recipe, recipe_config
from training.trainer import train
from training.weights import ModelCard, Weights, load_weights, save_weights


@pytest.mark.slow
def test_the_book_s_recipe_gives_what_the_chapter_shows(tmp_path: Path) -> None:
    config = recipe_config(Recipe.BOOK)
    result = train(config)
    assert result.history[-1].loss < 0.08
    assert result.train.book_accuracy > 0.91
    assert result.fresh.book_accuracy < 0.6
    assert 0.9 < result.fresh.rule_accuracy < 1
    assert result.fresh.excess_nll > 1


@pytest.fixture(scope="module")
def by_the_book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the book's recipe, cut short."""
    out = tmp_path_factory.mktemp("book") / "book.npz"
    result = train(recipe_config(Recipe.BOOK, num_epochs=3), num_fresh_queries=1_000)
    save_weights(out, result.parameters, result.card(Recipe.BOOK))
    return out


def test_the_book_s_recipe_trains_on_all_of_its_samples(by_the_book: Path) -> None:
    card = load_weights(by_the_book).card
    assert card is not None
    assert card.config.train_size == 500
    assert card.config.steps_per_epoch == 7
    assert card.test_metrics.num_queries == 500


def test_evaluate_says_what_the_book_s_accuracy_means(by_the_book: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "evaluate", "--weights", by_the_book]
        + ["--num-queries", "2000"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "of letters get an allowed answer" in done.stdout
    assert "trained on and counts empty positions" in done.stdout
    assert "Not proven" in done.stdout


@pytest.mark.default_rule
@pytest.mark.parametrize("has_card", [True, False])
def test_the_book_s_weights_are_served_with_an_honest_health_even_without_a_card(
    by_the_book: Path, tmp_path: Path, has_card: bool
) -> None:
    weights = by_the_book
    if not has_card:  # as the book's own script leaves them
        weights = tmp_path / "menny_model_weights.npz"
        weights.write_bytes(by_the_book.read_bytes())
    with in_process(weights=weights) as menny:
        health = menny.client.get("/health").json()
        assert health["status"] == "ok"
        assert health["proven"] is False
        assert (health["rule_accuracy"] is None) is not has_card
        assert len(str(menny.transform("MeM")["response"])) == 3


def test_the_default_recipe_keeps_what_it_measures_on_apart() -> None:
    config = recipe_config(Recipe.DEFAULT)
    assert config.train_size == config.num_samples * 3 // 5


def test_cards_from_before_the_proof_still_load(by_the_book: Path, tmp_path: Path) -> None:
    weights: Weights = load_weights(by_the_book)
    assert weights.card is not None
    old = weights.card.model_dump(mode="json", exclude={"proof"})
    del old["config"]["hold_out"]
    assert ModelCard.model_validate(old).proof is None
    copy = tmp_path / "copy.npz"
    save_weights(copy, weights.parameters, ModelCard.model_validate(old))
    assert load_weights(copy).card is not None
