"""Menny as a service that stays: a launchd agent on a Mac, a systemd user unit on Linux."""
