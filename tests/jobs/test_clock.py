"""The clock of the machine may be put back: nothing may hang on it but what people read."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.jobs.house import SHIPPED, house, wait_forever


def test_the_newest_version_is_the_last_jobs_whatever_the_clock_says(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        made = [home.make(seed) for seed in (1, 2, 3)]
        for days, version in enumerate(made):
            created = datetime.now(UTC) - timedelta(days=days * 30)
            home.store.add_version(version, created)
        assert home.listed() == [*made[::-1], SHIPPED]


def test_with_the_clock_put_back_the_newer_version_is_kept_and_the_older_one_pruned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return now

    monkeypatch.setattr("app.jobs.store.datetime", Clock)
    with house(tmp_path, keep_versions=1) as home:
        jobs = []
        for seed in (1, 2, 3):
            jobs.append(home.run_job(seed))
            assert home.listed() == [jobs[-1].version, SHIPPED]
            now -= timedelta(days=30)
        assert jobs[2].created < jobs[1].created < jobs[0].created
        assert [job.id for job in home.store.list_jobs(3)] == [3, 2, 1]


def test_the_time_that_is_left_does_not_grow_when_the_clock_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Earlier(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) - timedelta(days=30)

    with house(tmp_path) as home:
        home.children.in_phase = wait_forever("training")
        job_id = home.start_job(num_epochs=2)
        home.wait_for(job_id, lambda job: job.epoch == 1)
        monkeypatch.setattr("app.jobs.rows.datetime", Earlier)
        assert home.store.get_job(job_id).eta_seconds == 5
        monkeypatch.undo()
