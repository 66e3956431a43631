import string
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from training.architecture import parameter_shapes
from training.backend import BLAS
from training.dataset import generate_queries
from training.model import Menny, build_model, parameters_of
from training.trainer import forward_of
from training.vocabulary import decode_batch
from training.weights import load_weights


def test_parameter_shapes_are_those_of_the_model() -> None:
    shapes = {name: value.shape for name, value in parameters_of(Menny()).items()}
    assert shapes == parameter_shapes()


class ChapterModel(nn.Module):
    """The model as the chapter has it, logits flattened to (B * L, V)."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = nn.Transformer(52, 4)
        self.fc = nn.Linear(52, 52)

    def __call__(self, rows: mx.array) -> mx.array:
        return self.fc(self.transformer(rows, rows, None, None, None)).reshape(-1, 52)


@pytest.mark.default_rule
def test_weights_saved_by_the_books_model_load_and_answer_as_they_did_there(tmp_path: Path) -> None:
    mx.random.seed(4)
    book = ChapterModel()
    path = tmp_path / "menny_model_weights.npz"
    book.save_weights(str(path))
    queries = generate_queries(50, np.random.default_rng(0))
    rows = np.zeros((len(queries), 5, 52), dtype=np.float32)
    for number, query in enumerate(decode_batch(queries)):
        for position, letter in enumerate(query):
            rows[number, position, string.ascii_letters.index(letter)] = 1

    weights = load_weights(path)

    assert weights.card is None
    logits = forward_of(build_model(weights.parameters))(queries)
    np.testing.assert_array_equal(logits.reshape(-1, 52), np.array(book(mx.array(rows))))


@pytest.mark.default_rule
def test_shuffled_letters_have_shuffled_logits() -> None:
    rng = np.random.default_rng(0)
    forward = forward_of(Menny())
    queries = generate_queries(100, rng)
    order = rng.permutation(5)
    np.testing.assert_allclose(forward(queries)[:, order], forward(queries[:, order]), atol=1e-4)


def test_mlx_multiplies_with_a_fast_blas() -> None:
    assert BLAS.name in {"openblas", "accelerate"}, BLAS.reason
