"""Menny once more, as the chapter has her, in float64 and NumPy alone: the truth about near-ties.

In float32 a logit moves by some 1e-5 with the batch, the device and the array library, and 0.4 % of
all multisets have a letter whose best two answers are closer than that. Here it moves by 5e-15. So
whoever is in doubt asks here, and all come to the same answer (`training.settling`).

Shapes: B queries, L positions, V letters and width, H heads, D = V / H dimensions each.
"""

import math

import numpy as np
import numpy.typing as npt

from training.architecture import EPSILON, NUM_HEADS, NUM_LAYERS, Parameters
from training.vocabulary import VOCABULARY_SIZE, Letters, one_hot

Array = npt.NDArray[np.float64]


class ReferenceMenny:
    """The plain model as a function from letters (B, L) to logits (B, L, V), in float64."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = {name: array.astype(np.float64) for name, array in parameters.items()}

    def __call__(self, letters: Letters) -> Array:
        """Letters (B, L), `PADDING` where a query has ended, to logits (B, L, V)."""
        x = start = one_hot(letters).astype(np.float64)
        for i in range(NUM_LAYERS):
            layer = f"transformer.encoder.layers.{i}"
            y = self._norm(f"{layer}.ln1", x)
            x = x + self._attention(f"{layer}.attention", y, y)
            x = x + self._mlp(layer, self._norm(f"{layer}.ln2", x))
        memory, x = self._norm("transformer.encoder.ln", x), start
        for i in range(NUM_LAYERS):
            layer = f"transformer.decoder.layers.{i}"
            y = self._norm(f"{layer}.ln1", x)
            x = x + self._attention(f"{layer}.self_attention", y, y)
            y = self._norm(f"{layer}.ln2", x)
            x = x + self._attention(f"{layer}.cross_attention", y, memory)
            x = x + self._mlp(layer, self._norm(f"{layer}.ln3", x))
        return self._linear("fc", self._norm("transformer.decoder.ln", x))

    def _norm(self, name: str, x: Array) -> Array:
        """LayerNorm: mean 0 and variance 1 along the width, then a scale and a shift."""
        x = x - x.mean(axis=-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + EPSILON)
        return x * self._parameters[f"{name}.weight"] + self._parameters[f"{name}.bias"]

    def _linear(self, name: str, x: Array) -> Array:
        return self._product(name, x) + self._parameters[f"{name}.bias"]

    def _product(self, name: str, x: Array) -> Array:
        """Rows (B, L, V or wider) times a layer's weights, in one product, faster than B."""
        rows = x.reshape(-1, x.shape[-1]) @ self._parameters[f"{name}.weight"].T
        return rows.reshape(*x.shape[:-1], -1)

    def _mlp(self, layer: str, x: Array) -> Array:
        hidden = np.maximum(self._linear(f"{layer}.linear1", x), 0)
        return self._linear(f"{layer}.linear2", hidden)

    def _attention(self, name: str, x: Array, memory: Array) -> Array:
        """Each row of x asks all rows of memory: softmax(Q K^T / sqrt(D)) V, in each head."""
        queries = self._heads(f"{name}.query_proj", x)  # (B, H, L, D)
        keys = self._heads(f"{name}.key_proj", memory)
        values = self._heads(f"{name}.value_proj", memory)
        scores = queries @ keys.swapaxes(-1, -2) / math.sqrt(queries.shape[-1])
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))  # (B, H, L, L)
        weights /= weights.sum(axis=-1, keepdims=True)
        attended = (weights @ values).swapaxes(1, 2).reshape(x.shape)
        return self._product(f"{name}.out_proj", attended)

    def _heads(self, name: str, x: Array) -> Array:
        """Project (B, L, V), and split the width into heads: (B, H, L, D)."""
        rows = self._product(name, x)
        heads = rows.reshape(*x.shape[:2], NUM_HEADS, VOCABULARY_SIZE // NUM_HEADS)
        return heads.swapaxes(1, 2)
