"""A whole weights file, and the means to take its zip archive apart and put another together."""

import io
import struct
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from training.weights import SHIPPED_WEIGHTS

WHOLE = SHIPPED_WEIGHTS.read_bytes()
"""Stored, as `numpy.savez` writes it."""

ONE = "fc.weight"
"""The array that is damaged where one is enough; (52, 52)."""

END_SIZE = 22  # of the end record, without a comment


@dataclass(frozen=True)
class Damaged:
    """A damaged file, and what has to become of it.

    `says` is a part of the error that must come. "" is any error of ours; `None` allows, besides,
    that the file loads with exactly the numbers of the whole one, for the damage may not matter.
    """

    name: str
    make: Callable[[Path], None]
    says: str | None


def of_bytes(name: str, build: Callable[[], bytes], says: str | None) -> Damaged:
    """A file without a card that has these bytes."""
    return Damaged(name, lambda path: _write(path, build()), says)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


@cache
def arrays() -> dict[str, np.ndarray]:
    """The whole file's arrays."""
    with np.load(io.BytesIO(WHOLE), allow_pickle=False) as found:
        return dict(found)


@cache
def members() -> dict[str, bytes]:
    """The whole file's members."""
    with zipfile.ZipFile(io.BytesIO(WHOLE)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@cache
def compressed() -> bytes:
    """The same arrays, deflated."""
    return zip_of(list(members().items()), zipfile.ZIP_DEFLATED)


def zip_of(content: Sequence[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    """An archive with right checksums."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression, compresslevel=1) as archive:
        for name, data in content:
            archive.writestr(zipfile.ZipInfo(name), data, compression)
    return file.getvalue()


def with_member(data: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    """The whole file but for the member of `ONE`, which has these bytes."""
    return zip_of(list((members() | {f"{ONE}.npy": data}).items()), compression)


def with_array(array: np.ndarray, name: str = ONE) -> bytes:
    """The whole file but for one array."""
    file = io.BytesIO()
    np.savez(file, **(arrays() | {name: array}))
    return file.getvalue()


def npy(header: bytes, data: bytes, version: bytes = b"\x01\x00") -> bytes:
    """An `.npy` file with this header."""
    size = struct.pack("<H" if version == b"\x01\x00" else "<I", len(header))
    return b"\x93NUMPY" + version + size + header + data


def header_offsets() -> dict[str, int]:
    """Where the local header of each member of the whole file starts."""
    with zipfile.ZipFile(io.BytesIO(WHOLE)) as archive:
        return {member.filename: member.header_offset for member in archive.infolist()}


def directory_offset(data: bytes) -> int:
    """Where the zip directory starts."""
    (offset,) = struct.unpack_from("<I", data, len(data) - END_SIZE + 16)
    return int(offset)


def directory_offsets(data: bytes) -> list[int]:
    """Where each entry of the zip directory starts."""
    at, found = directory_offset(data), []
    while data[at : at + 4] == b"PK\x01\x02":
        found.append(at)
        at += 46 + sum(struct.unpack_from("<HHH", data, at + 28))
    return found


def patched(data: bytes, at: int, new: bytes) -> bytes:
    """The same bytes but for `new` at an offset."""
    return data[:at] + new + data[at + len(new) :]
