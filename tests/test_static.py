"""What needs no run of the code: format, lint, types, directions of imports, files of other tools.

They are tests so that they share the cores with the others and their failures share a summary.
"""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def runs_hadolint(macos: str) -> bool:
    """Its program for arm64 wants macOS 15; `macos` is "15.5", for instance, empty elsewhere."""
    return not macos or int(macos.split(".")[0]) >= 15


@pytest.mark.timeout(600)  # without a cache, on a busy machine
@pytest.mark.parametrize(
    "command",
    [
        pytest.param("mypy --platform linux --cache-dir .mypy_cache/linux", id="mypy-linux"),
        pytest.param("mypy --platform darwin --cache-dir .mypy_cache/darwin", id="mypy-darwin"),
        pytest.param("ruff format --check .", id="ruff-format"),
        pytest.param("ruff check .", id="ruff-check"),
        pytest.param("lint-imports", id="import-linter"),
        pytest.param(
            "check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/ci.yml",
            id="workflow-schema",
        ),
        pytest.param("zizmor --offline --no-progress .github/workflows", id="zizmor"),
        pytest.param(
            "hadolint Dockerfile.notes",
            id="hadolint",
            marks=pytest.mark.skipif(
                not runs_hadolint(platform.mac_ver()[0]), reason="hadolint wants macOS 15"
            ),
        ),
    ],
)
def test_nothing_is_found_by(command: str) -> None:
    tool, *arguments = command.split()
    done = subprocess.run(
        [BIN / tool, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.fail(f"{command}\n{done.stdout}{done.stderr}", pytrace=False)


@pytest.mark.parametrize(
    ("macos", "runs"), [("", True), ("14.7.1", False), ("15", True), ("15.5", True), ("26.1", True)]
)
def test_hadolint_is_left_out_where_its_program_does_not_run(macos: str, runs: bool) -> None:
    assert runs_hadolint(macos) is runs
