"""The service's own exceptions; `app.http.problems` says which HTTP status each becomes.

MennyError (training.errors)
└── ServiceError
    ├── ModelUnavailableError   there is no model that could answer
    ├── OverloadedError         the queue is full
    ├── DeadlineError           no answer in time
    ├── WorkerError             another worker does not come along
    ├── DisconnectedError       the caller has gone
    ├── EngineError             the model failed
    ├── StateUnavailableError   jobs and versions can't be read or written
    │   └── UnreadableRowError  one of them makes no sense
    ├── NotFoundError           there is no such job or version
    ├── ConflictError           what was asked for doesn't go with how things are
    │   └── JobRunningError     another job is running
    ├── PrimaryError            the service that is followed doesn't answer as it should
    ├── ServiceManagerError     launchd or systemd can't do what was asked
    ├── UnauthorizedError       the admin token is missing or wrong
    └── TooManyFailuresError    too many wrong tokens at once
"""

from training.errors import MennyError


class ServiceError(MennyError):
    """The service can't do what it was asked to do."""


class ModelUnavailableError(ServiceError):
    """There is no model that could answer."""


class StateUnavailableError(ServiceError):
    """The state directory or its database can't be used."""


class UnreadableRowError(StateUnavailableError):
    """A row of the database that makes no sense; the message names it."""


class NotFoundError(ServiceError):
    """There is no such job or version."""


class ConflictError(ServiceError):
    """What was asked for doesn't go with how things are."""


class JobRunningError(ConflictError):
    """There is one job at a time, and one is running."""

    def __init__(self, job_id: int) -> None:
        super().__init__(
            f"job {job_id} is running, and there is one at a time: wait for its end, or cancel it "
            f"with DELETE /train/{job_id}"
        )
        self.job_id = job_id


class PrimaryError(ServiceError):
    """The service that is followed doesn't answer, or not as it should."""


class ServiceManagerError(ServiceError):
    """launchd or systemd can't do what was asked, and why."""


class UnauthorizedError(ServiceError):
    """The admin token is missing or wrong."""


class TooManyFailuresError(ServiceError):
    """So many wrong tokens come in that the answer to this one can't wait its turn."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("too many wrong admin tokens; `menny token` prints the right one")
        self.retry_after_s = retry_after_s


class OverloadedError(ServiceError):
    """The queue is full; later it may not be."""


class DeadlineError(ServiceError):
    """There was no answer in time."""


class WorkerError(ServiceError):
    """Another worker was not ready for a version in time; the message names it."""


class DisconnectedError(ServiceError):
    """The caller has gone, and nobody waits for the answer."""


class EngineError(ServiceError):
    """The model failed on a batch."""
