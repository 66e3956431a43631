"""Rows of the database as the objects that they stand for."""

from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError
from sqlalchemy.engine import RowMapping

from app.errors import UnreadableRowError
from app.jobs.job import Job, JobState, VersionRow
from training.epoch import Epoch


def job_of(row: RowMapping) -> Job:
    """A job, with `latest`, its latest report; raises `UnreadableRowError`."""
    try:
        fields: dict[str, Any] = dict(row)
        if row["latest"] is not None:
            fields |= _progress(Epoch.model_validate(row["latest"]), JobState(row["state"]))
        return Job.model_validate(fields)
    except ValueError as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        what = f"{first['loc'][0]}: {first['msg']}" if first and first["loc"] else str(error)
        raise UnreadableRowError(
            f"job {row['id']} can't be read from the database: {what}"
        ) from None


def _progress(epoch: Epoch, state: JobState) -> dict[str, Any]:
    elapsed = max(0.0, (datetime.now(UTC) - epoch.at).total_seconds())  # the clock may go back
    return {
        "progress": epoch.epoch / epoch.num_epochs,
        "epoch": epoch.epoch,
        "loss": epoch.loss,
        "validation": epoch.validation,
        "eta_seconds": None if state.has_ended else max(0.0, epoch.seconds_left - elapsed),
    }


def version_of(row: RowMapping) -> VersionRow:
    """A version."""
    try:
        created = datetime.fromisoformat(row["created"])
    except (ValueError, TypeError):
        created = None
    return VersionRow(str(row["version"]), created, row["job"])
