import os
import subprocess
import sys
from pathlib import Path

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


def test_no_library_is_made_or_loaded_in_a_folder_that_others_could_have_made(
    tmp_path: Path,
) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", FORWARD_AND_STEP], env=environment, check=True)
    assert list(tmp_path.iterdir()) == []
