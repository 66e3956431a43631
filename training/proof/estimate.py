"""How long a proof will take on this machine."""

import time

import numpy as np

from training.architecture import parameter_shapes
from training.dataset import generate_queries
from training.evaluation import Forward
from training.graph import FusedMenny
from training.proof.queries import BATCH_SIZE, Plan

LONG_S = 3600
"""Seconds from which on a proof is so long that it is warned of."""


def estimate_seconds(plan: Plan, processes: int, forward: Forward | None = None) -> float:
    """About how long a proof takes on this machine, from the time of one forward pass.

    `forward` is NumPy's graph by default, of zeros, which take as long as any weights; what else
    the machine does now does not count then.
    """
    clock = time.perf_counter if forward else time.thread_time  # of a GPU there is no other
    zeros = {name: np.zeros(shape, np.float32) for name, shape in parameter_shapes().items()}
    forward = forward or FusedMenny(zeros)
    batch = generate_queries(BATCH_SIZE, np.random.default_rng(0))
    forward(batch)  # the first one takes longer
    begin = clock()
    forward(batch)
    return (clock() - begin) * plan.num_asked / BATCH_SIZE / processes
