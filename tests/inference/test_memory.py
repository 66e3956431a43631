"""A service swaps models for months."""

import subprocess
import sys
from pathlib import Path

import pytest

# In a process of its own: other tests' memory would blur the figure.
CODE = """
from pathlib import Path
from training.backend import mlx_on_this_thread
from training.model import build_model
from training.weights import SHIPPED_WEIGHTS, load_weights

def resident_kib():
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0])

parameters = load_weights(SHIPPED_WEIGHTS).parameters
with mlx_on_this_thread():
    for number in range(60):
        build_model(parameters)
        if number == 19:
            before = resident_kib()
    print(resident_kib() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell")
def test_a_model_that_is_let_go_leaves_no_memory_behind() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True, timeout=100
    )
    assert int(done.stdout) < 4 * 1024  # forty models; each used to leave 266 KiB
