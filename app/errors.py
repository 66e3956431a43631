"""The service's own exceptions; `app.problems` says which HTTP status each becomes.

MennyError (training.errors)
└── ServiceError
    └── ModelUnavailableError   there is no model that could answer
"""

from training.errors import MennyError


class ServiceError(MennyError):
    """The service can't do what it was asked to do."""


class ModelUnavailableError(ServiceError):
    """There is no model that could answer."""
