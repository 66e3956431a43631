"""Weights on disk: `menny_model_weights.npz` and, beside it, its model card as JSON.

The `.npz` has the book's layout: one float32 array for each parameter, by its name. It is
untrusted: every byte is checked here, in NumPy, before MLX sees any of it, because `mx.load`
believes what the file says of itself (ml-explore/mlx#3365). The card is optional, for the book's
own files have none; where there is one, its SHA-256 must be the file's.
"""

import hashlib
import io
import math
import os
import platform
import stat
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training.config import Recipe, TrainingConfig
from training.errors import WeightsError
from training.evaluation import Metrics
from training.model import parameter_shapes
from training.proof.check import Proof

Parameters = Mapping[str, npt.NDArray[np.float32]]

SHIPPED_WEIGHTS = Path(__file__).resolve().parents[2] / "weights" / "menny_model_weights.npz"
"""What ships: written by offline training only."""

MAX_FILE_SIZE = 16 * 2**20
"""Bytes; Menny's own file has 2 MiB."""

MAX_CARD_SIZE = 256 * 2**10
"""Bytes; a card has 2 KiB. Parsed JSON takes up some forty times its size."""

_HEADER_ALLOWANCE = 4096  # bytes of an .npy member that are not data
_MAX_HEADER = 1024  # characters; NumPy's own has 118, and nested ones use up the stack
_COMPRESSIONS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # what numpy.savez* writes


def package_versions(*more: str) -> dict[str, str]:
    """The versions of Python, of the packages that shape a model, and of some `more`."""
    return {
        "menny": version("menny"),
        "mlx": version("mlx"),
        "numpy": version("numpy"),
        "python": platform.python_version(),
        **{package: version(package) for package in more},
    }


class ModelCard(BaseModel):
    """Where a weights file comes from and what was measured of it."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    name: str = "menny"
    created: datetime = Field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    recipe: Recipe
    config: TrainingConfig = Field(description="the recipe as it was run, seed included")
    metrics: Metrics = Field(description="on fresh queries, none of which was trained on")
    test_metrics: Metrics = Field(description="on the test part of the dataset")
    training_seconds: float
    parent: str | None = Field(
        None, description="the version that this one was measured against and is to replace"
    )
    versions: dict[str, str] = Field(default_factory=package_versions)
    sha256: str = Field("", description="of the .npz file")
    proof: Proof | None = Field(None, description="what `menny verify` found, if it was run")

    def proves(self, version: str) -> bool:
        """Whether the weights of this version (or SHA-256) are proven to keep the rule."""
        proof = self.proof
        return (
            proof is not None
            and proof.holds
            and bool(version)
            and (proof.sha256.startswith(version))
        )


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


def card_path(path: Path) -> Path:
    """Where the card of a weights file is."""
    return path.with_suffix(".json")


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
            _TemporaryFile(path, data) as weights_file,
            _TemporaryFile(card_path(path), card.model_dump_json(indent=2).encode()) as card_file,
        ):
            card_path(path).unlink(missing_ok=True)
            _sync_folder(path.parent)
            weights_file.publish()
            card_file.publish()
    except OSError as error:
        raise WeightsError(f"can't write {path}: {error.strerror}") from error
    return card


def record_proof(path: Path, proof: Proof) -> ModelCard:
    """Put a proof into the card of the weights file that it is about; returns the new card.

    Raises `WeightsError` if there is no card, or the file is no longer the one that was checked.
    """
    weights = load_weights(path)
    if weights.card is None:
        raise WeightsError(f"{path} has no model card that could keep the result")
    if weights.sha256 != proof.sha256:
        raise WeightsError(f"{path} has changed since it was checked: the result is not about it")
    card = weights.card.model_copy(update={"proof": proof})
    try:
        with _TemporaryFile(card_path(path), card.model_dump_json(indent=2).encode()) as file:
            file.publish()
    except OSError as error:
        raise WeightsError(f"can't write {card_path(path)}: {error.strerror}") from error
    return card


def load_weights(path: Path) -> Weights:
    """Read and check a weights file and, if there is one, its card.

    Raises `WeightsError` saying what is wrong with which array.
    """
    data = _read_file(path, MAX_FILE_SIZE)
    sha256 = hashlib.sha256(data).hexdigest()
    card = load_card(path)
    if card is not None and card.sha256 != sha256:
        raise WeightsError(
            f"{path}: the file's SHA-256 is {sha256[:12]}..., but its card {card_path(path).name} "
            f"says {card.sha256[:12]}...: one of the two is damaged or belongs to other weights"
        )
    return Weights(_parse(data, path), sha256, card)


def load_card(path: Path) -> ModelCard | None:
    """The card of a weights file, or `None` if there is none; `WeightsError` if it is damaged."""
    try:
        text = _read_file(card_path(path), MAX_CARD_SIZE)
    except _NoFileError:
        return None
    try:
        card = ModelCard.model_validate_json(text)
        # Written as JSON, NaN and infinity become null: a card that has them is refused here,
        # not where it is shown.
        return ModelCard.model_validate_json(card.model_dump_json())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = _words_of(".".join(map(str, first["loc"]))) if first["loc"] else "the file"
        raise WeightsError(
            f"{card_path(path)} is not a model card: {where}: {_words_of(first['msg'])}"
        ) from None


class _NoFileError(WeightsError):
    pass


def _read_file(path: Path, max_size: int) -> bytes:
    """The bytes of a regular file of at most `max_size`; never blocks on a FIFO."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise WeightsError(f"{path} is not a regular file")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(max_size + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise _NoFileError(f"{path}: there is no such file") from None
    except OSError as error:
        raise WeightsError(f"can't read {path}: {error.strerror}") from error
    if len(data) > max_size:
        raise WeightsError(f"{path} is larger than {max_size:,} bytes: it can't be Menny's")
    return data


def _parse(data: bytes, path: Path) -> Parameters:
    """The arrays of an `.npz`, each checked for name, shape, dtype and finite values."""
    shapes = parameter_shapes()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            names = [member.filename.removesuffix(".npy") for member in members]
            _check_names(names, set(shapes), path)
            return {
                name: _parse_array(archive, member, shapes[name], f"{path}, array {name}")
                for name, member in zip(names, members, strict=True)
            }
    except WeightsError:
        raise
    except Exception as error:  # zipfile has a dozen ways to fail on a damaged directory
        raise WeightsError(
            f"{path} is not an .npz file, or is damaged: {_words_of(error)}"
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
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, shape: tuple[int, ...], what: str
) -> npt.NDArray[np.float32]:
    """One `.npy` member; nothing is allocated on the word of its header."""
    num_bytes = 4 * math.prod(shape)
    max_size = num_bytes + _HEADER_ALLOWANCE
    if member.compress_type not in _COMPRESSIONS:
        raise WeightsError(
            f"{what}: is compressed by zip's method {member.compress_type}; NumPy uses 0 or 8"
        )
    if member.file_size > max_size:
        raise WeightsError(f"{what}: {member.file_size:,} bytes instead of about {num_bytes:,}")
    try:
        with archive.open(member) as packed:
            # Checks the CRC-32. Never without a size: what the directory says of it may be a lie,
            # and zipfile would unpack up to 2 GiB before it looks.
            file = io.BytesIO(packed.read(max_size))
        actual_shape, is_fortran, dtype = _read_header(file)
    except Exception as error:  # as many ways to fail as there are kinds of damage
        raise WeightsError(f"{what}: damaged: {_words_of(error)}") from error
    if dtype.hasobject:
        raise WeightsError(f"{what}: has pickled objects, which are never loaded")
    if dtype != np.float32:
        raise WeightsError(f"{what}: dtype {dtype} instead of float32")
    if actual_shape != shape:
        raise WeightsError(f"{what}: shape {actual_shape} instead of {shape}")
    values = file.read()
    if len(values) != num_bytes:
        raise WeightsError(f"{what}: {len(values):,} bytes of data instead of {num_bytes:,}")
    array = np.frombuffer(values, dtype=dtype).astype(np.float32)
    if not np.isfinite(array).all():
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


def _words_of(error: object) -> str:
    """What an exception says, in one short line of characters that show: it may quote the file."""
    words = " ".join(str(error).split()) or type(error).__name__
    shown = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in words)
    return shown if len(shown) <= 200 else f"{shown[:200]}..."


class _TemporaryFile:
    """A file beside `target`, written and synced; `publish` renames it, leaving removes it."""

    def __init__(self, target: Path, data: bytes) -> None:
        self._target = target
        self._data = data

    def __enter__(self) -> "_TemporaryFile":
        descriptor, name = tempfile.mkstemp(
            dir=self._target.parent, prefix=f".{self._target.name}."
        )
        self._path = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(self._data)
                os.fchmod(descriptor, 0o644)
                file.flush()
                os.fsync(descriptor)
        except BaseException:
            self._path.unlink()
            raise
        return self

    def publish(self) -> None:
        self._path.replace(self._target)
        _sync_folder(self._target.parent)

    def __exit__(self, *_: object) -> None:
        self._path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
