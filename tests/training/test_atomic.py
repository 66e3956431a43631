"""Writing whole or not at all."""

import fcntl
import os
from pathlib import Path

import pytest

from training.atomic import write_atomically


def test_a_file_is_replaced_whole_with_the_mode_asked_for_and_nothing_is_left_beside_it(
    tmp_path: Path,
) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    write_atomically(target, [b"new ", b"text"], mode=0o600)
    assert target.read_text() == "new text"
    assert target.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [target]


def test_what_fails_half_way_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")

    def chunks():
        yield b"half"
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        write_atomically(target, chunks())
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_is_there_is_kept_if_that_is_asked_for(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(FileExistsError):
        write_atomically(target, [b"new"], replace=False)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_on_a_mac_the_data_is_brought_through_the_drives_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda descriptor, command: asked.append(command))
    monkeypatch.setattr(os, "fsync", lambda descriptor: pytest.fail("stays in the drive's cache"))
    write_atomically(tmp_path / "file", [b"text"])
    assert asked == [51, 51]  # the file's data, and the folder's names
