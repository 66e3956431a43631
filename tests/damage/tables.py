"""Damaged answer tables beside whole weights."""

import io
import os
import random
import zipfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np

from tests.damage.archive import WHOLE, Damaged
from tests.damage.members import Deadly
from training.proof.answers import NUM_MULTISETS, table_path
from training.rule import RULE
from training.weights import SHIPPED_WEIGHTS

WHOLE_TABLE = table_path(SHIPPED_WEIGHTS).read_bytes()
"""Deflated, as `numpy.savez_compressed` writes it."""

_HEADER_SIZE = 128  # of an `.npy`


def damaged_tables() -> Iterator[Damaged]:
    """Flipped bits, missing ends, forged headers, other codes, other bindings, no files."""
    rng = random.Random(8)
    directory = WHOLE_TABLE.rindex(b"PK\x01\x02") - 200
    for number in range(24):
        place = rng.randrange(*((0, directory) if number < 12 else (directory, len(WHOLE_TABLE))))
        yield _table(f"a bit of byte {place} flipped ({number})", partial(_flipped, place), None)
    for size in (0, 1, 30, 500, len(WHOLE_TABLE) // 2, len(WHOLE_TABLE) - 22, len(WHOLE_TABLE) - 1):
        yield _table(f"cut off after {size:,} bytes", partial(WHOLE_TABLE.__getitem__, slice(size)))
    yield from _forged()
    yield from _places()


def _flipped(place: int) -> bytes:
    data = bytearray(WHOLE_TABLE)
    data[place] ^= 1 << place % 8
    return bytes(data)


def _forged() -> Iterator[Damaged]:
    """Right checksums, wrong contents."""
    codes = np.zeros(NUM_MULTISETS, dtype=np.uint16)
    too_large = codes.copy()
    too_large[51] = 5
    arrays: dict[str, tuple[dict[str, object], str]] = {
        "signed codes": ({"codes": codes.astype(np.int16)}, "dtype int16"),
        "big-endian codes": ({"codes": codes.astype(">u2")}, "dtype >u2"),
        "a code missing": ({"codes": codes[:-1]}, "shape"),
        "codes in two dimensions": ({"codes": codes[:, None]}, "shape"),
        "no codes": ({"codes": None}, "array codes is missing"),
        "an array more": ({"more": codes[:1]}, "none of Menny's"),
        "a code without a meaning": ({"codes": too_large}, "stands for no answer to 1 letters"),
        "another format": ({"format": np.array([2], dtype=np.uint16)}, "has format 2"),
        "another rule": ({"rule": np.zeros(32, dtype=np.uint8)}, "another rule"),
        "other weights": ({"weights": np.zeros(32, dtype=np.uint8)}, "of weights 000000000000"),
    }
    for name, (changes, says) in arrays.items():
        yield _table(name, partial(_written, changes), says)
    headers = {
        "a shape of a terabyte": "{'descr': '<u2', 'fortran_order': False, 'shape': (1<<40,), }",
        "a huge shape": f"{{'descr': '<u2', 'fortran_order': False, 'shape': ({2**40},), }}",
        "a negative shape": "{'descr': '<u2', 'fortran_order': False, 'shape': (-1,), }",
        "objects": "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        "nothing in its header": "",
    }
    for name, header in headers.items():
        yield _table(f"codes with {name}", partial(_with_codes, _npy(header)), "")
    yield _table("a pickle as its codes", _pickled, "")
    yield _table("64 MiB of zeros", _bomb, "bytes instead of about")


def _places() -> Iterator[Damaged]:
    puts: dict[str, tuple[Callable[[Path], object], str]] = {
        "a FIFO": (os.mkfifo, "not a regular file"),
        "a folder": (Path.mkdir, "not a regular file"),
        "a link to itself": (lambda path: path.symlink_to(path), "can't read"),
        "a link to /dev/zero": (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        "a link to nothing": (lambda path: path.symlink_to("nowhere"), "there is no such file"),
        "the weights": (lambda path: path.write_bytes(WHOLE), "is missing"),
        "an unreadable file": (_unreadable, "Permission denied"),
        "a file full of holes": (_holes, "larger than"),
    }
    for name, (put, says) in puts.items():
        yield _beside_weights(f"{name} in the table's place", put, says)


def _table(name: str, build: Callable[[], bytes], says: str | None = "") -> Damaged:
    return _beside_weights(f"a table: {name}", lambda path: path.write_bytes(build()), says)


def _beside_weights(name: str, put: Callable[[Path], object], says: str | None) -> Damaged:
    def make(path: Path) -> None:
        path.write_bytes(WHOLE)
        put(table_path(path))

    return Damaged(name, make, says)


@cache
def _members() -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(WHOLE_TABLE)) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name != "codes.npy"}


def _written(changes: dict[str, object]) -> bytes:
    """A table of zeros, properly bound, but for these arrays."""
    file = io.BytesIO()
    content = {
        "format": np.array([1], dtype=np.uint16),
        "weights": np.frombuffer(_members()["weights.npy"][-32:], dtype=np.uint8),
        "rule": np.frombuffer(bytes.fromhex(RULE.sha256), dtype=np.uint8),
        "codes": np.zeros(NUM_MULTISETS, dtype=np.uint16),
    } | changes
    np.savez_compressed(
        file, **{name: value for name, value in content.items() if value is not None}
    )
    return file.getvalue()


def _npy(header: str) -> bytes:
    """An `.npy` with this header and as many bytes as there should be."""
    text = header.ljust(_HEADER_SIZE - 11) + "\n"
    return (
        b"\x93NUMPY\x01\x00"
        + len(text).to_bytes(2, "little")
        + text.encode()
        + bytes(2 * NUM_MULTISETS)
    )


def _with_codes(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**_members(), "codes.npy": data}.items():
            archive.writestr(name, content)
    return file.getvalue()


def _pickled() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([Deadly()], dtype=object), allow_pickle=True)
    return _with_codes(file.getvalue())


def _bomb() -> bytes:
    """64 kB that unpack to 64 MiB."""
    return _with_codes(bytes(64 * 2**20))


def _unreadable(path: Path) -> None:
    path.write_bytes(WHOLE_TABLE)
    path.chmod(0)


def _holes(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)
