"""`menny`: the command line, a file a command."""

from app.cli.serve import main

__all__ = ["main"]
