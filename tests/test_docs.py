"""The snippets in the documentation run, and print what it says they print."""

import contextlib
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.cli.commands import COMMANDS, load_command
from tests.forks.rules import FORKS
from tests.service import Service

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
BLOCK = re.compile(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STEPS = ["vocabulary", "dataset", "model", "batching", "loss", "trainer", "evaluation"]
PYTHON_PAGES = ["seven-steps.md", "answer-table.md", "make-it-your-own.md"]


@pytest.mark.parametrize("document", PYTHON_PAGES)
def test_every_snippet_prints_what_the_page_says(document: str) -> None:
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    blocks = BLOCK.findall(text)
    assert len(blocks) == text.count("```python") > 0  # each snippet is followed by its output
    names: dict[str, object] = {"__name__": "snippet"}
    for code, expected in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, document, "exec"), names)  # noqa: S102 - our own page
        assert printed.getvalue() == expected, code


def test_the_rule_that_a_reader_is_shown_is_the_one_that_a_fork_is_tried_with() -> None:
    page = (ROOT / "docs" / "make-it-your-own.md").read_text(encoding="utf-8")
    assert FORKS["consonants and digits"] in page


def commands_of(page: str) -> list[str]:
    """The lines of a page's shell blocks that call `menny`, without comments."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    found = [line.partition(" #")[0].removeprefix(".venv/bin/") for line in lines]
    return [line for line in found if line.startswith("menny ")]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_is_one_that_menny_understands(page: str) -> None:
    for line in commands_of(page):
        _, name, *arguments = shlex.split(line.replace("[", "").replace("]", ""))
        command: Any = load_command(COMMANDS[name][0])
        context = command.make_context(name, list(arguments), resilient_parsing=False)
        if hasattr(command, "resolve_command") and context._protected_args:
            sub, verb, rest = command.resolve_command(
                context, [*context._protected_args, *context.args]
            )
            verb.make_context(sub, rest, parent=context)


@pytest.mark.parametrize("page", [page for page in PAGES if commands_of(page)])
def test_a_page_says_where_menny_is_before_the_first_command(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    said = text.index(".venv/bin")
    assert said < min(text.index(line) for line in commands_of(page))


def test_the_readme_and_the_pages_name_commands() -> None:
    assert sum(len(commands_of(page)) for page in PAGES) > 15


@pytest.mark.parametrize("step", STEPS)
def test_a_step_shows_itself_in_ten_lines(step: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", f"training.{step}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert 4 <= done.stdout.count("\n") <= 10


def test_the_example_of_the_api_is_what_the_shipped_weights_answer(service: Service) -> None:
    described = service.client.get("/openapi.json").json()
    example = described["components"]["schemas"]["TransformResponse"]["examples"][0]
    assert service.transform(example["query"])["response"] == example["response"]
    assert f"`{example['query']}` -> `{example['response']}`" in described["info"]["description"]


@pytest.mark.parametrize("page", PAGES)
def test_no_page_asks_for_a_curl_that_few_have(page: str) -> None:
    assert "--json" not in re.sub(r"menny doctor.*--json", "", (ROOT / page).read_text())
