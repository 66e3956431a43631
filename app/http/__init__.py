"""The wire: connections, what every request passes, and errors as problem documents."""
