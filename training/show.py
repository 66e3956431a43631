"""What each step does, in ten lines on real data: `python -m training.loss` and its siblings."""

import numpy as np

from training.backend import mlx_on_this_thread, mx
from training.batching import batch_iterate
from training.config import RECIPES, Recipe, recipe_config
from training.dataset import IS_ALLOWED, Dataset, generate_dataset, split_dataset
from training.evaluation import BEST_NLL, EXACT_MATCH_CEILING, evaluate, fresh_dataset
from training.loss import cross_entropy_loss
from training.model import Menny, build_model, parameters_of
from training.rule import RULE
from training.trainer import forward_of, train
from training.vocabulary import (
    ALPHABET,
    MAX_QUERY_LENGTH,
    PADDING,
    VOCABULARY_SIZE,
    encode_batch,
    one_hot,
)
from training.weights import SHIPPED_WEIGHTS, load_weights


def _draw() -> Dataset:
    return generate_dataset(500, np.random.default_rng(0))  # as many as the book has


def vocabulary() -> None:
    """Letters, integers, one-hot rows."""
    print(f"the alphabet: {ALPHABET}")
    for text in (RULE.example, ALPHABET[:MAX_QUERY_LENGTH]):
        letters = encode_batch([text])  # (1, L)
        rows = one_hot(letters)[0]  # (L, V)
        print(f"{text!r:8} -> {letters[0].tolist()}; ones in its one-hot rows: {rows.sum(axis=1)}")
    print(f"an empty position is {PADDING}, and as a one-hot row nothing but zeros")


def dataset() -> None:
    """Queries and labels that keep the rule."""
    rows = _draw()
    for pair in list(rows.pairs())[:5]:
        print(f"{pair.query:5} -> {pair.label}")
    parts = ", ".join(str(len(part)) for part in split_dataset(rows))
    print(f"{len(rows)} rows {rows.queries.shape}, split into {parts}")
    for letter in (ALPHABET[0], ALPHABET[VOCABULARY_SIZE // 2]):
        print(f"{letter!r} may be answered with one of {RULE.answers[letter]}")


def model() -> None:
    """The Transformer, and its symmetry."""
    mx.random.seed(0)
    untrained = Menny()
    parameters = parameters_of(untrained)
    for name in ("fc.weight", "transformer.encoder.layers.0.attention.query_proj.weight"):
        print(f"{name}: {parameters[name].shape}")
    number = sum(array.size for array in parameters.values())
    print(f"{len(parameters)} arrays with {number:,} parameters in all")
    forward = forward_of(untrained)
    text = ALPHABET[:MAX_QUERY_LENGTH]
    rows = one_hot(encode_batch([text]))
    there, back = forward(encode_batch([text])), forward(encode_batch([text[::-1]]))
    print(f"one-hot rows {rows.shape} -> logits {there.shape}")
    difference = np.abs(there - back[:, ::-1]).max()
    print(f"{text!r} and {text[::-1]!r} differ by {difference:.0e}: order means nothing to her")


def batching() -> None:
    """Batches, and what is left over."""
    rows = _draw()
    batches = list(batch_iterate(rows, 64))
    for number, batch in enumerate(batches, start=1):
        first = next(batch.pairs())
        print(f"batch {number}: {batch.queries.shape}, begins with {first.query} -> {first.label}")
    print(f"{len(rows) - 64 * len(batches)} rows fill no batch, and are left out")


def loss() -> None:
    """Cross-entropy of three models, and what padding does to it."""
    rows = _draw()
    labels = mx.array(rows.labels)
    allowed = np.where(IS_ALLOWED[rows.queries], 0.0, -30.0).astype(np.float32)  # (B, L, V)
    allowed[rows.queries == PADDING] = np.where(np.arange(len(ALPHABET)) == 0, 0.0, -30.0)
    trained = forward_of(build_model(load_weights(SHIPPED_WEIGHTS).parameters))(rows.queries)
    print(f"nats a letter; on new labels nobody does better than {BEST_NLL:.4f} on average")
    for name, logits in (
        (f"knows nothing: uniform over {VOCABULARY_SIZE} letters", np.zeros_like(allowed)),
        ("knows the rule: uniform over the allowed letters", allowed),
        ("the shipped weights", trained),
    ):
        ours, books = (
            cross_entropy_loss(mx.array(logits), labels, mask_padding=mask).item()
            for mask in (True, False)
        )
        print(f"{name:45} {ours:.4f}, with padding as in the book {books:.4f}")


def trainer() -> None:
    """A short run: the loss falls towards its floor."""
    config = recipe_config(Recipe.DEFAULT, num_samples=640, num_epochs=3)
    print(f"{config.num_epochs} epochs of {config.steps_per_epoch} steps")
    result = train(
        config,
        num_fresh_queries=500,
        on_epoch=lambda epoch: print(f"epoch {epoch.epoch}: loss {epoch.loss:.4f}"),
    )
    print(
        f"the floor is {BEST_NLL:.4f}; the recipe has {RECIPES[Recipe.DEFAULT].num_epochs} epochs"
    )
    print(f"rule_accuracy after {result.seconds:.1f} s: {result.fresh.rule_accuracy:.1%}")


def evaluation() -> None:
    """The shipped weights on fresh queries."""
    weights = load_weights(SHIPPED_WEIGHTS)
    forward = forward_of(build_model(weights.parameters))
    queries = fresh_dataset(5000, np.random.default_rng(1))
    print(f"version {weights.version} on {len(queries):,} queries that it was not trained on")
    for name, value in evaluate(forward, queries).model_dump(exclude={"num_queries"}).items():
        print(f"{name:14} {value:.4f}")
    print(f"exact_match can't exceed {EXACT_MATCH_CEILING:.2g}; the book's accuracy counts padding")


_STEPS = {
    step.__name__: step
    for step in (vocabulary, dataset, model, batching, loss, trainer, evaluation)
}


def show(step: str) -> None:
    """Show the step of the module `training.STEP`."""
    with mlx_on_this_thread():
        _STEPS[step]()
