"""Step 5: training.

`train` is a plain loop: draw, batch, loss, gradients, Adam; after each epoch a look at the
validation part, after the last one the test part and 20,000 fresh queries. The same
configuration gives bit-identical weights on the same machine.

The loop knows no framework. What does is a `Learner`: MLX's is here, PyTorch's in
`training.torch_menny`.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from training.backend import mx, nn
from training.batching import batch_iterate
from training.config import Recipe, TrainingConfig
from training.dataset import (
    Dataset,
    Split,
    generate_dataset,
    generate_labels,
    query_codes,
    split_dataset,
)
from training.epoch import Epoch
from training.errors import TrainingError, TrainingStoppedError
from training.evaluation import Forward, Metrics, evaluate, fresh_dataset
from training.loss import cross_entropy_loss
from training.model import Menny, parameters_of
from training.optimizer import Optimizer
from training.rule import RULE
from training.vocabulary import Letters, one_hot
from training.weights import ModelCard, package_versions

NUM_FRESH_QUERIES = 20_000


@dataclass(frozen=True)
class TrainingResult:
    """A trained model and what was measured of it."""

    config: TrainingConfig
    parameters: dict[str, npt.NDArray[np.float32]] = field(repr=False)
    history: list[Epoch] = field(repr=False)
    train: Metrics
    """On the (last) training part itself."""
    test: Metrics
    """On the test part."""
    fresh: Metrics
    """On fresh queries, 20,000 unless told otherwise, none of which was trained on."""
    seconds: float
    """Training with its validation, without the final measurements."""

    def card(self, recipe: Recipe, *packages: str) -> ModelCard:
        """The card of these weights; `packages` had a hand in them, besides MLX and NumPy."""
        return ModelCard(
            rule=RULE.sha256,
            num_heads=RULE.num_heads,
            recipe=recipe,
            config=self.config,
            metrics=self.fresh,
            test_metrics=self.test,
            training_seconds=round(self.seconds, 2),
            versions=package_versions(*packages),
        )


class Learner(Protocol):
    """A model that is being trained, in whichever framework."""

    def step(self, batch: Dataset) -> float:
        """One optimizer step; returns the batch's loss in nats a letter."""

    def forward(self, letters: Letters) -> npt.NDArray[np.float32]:
        """Letters (B, L) to logits (B, L, V)."""

    def parameters(self) -> dict[str, npt.NDArray[np.float32]]:
        """A copy of the parameters, by the names that an `.npz` of Menny's has."""

    def load(self, parameters: dict[str, npt.NDArray[np.float32]]) -> None:
        """Put `parameters` in place of the model's own."""


class MlxLearner:
    """Menny in MLX, with fresh weights from the configuration's seed."""

    def __init__(self, config: TrainingConfig) -> None:
        mx.random.seed(config.seed)
        self._model = Menny()
        self._step = _build_step(self._model, config)
        self.forward = forward_of(self._model)

    def step(self, batch: Dataset) -> float:
        """See `Learner`."""
        loss = self._step(mx.array(one_hot(batch.queries)), mx.array(batch.labels))
        return float(np.array(loss))

    def parameters(self) -> dict[str, npt.NDArray[np.float32]]:
        """See `Learner`."""
        return parameters_of(self._model)

    def load(self, parameters: dict[str, npt.NDArray[np.float32]]) -> None:
        """See `Learner`."""
        self._model.load_weights([(name, mx.array(value)) for name, value in parameters.items()])


def train(
    config: TrainingConfig,
    dataset: Dataset | None = None,
    *,
    build_learner: Callable[[TrainingConfig], Learner] = MlxLearner,
    num_fresh_queries: int | None = None,
    on_epoch: Callable[[Epoch], None] = lambda report: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainingResult:
    """Train Menny from scratch.

    Args:
        config: What to do. With a `dataset`, its `num_samples` must be the dataset's length,
            `resample` off and `labels_per_query` 1.
        dataset: Queries and labels to use instead of generated ones.
        build_learner: Makes the model and its optimizer; MLX's, if nothing else is said.
        num_fresh_queries: On how many queries to measure the result; 20,000 by default.
        on_epoch: Called at the end of each epoch.
        should_stop: Asked before each step; when it says so, `TrainingStoppedError` is raised.

    Raises:
        TrainingStoppedError: `should_stop` said so.
        TrainingError: The loss is no longer a number, or dataset and configuration don't match.

    Uses MLX on the calling thread, which should end with `mx.clear_streams()`.
    """
    if dataset is not None and (
        len(dataset) != config.num_samples or config.resample or config.labels_per_query > 1
    ):
        raise TrainingError(
            "with a dataset, num_samples is its length, resample is off and labels_per_query is 1"
        )
    data_rng, order_rng, fresh_rng, label_rng = _generators(config)
    split = _split(config, dataset or generate_dataset(config.num_samples, data_rng))
    learner = build_learner(config)

    history: list[Epoch] = []
    trained_on: list[npt.NDArray[np.int64]] = []
    best_excess_nll, best_epoch, best_parameters = math.inf, 0, learner.parameters()
    begin = time.perf_counter()
    for epoch, train_part in enumerate(_training_parts(config, split.train, data_rng), start=1):
        if config.resample or epoch == 1:
            trained_on.append(query_codes(train_part.queries))
            train_data = _with_further_labels(train_part, config.labels_per_query, label_rng)
        losses = []
        for train_batch in batch_iterate(
            train_data, config.batch_size, order_rng if config.shuffle else None
        ):
            if should_stop():
                raise TrainingStoppedError(f"stopped in epoch {epoch} of {config.num_epochs}")
            losses.append(learner.step(train_batch))
        loss = float(np.mean(losses))
        validation = evaluate(learner.forward, split.validation)
        # What the last step did shows only in the validation.
        if not math.isfinite(loss + validation.excess_nll):
            raise TrainingError(
                f"the loss is {loss + validation.excess_nll} in epoch {epoch}: the learning rate "
                f"({config.learning_rate:g}) is too high"
            )
        elapsed = time.perf_counter() - begin
        report = Epoch(
            epoch=epoch,
            num_epochs=config.num_epochs,
            loss=loss,
            validation=validation,
            seconds=elapsed,
            seconds_left=elapsed / epoch * (config.num_epochs - epoch),
        )
        history.append(report)
        on_epoch(report)
        if config.early_stopping is not None:
            if report.validation.excess_nll < best_excess_nll:
                best_excess_nll, best_epoch = report.validation.excess_nll, epoch
                best_parameters = learner.parameters()
            elif epoch - best_epoch >= config.early_stopping:
                break
    seconds = time.perf_counter() - begin

    if config.early_stopping is not None:
        learner.load(best_parameters)
    fresh = fresh_dataset(
        num_fresh_queries or NUM_FRESH_QUERIES, fresh_rng, np.concatenate(trained_on)
    )
    return TrainingResult(
        config,
        learner.parameters(),
        history,
        train=evaluate(learner.forward, train_part),
        test=evaluate(learner.forward, split.test),
        fresh=evaluate(learner.forward, fresh),
        seconds=seconds,
    )


def codes_trained_on(config: TrainingConfig) -> npt.NDArray[np.int64]:
    """The codes (`query_codes`) of all queries that a run of `config` trains on, once each.

    Anybody who has the configuration can draw them again: no need to ask who ran it.
    """
    data_rng, *_ = _generators(config)
    first, *_ = _split(config, generate_dataset(config.num_samples, data_rng))
    codes = [query_codes(first.queries)]
    if config.resample:
        codes += [query_codes(part.queries) for part in _training_parts(config, first, data_rng)]
    return np.unique(np.concatenate(codes))


def forward_of(model: Menny) -> Forward:
    """The model's forward pass as a function from letters to logits, both NumPy arrays."""

    def forward(letters: Letters) -> npt.NDArray[np.float32]:
        return np.array(model(mx.array(one_hot(letters))))

    return forward


def _generators(config: TrainingConfig) -> list[np.random.Generator]:
    """For the data, its order, the fresh queries at the end, and further labels."""
    return [np.random.default_rng(seed) for seed in np.random.SeedSequence(config.seed).spawn(4)]


def _split(config: TrainingConfig, samples: Dataset) -> Split:
    """The three parts, or three times the whole where nothing is held out."""
    return split_dataset(samples) if config.hold_out else Split(samples, samples, samples)


def _training_parts(
    config: TrainingConfig, first: Dataset, rng: np.random.Generator
) -> Iterator[Dataset]:
    """What each epoch in turn trains on."""
    yield first
    for _ in range(config.num_epochs - 1):
        yield generate_dataset(len(first), rng) if config.resample else first


def _with_further_labels(part: Dataset, number: int, rng: np.random.Generator) -> Dataset:
    """The same queries with `number` labels each, (N, R, L): their own, and others like these."""
    others = np.repeat(part.queries[:, None], number - 1, axis=1)
    labels = np.concatenate([part.labels[:, None], generate_labels(others, rng)], axis=1)
    return Dataset(part.queries, labels)


def _build_step(model: Menny, config: TrainingConfig) -> Callable[[mx.array, mx.array], mx.array]:
    """One optimizer step as a function of one-hot rows (B, L, V) and labels (B, R, L)."""

    def loss_of(inputs: mx.array, labels: mx.array) -> mx.array:
        return cross_entropy_loss(model(inputs), labels, mask_padding=config.mask_padding)

    loss_and_grad = nn.value_and_grad(model, loss_of)
    optimizer = Optimizer(config)

    def step(inputs: mx.array, labels: mx.array) -> mx.array:
        loss: mx.array
        loss, gradients = loss_and_grad(inputs, labels)
        optimizer.update(model, gradients)
        return loss

    optimizer.init(model)
    state = [model.state, optimizer.state]
    step = mx.compile(step, inputs=state, outputs=state)  # on a GPU; see `training.backend`

    def evaluated_step(inputs: mx.array, labels: mx.array) -> mx.array:
        loss = step(inputs, labels)
        mx.eval(loss, state)
        return loss

    return evaluated_step


if __name__ == "__main__":
    from training.show import show

    show("trainer")
