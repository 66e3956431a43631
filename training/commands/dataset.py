"""`menny dataset`: draw queries and labels into a file."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from training.commands.outputs import check_output
from training.dataset import generate_dataset, write_dataset


def dataset(
    out: Annotated[Path, typer.Option(help="The .jsonl or .csv file to write.")],
    num_samples: Annotated[int, typer.Option(min=1, max=10_000_000, help="Rows to draw.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same rows.")] = 0,
) -> None:
    """Write queries and labels to a file.

    The queries are drawn at random, and so is each label; `menny train --data` reads them.

    Example: menny dataset --num-samples 500 --out pairs.jsonl
    """
    check_output("--out", out, (".jsonl", ".csv"))
    write_dataset(generate_dataset(num_samples, np.random.default_rng(seed)), out)
    typer.echo(f"wrote {num_samples:,} rows to {out}")
