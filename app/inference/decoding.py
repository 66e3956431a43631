"""From logits to letters: the likeliest, a sample, or the candidates with their probabilities.

Greedy decoding and sampling are one thing here, by the Gumbel-max trick: the answer is the argmax
of `logits + temperature * noise` (Gumbel, 1954; Maddison et al., 2014), and with temperature 0
the noise is gone. So one margin, that between the best and the second-best score, tells for both
whether rounding could have changed the answer.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.vocabulary import ALPHABET, MAX_QUERY_LENGTH, VOCABULARY_SIZE

Logits = npt.NDArray[np.float64]
Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A query and how it is to be answered."""

    query: str
    temperature: float = 0.0
    """0 is greedy decoding; 1 samples from the model's distribution."""
    seed: int | None = None
    """The same seed gives the same sample."""
    candidates: int = 0
    """How many of the likeliest letters to show for each position."""
    explain: bool = False
    """Show the attention weights and the distribution over all letters, too."""
    distribution: bool = False
    """Show the distribution over all letters."""

    @property
    def is_special(self) -> bool:
        """Whether its answer is more than the likeliest letters."""
        return bool(self.temperature or self.candidates or self.explain or self.distribution)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A letter and its probability under the model, at temperature 1."""

    letter: str
    probability: float


def gumbel_noise(prompt: Prompt) -> Logits | float:
    """What to add to the prompt's logits (L, V) before the argmax, so that it samples."""
    if not prompt.temperature:
        return 0.0
    rng = np.random.default_rng(prompt.seed)
    return rng.gumbel(scale=prompt.temperature, size=(MAX_QUERY_LENGTH, VOCABULARY_SIZE))


def softmax(logits: Logits) -> Probabilities:
    """Logits (..., V) to probabilities (..., V)."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: Probabilities = shifted / shifted.sum(axis=-1, keepdims=True)
    return probabilities


def top_k(logits: Logits, length: int, count: int) -> list[list[Candidate]]:
    """The `count` likeliest letters of the first `length` positions, likeliest first."""
    probabilities = softmax(logits[:length])  # (length, V)
    order = np.argsort(-probabilities, axis=-1, kind="stable")[:, :count]
    return [
        [Candidate(ALPHABET[letter], float(probabilities[position, letter])) for letter in letters]
        for position, letters in enumerate(order)
    ]
