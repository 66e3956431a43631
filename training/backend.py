"""The one door to MLX: everything that needs it imports it from here.

That way a fast BLAS is always in place before MLX looks for one (see `training.blas`). MLX's
streams belong to threads: a thread that used MLX, the main one included, ends with
`mx.clear_streams()`, or the process may abort at exit (ml-explore/mlx#4327).

On an M5 and on CUDA MLX multiplies float32 as TF32 by default, with mantissas of 10 bits
(ml-explore/mlx#3534): far too coarse to tell Menny's vowels apart, so it is off here unless the
user has set MLX_ENABLE_TF32. MLX reads it when it is imported; child processes inherit it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from training.blas import load_fast_blas
from training.config import Device
from training.errors import DeviceError

os.environ.setdefault("MLX_ENABLE_TF32", "0")
BLAS = load_fast_blas()
CACHE_BYTES = 256 * 2**20

import mlx.core as mx  # noqa: E402
import mlx.nn as nn  # noqa: E402
import mlx.optimizers as optim  # noqa: E402
from mlx.utils import tree_flatten, tree_unflatten  # noqa: E402

__all__ = [
    "BLAS",
    "check_device",
    "mlx_on_this_thread",
    "mx",
    "nn",
    "optim",
    "tree_flatten",
    "tree_unflatten",
    "use_device",
]


def check_device(device: Device) -> None:
    """Raise `DeviceError` if MLX can't compute there on this machine."""
    if device == "gpu" and not mx.is_available(mx.gpu):
        raise DeviceError("MLX has no GPU on this machine: take the device cpu, or auto")


def use_device(device: Device) -> None:
    """Have MLX compute there on the calling thread, before it builds anything.

    Raises `DeviceError`.
    """
    check_device(device)
    if device != "auto":
        mx.set_default_device(mx.Device(mx.gpu if device == "gpu" else mx.cpu))
    if mx.default_device() == mx.Device(mx.cpu):
        # On a CPU, MLX compiles with a C++ compiler, if there is one, and loads the result from a
        # folder in /tmp that somebody else may have been the first to create. Even nn.relu does.
        mx.disable_compile()


use_device("auto")

# What MLX keeps of freed buffers is bounded by nearly all memory on Metal. A forward pass or a
# training step of this model frees some megabytes.
mx.set_cache_limit(CACHE_BYTES)


@contextmanager
def mlx_on_this_thread() -> Iterator[None]:
    """Use MLX on the calling thread, and leave no stream behind."""
    try:
        yield
    finally:
        mx.clear_streams()
