"""What can go wrong around a service manager."""

from app.errors import ServiceError


class ServiceManagerError(ServiceError):
    """launchd or systemd can't do what was asked, and why."""
