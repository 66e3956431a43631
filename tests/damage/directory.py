"""Forged zip directories: every field that can lie, lies."""

import struct
from collections.abc import Iterator
from functools import partial

from tests.damage.archive import (
    END_SIZE,
    ONE,
    WHOLE,
    Damaged,
    directory_offset,
    directory_offsets,
    header_offsets,
    of_bytes,
    patched,
)

# name: (offset, size)
_ENTRY = {
    "version made by": (4, 2),
    "version needed": (6, 2),
    "flags": (8, 2),
    "method": (10, 2),
    "time": (12, 2),
    "date": (14, 2),
    "CRC": (16, 4),
    "compressed size": (20, 4),
    "size": (24, 4),
    "name length": (28, 2),
    "extra length": (30, 2),
    "comment length": (32, 2),
    "disk": (34, 2),
    "attributes": (38, 4),
    "offset": (42, 4),
}
_LOCAL = {
    "version needed": (4, 2),
    "flags": (6, 2),
    "method": (8, 2),
    "time": (10, 2),
    "CRC": (14, 4),
    "compressed size": (18, 4),
    "size": (22, 4),
    "name length": (26, 2),
    "extra length": (28, 2),
}
_END = {
    "disk": (4, 2),
    "disk of the directory": (6, 2),
    "entries on this disk": (8, 2),
    "entries": (10, 2),
    "directory size": (12, 4),
    "directory offset": (16, 4),
    "comment length": (20, 2),
}


def _values(size: int) -> list[int]:
    most = 256**size - 1
    return [0, 1, 9, 99, most // 2, most // 2 + 1, most - 1, most]


def damaged_directories() -> Iterator[Damaged]:
    """Each field of a directory entry, a local header and the end record, with extreme values."""
    entry = directory_offsets(WHOLE)[7]
    tables = {
        "the directory": (entry, _ENTRY),
        "the last directory entry": (directory_offsets(WHOLE)[-1], _ENTRY),
        "a local header": (header_offsets()[f"{ONE}.npy"], _LOCAL),
        "the end record": (len(WHOLE) - END_SIZE, _END),
    }
    for place, (start, fields) in tables.items():
        for field, (offset, size) in fields.items():
            for value in _values(size):
                new = value.to_bytes(size, "little")
                yield of_bytes(
                    f"{field} {value} in {place}",
                    partial(patched, WHOLE, start + offset, new),
                    None,
                )
    yield from _zip64()
    yield from _shared_data()
    yield of_bytes("an end record alone", lambda: WHOLE[-END_SIZE:], "")
    yield of_bytes("an archive of nothing", lambda: b"PK\x05\x06" + bytes(18), "is missing")


def _zip64() -> Iterator[Damaged]:
    """The records that make an archive larger than 4 GiB, forged."""
    directory = directory_offset(WHOLE)
    for number, (size, offset, entries) in enumerate(
        [
            (2**63, directory, 186),
            (2**64 - 1, 2**64 - 1, 2**64 - 1),
            (2**40, 0, 2**32),
            (0, 2**63 - 1, 0),
            (len(WHOLE) - END_SIZE - directory, directory, 2**64 - 1),
        ]
    ):
        at = len(WHOLE) - END_SIZE
        record = struct.pack(
            "<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, entries, entries, size, offset
        )
        end = patched(WHOLE[at:], 8, b"\xff" * 12)
        for disks in (1, 2):
            locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, at, disks)
            yield of_bytes(
                f"zip64 end record {number} on {disks} disks",
                partial(b"".join, [WHOLE[:at], record, locator, end]),
                None,
            )
    # An entry whose sizes and offset are in an extra field of 24 bytes.
    entry = directory_offsets(WHOLE)[0]
    name_length, extra_length = struct.unpack_from("<HH", WHOLE, entry + 28)
    extra_at = entry + 46 + name_length
    for sizes in [(2**63, 2**63, 0), (2**64 - 1,) * 3, (10, 2**40, 0), (2**40, 10, 2**62)]:
        extra = struct.pack("<HHQQQ", 1, 24, *sizes)
        forged = patched(WHOLE, entry + 20, b"\xff" * 8)
        forged = patched(forged, entry + 42, b"\xff" * 4)
        forged = patched(forged, entry + 30, struct.pack("<H", len(extra)))
        forged = forged[:extra_at] + extra + forged[extra_at + extra_length :]
        end = len(forged) - END_SIZE
        grown = struct.pack("<I", end - directory)
        yield of_bytes(
            f"zip64 sizes {sizes} in the directory", partial(patched, forged, end + 12, grown), ""
        )


def _shared_data() -> Iterator[Damaged]:
    """Entries of the directory that point at each other's data."""
    entries = directory_offsets(WHOLE)
    for number, (mine, other) in enumerate(zip(entries[:40:4], entries[1:41:4], strict=True)):
        offset = WHOLE[other + 42 : other + 46]
        yield of_bytes(
            f"two members share their data ({number})",
            partial(patched, WHOLE, mine + 42, offset),
            "",
        )
