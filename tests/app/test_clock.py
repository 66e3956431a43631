"""The clock of the machine may be put back: nothing may hang on it but what people read."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from app.jobs import store as store_module
from app.jobs.job import Promote
from app.jobs.store import Store, VersionRow
from tests.training.test_weights import CARD
from training.config import Recipe, TrainingConfig
from training.epoch import Epoch


def _made(store: Store, version: str, created: datetime) -> int:
    job = store.create_job(Recipe.DEFAULT, TrainingConfig(), Promote.NEVER)
    store.add_version(job.id, version, VersionRow(version, created, job.id, CARD), activate=False)
    return job.id


def test_the_newest_version_is_the_last_jobs_whatever_the_clock_says(tmp_path: Path) -> None:
    store = Store(tmp_path / "menny.sqlite3")
    now = datetime.now(UTC)
    for number, created in enumerate([now, now - timedelta(days=30), now - timedelta(days=9)]):
        _made(store, f"{number:012}", created)
    assert [row.version for row in store.versions()] == [f"{n:012}" for n in (2, 1, 0)]
    store.close()


def test_the_time_that_is_left_does_not_grow_when_the_clock_is_put_back(
    tmp_path: Path, monkeypatch
) -> None:
    class Earlier(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) - timedelta(days=30)

    store = Store(tmp_path / "menny.sqlite3")
    job_id = _made(store, "0" * 12, datetime.now(UTC))
    store.start_job(job_id)
    store.add_epoch(
        job_id,
        Epoch(epoch=1, num_epochs=2, loss=1.0, validation=CARD.metrics, seconds=5, seconds_left=5),
    )
    monkeypatch.setattr(store_module, "datetime", Earlier)
    assert store.job(job_id).eta_seconds == 5
    store.close()
