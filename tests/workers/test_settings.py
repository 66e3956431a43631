"""What workers are told of the settings, and how many there are."""

from pathlib import Path

import pytest

from app.settings import Settings
from app.workers.task import Task
from training.cores import num_cores

TOKEN = "a-token-for-the-tests"  # noqa: S105 - it guards nothing


def test_a_worker_gets_the_settings_of_its_supervisor_whatever_the_environment_says_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(
        workers=3,
        admin_token=TOKEN,
        read_token=TOKEN,
        state_dir=tmp_path,
        allowed_hosts="menny.example.org,*.example.com",
        cors_origins="https://example.org",
    )
    task = Task.of(settings, index=0, listener=5, scoreboard=tmp_path, unavailable=None)
    monkeypatch.setenv("MENNY_MAX_BATCH", "7")
    monkeypatch.setenv("MENNY_LOG_FILE", "elsewhere")
    told = Task.model_validate_json(task.model_dump_json())
    assert Settings(**told.settings) == settings


def test_auto_is_a_worker_for_each_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MENNY_WORKERS", "auto")
    assert Settings().workers == num_cores()
