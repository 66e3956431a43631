"""Three forks of this checkout in which nothing but the rule differs: one file to change."""

import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forks.rules import FORKS
from tests.service import clean_environment

ROOT = Path(__file__).parents[2]
WEIGHTS = Path("weights", "menny_model_weights.npz")
GENERAL = [
    *("tests/doctor", "tests/training/test_answers.py", "tests/training/test_dataset.py"),
    *(f"tests/training/test_{name}.py" for name in ("model", "settling", "steps", "vocabulary")),
    *(f"tests/training/test_{name}.py" for name in ("trainer", "weights")),
    *(f"tests/inference/test_{name}.py" for name in ("batcher", "engine", "explanation", "model")),
    *(f"tests/routes/test_{name}.py" for name in ("explain", "inference_protocol", "options")),
    "tests/routes/test_transform.py",
]
"""Where tests are that hold for any rule, and are cheap; what is about hers is left out."""


def fork(folder: Path, rule: str) -> None:
    """Copy what git knows of this checkout, and replace the rule at the end of training/rule.py."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    home = folder / "training" / "rule.py"
    everything_else, _, _ = home.read_text(encoding="utf-8").partition("RULE = Rule(")
    home.write_text(everything_else + rule, encoding="utf-8")


def run(folder: Path, *arguments: str) -> str:
    """Run a module of the fork; returns its output. The copy comes before what is installed."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", *arguments],
        cwd=folder,
        env=clean_environment() | {"PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def processor_time() -> float:
    """Seconds of this process's children that have ended; a busy machine doesn't change them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", FORKS)
def test_another_rule_is_one_file_away(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "fork"
    fork(folder, FORKS[name])
    before = processor_time()
    trained = run(
        folder, "app.cli", "train", "--num-epochs", "20", "--out", str(WEIGHTS), "--force"
    )
    assert processor_time() - before < 60
    assert "rule_accuracy  100.00%" in trained
    proven = run(folder, "app.cli", "verify", "--cache", str(tmp_path / "cache"))
    assert "PROVEN" in proven
    asked = run(folder, "app.cli", "verify", "--table", "--ask", "1000")
    assert "answers 1,000 random queries as the table does" in asked
    pytest_options = ("pytest", "-q", "-n0", "-p", "no:cacheprovider")
    run(folder, *pytest_options, "tests/forks/life.py")
    general = run(folder, *pytest_options, "-m", "not slow and not default_rule", *GENERAL)
    passed = re.search(r"(\d+) passed", general)
    assert passed is not None
    assert int(passed[1]) > 300
