"""Menny's forward pass for serving: the same function as `training.model`, in fewer, larger steps.

It is written once, for the arrays of MLX (`training.backend.MlxArrays`) and those of NumPy, whose
operations start in a third of the time on a CPU.

The weights are rewritten once, in float64, when a model is loaded:

- LayerNorm is x -> norm(x) * weight + bias. Scale and shift go into the linear layer that reads the
  result: W (n * w + b) = (W * w) n + W b.
- Everything that reads the residual stream normalises it first, which takes its mean away. So the
  mean is taken out of everything that is written to the stream instead (columns of the writing
  matrices are centred), and LayerNorm becomes the cheaper RMSNorm.
- Queries, keys and values of a self-attention are one product; so are the keys and values of all
  six cross-attentions, as they read the same memory. The 1/sqrt(D) goes into the queries.
- The first layers read one-hot rows, of which there are V + 1: their first product is a table.

Shapes: B queries, L positions, V letters and width, H heads, D = V / H dimensions each, 4 V hidden
units, N = B * L rows.
"""

import math
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from training.architecture import EPSILON, NUM_HEADS, NUM_LAYERS, Parameters
from training.vocabulary import MAX_QUERY_LENGTH, PADDING, VOCABULARY_SIZE, Letters

HEAD_DIMS = VOCABULARY_SIZE // NUM_HEADS

Float64 = npt.NDArray[np.float64]
Array = Any
"""An array of the library in use: with +, @, reshape and swapaxes all are alike."""
Mlp = tuple[tuple[Array, Array], Array, Array]


class Arrays(Protocol):
    """A library of arrays in float32: what each does in a way of its own."""

    name: str
    """`numpy` or `mlx`."""

    def array(self, values: npt.NDArray[Any]) -> Array:
        """NumPy's to the library's."""

    def to_numpy(self, array: Array) -> npt.NDArray[np.float32]:
        """The library's to NumPy's; computes, where that has been put off."""

    def take(self, rows: Array, index: Array) -> Array:
        """Rows by their numbers."""

    def split(self, array: Array, parts: int) -> list[Array]:
        """Along the second axis."""

    def relu(self, array: Array) -> Array:
        """Element by element, no less than 0."""

    def normalise(self, rows: Array) -> Array:
        """RMSNorm without a scale: (N, V) -> (N, V)."""

    def attend(self, queries: Array, keys: Array, values: Array) -> Array:
        """softmax(Q K^T) V, all (B, H, L, D)."""


class NumpyArrays:
    """NumPy's own. The products with vectors of ones are sums: NumPy's are slow on short axes."""

    name = "numpy"

    def array(self, values: npt.NDArray[Any]) -> Array:
        """See `Arrays`."""
        return values

    def to_numpy(self, array: Array) -> npt.NDArray[np.float32]:
        """See `Arrays`."""
        result: npt.NDArray[np.float32] = array
        return result

    def take(self, rows: Array, index: Array) -> Array:
        """See `Arrays`."""
        return rows[index]

    def split(self, array: Array, parts: int) -> list[Array]:
        """See `Arrays`."""
        size = array.shape[1] // parts  # np.split takes its time
        return [array[:, start : start + size] for start in range(0, parts * size, size)]

    def relu(self, array: Array) -> Array:
        """See `Arrays`."""
        return np.maximum(array, 0, out=array)

    def normalise(self, rows: Array) -> Array:
        """See `Arrays`."""
        mean_squares = np.einsum("nv,nv->n", rows, rows) / np.float32(VOCABULARY_SIZE)
        return rows / np.sqrt(mean_squares + np.float32(EPSILON))[:, None]

    def attend(self, queries: Array, keys: Array, values: Array) -> Array:
        """See `Arrays`."""
        scores = queries @ keys.swapaxes(-1, -2)
        scores -= scores.max()  # of all, which is quick; scores so far apart are no Menny's
        weights = np.exp(scores, out=scores)
        ones = np.ones(weights.shape[-1], dtype=np.float32)
        sums = (weights.reshape(-1, len(ones)) @ ones).reshape(*weights.shape[:-1], 1)
        return weights @ values / sums


class FusedMenny:
    """The model as a function from letters (B, L) to logits (B, L, V), both NumPy arrays.

    With MLX's arrays it must be built and called on the thread that owns MLX.
    """

    def __init__(self, parameters: Parameters, arrays: Arrays | None = None) -> None:
        self.arrays = arrays or NumpyArrays()
        self._source = {name: value.astype(np.float64) for name, value in parameters.items()}
        rows = np.eye(VOCABULARY_SIZE + 1, VOCABULARY_SIZE)  # the last one is an empty position
        centred = rows - rows.mean(axis=1, keepdims=True)
        normalised = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + EPSILON)

        self._stream_of_letter = self._float32(centred)  # (V + 1, V)
        encoder, decoder = "transformer.encoder.layers", "transformer.decoder.layers"
        self._encoder = [
            (
                self._self_attention(f"{encoder}.{i}.attention", f"{encoder}.{i}.ln1"),
                self._out(f"{encoder}.{i}.attention.out_proj"),
                self._mlp(f"{encoder}.{i}", "ln2"),
            )
            for i in range(NUM_LAYERS)
        ]
        self._decoder = [
            (
                self._self_attention(f"{decoder}.{i}.self_attention", f"{decoder}.{i}.ln1"),
                self._out(f"{decoder}.{i}.self_attention.out_proj"),
                self._reading(
                    self._queries(f"{decoder}.{i}.cross_attention"), f"{decoder}.{i}.ln2"
                ),
                self._out(f"{decoder}.{i}.cross_attention.out_proj"),
                self._mlp(f"{decoder}.{i}", "ln3"),
            )
            for i in range(NUM_LAYERS)
        ]
        self._first = [
            self._float32(normalised @ self._float64(weight) + self._float64(bias))
            for weight, bias in (self._encoder[0][0], self._decoder[0][0])
        ]  # (V + 1, 3 V): queries, keys and values of each letter
        self._memory = self._reading(
            np.concatenate(
                [
                    self._source[f"{decoder}.{i}.cross_attention.{kind}_proj.weight"]
                    for i in range(NUM_LAYERS)
                    for kind in ("key", "value")
                ]
            ),
            "transformer.encoder.ln",
        )  # (V, 6 * 2 V)
        self._fc = self._reading(
            self._source["fc.weight"], "transformer.decoder.ln", self._source["fc.bias"]
        )
        del self._source

    def __call__(self, letters: Letters) -> npt.NDArray[np.float32]:
        """Letters (B, L) with `PADDING` where a query has ended, to logits (B, L, V)."""
        take, split = self.arrays.take, self.arrays.split
        rows = np.where(letters == PADDING, VOCABULARY_SIZE, letters).reshape(-1)
        index = self.arrays.array(rows.astype(np.int32))
        start = take(self._stream_of_letter, index)  # (N, V)

        x = start
        for i, (attention, out, mlp) in enumerate(self._encoder):
            qkv = take(self._first[0], index) if i == 0 else self._read(x, attention)
            x = x + self._attend(*split(_split_heads(qkv), 3)) @ out
            x = self._mlp_block(x, mlp)

        memory = split(_split_heads(self._read(x, self._memory)), 2 * NUM_LAYERS)
        x = start
        for i, (attention, out, queries, cross_out, mlp) in enumerate(self._decoder):
            qkv = take(self._first[1], index) if i == 0 else self._read(x, attention)
            x = x + self._attend(*split(_split_heads(qkv), 3)) @ out
            keys, values = memory[2 * i : 2 * i + 2]  # both (B, H, L, D)
            x = x + self._attend(_split_heads(self._read(x, queries)), keys, values) @ cross_out
            x = self._mlp_block(x, mlp)

        logits = self._read(x, self._fc).reshape(-1, MAX_QUERY_LENGTH, VOCABULARY_SIZE)
        return self.arrays.to_numpy(logits)

    def _read(self, x: Array, linear: tuple[Array, Array]) -> Array:
        """RMSNorm, then a linear layer: (N, V) -> (N, outputs)."""
        weight, bias = linear
        return self.arrays.normalise(x) @ weight + bias

    def _mlp_block(self, x: Array, parameters: Mlp) -> Array:
        """The feed-forward block with its residual connection: (N, V) -> (N, V)."""
        hidden, out, bias = parameters
        return x + (self.arrays.relu(self._read(x, hidden)) @ out + bias)

    def _attend(self, queries: Array, keys: Array, values: Array) -> Array:
        """Scaled queries, keys and values (B, H, L, D) to (N, V)."""
        attended = self.arrays.attend(queries, keys, values)
        return attended.swapaxes(1, 2).reshape(-1, VOCABULARY_SIZE)

    # --- rewriting the weights ------------------------------------------------------------------

    def _self_attention(self, attention: str, norm: str) -> tuple[Array, Array]:
        parts = [
            self._queries(attention),
            self._source[f"{attention}.key_proj.weight"],
            self._source[f"{attention}.value_proj.weight"],
        ]
        return self._reading(np.concatenate(parts), norm)

    def _queries(self, attention: str) -> Float64:
        return self._source[f"{attention}.query_proj.weight"] / math.sqrt(HEAD_DIMS)

    def _reading(
        self, weight: Float64, norm: str, bias: Float64 | float = 0.0
    ) -> tuple[Array, Array]:
        """A linear layer (outputs, V) after a LayerNorm, as weight (V, outputs) and bias."""
        scale, shift = self._source[f"{norm}.weight"], self._source[f"{norm}.bias"]
        return self._float32((weight * scale).T), self._float32(weight @ shift + bias)

    def _out(self, name: str) -> Array:
        return self._float32(_centred(self._source[f"{name}.weight"]).T)

    def _float32(self, values: Float64) -> Array:
        return self.arrays.array(np.ascontiguousarray(values, dtype=np.float32))

    def _float64(self, array: Array) -> Float64:
        return self.arrays.to_numpy(array).astype(np.float64)

    def _mlp(self, layer: str, norm: str) -> Mlp:
        hidden = self._reading(
            self._source[f"{layer}.linear1.weight"],
            f"{layer}.{norm}",
            self._source[f"{layer}.linear1.bias"],
        )
        out = _centred(self._source[f"{layer}.linear2.weight"]).T
        bias = _centred(self._source[f"{layer}.linear2.bias"])
        return hidden, self._float32(out), self._float32(bias)


def _centred(weight: Float64) -> Float64:
    """Take the mean over the outputs (the first axis) away."""
    centred: Float64 = weight - weight.mean(axis=0)
    return centred


def _split_heads(rows: Array) -> Array:
    """(N, heads * D) -> (B, heads, L, D)."""
    return rows.reshape(-1, MAX_QUERY_LENGTH, rows.shape[-1] // HEAD_DIMS, HEAD_DIMS).swapaxes(1, 2)
