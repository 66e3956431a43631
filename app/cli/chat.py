"""`menny chat`: the book's loop around `input()`."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from app.inference.decoding import Prompt
from app.inference.engine import engine_of
from training.errors import VocabularyError
from training.vocabulary import MAX_QUERY_LENGTH, check_query
from training.weights import SHIPPED_WEIGHTS, load_weights

with suppress(ImportError):  # a Python without it has no line editing
    import readline  # noqa: F401 - gives `input` line editing and a history


def chat(
    weights: Annotated[Path, typer.Option(help="The .npz file to talk to.")] = SHIPPED_WEIGHTS,
) -> None:
    """Talk to Menny: the book's interactive session.

    A query at each prompt; the arrow keys edit the line and bring earlier ones back; q or Ctrl-D
    leaves. Longer input is refused, where the book cuts it off.

    Example: menny chat
    """
    if not weights.exists():
        typer.echo(f"There are no weights in {weights}.")
        if not typer.confirm("Train Menny now? It takes a minute", default=True):
            raise typer.Exit(1)
        from training.commands.train import train

        train(out=weights)
    with engine_of(load_weights(weights)) as engine:
        while True:
            try:
                query = input(f"Enter your prompt (max {MAX_QUERY_LENGTH} chars, q to quit): ")
                if query == "q":
                    break
                typer.echo(f"Menny: {engine.answer(Prompt(check_query(query))).response}")
            except VocabularyError as error:
                typer.echo(f"Sorry, {error}.")
            except (EOFError, KeyboardInterrupt):
                typer.echo()
                break
