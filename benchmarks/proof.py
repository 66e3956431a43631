"""How fast `menny verify` is, and what a second process gains.

    python benchmarks/proof.py [--rounds 5] [--queries 100000]

One and two processes take turns, so that a change in the machine's load hits both. A round checks
the same random queries; start-up (Python, MLX, the weights: a few seconds of a proof that takes
minutes) is left out, as is the last chunk, while only one process may still be busy.
"""

import argparse
import statistics
import time

from training.backend import mlx_on_this_thread
from training.proof.queries import CHUNK_SIZE, Plan
from training.proof.run import ProofProgress, prove
from training.weights import SHIPPED_WEIGHTS, Weights, load_weights

NUM_MULTISETS = 4_187_105


def seconds_per_query(weights: Weights, processes: int, num_queries: int) -> float:
    """Wall time between the first chunks' end and the last but one's, over the queries in it."""
    ends: list[float] = []

    def note(progress: ProofProgress) -> None:
        if progress.done:
            ends.append(time.perf_counter())

    prove(weights, Plan(sample=num_queries), processes=processes, on_progress=note)
    first, last = processes - 1, len(ends) - processes
    return (ends[last] - ends[first]) / ((last - first) * CHUNK_SIZE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--queries", type=int, default=100_000)
    options = parser.parse_args()
    weights = load_weights(SHIPPED_WEIGHTS)
    ratios, costs = [], {1: [], 2: []}
    print("round  1 process   2 processes  efficiency   (microseconds a multiset)")
    with mlx_on_this_thread():
        for round_ in range(1, options.rounds + 1):
            one, two = (seconds_per_query(weights, n, options.queries) for n in (1, 2))
            costs[1].append(one)
            costs[2].append(two)
            ratios.append(one / two / 2)
            print(
                f"{round_:5}  {one * 1e6:9.1f}   {two * 1e6:11.1f}  {ratios[-1]:10.0%}", flush=True
            )
    for processes, values in costs.items():
        minutes = statistics.median(values) * NUM_MULTISETS / 60
        print(f"the whole proof with {processes} process(es): {minutes:.1f} minutes (median)")
    print(f"efficiency of the second process: {statistics.median(ratios):.0%} (median)")


if __name__ == "__main__":
    main()
