"""One truth for near-ties: what Menny answers does not depend on who computed it, or with what.

A forward pass in float32 is quick, and its last bits depend on the batch, the device and the array
library. A well-trained Menny is nearly uniform over what is allowed, so that the best two can be
closer than that. Hence:

- The **canonical form** of a query is its letters in ascending order. Its logits are those of
  `training.reference` in float64, carried back to the query's own order.
- How far a forward pass is from them is measured. Where a letter's margin is not well above that,
  its whole query is settled by the canonical logits; an exact tie goes to the earlier letter.

So anagrams answer alike, and so do MLX and NumPy, CPU and GPU, one batch and another.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from training.architecture import Parameters
from training.errors import WeightsError
from training.evaluation import Forward
from training.reference import ReferenceMenny
from training.vocabulary import MAX_QUERY_LENGTH, PADDING, VOCABULARY_SIZE, Letters

Float64 = npt.NDArray[np.float64]

SAFETY_FACTOR = 4
"""A margin this many times the measured rounding (of both logits) can't be due to it."""
MIN_SPREAD = 1e-6

_DECIMALS = 10  # of canonical logits: hides the noise of 5e-15, so that equal ones are equal


class Settler:
    """Answers by a forward pass, or in doubt by the canonical logits.

    Measures `forward` on `probes` (N, L) in batches of each of the sizes, and in other orders of
    their letters; raises `WeightsError` if the weights give no numbers.
    """

    def __init__(
        self, parameters: Parameters, forward: Forward, probes: Letters, batch_sizes: Sequence[int]
    ) -> None:
        self._reference = ReferenceMenny(parameters)
        self.spread = self._measure(forward, probes, batch_sizes)
        """The largest difference of any logit from the canonical one."""
        self.doubtful_margin = 2 * SAFETY_FACTOR * max(self.spread, MIN_SPREAD)

    def canonical_logits(self, letters: Letters) -> Float64:
        """Letters (B, L) to the canonical form's logits, in the letters' own order, (B, L, V)."""
        order = canonical_order(letters)
        ordered = self._reference(np.take_along_axis(letters, order, axis=1))
        logits = np.empty_like(ordered)
        np.put_along_axis(logits, order[..., None], ordered.round(_DECIMALS), axis=1)
        return logits

    def answers(
        self, letters: Letters, logits: npt.NDArray[np.float32], noise: Float64 | float = 0.0
    ) -> Letters:
        """The letters with the best score, logits + noise, at each position: (B, L), padded.

        `logits` (B, L, V) are the forward pass's own, whose doubtful queries are settled.
        """
        best, margins = argmax_with_margin(logits + noise)  # both (B, L)
        is_letter = letters != PADDING
        doubtful = ((margins < self.doubtful_margin) & is_letter).any(axis=-1)
        if doubtful.any():
            scores = self.canonical_logits(letters[doubtful]) + noise
            best[doubtful] = scores.argmax(axis=-1)
        return np.where(is_letter, best, PADDING).astype(np.int8)

    def _measure(self, forward: Forward, probes: Letters, batch_sizes: Sequence[int]) -> float:
        canonical = self.canonical_logits(probes)
        rng = np.random.default_rng(0)
        spread = 0.0
        for size in batch_sizes:
            for _ in range(2):
                rows = rng.integers(len(probes), size=size)
                shuffled, order = _shuffled(probes[rows], rng)
                expected = np.take_along_axis(canonical[rows], order[..., None], axis=1)
                difference = np.abs(forward(shuffled) - expected)[shuffled != PADDING]
                spread = max(spread, float(np.nan_to_num(difference, nan=np.inf).max()))
        if not math.isfinite(spread):
            raise WeightsError(
                "the weights are so large that the answers are no numbers: they are damaged, or "
                "their training has failed"
            )
        return spread


def canonical_order(letters: Letters) -> npt.NDArray[np.intp]:
    """For each query of (B, L) its positions in the order of their letters, the padding last."""
    return np.where(letters == PADDING, VOCABULARY_SIZE, letters).argsort(axis=1, kind="stable")


def argmax_with_margin(
    scores: npt.NDArray[np.floating],
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.floating]]:
    """The best letter of each position and its margin over the second best.

    Scores (..., V) -> letters (...), margins (...). Of equal letters the earlier one.
    """
    best = scores.argmax(axis=-1)
    top = np.take_along_axis(scores, best[..., None], axis=-1)
    others = scores.copy()
    np.put_along_axis(others, best[..., None], -np.inf, axis=-1)
    return best, top[..., 0] - others.max(axis=-1)


def _shuffled(letters: Letters, rng: np.random.Generator) -> tuple[Letters, npt.NDArray[np.intp]]:
    """The letters of each query in a random order, the padding left at the end; and that order."""
    keys = np.where(letters == PADDING, 2.0, rng.random((len(letters), MAX_QUERY_LENGTH)))
    order = keys.argsort(axis=1)
    return np.take_along_axis(letters, order, axis=1), order
