"""The service's own exceptions; `app.problems` says which HTTP status each becomes.

MennyError (training.errors)
└── ServiceError
├── ModelUnavailableError   there is no model that could answer
├── OverloadedError         the queue is full
├── DeadlineError           no answer in time
├── DisconnectedError       the caller has gone
└── EngineError             the model failed
"""

from training.errors import MennyError


class ServiceError(MennyError):
    """The service can't do what it was asked to do."""


class ModelUnavailableError(ServiceError):
    """There is no model that could answer."""


class OverloadedError(ServiceError):
    """The queue is full; later it may not be."""


class DeadlineError(ServiceError):
    """There was no answer in time."""


class DisconnectedError(ServiceError):
    """The caller has gone, and nobody waits for the answer."""


class EngineError(ServiceError):
    """The model failed on a batch."""
