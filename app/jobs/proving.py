"""Has versions proven in the background: asked every query there is, by a process of its own.

What serves without a verdict is proven by itself, and so is what serves without the answer table
that its proof leaves; any other version on request. One at a time, on the thread of the jobs, and
only while no job wants to run: the process is ended for one, and begins anew after it. Chunks that
are done stay in the staging folder until verdict and table are kept: whatever ends a proof, and
whenever, costs one chunk. One that fails is tried again `RETRY_S` later.
"""

import logging
import math
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from app.errors import StateUnavailableError
from app.jobs.job import Proving
from app.jobs.metrics import JobMetrics
from app.jobs.runner import ChildError, Children
from app.jobs.serving import Serving
from app.jobs.verdicts import Verdicts
from training.atomic import publish
from training.child.protocol import ProofEvent
from training.errors import MennyError, ProofStoppedError
from training.proof.answers import load_table
from training.proof.check import Proof
from training.proof.estimate import LONG_S, estimate_seconds
from training.proof.queries import Plan
from training.proof.run import forget_chunks
from training.weights import ModelCard

logger = logging.getLogger(__name__)

RETRY_S = 600.0
"""Seconds until a version that serves is tried again: the disk may have room by then."""
REST_S = 10.0
"""Seconds without a proof after one that the database won't take a word of."""

_CHUNKS = re.compile("([0-9a-f]{12})-[0-9a-f]{16}")
_TABLE = re.compile("([0-9a-f]{12})[0-9a-f]{52}[.]npz")


class Prover:
    """Proves versions when `work` is called; the other methods are for any thread."""

    def __init__(
        self,
        verdicts: Verdicts,
        serving: Serving,
        children: Children,
        staging: Path,
        answers: Path,
        metrics: JobMetrics,
        *,
        is_automatic: bool,
        wants_table: bool,
    ) -> None:
        """`is_automatic`: prove what serves; `wants_table`: also where only a table is missing."""
        self._verdicts = verdicts
        self._serving = serving
        self._children = children
        self._staging = staging
        self._answers = answers
        self._metrics = metrics
        self._is_automatic = is_automatic
        self._wants_table = wants_table
        self._not_before: dict[str, float] = {}
        """When versions may be due by themselves again, on the monotonic clock; infinity: done."""
        self._rests_until = 0.0

    def request(self, version: str, key: str | None) -> None:
        """Have a version proven; raises `ConflictError` while there is one that is to be."""
        self._verdicts.begin(version, key)

    def state_of(self, version: str) -> Proving | None:
        """How the proof of a version is getting on; `None` if nobody is at it or has failed."""
        return self._verdicts.state_of(version)

    def proof_of(self, version: str, card: ModelCard | None) -> Proof | None:
        """What asking a version every query there is has shown; `None` without a verdict."""
        return self._verdicts.of(version, card)

    def find_table(self, version: str) -> Path | None:
        """Where the service keeps a version's answers, if it does."""
        return next(self._answers.glob(f"{version}*.npz"), None)

    def delete_tables(self, version: str) -> None:
        """Delete what the service keeps of a version's answers; raises `OSError`."""
        for table in self._answers.glob(f"{version}*.npz"):
            table.unlink(missing_ok=True)

    def tidy(self, known: set[str]) -> None:
        """Remove what is left of jobs, and of versions that are not known."""
        self._verdicts.forget()
        for path in self._staging.glob("*"):
            match = _CHUNKS.fullmatch(path.name)
            if not path.is_dir():
                path.unlink()
            elif match is None or match[1] not in known:
                shutil.rmtree(path, ignore_errors=True)
        for path in self._answers.glob("*"):
            match = _TABLE.fullmatch(path.name)
            if match is not None and match[1] not in known:
                path.unlink()

    # --- on the thread of the jobs --------------------------------------------------------------

    def work(self, check: Callable[[], None]) -> None:
        """Prove what is due, if anything is, to its end or until `check` raises.

        It raises `ProofStoppedError` or `StateUnavailableError`: this is to be called again then.
        """
        if time.monotonic() < self._rests_until or (due := self._find_due()) is None:
            return
        try:
            self._prove_due(*due, check)
        except StateUnavailableError:
            self._rests_until = time.monotonic() + REST_S
            raise

    def _prove_due(self, version: str, key: str | None, check: Callable[[], None]) -> None:
        not_before, fault = math.inf, None
        try:
            self._prove(version, key, check)
        except (ProofStoppedError, StateUnavailableError):
            self._verdicts.pause()
            raise
        except (MennyError, OSError) as error:
            logger.error("version %s can't be proven: %s", version, error)
            fault = str(error).replace(f"{self._staging.parent}/", "")
            not_before = time.monotonic() + RETRY_S
        except Exception:
            logger.exception("the proof of version %s met a fault of the service", version)
            fault = "a fault of the service; its log has more"
        if fault is not None:
            self._metrics.proofs.labels("failed").inc()
        self._not_before[version] = not_before
        self._verdicts.end(version, fault)

    def _find_due(self) -> tuple[str, str | None] | None:
        begun = self._verdicts.find_begun()
        if begun is not None or not self._is_automatic:
            return begun
        with self._serving.change:
            version, key = self._serving.version, self._serving.key
            if version is None or time.monotonic() < self._not_before.get(version, 0):
                return None
            try:
                proof = self._verdicts.of(version, self._serving.load(key).card)
                is_due = proof is None or (
                    proof.holds and self._wants_table and not self._serving.has_table()
                )
            except MennyError as error:  # its file is damaged while it answers
                logger.error("version %s can't be proven: %s", version, error)
                is_due = False
            if not is_due:
                self._not_before[version] = math.inf
                return None
            self._verdicts.begin(version, key, requested=False)
            return version, key

    def _prove(self, version: str, key: str | None, check: Callable[[], None]) -> None:
        check()
        if (seconds := estimate_seconds(Plan(), processes=1)) > LONG_S:
            logger.warning("a proof takes some %.1f hours on this machine", seconds / 3600)
        self._staging.mkdir(exist_ok=True)
        table = self._staging / "table.npz"
        proof: Proof | None = None
        with self._children.prove(self._serving.path(key), self._staging, table) as child:
            for event in child.events(check):
                if isinstance(event, ProofEvent):
                    proof = event.proof
                    progress = event.done / event.total
                    self._metrics.proof_progress.set(progress)
                    self._verdicts.set_progress(version, progress)
        if proof is None or not proof.sha256.startswith(version):
            raise ChildError("the proving process asked other weights than it was told to")
        self._verdicts.keep(proof)
        self._metrics.proofs.labels("proven" if proof.holds else "refuted").inc()
        if proof.holds:
            logger.info("version %s is proven: whatever it is asked, it keeps the rule", version)
            self._take_up(version, key, table, proof.sha256)
        else:
            logger.error("version %s does not keep the rule: %s", version, proof.counter_examples)
        forget_chunks(self._staging, proof.sha256, Plan())

    def _take_up(self, version: str, key: str | None, table: Path, sha256: str) -> None:
        """Keep the table, and answer from it if its version serves."""
        load_table(table, sha256)
        with self._serving.change:
            if not self._serving.path(key).exists():  # deleted meanwhile
                table.unlink()
                return
            self._answers.mkdir(exist_ok=True)
            publish(table, self._answers / f"{sha256}.npz")
            if self._serving.version == version:
                self._serving.look_up_again()
                self._verdicts.note_table()
