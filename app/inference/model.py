"""A model in service: checked and measured when it is loaded, exact when it answers.

Whoever computes, MLX or NumPy, and in whatever company: a query's answer is the same. Where
rounding leaves a doubt, `training.settling` settles it; candidates and odds are always its own.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from app.inference.decoding import (
    Candidate,
    Probabilities,
    Prompt,
    gumbel_noise,
    softmax,
    top_k,
)
from app.inference.explanation import Explainer, Explanation
from training.backend import mx
from training.config import Device
from training.dataset import generate_queries
from training.evaluation import Forward
from training.graph import FusedMenny
from training.mlx_graph import MlxMenny
from training.model import Menny, build_model
from training.proof.answers import AnswerTable
from training.settling import Settler
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


class Answer(NamedTuple):
    """A response and the version of the model that gave it."""

    response: str
    model_version: str
    candidates: list[list[Candidate]] | None = None
    distribution: Probabilities | None = None
    """Over all letters, for each position of the query: (len(query), V)."""
    explanation: Explanation | None = None


@dataclass(frozen=True)
class Backend:
    """What a model computes with."""

    device: str
    """`cpu` or `gpu`."""
    arrays: str
    """`numpy` or `mlx` in the fused graph, `plain` for the plain model in MLX."""


class ServedModel:
    """Weights ready to answer. Must be built and used on the thread that owns MLX."""

    def __init__(self, weights: Weights, max_batch: int, device: Device = "auto") -> None:
        self.version = weights.version
        self.max_batch = max_batch
        self._sizes = [*(size for size in BATCH_SIZES if size < max_batch), max_batch]
        probes = generate_queries(NUM_PROBES, np.random.default_rng(0))
        plain = build_model(weights.parameters)
        with np.errstate(all="ignore"):  # what overflows is refused
            self._forward, self.backend = _choose_forward(weights, plain, probes, device)
            self._settler = Settler(weights.parameters, self._forward, probes, self._sizes)
        is_serving = self.backend.arrays == "plain"
        self._explain = Explainer(build_model(weights.parameters) if is_serving else plain)

    def answer(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """Answer up to `max_batch` prompts, in order; equal queries are computed once."""
        queries = list(dict.fromkeys(prompt.query for prompt in prompts))
        letters = encode_batch(queries)  # (B, L)
        logits = self.logits(letters)  # (B, L, V)
        responses = decode_batch(self._settler.answers(letters, logits))
        greedy = dict(zip(queries, responses, strict=True))
        row_of = {query: row for row, query in enumerate(queries)}
        return [
            self._answer_specially(prompt, letters[[row := row_of[prompt.query]]], logits[[row]])
            if prompt.is_special
            else Answer(greedy[prompt.query], self.version)
            for prompt in prompts
        ]

    def logits(self, letters: Letters) -> npt.NDArray[np.float32]:
        """Letters (B, L) to logits (B, L, V), in a batch padded to one of the sizes."""
        count = len(letters)
        size = next(size for size in self._sizes if size >= count)
        padded = np.full((size, MAX_QUERY_LENGTH), PADDING, dtype=np.int8)
        padded[:count] = letters
        return self._forward(padded)[:count]

    def _answer_specially(
        self, prompt: Prompt, letters: Letters, logits: npt.NDArray[np.float32]
    ) -> Answer:
        """Answer a prompt that asks for more than letters: letters (1, L), logits (1, L, V)."""
        length = len(prompt.query)
        (best,) = self._settler.answers(letters, logits, gumbel_noise(prompt))
        response = decode(best[:length].tolist())
        wants_distribution = prompt.distribution or prompt.explain
        if not (prompt.candidates or wants_distribution):
            return Answer(response, self.version)
        (canonical,) = self._settler.canonical_logits(letters)
        return Answer(
            response,
            self.version,
            candidates=top_k(canonical, length, prompt.candidates) if prompt.candidates else None,
            distribution=softmax(canonical[:length]) if wants_distribution else None,
            explanation=self._explain(letters[0]) if prompt.explain else None,
        )


@dataclass(frozen=True)
class Served:
    """One version that answers, by its table, by its model or by both; replaced as a whole."""

    version: str
    card: ModelCard | None
    table: AnswerTable | None
    table_note: str
    """Why there is a table, or none."""
    model: ServedModel | None = None
    """`None` while it is being built, and if it can't be."""


def _choose_forward(
    weights: Weights, model: Menny, probes: Letters, device: Device
) -> tuple[Forward, Backend]:
    """The fastest fused graph that agrees with the plain model on the probes, else that model.

    MLX's arrays, on the device that MLX uses here, compete with NumPy's on the CPU; the choice
    can't change an answer. `gpu` asks for the GPU, whichever is faster.
    """
    plain = forward_of(model)
    expected = plain(probes)
    mlx_device = str(mx.default_device().type).removeprefix("DeviceType.")
    graphs: list[tuple[Forward, Backend]] = [
        (MlxMenny(weights.parameters), Backend(mlx_device, "mlx"))
    ]
    if device != "gpu":
        graphs.append((FusedMenny(weights.parameters), Backend("cpu", "numpy")))
    differences = [float(abs(graph(probes) - expected).max()) for graph, _ in graphs]
    right = [
        choice
        for choice, difference in zip(graphs, differences, strict=True)
        if difference <= MAX_FUSED_DIFFERENCE
    ]
    if right:
        return min(right, key=lambda choice: _seconds(choice[0], probes))
    logger.warning(
        "model %s: the fused graph is off by %.1e; the slower plain model serves",
        weights.version,
        min(differences),
    )
    return plain, Backend(mlx_device, "plain")


def _seconds(forward: Forward, probes: Letters) -> float:
    """What a single query and a full batch take together, the best of three."""

    def once() -> float:
        begin = time.perf_counter()
        forward(probes[:1])
        forward(probes)
        return time.perf_counter() - begin

    return min(once() for _ in range(3))
