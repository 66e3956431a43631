"""JSON as RFC 8259 has it, where `json.loads` would guess.

Two readers of one document must not see two different things: names that occur twice, NaN, and
other encodings than UTF-8 are refused. So is what no request here needs: very deep nesting.
"""

import json
import re
from collections import Counter
from typing import Any

from pydantic_core import from_json

MAX_DEPTH = 20
"""Levels of arrays and objects; Menny's own documents have two."""

MAX_BRACKETS = 10_000
"""In all: each costs some microseconds, and meanwhile the event loop waits."""

NOWHERE = -1
"""The position of a fault that has none."""

# Possessive, and content with a string that has no end: linear in whatever a client sends.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_ALL_SQUARE = bytes.maketrans(b"{}", b"[]")


def is_json(content_type: str) -> bool:
    """Whether a Content-Type is JSON's, by any of its names."""
    if content_type == "application/json":
        return True
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or (
        media_type.startswith("application/") and media_type.endswith("+json")
    )


def loads(body: bytes) -> Any:
    """The value of a JSON document. Raises `json.JSONDecodeError` for one that is not strict."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise json.JSONDecodeError("it is not UTF-8", "", error.start) from None
    num_brackets = body.count(b"[") + body.count(b"{")
    if num_brackets > MAX_BRACKETS:
        raise json.JSONDecodeError(f"it has more than {MAX_BRACKETS:,} brackets", "", NOWHERE)
    if num_brackets > MAX_DEPTH and _is_too_deep(body):
        raise json.JSONDecodeError(f"it is more than {MAX_DEPTH} levels deep", "", NOWHERE)
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except json.JSONDecodeError:
        raise
    except ValueError as error:  # ours, or an integer of thousands of digits
        reason = str(error) if isinstance(error, _NotStrictError) else "a number is too long"
        raise json.JSONDecodeError(reason, "", NOWHERE) from None


def _is_too_deep(body: bytes) -> bool:
    """Whether a document is; of what is no JSON, whether it could take the parser too far."""
    try:
        from_json(body)
    except ValueError as error:
        return "recursion limit" in str(error)
    brackets = _STRING.sub(b"", body).translate(_ALL_SQUARE, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"[]", b"")  # the innermost level
    return bool(brackets)


class _NotStrictError(ValueError):
    """A document is no strict JSON."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise _NotStrictError(f"it has the name {twice[:100]!r} twice in one object")
    return found


def _no_constant(name: str) -> Any:
    raise _NotStrictError(f"there is no {name} in JSON")
