"""Menny's weights, rewritten for a forward pass of fewer and larger steps: `FusedWeights`.

The function is that of `training.model`. The rewriting is done once, in float64:

- LayerNorm is x -> norm(x) * weight + bias. Scale and shift go into the linear layer that reads the
  result: W (n * w + b) = (W * w) n + W b.
- Everything that reads the residual stream normalises it first, which takes its mean away. So the
  mean is taken out of everything that is written to the stream instead (columns of the writing
  matrices are centred), and LayerNorm becomes the cheaper RMSNorm.
- Queries, keys and values of a self-attention are one product; so are the keys and values of all
  six cross-attentions, as they read the same memory. The 1/sqrt(D) goes into the queries.
- The first layers read one-hot rows, of which there are V + 1: their first product is a table.

Shapes: V letters and width, H heads, D = V / H dimensions each, 4 V hidden units.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from training.architecture import EPSILON, NUM_HEADS, NUM_LAYERS, Parameters
from training.vocabulary import VOCABULARY_SIZE

HEAD_DIMS = VOCABULARY_SIZE // NUM_HEADS

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


class Linear(NamedTuple):
    """A linear layer; one that reads the stream reads it through RMSNorm."""

    weight: Float32
    """(outputs, inputs)."""
    bias: Float32
    """(outputs,); zeros where there is none."""


class Mlp(NamedTuple):
    """A feed-forward block."""

    hidden: Linear
    out: Linear


class EncoderLayer(NamedTuple):
    """A layer of the encoder."""

    attention: Linear
    """Queries, keys and values: (3 V, V)."""
    out: Linear
    mlp: Mlp


class DecoderLayer(NamedTuple):
    """A layer of the decoder; keys and values of its cross-attention are in `memory`."""

    attention: Linear
    out: Linear
    queries: Linear
    cross_out: Linear
    mlp: Mlp


class FusedWeights:
    """The rewritten weights, in float32."""

    def __init__(self, parameters: Parameters) -> None:
        self._source = {name: value.astype(np.float64) for name, value in parameters.items()}
        rows = np.eye(VOCABULARY_SIZE + 1, VOCABULARY_SIZE)  # the last one is an empty position
        centred = rows - rows.mean(axis=1, keepdims=True)
        normalised = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + EPSILON)
        encoder, decoder = "transformer.encoder.layers", "transformer.decoder.layers"

        self.stream_of_letter = centred.astype(np.float32)
        """(V + 1, V)."""
        self.encoder = [
            EncoderLayer(
                self._self_attention(f"{encoder}.{i}.attention", f"{encoder}.{i}.ln1"),
                self._out(f"{encoder}.{i}.attention.out_proj"),
                self._mlp(f"{encoder}.{i}", "ln2"),
            )
            for i in range(NUM_LAYERS)
        ]
        self.decoder = [
            DecoderLayer(
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
        self.first_encoder, self.first_decoder = (
            (normalised @ layer.attention.weight.T + layer.attention.bias).astype(np.float32)
            for layer in (self.encoder[0], self.decoder[0])
        )
        """Queries, keys and values of each letter in the two first layers: (V + 1, 3 V)."""
        self.memory = self._reading(
            np.concatenate(
                [
                    self._source[f"{decoder}.{i}.cross_attention.{kind}_proj.weight"]
                    for i in range(NUM_LAYERS)
                    for kind in ("key", "value")
                ]
            ),
            "transformer.encoder.ln",
        )
        """Keys and values of each cross-attention in turn: (6 * 2 V, V)."""
        self.fc = self._reading(
            self._source["fc.weight"], "transformer.decoder.ln", self._source["fc.bias"]
        )
        del self._source

    @property
    def max_score(self) -> float:
        """No query and key have a larger product, for what they are read from has norm sqrt(V)."""
        attentions = [each.attention for each in self.encoder]
        attentions += [each.attention for each in self.decoder]
        pairs = [(_part(each, 0), _part(each, 1)) for each in attentions]
        pairs += [
            (layer.queries, _part(self.memory, 2 * i)) for i, layer in enumerate(self.decoder)
        ]
        return max(_max_length(queries) * _max_length(keys) for queries, keys in pairs)

    def _self_attention(self, attention: str, norm: str) -> Linear:
        parts = [
            self._queries(attention),
            self._source[f"{attention}.key_proj.weight"],
            self._source[f"{attention}.value_proj.weight"],
        ]
        return self._reading(np.concatenate(parts), norm)

    def _queries(self, attention: str) -> Float64:
        return self._source[f"{attention}.query_proj.weight"] / math.sqrt(HEAD_DIMS)

    def _reading(self, weight: Float64, norm: str, bias: Float64 | float = 0.0) -> Linear:
        """A linear layer after a LayerNorm."""
        scale, shift = self._source[f"{norm}.weight"], self._source[f"{norm}.bias"]
        return _float32(weight * scale, weight @ shift + bias)

    def _out(self, name: str) -> Linear:
        return _float32(_centred(self._source[f"{name}.weight"]), np.zeros(VOCABULARY_SIZE))

    def _mlp(self, layer: str, norm: str) -> Mlp:
        hidden, out = (
            (self._source[f"{layer}.{name}.weight"], self._source[f"{layer}.{name}.bias"])
            for name in ("linear1", "linear2")
        )
        return Mlp(
            self._reading(hidden[0], f"{layer}.{norm}", hidden[1]), _float32(*map(_centred, out))
        )


def _centred(values: Float64) -> Float64:
    """Take the mean over the outputs (the first axis) away."""
    centred: Float64 = values - values.mean(axis=0)
    return centred


def _float32(weight: Float64, bias: Float64) -> Linear:
    return Linear(weight.astype(np.float32), bias.astype(np.float32))


def _part(linear: Linear, number: int) -> Linear:
    """V of a layer's outputs."""
    rows = slice(number * VOCABULARY_SIZE, (number + 1) * VOCABULARY_SIZE)
    return Linear(linear.weight[rows], linear.bias[rows])


def _max_length(linear: Linear) -> float:
    """The largest that a vector of outputs can be, where that of inputs has length sqrt(V)."""
    return float(
        np.linalg.norm(linear.weight, 2) * math.sqrt(VOCABULARY_SIZE) + np.linalg.norm(linear.bias)
    )
