"""Members that are no array, or not the right one: `.npy` headers, dtypes, shapes, values."""

import struct
from collections.abc import Iterator
from functools import partial

import numpy as np

from tests.damage.archive import ONE, Damaged, arrays, npy, of_bytes, with_array, with_member

_NUM_BYTES = 4 * 52 * 52


def _header(descr: str = "'<f4'", order: str = "False", shape: str = "(52, 52)") -> bytes:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()


_HEADERS = {
    "a shape of 4 GiB": _header(shape="(32768, 32768)"),
    "a shape of 2**63": _header(shape="(9223372036854775808,)"),
    "a shape of 2**62 by 2": _header(shape="(4611686018427387904, 2)"),
    "a shape of 10**300": _header(shape="(1" + "0" * 300 + ",)"),
    "a negative shape": _header(shape="(-52, -52)"),
    "a shape of -1": _header(shape="(-1,)"),
    "an empty shape": _header(shape="()"),
    "no rows": _header(shape="(0, 52)"),
    "a shape of text": _header(shape="'52'"),
    "a shape of fractions": _header(shape="(52.0, 52.0)"),
    "a shape of truth": _header(shape="(True, 2704)"),
    "a list as the shape": _header(shape="[52, 52]"),
    "33 dimensions": _header(shape="(" + "1, " * 33 + ")"),
    "an order of 1": _header(order="1"),
    "an order of text": _header(order="'no'"),
    "an expression": _header(shape="(26 + 26, 52)"),
    "a call": _header(shape="(__import__('os').abort(), 52)"),
    "a dtype of objects": _header("'|O'"),
    "a dtype of 2 GiB": _header("'|V2147483647'"),
    "a dtype of nothing": _header("'|V0'"),
    "a dtype that is none": _header("'what'"),
    "a dtype of structures": _header("[('a', '<f4')]"),
    "a dtype of huge structures": _header("[('a', '<f4', (2000000000,))]"),
    "a dtype of nested structures": _header("[('a', [('b', [('c', '|O')])])]"),
    "a dtype of text": _header("'<U1'"),
    "a dtype of bytes": _header("'|S4'"),
    "a dtype of dates": _header("'<M8[s]'"),
    "a number as the dtype": _header("4"),
    "nothing as the dtype": _header("None"),
    "an empty dictionary": b"{}",
    "a key more": _header()[:-1] + b"'more': 1}",
    "a key less": b"{'descr': '<f4', 'shape': (52, 52)}",
    "no dictionary": b"(52, 52)",
    "no end": _header()[:-5],
    "no Python": b"\x00" * 118,
    "no text": b"\xff\xfe" * 59,
    "open brackets": b"(" * 500,
    "open brackets, very many": b"[" * 60_000,
    "signs": b"-" * 9_000 + b"1",
    "signs, very many": b"~" * 60_000 + b"1",
    "nested tuples": b"(" * 150 + b")" * 150,
    "powers": b"9**9**9**9",
    "a long integer": _header(shape="(52" + "0" * 5000 + ",)"),
    "a long name": b"{'" + b"a" * 9000 + b"': 1}",
    "spaces, very many": _header() + b" " * 60_000,
    "an escape that Python dislikes": b"{'\\d': 1}",
}


_WRONG_DTYPES = (
    *("f2", "f8", "g", ">f4", ">f8", "c8", "c16", "?", "S4", "U1", "M8[s]", "m8[s]", "V4"),
    *("i1", "i2", "i4", "i8", "u1", "u4", "u8"),
)


def damaged_arrays() -> Iterator[Damaged]:
    """What can be wrong with one array."""
    data = arrays()[ONE].tobytes()
    for kind, header in _HEADERS.items():
        for version in (b"\x01\x00", b"\x02\x00"):
            member = npy(header, data, version)
            yield of_bytes(
                f"{kind} in a header of version {version[0]}",
                partial(with_member, member),
                f"array {ONE}",
            )
    for version in range(256):
        if version % 16 and version > 2:
            continue
        member = npy(_header(), data, bytes([version, 1]))
        yield of_bytes(f".npy version {version}.1", partial(with_member, member), "damaged")
    whole = npy(_header(), data)
    for length in (0, 1, 117, 2**15, 2**16 - 1):
        member = whole[:8] + struct.pack("<H", length) + whole[10:]
        yield of_bytes(f"a header of {length} bytes", partial(with_member, member), "array ")
    for length in (2**16, 2**31 - 1, 2**31, 2**32 - 1):
        member = b"\x93NUMPY\x02\x00" + struct.pack("<I", length) + whole[10:]
        yield of_bytes(f"a header of {length} bytes", partial(with_member, member), "array ")
    for length in (0, 1, 5, 6, 8, 9, 10, 50, 127, 128, len(whole) - 1):
        name = f"the array ends after {length} bytes"
        yield of_bytes(name, partial(with_member, whole[:length]), "array ")
    for length in (1, 4, 4096, 2**16):
        name = f"{length} bytes after the array"
        yield of_bytes(name, partial(with_member, whole + bytes(length)), "bytes")
    python_2 = npy(_header(shape="(52L, 52L)"), data)
    yield of_bytes("integers of Python 2", partial(with_member, python_2), None)
    yield from _dtypes_and_shapes()
    yield from _values()


def _dtypes_and_shapes() -> Iterator[Damaged]:
    array = arrays()[ONE]
    for dtype in _WRONG_DTYPES:
        yield of_bytes(
            f"dtype {dtype}",
            partial(with_array, np.zeros(array.shape, dtype)),
            f"array {ONE}: ",
        )
    structured = np.zeros(array.shape, [("real", "f4"), ("imaginary", "f4")])
    yield of_bytes("a structured dtype", partial(with_array, structured), "array")
    for name, original in list(arrays().items())[::12]:
        for kind, wrong in {
            "a row less": original[:-1],
            "a row more": np.concatenate([original, original[:1]]),
            "flat": original.reshape(-1)[None],
            "a scalar": np.float32(1),
            "empty": original[:0],
        }.items():
            yield of_bytes(
                f"{name} is {kind}", partial(with_array, np.asarray(wrong), name), f"array {name}: "
            )
    order = np.asfortranarray(array)
    yield of_bytes("column by column", partial(with_array, order), None)
    turned = npy(_header(order="True"), np.ascontiguousarray(array.T).tobytes())
    yield of_bytes("column by column in version 1", partial(with_member, turned), None)


def _values() -> Iterator[Damaged]:
    for name, original in list(arrays().items())[::20]:
        for value in (np.nan, np.inf, -np.inf):
            for at in (0, original.size - 1):
                wrong = original.copy()
                wrong.reshape(-1)[at] = value
                yield of_bytes(
                    f"{value} at {at} of {name}",
                    partial(with_array, wrong, name),
                    f"array {name}: has values that are not finite",
                )
