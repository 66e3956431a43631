"""A model in service: checked and measured when it is loaded, exact when it answers.

The last bits of a logit depend on the shape of the batch that it was computed in and on the place
in it, for BLAS sums in another order; and Menny's best two vowels can be closer than that. Hence:

- The canonical logits of a query are those it has alone, in a batch of one.
- When a model is loaded, the largest difference from the canonical logits is measured over all
  batch sizes. An answer whose margin is not well above it is settled by the canonical logits.

So an answer never depends on the company that its query was in.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.inference.decoding import (
    Candidate,
    Logits,
    Probabilities,
    Prompt,
    argmax_with_margin,
    gumbel_noise,
    softmax,
    top_k,
)
from app.inference.explanation import Explainer, Explanation
from training.backend import mx
from training.dataset import generate_queries
from training.errors import WeightsError
from training.evaluation import Forward
from training.graph import FusedMenny
from training.model import build_model
from training.trainer import forward_of
from training.vocabulary import (
    MAX_QUERY_LENGTH,
    PADDING,
    Letters,
    decode,
    decode_batch,
    encode_batch,
)
from training.weights import ModelCard, Weights

logger = logging.getLogger(__name__)

BATCH_SIZES = (1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 64, 96, 128, 192, 256)
"""Batches are padded to one of these, so that MLX and the measurements see few shapes."""

NUM_PROBES = 64
MAX_FUSED_DIFFERENCE = 1e-4
"""Between the fused and the plain model's logits; beyond it the plain one serves."""
SAFETY_FACTOR = 4
"""A margin this many times the measured rounding spread (of both logits) can't be due to it."""
MIN_SPREAD = 1e-6


@dataclass(frozen=True, slots=True)
class Answer:
    """A response and the version of the model that gave it."""

    response: str
    model_version: str
    candidates: list[list[Candidate]] | None = None
    distribution: Probabilities | None = None
    """Over all letters, for each position of the query: (len(query), V)."""
    explanation: Explanation | None = None


@dataclass(frozen=True)
class ModelInfo:
    """What the service tells of the model that it serves."""

    version: str
    card: ModelCard | None
    device: str
    is_fused: bool
    """Whether the fused graph serves, rather than the plain model."""


class ServedModel:
    """Weights ready to answer. Must be built and used on the thread that owns MLX."""

    def __init__(self, weights: Weights, max_batch: int) -> None:
        self.max_batch = max_batch
        self._sizes = [*(size for size in BATCH_SIZES if size < max_batch), max_batch]
        probes = generate_queries(NUM_PROBES, np.random.default_rng(0))
        with np.errstate(all="ignore"):  # what overflows is refused
            self._forward, is_fused = _choose_forward(weights, probes)
            spread = self._measure_spread(probes)
        self._explain = Explainer(weights.parameters)
        self._doubtful_margin = 2 * SAFETY_FACTOR * max(spread, MIN_SPREAD)
        device = str(mx.default_device().type).removeprefix("DeviceType.")
        self.info = ModelInfo(weights.version, weights.card, device, is_fused)

    def answer(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """Answer up to `max_batch` prompts, in order; equal queries are computed once."""
        queries = list(dict.fromkeys(prompt.query for prompt in prompts))
        letters = encode_batch(queries)  # (B, L)
        logits = self.logits(letters)  # (B, L, V)
        greedy = dict(zip(queries, self._decode_greedy(letters, logits), strict=True))
        row_of = {query: row for row, query in enumerate(queries)}
        return [
            self._answer_specially(prompt, letters[row := row_of[prompt.query]], logits[row])
            if prompt.is_special
            else Answer(greedy[prompt.query], self.info.version)
            for prompt in prompts
        ]

    def logits(self, letters: Letters) -> Logits:
        """Letters (B, L) to logits (B, L, V), in a batch padded to one of the sizes."""
        count = len(letters)
        size = next(size for size in self._sizes if size >= count)
        padded = np.full((size, MAX_QUERY_LENGTH), PADDING, dtype=np.int8)
        padded[:count] = letters
        return self._forward(padded)[:count]

    def _canonical_logits(self, letters: Letters) -> Logits:
        """Letters (L,) to logits (L, V): those of the query alone."""
        logits: Logits = self._forward(letters[None])[0]
        return logits

    def _decode_greedy(self, letters: Letters, logits: Logits) -> list[str]:
        """The likeliest letters, settled canonically where rounding leaves a doubt."""
        best, margins = argmax_with_margin(logits)  # both (B, L)
        if len(letters) > 1:  # a query alone has its canonical logits already
            doubtful = ((margins < self._doubtful_margin) & (letters != PADDING)).any(axis=-1)
            for row in np.flatnonzero(doubtful):
                best[row] = self._canonical_logits(letters[row]).argmax(axis=-1)
        return decode_batch(np.where(letters == PADDING, PADDING, best).astype(np.int8))

    def _answer_specially(self, prompt: Prompt, letters: Letters, logits: Logits) -> Answer:
        """Answer a prompt that asks for more than letters: letters (L,), logits (L, V)."""
        length = len(prompt.query)
        noise = gumbel_noise(prompt)  # (L, V)
        best, margins = argmax_with_margin(logits + noise)
        is_doubtful = margins[:length].min() < self._doubtful_margin
        if prompt.candidates or prompt.explain or is_doubtful:
            logits = self._canonical_logits(letters)
            best, _ = argmax_with_margin(logits + noise)
        return Answer(
            decode(best[:length].tolist()),
            self.info.version,
            candidates=top_k(logits, length, prompt.candidates) if prompt.candidates else None,
            distribution=softmax(logits[:length]) if prompt.explain else None,
            explanation=self._explain(letters) if prompt.explain else None,
        )

    def _measure_spread(self, probes: Letters) -> float:
        """The largest difference that a batch's size and a place in it make to a logit."""
        canonical = np.stack([self._canonical_logits(probe) for probe in probes])
        if not np.isfinite(canonical).all():
            raise WeightsError(
                "the weights are so large that the answers are no numbers: they are damaged, or "
                "their training has failed"
            )
        rng = np.random.default_rng(0)
        spread = 0.0
        for size in self._sizes:
            for _ in range(2):
                rows = rng.integers(len(probes), size=size)
                difference = self._forward(probes[rows]) - canonical[rows]
                spread = max(spread, float(abs(difference).max()))
        return spread


def _choose_forward(weights: Weights, probes: Letters) -> tuple[Forward, bool]:
    """The fused graph if it agrees with the plain model on the probes, else the plain model."""
    fused = FusedMenny(weights.parameters)
    plain = forward_of(build_model(weights.parameters))
    difference = float(abs(fused(probes) - plain(probes)).max())
    if difference <= MAX_FUSED_DIFFERENCE:
        return fused, True
    logger.warning(
        "model %s: the fused graph is off by %.1e; the slower plain model serves",
        weights.version,
        difference,
    )
    return plain, False
