"""A proof's chunks on a Ray cluster: `menny verify --ray`.

Ray is an optional package: nothing of it is imported before there is something to examine.
"""

import socket
from collections.abc import Generator, Sequence

from training.architecture import Parameters
from training.errors import MissingPackageError, ProofError
from training.proof import run
from training.proof.queries import Plan
from training.proof.run import ChunkFindings, ExamineChunks
from training.rule import RULE

CONNECT_S = 10.0


def examine_on_ray(address: str, processes: int | None = None) -> ExamineChunks:
    """What examines chunks on the cluster at `address`, with as many processes as it has cores.

    The nodes must have this Menny installed. It raises `ProofError` for a cluster that can't be
    reached or goes away, and `MissingPackageError` without Ray.
    """

    def examine(
        parameters: Parameters, plan: Plan, pending: Sequence[int]
    ) -> Generator[ChunkFindings, None, None]:
        _expect_listener(address)
        try:
            import ray
            from ray.util.multiprocessing import Pool
        except ImportError:
            raise MissingPackageError("--ray needs Ray: pip install 'menny[ray]'") from None
        try:
            ray.init(address, log_to_driver=False)
            with Pool(processes, _become_worker, (dict(parameters), plan, RULE.sha256)) as pool:
                yield from pool.imap_unordered(run.examine_chunk, pending, chunksize=1)
        except (ConnectionError, ray.exceptions.RayError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise ProofError(
                f"the Ray cluster at {address} can't go on: {reason}; run the same command again "
                "to go on"
            ) from None
        finally:
            ray.shutdown()

    return examine


def _expect_listener(address: str) -> None:
    """Raises `ProofError` if nobody listens at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
        except (OSError, OverflowError) as error:
            raise ProofError(f"no Ray cluster answers at {address}: {error}") from None


def _become_worker(parameters: Parameters, plan: Plan, rule: str) -> None:
    """What a process of the cluster does first."""
    if rule != RULE.sha256:
        raise ProofError("a node has a Menny with another rule")
    run.become_examiner(parameters, plan)
