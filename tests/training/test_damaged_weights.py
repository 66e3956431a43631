"""More than a thousand damaged files: no crash, hang or gibibyte; always an error of ours.

`make test` tries every sixteenth of them, `make test-all` all.
"""

import ctypes
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.damage import corpus_with_tables
from tests.damage.load import MEMORY, SECONDS
from tests.damage.members import SIDE_EFFECT

ROOT = Path(__file__).resolve().parents[2]

Outcome = dict[str, object]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


@pytest.fixture(scope="module", params=[16, pytest.param(1, marks=pytest.mark.slow)])
def every(request: pytest.FixtureRequest) -> int:
    """Every so many files of the corpus are tried."""
    return int(request.param)


@pytest.fixture(scope="module")
def outcomes(folder: Path, every: int) -> list[Outcome]:
    """What became of each file, in a process that may die of it."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.damage.load", str(every)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_obey_permissions,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        watchdog = threading.Timer(250 if every > 1 else 900, process.kill)
        watchdog.start()
        try:
            lines = process.stdout.read().splitlines()
            complaints = process.stderr.read()
        finally:
            watchdog.cancel()
    assert process.returncode == 0, f"it died ({process.returncode}) of {lines[-1:]}: {complaints}"
    assert "Traceback" not in complaints
    return [json.loads(line) for line in lines if not line.startswith("> ")]


def _obey_permissions() -> None:
    """Root may read everything, unless it is without these capabilities."""
    if os.geteuid() == 0:
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def test_the_corpus_has_more_than_a_thousand_files_each_with_a_name_of_its_own() -> None:
    names = [damaged.name for damaged in corpus_with_tables()]
    assert len(names) > 1000
    assert len(set(names)) == len(names)


def test_no_damaged_file_crashes_or_hangs_the_process_that_loads_it(
    outcomes: list[Outcome], every: int
) -> None:
    names = [damaged.name for damaged in corpus_with_tables()]
    assert [outcome["name"] for outcome in outcomes] == names[::every]
    slow = [outcome for outcome in outcomes if float(str(outcome["seconds"])) > SECONDS]
    assert not slow
    worst = max(outcomes, key=lambda outcome: float(str(outcome["seconds"])))
    print(f"{len(outcomes)} files; slowest: {worst['seconds']:.2f} s, {worst['name']}")


def test_no_damaged_file_takes_a_gibibyte_or_anything_near_it(outcomes: list[Outcome]) -> None:
    worst = max(outcomes, key=lambda outcome: int(str(outcome["kib"])))
    print(f"most memory: {int(str(worst['kib'])) // 1024} MiB, {worst['name']}")
    assert int(str(worst["kib"])) < 256 * 1024 < MEMORY // 1024, worst


@pytest.mark.default_rule
def test_a_damaged_file_is_refused_in_a_sentence_or_gives_exactly_the_whole_ones_numbers(
    outcomes: list[Outcome], every: int
) -> None:
    refused = harmless = 0
    for outcome in outcomes:
        if "error" not in outcome:
            assert outcome["says"] is None, outcome
            assert outcome["same"], outcome
            harmless += 1
            continue
        refused += 1
        error = str(outcome["error"])
        assert outcome["kind"] in {"WeightsError", "NoFileError"}, outcome
        assert str(outcome["says"] or "") in error, outcome
        assert any(name in error for name in ("menny.npz", "menny.json", "menny_answers.npz"))
        assert len(error.partition("/menny")[2]) < 400, outcome
        assert len(error.split()) >= 4, outcome
        assert error.isprintable(), outcome
        assert " object at 0x" not in error, outcome
        assert not error.endswith((":", " ")), outcome
    print(f"{refused} refused, {harmless} harmless")
    assert refused > 1000 // every


def test_no_pickle_is_ever_run(outcomes: list[Outcome], folder: Path) -> None:
    assert any("pickle" in str(outcome["name"]) for outcome in outcomes)
    assert not list(folder.rglob(SIDE_EFFECT))
    assert not Path(SIDE_EFFECT).exists()
