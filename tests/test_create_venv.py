"""scripts/create-venv takes a Python that MLX has wheels for, on Linux and on a Mac."""

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "create-venv"


class Shelf:
    """A PATH with interpreters that only say who they are, and make a `venv` by leaving a mark."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.made = folder / "venv"
        for tool in ("rm", "sh"):
            (self.bin / tool).symlink_to(f"/bin/{tool}")
        self.put("uname", "echo Linux")

    def put(self, name: str, script: str) -> None:
        tool = self.bin / name
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)

    def put_python(self, name: str, version: str, system: str, machine: str) -> None:
        series = " ".join(version.split(".")[:2])
        self.put(
            name,
            f'case "$1 $2" in "-m venv") echo {name} > "$3" ;;\n'
            f'"-c import platform"*) echo {version} {system} {machine} {series} ;; esac',
        )

    def create(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", str(SCRIPT), str(self.made)],
            env={"PATH": str(self.bin)},
            capture_output=True,
            text=True,
            timeout=30,
        )


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_a_python_that_is_too_new_is_left_for_one_that_has_wheels(shelf: Shelf) -> None:
    shelf.put_python("python3", "3.15.0", "Linux", "x86_64")
    shelf.put_python("python3.12", "3.12.3", "Linux", "x86_64")
    assert shelf.create().returncode == 0
    assert shelf.made.read_text() == "python3.12\n"


@pytest.mark.parametrize("version", ["3.10.4", "3.15.0"])
def test_without_a_fitting_python_the_one_that_is_there_is_named(
    shelf: Shelf, version: str
) -> None:
    shelf.put_python("python3", version, "Linux", "x86_64")
    result = shelf.create()
    assert result.returncode == 1
    assert f"needs Python 3.11 to 3.14 with venv; python3 is Python {version}" in result.stderr


def test_on_a_mac_a_python_under_rosetta_is_left_for_a_native_one(shelf: Shelf) -> None:
    shelf.put("uname", "echo Darwin")
    shelf.put("sw_vers", "echo 14.5")
    shelf.put_python("python3", "3.12.3", "Darwin", "x86_64")
    refused = shelf.create()
    assert (refused.returncode, "under Rosetta" in refused.stderr) == (1, True)
    shelf.put_python("python3.11", "3.11.9", "Darwin", "arm64")
    assert shelf.create().returncode == 0
    assert shelf.made.read_text() == "python3.11\n"


def test_an_old_macos_is_named(shelf: Shelf) -> None:
    shelf.put("uname", "echo Darwin")
    shelf.put("sw_vers", "echo 13.6.1")
    result = shelf.create()
    assert (result.returncode, "this is macOS 13.6.1" in result.stderr) == (1, True)
