"""Menny on every query that exists: what is checked, and why that is all of them.

By the default rule there are 52 + 52^2 + ... + 52^5 = 387,659,012 queries. Menny has no positional
encoding and attends without a mask, so every layer treats the positions alike: if the rows of its
input are shuffled, the rows of its output are shuffled along, and nothing else changes. (Linear
layers, LayerNorm and ReLU work on each row by itself; attention is a sum over all rows, and a sum
doesn't ask for order.) A query and its anagrams therefore get the same logits letter by letter, and
one forward pass for each *multiset* of letters, 4,187,105 in all, tells what Menny says to every
query.

That is so for real numbers. In floating point the order of a sum does matter: shuffling the
letters, or putting the query into another batch, moves a logit by some 1e-5. Could that move turn
an allowed answer into a forbidden one? Only if the best allowed and the best forbidden letter
were that close. So the proof has a third part, after "every multiset" and "none is answered
wrongly": the smallest *margin*, best allowed minus best forbidden logit, over all letters of all
multisets, must be more than `SAFETY` times the *rounding spread*, the largest move of any logit
from the same model's in float64 that `training.settling` sees when it shuffles letters and batches
at random. It is also the test of the symmetry itself: were there a positional encoding, the spread
would be as large as the logits.
"""

import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from training.dataset import IS_ALLOWED, LABEL_ODDS
from training.evaluation import BEST_NLLS, Forward
from training.proof.queries import BATCH_SIZE, NUM_QUERIES, Workload
from training.vocabulary import PADDING, Letters, decode_batch

SAFETY = 100
"""The smallest margin must be more than so many times the rounding spread."""

MAX_COUNTER_EXAMPLES = 10

_LARGEST = float(np.finfo(np.float32).max)  # stands for infinity and NaN, which JSON lacks


Decode = Callable[[Letters, npt.NDArray[np.float32]], Letters]
"""From letters (B, L) and their logits (B, L, V) to answers (B, L)."""


class CounterExample(BaseModel):
    """A query that Menny answers with a forbidden letter."""

    model_config = ConfigDict(frozen=True)

    query: str
    response: str
    margin: float = Field(description="best allowed minus best forbidden logit; not above 0")


class Findings(BaseModel):
    """What checking some multisets of letters has shown; each stands for its anagrams too."""

    model_config = ConfigDict(frozen=True)

    multisets: int = Field(description="multisets of letters that went through the model")
    queries: int = Field(description="queries that they stand for")
    letters: int = Field(description="letters in those queries")
    violations: int = Field(description="queries with a letter that is answered wrongly")
    counter_examples: list[CounterExample] = Field(
        description=f"the worst of them, at most {MAX_COUNTER_EXAMPLES}, one of its anagrams each"
    )
    smallest_margin: float = Field(description="best allowed minus best forbidden logit")
    smallest_margin_query: str
    worst_excess_nll: float = Field(description="of any letter; nats above the best")
    worst_excess_nll_query: str
    mean_excess_nll: float = Field(description="over all letters; nats above the best")


class Proof(Findings):
    """What is known of one weights file."""

    sha256: str = Field(description="of the .npz file that was checked")
    rounding_spread: float = Field(
        description="largest difference of a logit from float64's, letters and batches shuffled"
    )
    seconds: float = Field(description="how long it took, breaks left out")
    created: datetime = Field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    @property
    def is_complete(self) -> bool:
        """Whether every query that exists was covered."""
        return self.queries == NUM_QUERIES

    @property
    def withstands_rounding(self) -> bool:
        """Whether the smallest margin is far above what rounding can do."""
        return self.smallest_margin > SAFETY * self.rounding_spread

    @property
    def holds(self) -> bool:
        """Whether Menny is proven to keep the rule, whatever she is asked."""
        return self.is_complete and self.violations == 0 and self.withstands_rounding


def check(forward: Forward, work: Workload) -> Findings:
    """Run the model on queries, and compare with the rule."""
    findings, _ = examine(forward, work, lambda _, logits: logits.argmax(axis=-1).astype(np.int8))
    return findings


def examine(forward: Forward, work: Workload, decode: Decode) -> tuple[Findings, Letters]:
    """Check queries, and hear what the model answers to each: (N, L).

    What needs settling is settled for all of them at once: it is few of each batch.
    """
    logits = forward(work.queries)  # (N, L, V)
    judged = [
        _judge(work.queries[start : start + BATCH_SIZE], logits[start : start + BATCH_SIZE])
        for start in range(0, len(work.queries), BATCH_SIZE)
    ]
    margins, excess = (np.concatenate(part) for part in zip(*judged, strict=True))  # (N, L)
    answers = decode(work.queries, logits)
    worst_margins, worst_excess = margins.min(axis=1), excess.max(axis=1)  # (N,)
    anagrams, is_letter = work.anagrams, work.queries != PADDING  # (N,), (N, L)
    letters = anagrams * is_letter.sum(axis=1)

    def text(row: int) -> str:
        return decode_batch(work.queries[row : row + 1])[0]

    def counter_example(row: int) -> CounterExample:
        response = np.where(is_letter[row], answers[row], PADDING).astype(np.int8)
        return CounterExample(
            query=text(row),
            response=decode_batch(response[None])[0],
            margin=float(worst_margins[row]),
        )

    wrong = np.flatnonzero(worst_margins <= 0)
    worst_first = wrong[np.argsort(worst_margins[wrong], kind="stable")][:MAX_COUNTER_EXAMPLES]
    min_margin_row, max_excess_row = int(worst_margins.argmin()), int(worst_excess.argmax())
    total_excess = math.fsum(anagrams * np.where(is_letter, excess, 0).sum(axis=1))
    findings = Findings(
        multisets=len(work.queries),
        queries=int(anagrams.sum()),
        letters=int(letters.sum()),
        violations=int(anagrams[wrong].sum()),
        counter_examples=[counter_example(int(row)) for row in worst_first],
        smallest_margin=float(worst_margins[min_margin_row]),
        smallest_margin_query=text(min_margin_row),
        worst_excess_nll=float(worst_excess[max_excess_row]),
        worst_excess_nll_query=text(max_excess_row),
        mean_excess_nll=total_excess / int(letters.sum()),
    )
    return findings, answers


def merge(parts: Iterable[Findings]) -> Findings:
    """The findings of several chunks as one; the same whatever the order they come in."""
    findings = list(parts)
    letters = sum(part.letters for part in findings)
    min_margin = min(findings, key=lambda part: (part.smallest_margin, part.smallest_margin_query))
    max_excess = min(
        findings, key=lambda part: (-part.worst_excess_nll, part.worst_excess_nll_query)
    )
    counter_examples = [example for part in findings for example in part.counter_examples]
    counter_examples.sort(key=lambda example: (example.margin, example.query))
    return Findings(
        multisets=sum(part.multisets for part in findings),
        queries=sum(part.queries for part in findings),
        letters=letters,
        violations=sum(part.violations for part in findings),
        counter_examples=counter_examples[:MAX_COUNTER_EXAMPLES],
        smallest_margin=min_margin.smallest_margin,
        smallest_margin_query=min_margin.smallest_margin_query,
        worst_excess_nll=max_excess.worst_excess_nll,
        worst_excess_nll_query=max_excess.worst_excess_nll_query,
        mean_excess_nll=math.fsum(part.mean_excess_nll * part.letters for part in findings)
        / letters,
    )


def _judge(
    queries: Letters, logits: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """From logits (B, L, V): margin and excess over the best NLL at each position, (B, L) each.

    Where there is no letter the margin is as large and the excess as small as they get; where a
    logit is no number, the other way round.
    """
    is_allowed = IS_ALLOWED[queries]  # (B, L, V)
    allowed, forbidden = (
        np.where(mask, logits, -np.inf).max(axis=-1) for mask in (is_allowed, ~is_allowed)
    )
    margins = allowed.astype(np.float64) - forbidden
    shifted = logits - logits.max(axis=-1, keepdims=True)
    expected = np.einsum("blv,blv->bl", LABEL_ODDS[queries], shifted)
    log_sum = np.log(np.exp(shifted).sum(axis=-1, dtype=np.float64))
    excess = log_sum - expected - BEST_NLLS[queries]
    is_letter = queries != PADDING
    margins = np.nan_to_num(margins, nan=-_LARGEST, posinf=_LARGEST, neginf=-_LARGEST)
    excess = np.nan_to_num(excess, nan=_LARGEST, posinf=_LARGEST, neginf=_LARGEST)
    return np.where(is_letter, margins, _LARGEST), np.where(is_letter, excess, -_LARGEST)
