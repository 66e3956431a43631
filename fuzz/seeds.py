"""`python -m fuzz.seeds FOLDER`: what fuzzing starts from, in a folder for each target."""

import io
import json
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np

from training.rule import RULE
from training.weights import SHIPPED_WEIGHTS, card_path

SHAPES = {"fc.weight": (4, 3), "fc.bias": (4,)}
"""A Menny that is small enough to load thousands of times a second."""

SHA256 = "ab" * 32
NUM_CODES = 52
"""And an answer table for queries of one letter."""

FILE, MEMBER, CARD, TABLE = b"\x00", b"\x01", b"\x02", b"\x03"
"""The first byte of an input of the weights target: what the others are."""

PATHS = ("/transform", "/transform/batch")
TYPES = (None, "text/plain", "application/x-www-form-urlencoded", "application/problem+json")

_BODIES = [
    '{"query": "MeM"}',
    '{"query": "hello", "temperature": 1.5, "seed": 7, "candidates": 3}',
    '{"query": "a", "temperature": 1e-300, "seed": 9223372036854775807, "candidates": 10}',
    '{"queries": ["a", "Zz", "hello"]}',
    '{"queries": []}',
    '{"query": ""}',
    '{"query": "\\u00e9\\ud83d\\ude00\\ud800"}',
    '{"query": null, "more": [1, {"a": [[[]]]}]}',
    '{"query": "a", "query": 1}',
    "[" * 50,
    "NaN",
    "",
    "query=MeM",
]


_WORDS = {
    "requests": ['"query":', '"queries":', '"temperature":', '"seed":', '"candidates":', '"MeM"']
    + ["true", "null", "NaN", "1e308", "-0.0", "\\ud800", "{", "}", "[", "]", ","],
    "weights": ["PK\x01\x02", "PK\x03\x04", "PK\x05\x06", "PK\x06\x06", "\x93NUMPY\x01"]
    + ["'descr':", "'fortran_order':", "'shape':", "'<f4'", "'|O'", "True", "(4, 3)", "(4,)"]
    + ['"sha256":', '"metrics":', '"config":', "1e999", "NaN", "null"],
}
"""What libFuzzer may put in, besides what it makes up."""


def archive(changed: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A small weights file that is right but for some members, given without their `.npy`."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as members:
        for name, shape in SHAPES.items():
            data = changed.get(name) if name in changed else _npy(np.ones(shape, np.float32))
            members.writestr(zipfile.ZipInfo(f"{name}.npy"), data, compression)
    return file.getvalue()


def _npy(array: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version, allow_pickle=False)
    return file.getvalue()


def table(**changed: np.ndarray) -> bytes:
    """A small answer table that is right but for some arrays."""
    file = io.BytesIO()
    arrays = {
        "format": np.array([1], dtype=np.uint16),
        "weights": np.frombuffer(bytes.fromhex(SHA256), dtype=np.uint8),
        "rule": np.frombuffer(bytes.fromhex(RULE.sha256), dtype=np.uint8),
        "codes": np.arange(NUM_CODES, dtype=np.uint16) % 5,
    }
    np.savez_compressed(file, **(arrays | changed))
    return file.getvalue()


def weights_seeds() -> list[bytes]:
    """Inputs of the weights target."""
    array = np.ones((4, 3), np.float32)
    members = [_npy(array), _npy(array, (2, 0)), _npy(np.asfortranarray(array))]
    members += [_npy(array.astype(dtype)) for dtype in ("f8", ">f4", "i4", "c8", "U1")]
    members.append(b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + b"{'descr': '|O'}")
    compressions = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
    files = [archive({}, compression) for compression in compressions]
    card = json.loads(card_path(SHIPPED_WEIGHTS).read_text())
    cards = [json.dumps(card), json.dumps(card | {"proof": None}), "{}", '{"sha256": 1e999}']
    ones = np.ones(NUM_CODES, np.uint16)
    tables = [table(), table(codes=ones), table(codes=ones * 5), table(rule=ones), table(more=ones)]
    return (
        [FILE + file for file in files]
        + [MEMBER + member for member in members]
        + [CARD + text.encode() for text in cards]
        + [TABLE + file for file in tables]
    )


def request_seeds() -> list[bytes]:
    """Inputs of the requests target: a byte for path and content type, then the body."""
    return [
        bytes([choice]) + body.encode()
        for body in _BODIES
        for choice in (0, 1, 192)  # JSON to each path, and a body without a type
    ]


def main(folder: Path) -> None:
    """Write the seeds."""
    for target, seeds in {"weights": weights_seeds(), "requests": request_seeds()}.items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(seeds):
            (folder / target / f"seed-{number:02}").write_bytes(seed)
        words = [
            "".join(f"\\x{byte:02x}" for byte in word.encode("latin-1")) for word in _WORDS[target]
        ]
        (folder / f"{target}.dict").write_text("".join(f'"{word}"\n' for word in words))


def _entry(word: str) -> str:
    """A line of libFuzzer's dictionary."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in word.encode("latin-1")) + '"\n'


if __name__ == "__main__":
    main(Path(sys.argv[1]))
