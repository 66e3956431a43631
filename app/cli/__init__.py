"""`menny`: the command line, a file a command.

Exit status 0, 1 for a failure, 2 for wrong usage.
"""

import signal


def main() -> None:
    """Run the command line.

    While modules are imported, Ctrl-C just ends the process, as SIGINT does where nobody handles
    it; a command that is about to run gets Python's KeyboardInterrupt again.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from app.cli.commands import run

    run()
