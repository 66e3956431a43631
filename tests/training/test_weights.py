import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from training.architecture import parameter_shapes
from training.config import TrainingConfig
from training.errors import WeightsError
from training.evaluation import Metrics
from training.rule import RULE
from training.weights import (
    SHIPPED_WEIGHTS,
    ModelCard,
    Parameters,
    card_path,
    load_weights,
    save_weights,
)

FC = "fc.weight"
METRICS = Metrics(num_queries=1, rule_accuracy=1, excess_nll=0, exact_match=0.2, book_accuracy=0.2)
CARD = ModelCard(
    recipe="default",
    config=TrainingConfig(),
    metrics=METRICS,
    test_metrics=METRICS,
    training_seconds=1,
)


@pytest.fixture
def parameters() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in parameter_shapes().items()
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "menny_model_weights.npz"


def write(path: Path, parameters: Parameters) -> None:
    np.savez(path, **parameters)


def test_weights_read_back_as_they_were_written(path: Path, parameters) -> None:
    card = save_weights(path, parameters, CARD)
    weights = load_weights(path)
    assert weights.card == card
    assert weights.sha256 == card.sha256
    assert weights.version == card.sha256[:12]
    assert weights.parameters.keys() == parameters.keys()
    for name, values in parameters.items():
        np.testing.assert_array_equal(weights.parameters[name], values)


def test_the_same_parameters_give_the_same_bytes(path: Path, parameters) -> None:
    first = save_weights(path, parameters, CARD).sha256
    assert save_weights(path, parameters, CARD).sha256 == first


def test_a_missing_card_is_allowed(path: Path, parameters) -> None:
    write(path, parameters)
    assert load_weights(path).card is None


def test_column_major_and_big_endian_arrays_are_read_right(path: Path, parameters) -> None:
    odd = {name: np.asfortranarray(values) for name, values in parameters.items()}
    write(path, odd)
    np.testing.assert_array_equal(load_weights(path).parameters[FC], parameters[FC])


@pytest.mark.default_rule
def test_the_shipped_weights_are_the_default_recipes_and_whole() -> None:
    card = load_weights(SHIPPED_WEIGHTS).card
    assert card is not None
    assert card.recipe == "default"
    assert card.config == TrainingConfig(seed=card.config.seed)
    assert card.metrics.rule_accuracy == 1
    assert card.metrics.excess_nll <= 0.002


# --- damage: `tests.damage` has a thousand kinds ------------------------------------------------


def test_weights_that_are_not_their_cards_are_refused(path: Path, parameters) -> None:
    save_weights(path, parameters, CARD)
    write(path, parameters | {FC: parameters[FC] + 1})
    with pytest.raises(WeightsError, match=r"SHA-256 is .* but its card menny_model_weights.json"):
        load_weights(path)


# --- writing ------------------------------------------------------------------------------------


CUT_OFF = """
import os, resource, signal, sys
from pathlib import Path
from training.errors import WeightsError
from training.weights import load_weights, save_weights

path = Path(sys.argv[1])
old = load_weights(path)
assert old.card
changed = dict(old.parameters) | {"fc.bias": old.parameters["fc.bias"] + 1}
assert "mlx" not in sys.modules  # or a fork would copy its threads half-way


def in_a_fork(work):
    if not (child := os.fork()):
        work()
        os._exit(0)
    return os.waitpid(child, 0)[1]


def on_a_full_disk():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        save_weights(path, changed, old.card)
    except WeightsError as error:
        print(error, flush=True)


before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
assert in_a_fork(on_a_full_disk) == 0
assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def killed_at(cut):
    calls = 0

    def deadly(real):
        def call(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == cut:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return call

    for name in ("open", "fsync", "fchmod", "replace", "unlink", "fdopen"):
        setattr(os, name, deadly(getattr(os, name)))
    save_weights(path, changed, old.card)


for cut in range(1, 60):
    save_weights(path, old.parameters, old.card)
    status = in_a_fork(lambda: killed_at(cut))
    print("old" if load_weights(path).sha256 == old.sha256 else "new", flush=True)
    if status == 0:
        break
"""


def test_whenever_writing_is_cut_off_or_the_disk_is_full_the_weights_on_disk_are_whole(
    path: Path, parameters
) -> None:
    """Killed at every system call of the writing that can matter, each time in a fork."""
    save_weights(path, parameters, CARD)
    done = subprocess.run(
        [sys.executable, "-c", CUT_OFF, path], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    full, *states = done.stdout.splitlines()
    assert "can't write" in full
    assert "File too large" in full
    assert states == sorted(states, reverse=True)  # the old weights, then the new ones
    assert states.count("old") > 8
    assert states[-1] == "new"


def test_the_card_says_what_made_the_weights(path: Path, parameters) -> None:
    save_weights(path, parameters, CARD)
    card = json.loads(card_path(path).read_text())
    assert card["config"]["seed"] == 0
    assert card["metrics"]["rule_accuracy"] == 1
    assert {"menny", "mlx", "numpy", "python"} == set(card["versions"])
    assert len(card["sha256"]) == 64


def test_numpy_reads_the_file_without_us(path: Path, parameters) -> None:
    save_weights(path, parameters, CARD)
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays[FC], parameters[FC])


@pytest.mark.parametrize("of_another", [{"rule": "0" * 64}, {"num_heads": 2}])
def test_weights_that_have_learnt_another_rule_are_refused(
    path: Path, parameters, of_another
) -> None:
    own = {"rule": RULE.sha256, "num_heads": RULE.num_heads}
    save_weights(path, parameters, CARD.model_copy(update=own))
    assert load_weights(path).card.rule == RULE.sha256
    save_weights(path, parameters, CARD.model_copy(update=own | of_another))
    with pytest.raises(WeightsError, match="learnt another rule than that"):
        load_weights(path)


@pytest.mark.parametrize("size", [RULE.num_heads, 2 * len(RULE.alphabet)])
def test_weights_without_a_card_are_judged_by_their_shapes(path: Path, parameters, size) -> None:
    of_another = {name: np.ones((size,) * value.ndim, "f4") for name, value in parameters.items()}
    write(path, of_another)
    with pytest.raises(WeightsError, match=r"instead of .*, as of another rule"):
        load_weights(path)


def test_a_card_from_before_cards_named_their_rule_is_judged_by_its_weights(
    path: Path, parameters
) -> None:
    save_weights(path, parameters, CARD)
    assert load_weights(path).card.rule is None
