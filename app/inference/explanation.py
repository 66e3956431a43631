"""What Menny looks at: her attention weights for one query, as `POST /explain` shows them.

`mx.fast.scaled_dot_product_attention` keeps its weights to itself. So each attention layer of a
plain `training.model` is wrapped in one that computes the same formula (Vaswani et al., 2017,
section 3.2) step by step and writes the weights down: softmax(Q K^T / sqrt(D)) V. All else is the
model's own code.

Shapes: L positions, V letters, H heads, D = V / H dimensions each.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from training.backend import mx, nn
from training.model import Menny
from training.settling import canonical_order
from training.vocabulary import Letters, one_hot

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What happened inside while a query was answered. `row` attends to `column`, in [row, column].

    Empty positions are there too: the model has no mask, and attends to them as well.
    """

    encoder: Array = field(repr=False)
    """Self-attention of the encoder's six layers, (6, H, L, L)."""
    decoder: Array = field(repr=False)
    """Self-attention of the decoder's six layers, (6, H, L, L)."""
    cross: Array = field(repr=False)
    """From the decoder's positions (rows) to the encoder's (columns), (6, H, L, L)."""
    logits: Array = field(repr=False)
    """What the pass that these weights are of ended with, (L, V)."""


class Explainer:
    """A model that keeps its attention weights; it takes `model` over, for nobody else's use.

    Must be built and called on the thread that owns MLX.
    """

    def __init__(self, model: Menny) -> None:
        self._model = model
        transformer = model.transformer
        self._encoder: list[mx.array] = []
        self._decoder: list[mx.array] = []
        self._cross: list[mx.array] = []
        for layer in transformer.encoder.layers:
            layer.attention = _RecordedAttention(layer.attention, self._encoder)
        for layer in transformer.decoder.layers:
            layer.self_attention = _RecordedAttention(layer.self_attention, self._decoder)
            layer.cross_attention = _RecordedAttention(layer.cross_attention, self._cross)

    def __call__(self, letters: Letters) -> Explanation:
        """The letters (L,) of one query, `PADDING` after its end, to what happens inside.

        Computed on the canonical form, its letters in ascending order, and carried back: which
        position is which depends on that, and nothing else does.
        """
        (order,) = canonical_order(letters[None])
        records = (self._encoder, self._decoder, self._cross)
        try:
            logits = self._model(mx.array(one_hot(letters[None, order])))
            encoder, decoder, cross = (np.array(mx.concatenate(record)) for record in records)
        finally:
            for record in records:
                record.clear()
        back = order.argsort()
        encoder, decoder, cross = (
            weights[..., back[:, None], back] for weights in (encoder, decoder, cross)
        )
        return Explanation(encoder, decoder, cross, np.array(logits[0])[back])


class _RecordedAttention(nn.Module):
    """`nn.MultiHeadAttention`, but it writes its weights, (1, H, L, L), into `record`."""

    def __init__(self, attention: nn.MultiHeadAttention, record: list[mx.array]) -> None:
        super().__init__()
        self.attention = attention
        self._record = record

    def __call__(
        self, queries: mx.array, keys: mx.array, values: mx.array, mask: None = None
    ) -> mx.array:
        attention = self.attention
        queries = self._split_heads(attention.query_proj(queries))  # (1, H, L, D)
        keys = self._split_heads(attention.key_proj(keys))
        values = self._split_heads(attention.value_proj(values))
        scores = queries @ keys.swapaxes(-1, -2) / math.sqrt(queries.shape[-1])
        weights = mx.softmax(scores, axis=-1)  # (1, H, L, L)
        self._record.append(weights)
        return attention.out_proj((weights @ values).swapaxes(1, 2).flatten(-2, -1))

    def _split_heads(self, rows: mx.array) -> mx.array:
        """(1, L, V) -> (1, H, L, D)."""
        return mx.unflatten(rows, -1, (self.attention.num_heads, -1)).swapaxes(1, 2)
