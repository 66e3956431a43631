"""Model cards, beside weights that are whole, that are damaged or another file's."""

import json
import os
import random
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

from tests.damage.archive import WHOLE, Damaged
from training.weights import SHIPPED_WEIGHTS, card_path

CARD = card_path(SHIPPED_WEIGHTS).read_bytes()


@cache
def _fields() -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(CARD)
    return fields


def _with(text: bytes, path: Path) -> None:
    path.write_bytes(WHOLE)
    card_path(path).write_bytes(text)


def _card(name: str, text: bytes, says: str | None = "is not a model card") -> Damaged:
    return Damaged(f"a card that is {name}", partial(_with, text), says)


def damaged_cards() -> Iterator[Damaged]:
    """Damaged text, wrong values, wrong files."""
    texts = {
        "empty": b"",
        "text": b"menny",
        "a number": b"1e999",
        "a list": b"[1]",
        "null": b"null",
        "zeros": bytes(2000),
        "not UTF-8": b"\xff\xfe" + CARD,
        "open brackets": b"[" * 200_000,
        "nested": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        "nested in a known field": b'{"versions":' * 9_000,
        "a long number": b'{"training_seconds": 1' + b"0" * 100_000 + b"}",
        "a bad escape": b'{"name": "\\ud800"}',
    }
    for name, text in texts.items():
        yield _card(name, text, "")
    yield _card("huge", b'{"name": "' + b"n" * 2**24 + b'"}', "larger than")
    many = b",".join(b'"%d":"%d"' % (i, i) for i in range(600_000))
    yield _card("full of versions", b'{"versions": {' + many + b"}}", "")
    yield from _wrong_values()
    rng = random.Random(5)
    for number in range(60):
        bit = rng.randrange(8 * len(CARD))
        changed = bytearray(CARD)
        changed[bit // 8] ^= 1 << bit % 8
        # A flipped digit of a measurement can't be noticed.
        yield _card(f"flipped in bit {bit} ({number})", bytes(changed), None)
    for cut in range(1, len(CARD) - 1, len(CARD) // 25):
        yield _card(f"cut off at byte {cut}", CARD[:cut])
    yield from _places()


def _wrong_values() -> Iterator[Damaged]:
    for field in _fields():
        for value in (None, [], {}, "x", -1, {"a": "b"}):
            text = json.dumps(_fields() | {field: value}).encode()
            yield _card(f"{json.dumps(value)} in {field}", text, None)
    for part in ("metrics", "test_metrics", "proof", "config"):
        for number in (float("nan"), float("inf"), -float("inf")):
            for field, old in _fields()[part].items():
                if isinstance(old, float):
                    wrong = _fields() | {part: _fields()[part] | {field: number}}
                    yield _card(f"{number} in {part}.{field}", json.dumps(wrong).encode())
    yield _card("infinitely slow", json.dumps(_fields() | {"training_seconds": 1e999}).encode())
    for sha256 in ("", "0" * 64, _fields()["sha256"].upper(), _fields()["sha256"] + " "):
        text = json.dumps(_fields() | {"sha256": sha256}).encode()
        yield _card(f"another file's: {sha256[:8]!r}, {len(sha256)} digits", text, "SHA-256")
    text = json.dumps(_fields() | {"config": {"a\x00\x1b[2J\u200f": 1}}).encode()
    yield _card("full of control characters", text)
    key = "k" * 100_000
    text = json.dumps(_fields() | {"versions": {key: 1}}).encode()
    yield _card("long-winded", text, "is not a model card")


def _places() -> Iterator[Damaged]:
    def place(name: str, put: Any, says: str) -> Damaged:
        def make(path: Path) -> None:
            path.write_bytes(WHOLE)
            put(card_path(path))

        return Damaged(f"a card that is {name}", make, says)

    yield place("a folder", Path.mkdir, "not a regular file")
    yield place("a FIFO", os.mkfifo, "not a regular file")
    yield place("a link to itself", lambda card: card.symlink_to(card), "can't read")
    yield place("a link to /dev/zero", lambda card: card.symlink_to("/dev/zero"), "not a regular")
    yield place("unreadable", lambda card: (card.touch(), card.chmod(0)), "Permission denied")
