import numpy as np
import pytest

from training import trainer
from training.config import Recipe, TrainingConfig, recipe_config
from training.dataset import generate_dataset
from training.epoch import Epoch
from training.errors import TrainingError, TrainingStoppedError
from training.trainer import codes_trained_on, train

TINY = recipe_config(
    Recipe.DEFAULT, num_samples=40, num_epochs=3, batch_size=8, warm_up_steps=2, seed=5
)


@pytest.fixture(autouse=True)
def _fewer_fresh_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.trainer.NUM_FRESH_QUERIES", 256)


def changed(config: TrainingConfig, **changes: object) -> TrainingConfig:
    return TrainingConfig.model_validate(config.model_dump() | changes)


def test_the_same_seed_gives_bit_identical_weights_and_another_seed_others() -> None:
    first, again = train(TINY).parameters, train(TINY).parameters
    other = train(changed(TINY, seed=6)).parameters
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["fc.weight"], other["fc.weight"])


def test_each_epoch_is_reported_with_what_validation_says() -> None:
    reports: list[Epoch] = []
    result = train(TINY, on_epoch=reports.append)
    assert [report.epoch for report in reports] == [1, 2, 3]
    assert reports == result.history
    assert all(report.validation.num_queries == 8 for report in reports)
    assert reports[0].seconds_left > 0 == reports[-1].seconds_left
    assert result.fresh.num_queries == 256
    assert result.test.num_queries == 8


def test_training_lowers_the_loss() -> None:
    history = train(changed(TINY, num_samples=200, num_epochs=6, batch_size=16)).history
    assert history[-1].loss < 0.8 * history[0].loss


def test_without_resampling_every_epoch_sees_the_same_queries() -> None:
    # With a learning rate of next to nothing the loss can only change with the data.
    still = {"learning_rate": 1e-12, "warm_up_steps": 0, "schedule": "constant", "shuffle": False}
    losses = [report.loss for report in train(changed(TINY, resample=False, **still)).history]
    assert losses[0] == pytest.approx(losses[2], abs=1e-5)
    losses = [report.loss for report in train(changed(TINY, resample=True, **still)).history]
    assert abs(losses[0] - losses[2]) > 1e-3


def test_early_stopping_ends_the_run_and_keeps_the_best_epochs_weights() -> None:
    # Trained on 24 queries only, she soon gets worse on the others.
    config = changed(TINY, num_epochs=60, resample=False, warm_up_steps=0, schedule="constant")
    result = train(changed(config, early_stopping=3))
    assert len(result.history) < 60
    best = min(result.history, key=lambda report: report.validation.excess_nll)
    assert result.history[-1].epoch == best.epoch + 3
    until_best = train(changed(config, num_epochs=best.epoch)).parameters
    assert all(np.array_equal(until_best[name], result.parameters[name]) for name in until_best)


def test_a_dataset_of_ones_own_is_trained_on() -> None:
    dataset = generate_dataset(40, np.random.default_rng(9))
    config = changed(TINY, resample=False, labels_per_query=1)
    own = train(config, dataset).parameters
    generated = train(config).parameters
    assert not np.array_equal(own["fc.weight"], generated["fc.weight"])


def test_a_dataset_that_does_not_fit_the_configuration_is_refused() -> None:
    dataset = generate_dataset(41, np.random.default_rng(9))
    with pytest.raises(TrainingError, match="num_samples"):
        train(changed(TINY, resample=False, labels_per_query=1), dataset)


def test_further_labels_are_drawn_by_the_rule_so_not_for_a_dataset_of_ones_own() -> None:
    dataset = generate_dataset(40, np.random.default_rng(9))
    with pytest.raises(TrainingError, match="labels_per_query is 1"):
        train(changed(TINY, resample=False, labels_per_query=2), dataset)


@pytest.mark.slow
def test_more_labels_per_query_teach_the_distribution_better() -> None:
    config = changed(TINY, num_samples=320, num_epochs=6, batch_size=32, resample=False)
    one, many = (
        train(changed(config, labels_per_query=number)).fresh.excess_nll for number in (1, 16)
    )
    assert many < one


def test_asked_to_stop_it_stops_and_gives_nothing() -> None:
    reports: list[Epoch] = []
    with pytest.raises(TrainingStoppedError, match="stopped in epoch 2 of 3"):
        train(TINY, on_epoch=reports.append, should_stop=lambda: bool(reports))


def test_a_loss_that_is_no_number_is_an_error_that_names_the_learning_rate() -> None:
    config = changed(TINY, learning_rate=1e6, num_epochs=200, warm_up_steps=0, schedule="constant")
    with pytest.raises(TrainingError, match=r"the loss is nan .* learning rate \(1e\+06\)"):
        train(config, on_epoch=lambda report: None)


def test_the_queries_of_a_run_can_be_drawn_again_from_its_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[np.ndarray] = []
    original = trainer.fresh_dataset

    def spy(num_queries: int, rng: np.random.Generator, trained_on: np.ndarray) -> object:
        seen.append(trained_on)
        return original(num_queries, rng, trained_on)

    monkeypatch.setattr(trainer, "fresh_dataset", spy)
    for resample in (True, False):
        config = TrainingConfig(
            num_samples=200, num_epochs=3, batch_size=64, warm_up_steps=0, resample=resample
        )
        train(config, num_fresh_queries=100)
        assert np.array_equal(np.unique(seen.pop()), codes_trained_on(config))
