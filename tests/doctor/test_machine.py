from dataclasses import replace
from pathlib import Path

import pytest

from app.doctor.finding import Status
from app.doctor.machine import (
    Machine,
    check_chromium,
    check_descriptors,
    check_folders,
    check_packages,
    check_platform,
    check_workers,
    find_chromium,
    installed_packages,
    this_machine,
)

MAC = Machine("Darwin", "arm64", "3.13.1", macos="15.5")
LINUX = Machine("Linux", "x86_64", "3.11.7", glibc="2.36")
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "machine", [MAC, LINUX, replace(MAC, macos="14.0"), replace(LINUX, glibc="2.35")]
)
def test_a_machine_that_mlx_has_wheels_for_is_ok(machine: Machine) -> None:
    assert check_platform(machine).status is Status.OK


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (replace(MAC, machine="x86_64", is_translated=True), "under Rosetta"),
        (replace(MAC, machine="x86_64"), "is for x86_64"),
        (replace(MAC, macos="13.7.1"), "macOS 13.7.1"),
        (replace(MAC, python="3.10.2"), "Python 3.10.2"),
        (replace(LINUX, python="3.15.0"), "Python 3.15.0"),
        (replace(LINUX, glibc="2.31"), "glibc 2.31"),
        (replace(LINUX, glibc=""), "not glibc"),
        (Machine("FreeBSD", "amd64", "3.12.0"), "no wheels for FreeBSD"),
    ],
)
def test_a_machine_that_mlx_has_no_wheels_for_fails(machine: Machine, words: str) -> None:
    finding = check_platform(machine)
    assert (finding.status, words in finding.says) == (Status.FAIL, True)
    assert finding.remedy


def test_this_machine_is_one_of_them() -> None:
    assert check_platform(this_machine()).status is Status.OK


def test_packages_are_compared_with_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        "mlx[cpu]==0.32.4 ; sys_platform == 'linux' \\\n    --hash=sha256:00\n"
        "numpy==2.4.6 ; python_full_version < '3.12' \\\n    --hash=sha256:00\n"
        "numpy==2.5.5 ; python_full_version >= '3.12' \\\n    --hash=sha256:00\n"
    )
    assert check_packages(lock, {"mlx": "0.32.4", "numpy": "2.4.6"}).status is Status.OK
    other = check_packages(lock, {"mlx": "0.30.0", "numpy": "2.5.5"})
    assert (other.status, "mlx 0.30.0 (not 0.32.4)" in other.says) == (Status.WARN, True)
    assert check_packages(lock, {"mlx": None}).status is Status.FAIL
    assert check_packages(tmp_path / "none", {"mlx": "1"}).status is Status.OK
    assert installed_packages(ROOT / "requirements.lock")["mlx"]


def test_too_few_descriptors_are_said_with_how_many_connections_they_do_for() -> None:
    assert check_descriptors(1000, 1000).status is Status.OK
    finding = check_descriptors(80, 1000)
    assert finding.status is Status.WARN
    assert "MENNY_MAX_CONNECTIONS=80" in (finding.remedy or "")


def test_more_workers_than_cores_are_said() -> None:
    assert check_workers(2, 2).status is Status.OK
    finding = check_workers(8, 2)
    assert finding.status is Status.WARN
    assert "8 workers share 2 cores" in finding.says


@pytest.mark.parametrize(
    "folder",
    [
        "/Users/me/Documents/menny",
        "/Users/me/Desktop",
        "/Users/me/Downloads/x/y",
        "/Users/me/Library/Mobile Documents/com~apple~CloudDocs/menny",
        "/Users/me/Library/CloudStorage/Drive/menny",
        "/Volumes/USB/menny",
    ],
)
def test_a_folder_that_macos_keeps_from_launchd_is_named(folder: str) -> None:
    home = Path("/Users/me")
    finding = check_folders([Path("/Users/me/menny"), Path(folder)], home, "Darwin")
    assert (finding.status, folder in finding.says) == (Status.WARN, True)
    assert (finding.remedy or "").startswith("mv ")
    assert check_folders([Path("/Users/me/menny")], home, "Darwin").status is Status.OK
    assert check_folders([Path(folder)], home, "Linux").status is Status.OK


def test_chromium_is_found_on_the_path_or_among_a_macs_applications(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    app = tmp_path / "Google Chrome"
    monkeypatch.setattr("app.doctor.machine._MAC_CHROMIUMS", (str(app),))
    assert find_chromium() is None
    app.touch()
    assert find_chromium() == str(app)
    tool = tmp_path / "chromium"
    tool.write_text("")
    tool.chmod(0o755)
    assert find_chromium() == str(tool)


def test_a_missing_chromium_is_a_warning_with_how_to_get_one() -> None:
    assert check_chromium("/usr/bin/chromium", "Linux").status is Status.OK
    for system, tool in (("Darwin", "brew"), ("Linux", "apt")):
        finding = check_chromium(None, system)
        assert (finding.status, tool in (finding.remedy or "")) == (Status.WARN, True)
