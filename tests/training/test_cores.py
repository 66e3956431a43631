"""How many cores a process may use: those of the machine, and what a container leaves of them."""

import os
from pathlib import Path

import pytest

from training import cores


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine of 64 cores; returns the folder of its cgroups, which has none yet."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(64), raising=False)
    monkeypatch.setattr(cores, "CGROUPS", tmp_path / "cgroups")
    monkeypatch.setattr(cores, "OWN_CGROUP", tmp_path / "own")
    return tmp_path / "cgroups"


def limit(cgroup: Path, text: str) -> None:
    cgroup.mkdir(parents=True, exist_ok=True)
    (cgroup / "cpu.max").write_text(f"{text}\n")


def test_without_cgroups_all_cores_count(many_cores: Path) -> None:
    assert cores.num_cores() == 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("200000 100000", 2), ("150000 100000", 2), ("1000 100000", 1)),
        *(("max 100000", 64), ("9900000 100000", 64), ("", 64), ("0 0", 64)),
    ],
)
def test_no_more_cores_count_than_the_container_may_use(
    many_cores: Path, text: str, expected: int
) -> None:
    (many_cores.parent / "own").write_text("0::/\n")
    limit(many_cores, text)
    assert cores.num_cores() == expected


def test_the_least_limit_of_all_cgroups_around_counts(many_cores: Path) -> None:
    (many_cores.parent / "own").write_text("1:cpu:/else\n0::/user.slice/menny.service\n")
    limit(many_cores / "user.slice" / "menny.service", "800000 100000")
    assert cores.num_cores() == 8
    limit(many_cores / "user.slice", "300000 100000")
    assert cores.num_cores() == 3


def test_an_affinity_counts_as_well(many_cores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(3), raising=False)
    assert cores.num_cores() == 3
