import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from training.architecture import parameter_shapes
from training.config import TrainingConfig
from training.errors import WeightsError
from training.evaluation import Metrics
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


def test_the_shipped_weights_are_the_default_recipes_and_whole() -> None:
    card = load_weights(SHIPPED_WEIGHTS).card
    assert card is not None
    assert card.recipe == "default"
    assert card.config == TrainingConfig(seed=card.config.seed)
    assert card.metrics.rule_accuracy == 1
    assert card.metrics.excess_nll <= 0.002


# --- damage -------------------------------------------------------------------------------------


def with_array(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path, dict], None]:
    def damage(path: Path, parameters: dict[str, np.ndarray]) -> None:
        write(path, parameters | {FC: change(parameters[FC])})

    return damage


def with_value(value: float) -> Callable[[Path, dict], None]:
    def change(array: np.ndarray) -> np.ndarray:
        changed = array.copy()
        changed[3, 3] = value
        return changed

    return with_array(change)


def missing_array(path: Path, parameters: dict[str, np.ndarray]) -> None:
    del parameters[FC]
    write(path, parameters)


def pickled_array(path: Path, parameters: dict[str, np.ndarray]) -> None:
    np.savez(path, **parameters | {FC: np.array([print] * 2, dtype=object)})


def truncated(path: Path, parameters: dict[str, np.ndarray]) -> None:
    write(path, parameters)
    path.write_bytes(path.read_bytes()[:100_000])


def flipped_bit(path: Path, parameters: dict[str, np.ndarray]) -> None:
    write(path, parameters)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        at = archive.getinfo(f"{FC}.npy").header_offset + 1000
    data[at] ^= 1
    path.write_bytes(data)


def rewritten_member(change: Callable[[bytes], bytes]) -> Callable[[Path, dict], None]:
    """The same archive, right in its checksums, with one member's bytes changed."""

    def damage(path: Path, parameters: dict[str, np.ndarray]) -> None:
        write(path, parameters)
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        members[f"{FC}.npy"] = change(members[f"{FC}.npy"])
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)

    return damage


def twice(path: Path, parameters: dict[str, np.ndarray]) -> None:
    write(path, parameters)
    with (
        zipfile.ZipFile(path, "a") as archive,
        pytest.warns(UserWarning, match="Duplicate"),
    ):
        archive.writestr(f"{FC}.npy", b"")


def pickle_file(path: Path, parameters: dict[str, np.ndarray]) -> None:
    np.save(path.with_suffix(".npy"), np.array([print], dtype=object), allow_pickle=True)
    path.with_suffix(".npy").rename(path)


DAMAGE: dict[str, tuple[Callable[[Path, dict], None], str]] = {
    "missing file": (lambda path, parameters: None, "there is no such file"),
    "empty file": (lambda path, parameters: path.write_bytes(b""), "not an .npz file"),
    "a folder": (lambda path, parameters: path.mkdir(), "not a regular file"),
    "a FIFO": (lambda path, parameters: os.mkfifo(path), "not a regular file"),
    "text": (lambda path, parameters: path.write_text("weights"), "not an .npz file"),
    "a pickle": (pickle_file, "not an .npz file"),
    "too large": (lambda path, parameters: path.write_bytes(bytes(17 << 20)), "larger than"),
    "truncated": (truncated, "not an .npz file"),
    "a flipped bit": (flipped_bit, f"array {FC}: damaged: Bad CRC-32"),
    "a pickled array": (pickled_array, f"array {FC}: has pickled objects"),
    "wrong shape": (with_array(lambda array: array[:-1]), f"array {FC}: shape (51, 52)"),
    "wrong order of axes": (
        with_array(lambda array: array.reshape(-1)),
        f"array {FC}: shape (2704,) instead of (52, 52)",
    ),
    "float64": (with_array(lambda array: array[:9].astype(np.float64)), "dtype float64"),
    "float16": (with_array(lambda array: array.astype(np.float16)), "dtype float16"),
    "integers": (with_array(lambda array: array.astype(np.int32)), "dtype int32"),
    "NaN": (with_value(np.nan), f"array {FC}: has values that are not finite"),
    "infinity": (with_value(-np.inf), f"array {FC}: has values that are not finite"),
    "an array missing": (missing_array, f"array {FC} is missing (1 in all)"),
    "an array more": (
        lambda path, parameters: write(path, parameters | {"extra": np.zeros(3)}),
        "array 'extra' is none of Menny's",
    ),
    "an array twice": (twice, f"array {FC} is there twice"),
    "an array cut short": (rewritten_member(lambda data: data[:-4]), "bytes of data instead of"),
    "bytes after an array": (rewritten_member(lambda data: data + b"1234"), "bytes of data"),
    "a forged shape": (
        rewritten_member(lambda data: data.replace(b"(52, 52)", b"(1<<62,)")),
        f"array {FC}: damaged",
    ),
    "a huge shape": (
        rewritten_member(lambda data: data.replace(b"(52, 52)", b"(10**9,)".ljust(8))),
        f"array {FC}: damaged",
    ),
    "a forged header length": (
        rewritten_member(lambda data: data[:8] + b"\xff\xff" + data[10:]),
        f"array {FC}: damaged",
    ),
    "a zip bomb": (rewritten_member(lambda data: bytes(1 << 24)), "16,777,216 bytes instead of"),
    "no array at all": (rewritten_member(lambda data: b"PK"), f"array {FC}: damaged"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_weights_are_refused_with_what_is_wrong(kind, path: Path, parameters) -> None:
    damage, reason = DAMAGE[kind]
    damage(path, parameters)
    with pytest.raises(WeightsError) as caught:
        load_weights(path)
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)


def test_weights_that_are_not_their_cards_are_refused(path: Path, parameters) -> None:
    save_weights(path, parameters, CARD)
    write(path, parameters | {FC: parameters[FC] + 1})
    with pytest.raises(WeightsError, match=r"SHA-256 is .* but its card menny_model_weights.json"):
        load_weights(path)


@pytest.mark.parametrize("text", ["", "{}", "[1]", "{" * 10_000, '{"sha256": 3}'])
def test_a_damaged_card_is_refused(path: Path, parameters, text: str) -> None:
    save_weights(path, parameters, CARD)
    card_path(path).write_text(text)
    with pytest.raises(WeightsError, match="is not a model card"):
        load_weights(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_an_error_of_ours(path: Path, parameters) -> None:
    write(path, parameters)
    path.chmod(0)
    with pytest.raises(WeightsError, match="Permission denied"):
        load_weights(path)


# --- writing ------------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_old_weights_whole_and_no_half_file(path: Path, parameters) -> None:
    save_weights(path, parameters, CARD)
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    # In a child, because its limit on the size of files can't be lifted again.
    code = f"""
import resource, signal
from pathlib import Path
from training.errors import WeightsError
from training.weights import load_weights, save_weights
path = Path({str(path)!r})
old = load_weights(path)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_weights(path, old.parameters, old.card)
except WeightsError as error:
    print(error)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "can't write" in result.stdout
    assert "File too large" in result.stdout
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_whenever_writing_is_cut_off_the_weights_on_disk_are_whole(path: Path, parameters) -> None:
    """A child is killed by itself at every system call of the writing that can matter."""
    code = f"""
import os, signal, sys
from pathlib import Path
import numpy as np
from training.weights import load_weights, save_weights
path = Path({str(path)!r})
old = load_weights(path)
assert old.card
calls = 0
def deadly(real):
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    return call
for name in ("open", "fsync", "fchmod", "replace", "unlink", "fdopen"):
    setattr(os, name, deadly(getattr(os, name)))
changed = dict(old.parameters) | {{"fc.bias": old.parameters["fc.bias"] + 1}}
save_weights(path, changed, old.card)
"""
    states = set()
    for cut in range(1, 40):
        old = save_weights(path, parameters, CARD).sha256
        child = subprocess.run([sys.executable, "-c", code, str(cut)], timeout=60)
        states.add(load_weights(path).sha256 == old)
        if child.returncode == 0:
            break
    assert child.returncode == 0
    assert cut > 8
    assert states == {True, False}  # some were killed before the new weights were there


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
