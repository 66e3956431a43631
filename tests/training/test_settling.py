"""The same answers on every backend: near-ties are settled by the model in float64."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import permutations, product
from multiprocessing import get_context

import numpy as np
import pytest

from training.architecture import Parameters
from training.dataset import generate_queries
from training.evaluation import Forward
from training.graph import FusedMenny
from training.mlx_graph import MlxMenny
from training.model import build_model
from training.proof.answers import load_table, table_path
from training.proof.queries import Plan
from training.reference import ReferenceMenny
from training.settling import Settler, argmax_with_margin
from training.trainer import forward_of
from training.vocabulary import ALPHABET, PADDING, Letters, decode_batch, encode_batch
from training.weights import SHIPPED_WEIGHTS, Weights, load_weights

BATCH = 128

pytestmark = pytest.mark.timeout(2400)  # the slow ones ask every multiset there is


@pytest.fixture(scope="module")
def shipped() -> Weights:
    return load_weights(SHIPPED_WEIGHTS)


class Tf32(ReferenceMenny):
    """Menny where products with weights are those of TF32: mantissas of 10 bits."""

    def __init__(self, parameters: Parameters) -> None:
        super().__init__({name: rounded(value) for name, value in parameters.items()})

    def _norm(self, name: str, x: np.ndarray) -> np.ndarray:
        return rounded(super()._norm(name, x)).astype(np.float64)


def rounded(array: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    return ((bits + 0x1000) & 0xFFFFE000).astype(np.uint32).view(np.float32)


def torch_forward(weights: Weights) -> Forward:
    pytest.importorskip("torch", reason="PyTorch is not installed (pip install 'menny[torch]')")
    from training.config import TrainingConfig
    from training.torch_menny import TorchLearner, use_one_thread

    use_one_thread()
    learner = TorchLearner(TrainingConfig())
    learner.load(weights.parameters)
    return learner.forward


BACKENDS: dict[str, Callable[[Weights], Forward]] = {
    "NumPy's graph": lambda weights: FusedMenny(weights.parameters),
    "MLX's graph": lambda weights: MlxMenny(weights.parameters),
    "the plain MLX model": lambda weights: forward_of(build_model(weights.parameters)),
    "PyTorch": torch_forward,
    "TF32": lambda weights: Tf32(weights.parameters),
}


def settler_of(weights: Weights, forward: Forward) -> Settler:
    probes = generate_queries(256, np.random.default_rng(0))
    return Settler(weights.parameters, forward, probes, [1, 64, BATCH])


def answers(settler: Settler, forward: Forward, queries: Letters) -> Letters:
    batches = (queries[start : start + BATCH] for start in range(0, len(queries), BATCH))
    return np.concatenate([settler.answers(batch, forward(batch)) for batch in batches])


def doubtful_multisets(weights: Weights) -> Letters:
    """Every multiset that has two answers closer than rounding can tell: some 20,000."""
    limit = settler_of(weights, FusedMenny(weights.parameters)).doubtful_margin
    parts = np.array_split(Plan().workload().queries, 1024)
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        return np.concatenate(list(pool.map(partial(in_doubt, limit=limit), parts)))


def in_doubt(queries: Letters, limit: float) -> Letters:
    """Those queries of (N, L) that the shipped weights answer by a margin below the limit."""
    forward = FusedMenny(load_weights(SHIPPED_WEIGHTS).parameters)
    _, margins = argmax_with_margin(forward(queries))
    return queries[((margins < limit) & (queries != PADDING)).any(axis=1)]


@pytest.fixture(scope="module", params=["few", pytest.param("all", marks=pytest.mark.slow)])
def queries(request: pytest.FixtureRequest, shipped: Weights) -> Letters:
    """All single letters and 1,500 longer queries.

    Or all of up to 3 letters, 200,000 longer ones and every multiset in doubt.
    """
    length, count = (1, 1_500) if request.param == "few" else (3, 200_000)
    every = ["".join(text) for n in range(1, length + 1) for text in product(ALPHABET, repeat=n)]
    longer = generate_queries(3 * count, np.random.default_rng(17))
    longer = longer[longer[:, length] != PADDING][:count]
    assert len(longer) == count
    parts = [encode_batch(every), longer]
    if request.param == "all":
        parts.append(doubtful_multisets(shipped))
        assert 10_000 < len(parts[-1]) < 50_000
    return np.concatenate(parts)


@pytest.fixture(scope="module")
def expected(shipped: Weights, queries: Letters) -> list[str]:
    """What the shipped answer table says."""
    table = load_table(table_path(SHIPPED_WEIGHTS), shipped.sha256)
    return table.answers(decode_batch(queries))


def test_the_table_says_what_the_model_in_float64_says(
    shipped: Weights, queries: Letters, expected: list[str]
) -> None:
    """For the closest calls too, and for anagrams: each letter of each query by itself."""
    settler = settler_of(shipped, FusedMenny(shipped.parameters))
    for start in range(0, len(queries), BATCH):
        batch = queries[start : start + BATCH]
        best = settler.canonical_logits(batch).argmax(axis=-1)
        answers = np.where(batch != PADDING, best, PADDING).astype(np.int8)
        assert decode_batch(answers) == expected[start : start + BATCH]


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param(backend, marks=pytest.mark.slow if backend == "PyTorch" else ())
        for backend in BACKENDS
    ],
)
def test_the_same_query_gets_the_same_answer_on_every_machine(
    shipped: Weights, queries: Letters, expected: list[str], backend: str
) -> None:
    """Whatever computes: it and the table differ on no query."""
    forward = BACKENDS[backend](shipped)
    settler = settler_of(shipped, forward)
    assert (settler.spread > 1e-4) is (backend == "TF32")
    assert decode_batch(answers(settler, forward, queries)) == expected


@pytest.mark.default_rule
def test_without_settling_tf32_would_answer_otherwise(
    shipped: Weights, queries: Letters, expected: list[str]
) -> None:
    forward = BACKENDS["TF32"](shipped)
    few, known = queries[-1_000:], expected[-1_000:]
    plain = decode_batch(np.where(few >= 0, forward(few).argmax(axis=-1), -1).astype(np.int8))
    assert any(a != b for a, b in zip(plain, known, strict=True))


@pytest.mark.default_rule
def test_anagrams_get_the_same_letters_and_equal_letters_the_same_answer(shipped: Weights) -> None:
    forward = FusedMenny(shipped.parameters)
    settler = settler_of(shipped, forward)
    for text in ("aBB", "hello", "QjQ", "MeM"):
        orders = ["".join(order) for order in permutations(text)]
        responses = decode_batch(answers(settler, forward, encode_batch(orders)))
        pairs = {
            tuple(sorted(set(zip(order, response, strict=True))))
            for order, response in zip(orders, responses, strict=True)
        }
        assert len(pairs) == 1
        assert len(dict(pairs.pop())) == len(set(text))


@pytest.mark.default_rule
def test_an_exact_tie_goes_to_the_earlier_letter_whoever_computes(shipped: Weights) -> None:
    """'O' and 'U' have the same weights: her answers are as often exactly tied."""
    parameters = dict(shipped.parameters)
    first, second = ALPHABET.index("O"), ALPHABET.index("U")
    for name in ("fc.weight", "fc.bias"):
        parameters[name] = parameters[name].copy()
        parameters[name][second] = parameters[name][first]
    tied = Weights(parameters, "0" * 64)
    queries = Plan(max_length=2).workload().queries[::4]
    for backend in ("NumPy's graph", "MLX's graph"):
        forward = BACKENDS[backend](tied)
        found = answers(settler_of(tied, forward), forward, queries)
        assert (found == first).any()
        assert not (found == second).any()


@pytest.mark.default_rule
def test_answers_that_rounding_could_change_are_settled(shipped: Weights) -> None:
    """With rounding made a thousand times as large, plain argmax would be wrong all the time."""
    real, rng = FusedMenny(shipped.parameters), np.random.default_rng(0)

    def noisy(letters: Letters) -> np.ndarray:
        logits = real(letters)
        return logits + rng.uniform(-3e-3, 3e-3, logits.shape).astype(np.float32)

    queries = generate_queries(500, np.random.default_rng(13))
    exact, doubtful = settler_of(shipped, real), settler_of(shipped, noisy)
    assert doubtful.spread == pytest.approx(3e-3, rel=0.01)
    expected = answers(exact, real, queries).tolist()
    assert answers(exact, noisy, queries).tolist() != expected
    assert answers(doubtful, noisy, queries).tolist() == expected


@pytest.mark.default_rule
def test_a_model_that_knows_positions_has_a_large_spread(shipped: Weights) -> None:
    forward, position = FusedMenny(shipped.parameters), np.linspace(0, 1, 5)[:, None]
    assert settler_of(shipped, lambda letters: forward(letters) + position).spread > 0.1


def test_the_best_letter_comes_with_its_margin_over_the_second_best() -> None:
    best, margin = argmax_with_margin(np.array([[1, 5, 3], [2, 2, 0]], dtype=np.float32))
    assert (best.tolist(), margin.tolist()) == ([1, 0], [2, 0])
