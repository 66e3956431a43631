"""The snippets in the documentation run, and print what it says they print."""

import contextlib
import io
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", ["seven-steps.md"])
def test_every_snippet_prints_what_the_page_says(document: str) -> None:
    text = (DOCS / document).read_text(encoding="utf-8")
    blocks = BLOCK.findall(text)
    assert len(blocks) == text.count("```python") > 0  # each snippet is followed by its output
    names: dict[str, object] = {"__name__": "snippet"}
    for code, expected in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, document, "exec"), names)  # noqa: S102 - our own page
        assert printed.getvalue() == expected, code
