"""A fast CBLAS for MLX on Linux.

MLX's CPU wheel for Linux carries the reference BLAS, some ten times slower on Menny's matrix
products than OpenBLAS. The dynamic linker binds `cblas_sgemm` to the first library in the
process's global scope that has it: so `load_fast_blas` brings OpenBLAS in before `mlx.core` is
imported (`training.backend` sees to the order). On macOS MLX uses Accelerate and Metal, and there
is nothing to do.

The wheel must carry kernels for every processor and choose at run time (DYNAMIC_ARCH), and export
`cblas_sgemm` without a prefix: `ngsolve-openblas` does, for x86-64. `cmeel-openblas` is built for
one processor, on x86-64 one with AVX-512, and ends the process with SIGILL on others; it serves on
aarch64 alone. Both expect the system's `libgfortran.so.5`. Where there is none, MLX's own wheel has
one, but under a name of its own making: the linker then gets a copy, in memory, whose name (ELF's
DT_SONAME) is the standard one.
"""

import ctypes
import os
import platform
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

_GFORTRAN = "libgfortran.so.5"
_WHEEL = "ngsolve-openblas" if platform.machine() == "x86_64" else "cmeel-openblas"


@dataclass(frozen=True)
class Blas:
    """Which BLAS does MLX's matrix products on the CPU."""

    name: str
    """`openblas`, `accelerate` or `reference`."""
    reason: str | None = None
    """Why it is the slow reference BLAS, with the remedy, where it is."""


def load_fast_blas() -> Blas:
    """Make a fast BLAS the one that MLX will find; never fails: what went wrong is in `reason`.

    How many threads it has is decided in `training/__init__.py`.
    """
    if sys.platform != "linux":
        return Blas("accelerate")
    if "mlx.core" in sys.modules:
        return Blas("reference", "mlx was imported before training.backend")
    try:
        library = _file_of(_WHEEL, "libopenblas")
        try:
            ctypes.CDLL(_GFORTRAN)
        except OSError:
            _load_gfortran_of_mlx()
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    except (OSError, PackageNotFoundError, FileNotFoundError) as error:
        return Blas(
            "reference",
            f"OpenBLAS can't be loaded ({error}), so that MLX is some ten times slower; "
            f"install the system's {_GFORTRAN} (on Debian and Ubuntu: apt install libgfortran5)",
        )
    return Blas("openblas")


def _load_gfortran_of_mlx() -> None:
    """Load the Fortran run-time of MLX's wheel under its standard name."""
    if sys.platform != "linux":
        return  # only Linux makes files in memory; mypy knows that too
    with suppress(FileNotFoundError):  # only x86-64 has one
        ctypes.CDLL(str(_file_of("mlx-cpu", "libquadmath-")))
    library = _file_of("mlx-cpu", "libgfortran-")
    mangled = library.name.encode() + b"\0"
    standard = _GFORTRAN.encode().ljust(len(mangled), b"\0")
    copy = os.memfd_create(_GFORTRAN)
    try:
        with os.fdopen(copy, "wb", closefd=False) as file:
            file.write(library.read_bytes().replace(mangled, standard))
        ctypes.CDLL(f"/proc/self/fd/{copy}")
    finally:
        os.close(copy)


def _file_of(package: str, prefix: str) -> Path:
    """The first file of an installed package whose name starts with `prefix`."""
    for file in distribution(package).files or []:
        if file.name.startswith(prefix):
            return Path(str(file.locate()))
    raise FileNotFoundError(f"{package} has no {prefix}*")
