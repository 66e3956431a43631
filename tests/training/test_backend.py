import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service import clean_environment
from training.backend import CACHE_BYTES, mx

FORWARD_AND_STEP = """
from training.backend import mlx_on_this_thread
from training.config import Recipe, recipe_config
from training.trainer import train

with mlx_on_this_thread():
    config = recipe_config(
        Recipe.DEFAULT, num_samples=20, num_epochs=1, batch_size=4, warm_up_steps=0
    )
    train(config, num_fresh_queries=5)
"""

WHEN_MLX_IS_IMPORTED = """
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "mlx.core":
            print(os.environ.get("MLX_ENABLE_TF32"))
sys.meta_path.insert(0, Watch())
import training.backend
"""


def test_no_library_is_made_or_loaded_in_a_folder_that_others_could_have_made(
    tmp_path: Path,
) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", FORWARD_AND_STEP], env=environment, check=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("users", "expected"), [({}, "0"), ({"MLX_ENABLE_TF32": "1"}, "1")])
def test_float32_products_are_exact_from_the_moment_mlx_is_imported_unless_the_user_says_otherwise(
    users: dict[str, str], expected: str
) -> None:
    environment = {k: v for k, v in clean_environment().items() if k != "MLX_ENABLE_TF32"} | users
    done = subprocess.run(
        [sys.executable, "-c", WHEN_MLX_IS_IMPORTED],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [expected]


def test_mlx_keeps_a_bounded_cache_of_freed_buffers() -> None:
    before = mx.set_cache_limit(CACHE_BYTES)
    assert before == CACHE_BYTES <= 2**30
