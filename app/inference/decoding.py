"""From logits to letters."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from training.vocabulary import PADDING, Letters, decode_batch


def decode_greedy(letters: Letters, logits: npt.NDArray[np.float32]) -> Sequence[str]:
    """The likeliest letter at each position: letters (B, L), logits (B, L, V) -> B responses."""
    answers = logits.argmax(axis=-1).astype(np.int8)  # (B, L)
    return decode_batch(np.where(letters == PADDING, np.int8(PADDING), answers))
