"""Weights on disk: `menny_model_weights.npz` and, beside it, its model card.

The `.npz` has the book's layout: one float32 array for each parameter, by its name. It is
untrusted: every byte is checked here, in NumPy, before MLX sees any of it, because `mx.load`
believes what the file says of itself (ml-explore/mlx#3365).
"""

import hashlib
import io
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from training.architecture import Parameters, parameter_shapes
from training.atomic import publish, sync_folder, write_atomically, written_aside
from training.errors import WeightsError
from training.proof.check import Proof
from training.rule import RULE
from training.weights.card import ModelCard, card_path, load_card
from training.weights.untrusted import read_file, words_of

_IN_A_WHEEL = Path(__file__).resolve().parent / "shipped"
_SHIPPED = _IN_A_WHEEL if _IN_A_WHEEL.is_dir() else Path(__file__).resolve().parents[2] / "weights"
SHIPPED_WEIGHTS = _SHIPPED / "menny_model_weights.npz"
"""What ships: written by offline training only. A wheel has the checkout's `weights/` in here."""

MAX_FILE_SIZE = 16 * 2**20
"""Bytes; Menny's own file has 2 MiB."""

Kind = tuple[tuple[int, ...], np.dtype[Any]]
"""The shape and dtype that an array must have."""

_FLOAT32 = np.dtype(np.float32)
_HEADER_ALLOWANCE = 4096  # bytes of an .npy member that are not data
_MAX_HEADER = 1024  # characters; NumPy's own has 118, and nested ones use up the stack
_COMPRESSIONS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # what numpy.savez* writes


@dataclass(frozen=True)
class Weights:
    """Checked weights, still in NumPy."""

    parameters: Parameters = field(repr=False)
    sha256: str
    card: ModelCard | None = None

    @property
    def version(self) -> str:
        """The model version: the first 12 digits of the file's SHA-256."""
        return self.sha256[:12]

    @property
    def is_proven(self) -> bool:
        """Whether the card has a valid proof of these very weights."""
        return self.card is not None and self.card.proves(self.sha256)


def save_weights(path: Path, parameters: Parameters, card: ModelCard) -> ModelCard:
    """Write weights and card so that whoever looks sees the old ones or the new ones, whole.

    Returns the card with the file's SHA-256; raises `WeightsError` if the disk won't take them.
    """
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **parameters)
    data = file.getvalue()
    card = card.model_copy(update={"sha256": hashlib.sha256(data).hexdigest()})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Between the two renames there is no card, rather than one that belongs to other weights.
        with (
            written_aside(path, [data]) as new_weights,
            written_aside(card_path(path), [_encoded(card)]) as new_card,
        ):
            card_path(path).unlink(missing_ok=True)
            sync_folder(path.parent)
            publish(new_weights, path)
            publish(new_card, card_path(path))
    except OSError as error:
        raise WeightsError(f"can't write {path}: {error.strerror}") from error
    return card


def record_proof(path: Path, proof: Proof, answers: str | None = None) -> ModelCard:
    """Put a proof, and the SHA-256 of its answer table, into the card of the weights it is about.

    Returns the new card. Raises `WeightsError` if there is none, or the file is no longer the one
    that was checked.
    """
    weights = load_weights(path)
    if weights.card is None:
        raise WeightsError(f"{path} has no model card that could keep the result")
    if weights.sha256 != proof.sha256:
        raise WeightsError(f"{path} has changed since it was checked: the result is not about it")
    card = weights.card.model_copy(update={"proof": proof, "answers": answers})
    try:
        write_atomically(card_path(path), [_encoded(card)])
    except OSError as error:
        raise WeightsError(f"can't write {card_path(path)}: {error.strerror}") from error
    return card


def load_weights(path: Path) -> Weights:
    """Read and check a weights file and, if there is one, its card.

    Raises `WeightsError` saying what is wrong with which array.
    """
    data = read_file(path, MAX_FILE_SIZE)
    sha256 = hashlib.sha256(data).hexdigest()
    card = load_card(path)
    if card is not None and card.sha256 != sha256:
        raise WeightsError(
            f"{path}: the file's SHA-256 is {sha256[:12]}..., but its card {card_path(path).name} "
            f"says {card.sha256[:12]}...: one of the two is damaged or belongs to other weights"
        )
    if card is not None and not card.is_of_this_rule:
        raise WeightsError(
            f"{path}: these weights have learnt another rule than that of training/rule.py (its "
            f"SHA-256 is {str(card.rule)[:12]} with {card.num_heads} heads, not "
            f"{RULE.sha256[:12]} with {RULE.num_heads}): train again, with `menny train`"
        )
    expected = {name: (shape, _FLOAT32) for name, shape in parameter_shapes().items()}
    return Weights(parse_npz(data, path, expected), sha256, card)


def parse_npz(data: bytes, path: Path, expected: Mapping[str, Kind]) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an `.npz`, each checked for name, shape, dtype and finite values.

    Raises `WeightsError` that names `path`, and the array that is not as `expected`.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            names = [member.filename.removesuffix(".npy") for member in members]
            _check_names(names, set(expected), path)
            return {
                name: _parse_array(archive, member, expected[name], f"{path}, array {name}")
                for name, member in zip(names, members, strict=True)
            }
    except WeightsError:
        raise
    except Exception as error:  # zipfile has a dozen ways to fail on a damaged directory
        raise WeightsError(
            f"{path} is not an .npz file, or is damaged: {words_of(error)}"
        ) from error


def _check_names(names: list[str], expected: set[str], path: Path) -> None:
    if missing := expected - set(names):
        raise WeightsError(f"{path}: array {min(missing)} is missing ({len(missing)} in all)")
    if extra := set(names) - expected:
        raise WeightsError(f"{path}: array {min(extra)[:100]!r} is none of Menny's")
    if len(names) > len(expected):
        twice = next(name for name in names if names.count(name) > 1)
        raise WeightsError(f"{path}: array {twice} is there twice")


def _parse_array(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, expected: Kind, what: str
) -> npt.NDArray[Any]:
    """One `.npy` member; nothing is allocated on the word of its header."""
    shape, expected_dtype = expected
    num_bytes = expected_dtype.itemsize * math.prod(shape)
    max_size = num_bytes + _HEADER_ALLOWANCE
    if member.compress_type not in _COMPRESSIONS:
        raise WeightsError(
            f"{what}: is compressed by zip's method {member.compress_type}; NumPy uses 0 or 8"
        )
    if member.file_size > max_size:
        raise WeightsError(
            f"{what}: {member.file_size:,} bytes instead of about {num_bytes:,}, as of another rule"
        )
    try:
        with archive.open(member) as packed:
            # Checks the CRC-32. Never without a size: what the directory says of it may be a lie,
            # and zipfile would unpack up to 2 GiB before it looks.
            data = packed.read(max_size)
        file = io.BytesIO(data)
        actual_shape, is_fortran, dtype = _read_header(file)
    except Exception as error:  # as many ways to fail as there are kinds of damage
        raise WeightsError(f"{what}: damaged: {words_of(error)}") from error
    if dtype.hasobject:
        raise WeightsError(f"{what}: has pickled objects, which are never loaded")
    if dtype != expected_dtype:
        raise WeightsError(f"{what}: dtype {dtype} instead of {expected_dtype}")
    if actual_shape != shape:
        raise WeightsError(f"{what}: shape {actual_shape} instead of {shape}, as of another rule")
    if (size := len(data) - file.tell()) != num_bytes:
        raise WeightsError(f"{what}: {size:,} bytes of data instead of {num_bytes:,}")
    array = np.frombuffer(data, dtype=dtype, offset=file.tell()).copy()
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise WeightsError(f"{what}: has values that are not finite (NaN or infinity)")
    return array.reshape(shape, order="F" if is_fortran else "C")


def _read_header(file: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and dtype of an `.npy` member; raises an exception of any kind."""
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"its .npy header has version {version}, and Menny knows 1.0 and 2.0")
    try:
        return readers[version](file, max_header_size=_MAX_HEADER)
    except Exception as error:  # whatever a Python literal can do
        raise ValueError("its .npy header makes no sense") from error


def _encoded(card: ModelCard) -> bytes:
    return card.model_dump_json(indent=2).encode()
