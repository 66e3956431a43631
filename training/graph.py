"""Menny's forward pass for serving: the same function as `training.model`, in fewer, larger steps.

The weights are rewritten once, in float64, when a model is loaded:

- LayerNorm is x -> norm(x) * weight + bias. Scale and shift go into the linear layer that reads the
  result: W (n * w + b) = (W * w) n + W b.
- Everything that reads the residual stream normalises it first, which takes its mean away. So the
  mean is taken out of everything that is written to the stream instead (columns of the writing
  matrices are centred), and LayerNorm becomes the cheaper RMSNorm.
- Queries, keys and values of a self-attention are one product; so are the keys and values of all
  six cross-attentions, as they read the same memory. The 1/sqrt(13) goes into the queries.
- On a CPU the RMSNorm is spelt out, with a product for its mean: 5 % of the whole pass. A GPU has
  a kernel for it.
- The first layers read one-hot rows, of which there are 53: their first product is a table.

Shapes: B queries, L = 5 positions, V = 52 letters and width, H = 4 heads, D = 13 dimensions each,
M = 208 hidden units, N = B * L rows.
"""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from training.architecture import NUM_HEADS, NUM_LAYERS
from training.backend import mx
from training.vocabulary import MAX_QUERY_LENGTH, PADDING, VOCABULARY_SIZE, Letters

HEAD_DIMS = VOCABULARY_SIZE // NUM_HEADS
EPSILON = 1e-5  # mlx.nn.LayerNorm's

Array = npt.NDArray[np.float64]
Mlp = tuple[tuple[mx.array, mx.array], mx.array, mx.array]


class FusedMenny:
    """The model as a function from letters (B, L) to logits (B, L, V), both NumPy arrays.

    Must be built and called on the thread that owns MLX.
    """

    def __init__(self, parameters: Mapping[str, npt.NDArray[np.float32]]) -> None:
        self._source = {name: value.astype(np.float64) for name, value in parameters.items()}
        rows = np.eye(VOCABULARY_SIZE + 1, VOCABULARY_SIZE)  # the last one is an empty position
        centred = rows - rows.mean(axis=1, keepdims=True)
        normalised = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + EPSILON)

        self._mean = _to_mlx(np.full((VOCABULARY_SIZE, 1), 1 / VOCABULARY_SIZE))
        self._epsilon, self._zero = mx.array(EPSILON), mx.array(0.0)
        self._has_rms_norm = mx.default_device() == mx.Device(mx.gpu)
        self._stream_of_letter = _to_mlx(centred)  # (V + 1, V)
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
            _to_mlx(normalised @ _from_mlx(weight) + _from_mlx(bias))
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
        index = mx.array(np.where(letters == PADDING, VOCABULARY_SIZE, letters).reshape(-1))
        start = mx.take(self._stream_of_letter, index, axis=0)  # (N, V)

        x = start
        for i, (attention, out, mlp) in enumerate(self._encoder):
            qkv = mx.take(self._first[0], index, axis=0) if i == 0 else self._read(x, attention)
            x = x + _self_attend(qkv) @ out
            x = self._mlp_block(x, mlp)

        memory = mx.split(_split_heads(self._read(x, self._memory)), 2 * NUM_LAYERS, axis=1)
        x = start
        for i, (attention, out, queries, cross_out, mlp) in enumerate(self._decoder):
            qkv = mx.take(self._first[1], index, axis=0) if i == 0 else self._read(x, attention)
            x = x + _self_attend(qkv) @ out
            keys, values = memory[2 * i : 2 * i + 2]  # both (B, H, L, D)
            x = x + _attend(_split_heads(self._read(x, queries)), keys, values) @ cross_out
            x = self._mlp_block(x, mlp)

        logits = self._read(x, self._fc).reshape(-1, MAX_QUERY_LENGTH, VOCABULARY_SIZE)
        return np.array(logits)

    def _read(self, x: mx.array, linear: tuple[mx.array, mx.array]) -> mx.array:
        """RMSNorm, then a linear layer: (N, V) -> (N, outputs)."""
        weight, bias = linear
        return self._normalised(x) @ weight + bias

    def _normalised(self, x: mx.array) -> mx.array:
        if self._has_rms_norm:
            return mx.fast.rms_norm(x, None, EPSILON)
        return x * mx.rsqrt((x * x) @ self._mean + self._epsilon)

    def _mlp_block(self, x: mx.array, parameters: Mlp) -> mx.array:
        """The feed-forward block with its residual connection: (N, V) -> (N, V)."""
        hidden, out, bias = parameters
        return x + (mx.maximum(self._read(x, hidden), self._zero) @ out + bias)

    # --- rewriting the weights ------------------------------------------------------------------

    def _self_attention(self, attention: str, norm: str) -> tuple[mx.array, mx.array]:
        parts = [
            self._queries(attention),
            self._source[f"{attention}.key_proj.weight"],
            self._source[f"{attention}.value_proj.weight"],
        ]
        return self._reading(np.concatenate(parts), norm)

    def _queries(self, attention: str) -> Array:
        return self._source[f"{attention}.query_proj.weight"] / math.sqrt(HEAD_DIMS)

    def _reading(
        self, weight: Array, norm: str, bias: Array | float = 0.0
    ) -> tuple[mx.array, mx.array]:
        """A linear layer (outputs, V) after a LayerNorm, as weight (V, outputs) and bias."""
        scale, shift = self._source[f"{norm}.weight"], self._source[f"{norm}.bias"]
        return _to_mlx((weight * scale).T), _to_mlx(weight @ shift + bias)

    def _out(self, name: str) -> mx.array:
        return _to_mlx(_centred(self._source[f"{name}.weight"]).T)

    def _mlp(self, layer: str, norm: str) -> Mlp:
        hidden = self._reading(
            self._source[f"{layer}.linear1.weight"],
            f"{layer}.{norm}",
            self._source[f"{layer}.linear1.bias"],
        )
        out = _centred(self._source[f"{layer}.linear2.weight"]).T
        bias = _centred(self._source[f"{layer}.linear2.bias"])
        return hidden, _to_mlx(out), _to_mlx(bias)


def _centred(weight: Array) -> Array:
    """Take the mean over the outputs (the first axis) away."""
    centred: Array = weight - weight.mean(axis=0)
    return centred


def _to_mlx(array: Array) -> mx.array:
    return mx.array(np.ascontiguousarray(array, dtype=np.float32))


def _from_mlx(array: mx.array) -> Array:
    return np.array(array).astype(np.float64)


def _split_heads(rows: mx.array) -> mx.array:
    """(N, heads * D) -> (B, heads, L, D)."""
    return rows.reshape(-1, MAX_QUERY_LENGTH, rows.shape[-1] // HEAD_DIMS, HEAD_DIMS).swapaxes(1, 2)


def _self_attend(qkv: mx.array) -> mx.array:
    """Queries, keys and values (N, 3 V) to what each position attends to, (N, V)."""
    return _attend(*mx.split(_split_heads(qkv), 3, axis=1))


def _attend(queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
    """Scaled queries, keys and values (B, H, L, D) to (N, V)."""
    weights = mx.softmax(queries @ keys.swapaxes(-1, -2), axis=-1)  # (B, H, L, L)
    return (weights @ values).swapaxes(1, 2).reshape(-1, VOCABULARY_SIZE)
