import os
import platform
import subprocess
import sys

import pytest

from tests.service import clean_environment

TIME_A_PRODUCT = """
import sys, time
{before}
from training.backend import BLAS, mlx_on_this_thread, mx
with mlx_on_this_thread():
    a, b = mx.ones((2048, 256)), mx.ones((256, 1024))
    mx.eval(a, b)
    begin = time.perf_counter()
    for _ in range(3):
        mx.eval(a @ b)
    print(BLAS.name, BLAS.reason, time.perf_counter() - begin, sep="|")
"""
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="macOS has Accelerate")


def run(before: str = "") -> tuple[str, str, float]:
    result = subprocess.run(
        [sys.executable, "-c", TIME_A_PRODUCT.format(before=before)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    name, reason, seconds = result.stdout.strip().split("|")
    return name, reason, float(seconds)


@linux_only
def test_openblas_really_does_mlxs_products() -> None:
    name, reason, fast = run()
    assert (name, reason) == ("openblas", "None")
    _, _, slow = run("import mlx.core")  # MLX has found its own BLAS by then
    assert fast * 2 < slow  # 20 times here; the test only asks whose product it is


@linux_only
def test_mlx_imported_too_early_is_said() -> None:
    name, reason, _ = run("import mlx.core")
    assert name == "reference"
    assert "mlx was imported before" in reason


@linux_only
def test_without_openblas_the_reason_has_the_remedy() -> None:
    hide = (
        "import importlib.metadata as metadata; real = metadata.distribution\n"
        "def distribution(name):\n"
        "    if name.endswith('-openblas'): raise metadata.PackageNotFoundError(name)\n"
        "    return real(name)\n"
        "metadata.distribution = distribution"
    )
    name, reason, _ = run(hide)
    assert name == "reference"
    assert "OpenBLAS can't be loaded" in reason
    assert "apt install" in reason


@linux_only
@pytest.mark.skipif(os.cpu_count() == 1, reason="one core has one thread anyway")
@pytest.mark.parametrize(("asked_for", "threads"), [(None, 1), ("2", 2)])
def test_numpy_multiplies_with_one_thread_unless_told_otherwise(
    asked_for: str | None, threads: int
) -> None:
    code = (
        "import os, training.vocabulary, numpy as np\n"
        "_ = np.ones((600, 600)) @ np.ones((600, 600))\n"
        "print(len(os.listdir('/proc/self/task')))"
    )
    environment = clean_environment()
    environment.pop("OPENBLAS_NUM_THREADS", None)
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | ({"OPENBLAS_NUM_THREADS": asked_for} if asked_for else {}),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert int(result.stdout) == threads


@linux_only
@pytest.mark.skipif(platform.machine() != "x86_64", reason="another wheel is used there")
def test_openblas_has_kernels_for_every_processor() -> None:
    code = (
        "import ctypes\n"
        "from training.backend import mlx_on_this_thread\n"
        "config = ctypes.CDLL(None).openblas_get_config\n"
        "config.restype = ctypes.c_char_p\n"
        "print(config().decode())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    # One that is built for a single processor ends the process with SIGILL on an older one.
    assert "DYNAMIC_ARCH" in result.stdout
