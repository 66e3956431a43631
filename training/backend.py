"""The one door to MLX: everything that needs it imports it from here.

That way a fast BLAS is always in place before MLX looks for one (see `training.blas`). MLX's
streams belong to threads: a thread that used MLX, the main one included, ends with
`mx.clear_streams()`, or the process may abort at exit (ml-explore/mlx#4327).
"""

from collections.abc import Iterator
from contextlib import contextmanager

from training.blas import load_fast_blas

BLAS = load_fast_blas()

import mlx.core as mx  # noqa: E402
import mlx.nn as nn  # noqa: E402
import mlx.optimizers as optim  # noqa: E402
from mlx.utils import tree_flatten, tree_unflatten  # noqa: E402

__all__ = ["BLAS", "mlx_on_this_thread", "mx", "nn", "optim", "tree_flatten", "tree_unflatten"]


@contextmanager
def mlx_on_this_thread() -> Iterator[None]:
    """Use MLX on the calling thread, and leave no stream behind."""
    try:
        yield
    finally:
        mx.clear_streams()
