"""What disks and cables do: flipped bits, missing ends, wrong blocks."""

import random
from collections.abc import Iterator
from functools import partial

from tests.damage.archive import (
    END_SIZE,
    WHOLE,
    Damaged,
    compressed,
    directory_offset,
    header_offsets,
    of_bytes,
    patched,
)


def damaged_bits() -> Iterator[Damaged]:
    """Flipped bits, truncation, blocks that are not what was written."""
    yield from _flipped_bits(random.Random(1))
    yield from _truncated(random.Random(2))
    yield from _wrong_blocks(random.Random(3))


def _flip(data: bytes, bit: int) -> bytes:
    return patched(data, bit // 8, bytes([data[bit // 8] ^ 1 << bit % 8]))


def _flipped_bits(rng: random.Random) -> Iterator[Damaged]:
    starts = list(header_offsets().values())
    directory, end = directory_offset(WHOLE), len(WHOLE) - END_SIZE
    regions = {
        "a local header": [8 * (rng.choice(starts) + rng.randrange(64)) for _ in range(90)],
        "an array's header": [8 * (rng.choice(starts) + rng.randrange(64, 192)) for _ in range(60)],
        "the data": [8 * rng.randrange(directory) for _ in range(40)],
        "the directory": [8 * rng.randrange(directory, end) for _ in range(120)],
        "the end record": [8 * at for at in range(end, len(WHOLE))] * 2,
    }
    for region, places in regions.items():
        for number, place in enumerate(places):
            bit = place + rng.randrange(8)
            # What a checksum covers can't go unnoticed; a time stamp's bit may flip.
            says = "" if region == "the data" else None
            name = f"bit {bit} flipped in {region} ({number})"
            yield of_bytes(name, partial(_flip, WHOLE, bit), says)
    for number in range(50):
        bit = rng.randrange(8 * len(compressed()))
        name = f"bit {bit} flipped in the deflated file ({number})"
        yield of_bytes(name, partial(_flip, compressed(), bit), None)


def _truncated(rng: random.Random) -> Iterator[Damaged]:
    starts = sorted(header_offsets().values())
    directory, size = directory_offset(WHOLE), len(WHOLE)
    cuts = {*range(1, 8), *range(size - END_SIZE - 4, size), directory - 1, directory}
    for start in rng.sample(starts, 12):
        cuts |= {start, start + 30, start + 64 + 10, start + 192}
    cuts |= {rng.randrange(size) for _ in range(30)}
    for cut in sorted(cuts - {0}):
        yield of_bytes(f"cut off at byte {cut}", partial(WHOLE.__getitem__, slice(cut)), "not an")
    for cut in (1, 4, 30, 64, 100_000):
        name = f"without its first {cut} bytes"
        yield of_bytes(name, partial(WHOLE.__getitem__, slice(cut, None)), None)


def _wrong_blocks(rng: random.Random) -> Iterator[Damaged]:
    block = 512
    for number in range(40):
        at = rng.randrange(len(WHOLE) - block)
        other = rng.randrange(len(WHOLE) - block)
        for kind, new in {
            "zeroed": bytes(block),
            "another one's": WHOLE[other : other + block],
            "garbage": rng.randbytes(block),
        }.items():
            name = f"the block at byte {at} is {kind} ({number})"
            yield of_bytes(name, partial(patched, WHOLE, at, new), None)
    for number in range(10):
        at = rng.randrange(len(WHOLE))
        yield of_bytes(
            f"{block} bytes twice at byte {at} ({number})",
            partial(lambda at: WHOLE[: at + block] + WHOLE[at:], at),
            None,
        )
        yield of_bytes(
            f"a byte is missing at byte {at} ({number})",
            partial(lambda at: WHOLE[:at] + WHOLE[at + 1 :], at),
            None,
        )
    for number in range(10):
        size = rng.randrange(1, 5000)
        yield of_bytes(
            f"{size} bytes of garbage ({number})", partial(bytes, rng.randbytes(size)), ""
        )
