"""Whatever happens, in whatever order: what answers and what is said are never two things."""

import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from app.errors import ConflictError, NotFoundError, StateUnavailableError
from tests.jobs.house import Home, make_weights, metrics_of, shipped_copy, version_of
from training.errors import WeightsError
from training.weights import save_weights

SEEDS = st.integers(1, 2)
REFUSALS = (ConflictError, NotFoundError, StateUnavailableError, WeightsError)


class Agreement(RuleBasedStateMachine):
    """A state directory to which everything is done that a person or the machine may do."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="menny-state-")
        self.root = Path(self._folder.name)
        self.weights = shipped_copy(self.root)
        self.home = self._open()
        self.confirmed = self.home.engine.answers
        """What the last answered change said answers."""
        self.kept: set[str] = set()
        """Versions that nobody has deleted."""

    def _open(self) -> Home:
        return Home(self.root / "state", weights=self.weights, gate_rule_accuracy=0.5)

    def _restart(self) -> None:
        self.home.retraining.stop()
        self.home = self._open()

    @property
    def database(self) -> Path:
        return self.root / "state" / "menny.sqlite3"

    # --- what a person does ---------------------------------------------------------------------

    @initialize()
    def begin_with_a_version(self) -> None:
        self.train(1, "always", good=True)

    @rule(seed=SEEDS, promote=st.sampled_from(["never", "always", "if_better"]), good=st.booleans())
    def train(self, seed: int, promote: str, good: bool) -> None:
        name = version_of(seed)
        self.home.children.measured = {name: metrics_of(excess_nll=0.0 if good else 0.4)}
        try:
            job = self.home.run_job(seed, promote)
        except StateUnavailableError:
            return
        assert job.state == "succeeded", job.reason
        self.kept.add(name)
        if job.promoted:
            self.confirmed = job.version

    @rule(seed=SEEDS)
    def activate(self, seed: int) -> None:
        with suppress(*REFUSALS):
            self.confirmed = self.home.versions.activate(version_of(seed)).version

    @rule()
    def activate_the_shipped_one(self) -> None:
        with suppress(*REFUSALS):
            self.confirmed = self.home.versions.activate("shipped").version

    @rule(seed=SEEDS)
    def delete(self, seed: int) -> None:
        with suppress(*REFUSALS):
            self.home.versions.delete(version_of(seed))
            self.kept.discard(version_of(seed))

    @rule()
    def hang_up(self) -> None:
        self.home.retraining.reload()

    @rule()
    def restart(self) -> None:
        self._restart()
        if self.home.retraining.note is None and self.home.engine.fault is None:
            assert self.home.engine.answers == self.confirmed
        self.confirmed = self.home.engine.answers

    # --- what happens to files ------------------------------------------------------------------

    @rule(seed=SEEDS, then_restart=st.booleans())
    def damage(self, seed: int, then_restart: bool) -> None:
        if self.home.file(version_of(seed)).exists():
            self.home.file(version_of(seed)).write_bytes(b"damaged")
        if then_restart:
            self.restart()

    @rule(then_hang_up=st.booleans())
    def mend_all(self, then_hang_up: bool) -> None:
        for seed in (1, 2):
            if self.home.file(version_of(seed)).exists():
                save_weights(self.home.file(version_of(seed)), *make_weights(seed))
        if then_hang_up:
            self.hang_up()

    @rule(seed=st.integers(7, 8))
    def replace_the_shipped_file(self, seed: int) -> None:
        save_weights(self.weights, *make_weights(seed))

    @rule()
    def damage_the_shipped_file(self) -> None:
        self.weights.write_bytes(b"damaged")

    @rule()
    def lose_the_database(self) -> None:
        self.home.retraining.stop()
        self.database.unlink(missing_ok=True)
        self.home = self._open()
        self.confirmed = self.home.engine.answers

    @rule()
    def lose_the_database_while_it_is_used(self) -> None:
        self.database.unlink(missing_ok=True)

    @rule()
    def make_a_stranger(self) -> None:
        (self.root / "state" / "versions" / "backup").mkdir(exist_ok=True)

    # --- what holds after each of these ---------------------------------------------------------

    @invariant()
    def what_answers_is_what_is_listed_as_active(self) -> None:
        try:
            listed = self.home.versions.list_all()
        except StateUnavailableError:
            return
        active = [version.version for version in listed if version.active]
        answers = self.home.engine.answers
        assert active == ([] if answers is None else [answers])

    @invariant()
    def every_version_that_nobody_deleted_is_still_there(self) -> None:
        for name in self.kept:
            assert self.home.file(name).exists()

    @invariant()
    def what_is_none_of_ours_is_still_there(self) -> None:
        for path in (self.root / "state" / "versions").iterdir():
            assert path.is_dir() or len(path.stem) == 12

    def teardown(self) -> None:
        self.home.retraining.stop()
        self._folder.cleanup()


TestAgreement = Agreement.TestCase
TestAgreement.settings = settings(
    max_examples=3,
    stateful_step_count=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
