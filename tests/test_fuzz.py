"""A short run of each fuzzing target; `make fuzz` runs them for longer."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris is not installed; it has no wheel for every Python (see fuzz/requirements.txt)",
)
@pytest.mark.parametrize("target", ["weights", "requests"])
@pytest.mark.parametrize(
    "length", ["-runs=1000", pytest.param("-max_total_time=60", marks=pytest.mark.slow)]
)
def test_a_short_run_of_arbitrary_bytes_finds_nothing(
    target: str, length: str, tmp_path: Path
) -> None:
    subprocess.run([sys.executable, "-m", "fuzz.seeds", str(tmp_path)], cwd=ROOT, check=True)
    seeds = {path.name for path in (tmp_path / target).iterdir()}
    done = subprocess.run(
        [sys.executable, "-m", f"fuzz.{target}", str(tmp_path / target)]
        + [f"-dict={tmp_path}/{target}.dict", f"-artifact_prefix={tmp_path}/finding-"]
        + [length, "-timeout=60", "-rss_limit_mb=1500"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    assert not list(tmp_path.glob("finding-*"))
    assert len(list((tmp_path / target).iterdir())) > len(seeds)  # it has found new ways to go
