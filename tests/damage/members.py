"""Archives whose checksums are right and whose members are not: names, numbers, bombs."""

import gzip
import io
import pickle
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from tests.damage.archive import (
    ONE,
    WHOLE,
    Damaged,
    arrays,
    compressed,
    directory_offsets,
    members,
    of_bytes,
    patched,
    with_array,
    with_member,
    zip_of,
)

SIDE_EFFECT = "a-pickle-was-run"
"""The file that a pickle of this corpus makes in the current folder, if somebody loads it."""


class Deadly:
    """Unpickling it shows."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path(SIDE_EFFECT),)


_BAD_NAMES = {
    "climbing": "../../fc.weight.npy",
    "absolute": "/etc/passwd",
    "of Windows": "C:\\fc.weight.npy",
    "in a folder": "a/" * 5000 + "fc.weight.npy",
    "very long": "n" * 60_000,
    "empty": "",
    "a dot": ".npy",
    "with a line break": "fc\n.weight.npy",
    "with control characters": "\x1b[2Jfc.weight.npy",
    "not ASCII": "fс.weight.npy",
    "with a folder's slash": "fc.weight.npy/",
    "upper case": "FC.WEIGHT.npy",
    "pickle's": "data.pkl",
}


def damaged_members() -> Iterator[Damaged]:
    """Names, counts, compressions, bombs, pickles, other formats."""
    yield from _names()
    yield from _bombs()
    yield from _pickles()
    yield from _formats()


def _names() -> Iterator[Damaged]:
    rest = {name: data for name, data in members().items() if name != f"{ONE}.npy"}
    data = members()[f"{ONE}.npy"]
    for kind, name in _BAD_NAMES.items():
        more = [*members().items(), (name, data)]
        yield of_bytes(f"a name {kind} besides", partial(zip_of, more), "none of Menny's")
        instead = [*rest.items(), (name, data)]
        yield of_bytes(f"a name {kind} instead", partial(zip_of, instead), "fc.weight is missing")
    for name in random.Random(4).sample(sorted(members()), 10):
        less = [(other, data) for other, data in members().items() if other != name]
        yield of_bytes(f"{name} is missing", partial(zip_of, less), "is missing (1 in all)")
        yield of_bytes(f"{name} is there twice", partial(_twice, name), "is there twice")
    for count in (1000, 60_000, 150_000):
        yield of_bytes(f"{count} members", partial(_many, count), "")
    yield of_bytes("60000 times the same member", partial(_many, 60_000, ONE), "")
    swapped = dict(zip(members(), reversed(members().values()), strict=True))
    yield of_bytes("the arrays are in another's place", partial(zip_of, [*swapped.items()]), "")


def _twice(name: str) -> bytes:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return zip_of([*members().items(), (name, b"")])


def _many(count: int, name: str | None = None) -> bytes:
    """A directory of `count` entries that all point at one empty member."""
    local = struct.pack("<4s5H3I2H", b"PK\x03\x04", 20, 0, 0, 0, 33, 0, 0, 0, 0, 0)
    entries = []
    for number in range(count):
        own = f"{name}.npy".encode() if name else b"%d" % number
        fields = (20, 20, 0, 0, 0, 33, 0, 0, 0, len(own), 0, 0, 0, 0, 0, 0)
        entries.append(struct.pack("<4s6H3I5H2I", b"PK\x01\x02", *fields) + own)
    directory = b"".join(entries)
    num = min(count, 0xFFFE)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, num, num, len(directory), len(local), 0)
    return local + directory + end


def _bombs() -> Iterator[Damaged]:
    for mebibytes in (1, 64, 1024, 4000):
        for honest in (True, False):
            tale = "says so" if honest else "says it is small"
            yield of_bytes(
                f"a bomb of {mebibytes} MiB that {tale}",
                partial(_bomb, mebibytes, is_honest=honest),
                "array ",
            )
    inner = zip_of([("fc.weight.npy", bytes(2**24))], zipfile.ZIP_DEFLATED)
    for _ in range(4):
        inner = zip_of([("fc.weight.npy", inner)] * 1, zipfile.ZIP_DEFLATED)
    yield of_bytes("archives in archives", partial(with_member, inner), "damaged")
    yield of_bytes("an archive as the array", partial(with_member, WHOLE), "bytes instead of")
    for name, compression in (("bzip2", zipfile.ZIP_BZIP2), ("LZMA", zipfile.ZIP_LZMA)):
        data = members()[f"{ONE}.npy"]
        yield of_bytes(
            f"compressed with {name}", partial(with_member, data, compression), "zip's method"
        )
        yield of_bytes(
            f"a bomb made with {name}", partial(with_member, bytes(2**26), compression), ""
        )


def _bomb(mebibytes: int, *, is_honest: bool) -> bytes:
    """A deflated member of zeros. In the second kind the directory gives it an array's size."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = deflate.compress(bytes(2**20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    packed = block * mebibytes + deflate.flush()
    bomb = with_member(packed)
    (entry,) = (at for at in directory_offsets(bomb) if _name_at(bomb, at) == f"{ONE}.npy")
    (local,) = struct.unpack_from("<I", bomb, entry + 42)
    size = mebibytes * 2**20 if is_honest else len(members()[f"{ONE}.npy"])
    sizes = struct.pack("<3I", zlib.crc32(bytes(2**20)), len(packed), min(size, 2**32 - 1))
    bomb = patched(patched(bomb, entry + 10, b"\x08\x00"), entry + 16, sizes)
    return patched(patched(bomb, local + 8, b"\x08\x00"), local + 14, sizes)


def _name_at(data: bytes, entry: int) -> str:
    (length,) = struct.unpack_from("<H", data, entry + 28)
    return data[entry + 46 : entry + 46 + length].decode()


def _pickles() -> Iterator[Damaged]:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        raw = pickle.dumps(Deadly(), protocol)
        yield of_bytes(f"a pickle of protocol {protocol}", partial(bytes, raw), "not an .npz")
        yield of_bytes(
            f"a pickle of protocol {protocol} as a member", partial(with_member, raw), "damaged"
        )
    objects = np.array([Deadly()] * 4, dtype=object)
    yield of_bytes("an array of objects", partial(with_array, objects), "pickled objects")
    yield of_bytes(
        "a field of objects",
        partial(with_array, np.array([(1, Deadly())], dtype=[("a", "f4"), ("b", "O")])),
        "pickled objects",
    )
    file = io.BytesIO()
    np.save(file, objects, allow_pickle=True)
    yield of_bytes("an .npy of objects", file.getvalue, "not an .npz")
    yield of_bytes("a pickled dictionary of arrays", partial(pickle.dumps, arrays()), "not an .npz")


def _formats() -> Iterator[Damaged]:
    file = io.BytesIO()
    np.save(file, arrays()[ONE])
    yield of_bytes("an .npy", file.getvalue, "not an .npz")
    yield of_bytes("a tar", partial(_tar, "w"), "not an .npz")
    yield of_bytes("a tar.gz", partial(_tar, "w:gz"), "not an .npz")
    yield of_bytes("gzip", lambda: gzip.compress(WHOLE, 1), "not an .npz")
    yield of_bytes("an empty file", bytes, "not an .npz")
    yield of_bytes("text", lambda: b"weights\n" * 100, "not an .npz")
    yield of_bytes("zeros", lambda: bytes(100_000), "not an .npz")
    yield of_bytes("a web page", lambda: b"<!doctype html><title>404</title>", "not an .npz")
    yield of_bytes(
        "a pointer to a large file", lambda: b"version https://git-lfs\nsize 9\n", "not an .npz"
    )
    yield of_bytes("something before it", lambda: b"#!/bin/sh\n" + WHOLE, None)
    yield of_bytes("something after it", lambda: WHOLE + b"x" * 100, None)
    yield of_bytes("twice in a row", lambda: WHOLE + WHOLE, None)
    yield of_bytes("deflated", compressed, None)
    yield of_bytes("too large", lambda: bytes(2**26), "larger than")


def _tar(mode: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        info = tarfile.TarInfo(f"{ONE}.npy")
        data = members()[info.name]
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return file.getvalue()
