"""A process that works in the background for another one: humble, and gone when that one is.

The one that starts it holds the other end of its standard input and never writes there. However
the starter dies, the kernel closes that end: reading gives end-of-file, and this process ends
itself. That works wherever there are pipes; Linux can do the same without waiting for a thread
to be scheduled, by PR_SET_PDEATHSIG (prctl(2)).
"""

import contextlib
import ctypes
import os
import signal
import sys
import threading
from pathlib import Path

LOWEST_PRIORITY = 19

_PR_SET_PDEATHSIG = 1
_ABANDONED = 75  # exit status, EX_TEMPFAIL of sysexits.h


def be_supervised() -> None:
    """Take the lowest priority, be the first to go when memory is short, die with the starter."""
    threading.Thread(target=_die_at_end_of_input, name="lifeline", daemon=True).start()
    os.nice(LOWEST_PRIORITY)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        with contextlib.suppress(OSError):  # a sandbox may have no such file
            Path("/proc/self/oom_score_adj").write_text("1000")


def _die_at_end_of_input() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(_ABANDONED)  # at once: there is nobody left to clean up for
