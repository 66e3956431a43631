"""Menny's forward pass on MLX, for GPU and CPU: the function of `training.model`, in fewer steps.

The weights are those of `training.rewriting`. On a CPU NumPy's (`training.graph`) is quicker, for
MLX's operations take three times as long to start there.

Shapes: B queries, L positions, V letters and width, H heads, D = V / H dimensions each, 4 V hidden
units, N = B * L rows.
"""

import numpy as np

from training.architecture import EPSILON, NUM_LAYERS, Parameters
from training.backend import mx
from training.rewriting import HEAD_DIMS, Float32, FusedWeights, Linear, Mlp
from training.vocabulary import MAX_QUERY_LENGTH, PADDING, VOCABULARY_SIZE, Letters

MlxLinear = tuple[mx.array, mx.array]


class MlxMenny:
    """The model as a function from letters (B, L) to logits (B, L, V), both NumPy arrays.

    Must be built and called on the thread that owns MLX.
    """

    def __init__(self, parameters: Parameters) -> None:
        weights = FusedWeights(parameters)
        self._stream_of_letter = mx.array(weights.stream_of_letter)
        self._first_encoder = mx.array(weights.first_encoder)
        self._first_decoder = mx.array(weights.first_decoder)
        self._encoder = [
            (_linear(layer.attention), _linear(layer.out)[0], _mlp(layer.mlp))
            for layer in weights.encoder
        ]
        self._decoder = [
            (
                _linear(layer.attention),
                _linear(layer.out)[0],
                _linear(layer.queries),
                _linear(layer.cross_out)[0],
                _mlp(layer.mlp),
            )
            for layer in weights.decoder
        ]
        self._memory, self._fc = _linear(weights.memory), _linear(weights.fc)
        self._epsilon, self._zero = mx.array(EPSILON), mx.array(0.0)
        self._mean = mx.full((VOCABULARY_SIZE, 1), 1 / VOCABULARY_SIZE)
        self._has_rms_norm = mx.default_device() == mx.Device(mx.gpu)

    def __call__(self, letters: Letters) -> Float32:
        """Letters (B, L) with `PADDING` where a query has ended, to logits (B, L, V)."""
        rows = np.where(letters == PADDING, VOCABULARY_SIZE, letters).reshape(-1)
        index = mx.array(rows.astype(np.int32))
        start = mx.take(self._stream_of_letter, index, axis=0)  # (N, V)

        x = start
        for i, (attention, out, mlp) in enumerate(self._encoder):
            qkv = self._read(x, attention) if i else mx.take(self._first_encoder, index, axis=0)
            x = x + _attend(*mx.split(_heads(qkv), 3, axis=1)) @ out
            x = self._mlp_block(x, mlp)

        memory = mx.split(_heads(self._read(x, self._memory)), 2 * NUM_LAYERS, axis=1)
        x = start
        for i, (attention, out, queries, cross_out, mlp) in enumerate(self._decoder):
            qkv = self._read(x, attention) if i else mx.take(self._first_decoder, index, axis=0)
            x = x + _attend(*mx.split(_heads(qkv), 3, axis=1)) @ out
            keys, values = memory[2 * i : 2 * i + 2]  # both (B, H, L, D)
            x = x + _attend(_heads(self._read(x, queries)), keys, values) @ cross_out
            x = self._mlp_block(x, mlp)

        return np.array(self._read(x, self._fc).reshape(-1, MAX_QUERY_LENGTH, VOCABULARY_SIZE))

    def _read(self, x: mx.array, linear: MlxLinear) -> mx.array:
        """RMSNorm, then a linear layer: (N, V) -> (N, outputs)."""
        weight, bias = linear
        return self._normalise(x) @ weight + bias

    def _normalise(self, rows: mx.array) -> mx.array:
        """RMSNorm without a scale: (N, V) -> (N, V). A GPU has a kernel for it."""
        if self._has_rms_norm:
            return mx.fast.rms_norm(rows, None, EPSILON)
        return rows * mx.rsqrt((rows * rows) @ self._mean + self._epsilon)

    def _mlp_block(self, x: mx.array, mlp: tuple[MlxLinear, MlxLinear]) -> mx.array:
        """The feed-forward block with its residual connection: (N, V) -> (N, V)."""
        hidden, (out, bias) = mlp
        return x + (mx.maximum(self._read(x, hidden), self._zero) @ out + bias)


def _attend(queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
    """softmax(Q K^T) V, all (B, H, L, D), to (N, V)."""
    attended = mx.softmax(queries @ keys.swapaxes(-1, -2), axis=-1) @ values
    return attended.swapaxes(1, 2).reshape(-1, VOCABULARY_SIZE)


def _heads(rows: mx.array) -> mx.array:
    """(N, heads * D) -> (B, heads, L, D)."""
    return rows.reshape(-1, MAX_QUERY_LENGTH, rows.shape[-1] // HEAD_DIMS, HEAD_DIMS).swapaxes(1, 2)


def _linear(linear: Linear) -> MlxLinear:
    """As weight (inputs, outputs) and bias."""
    return mx.array(np.ascontiguousarray(linear.weight.T)), mx.array(linear.bias)


def _mlp(mlp: Mlp) -> tuple[MlxLinear, MlxLinear]:
    return _linear(mlp.hidden), _linear(mlp.out)
