"""SECURITY.md and docs/faults.md name a test for each promise, and those tests are there."""

import ast
import re
from pathlib import Path

import pytest

from app.settings import Settings

ROOT = Path(__file__).resolve().parent.parent


def names_of_tests() -> set[str]:
    return {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@pytest.mark.parametrize("document", ["SECURITY.md", "docs/faults.md"])
def test_every_row_of_a_table_of_promises_names_tests_that_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    table = text.partition(" | test |\n")[2]
    rows = table.partition("\n\n")[0].splitlines()[1:]
    assert len(rows) > 10
    for row in rows:
        assert re.search(r"`test_\w+`", row), row
    assert set(re.findall(r"`(test_\w+)`", text)) <= names_of_tests()


@pytest.mark.parametrize("document", ["SECURITY.md", "docs/faults.md"])
def test_every_setting_that_is_named_exists(document: str) -> None:
    for name in re.findall(r"MENNY_(\w+)", (ROOT / document).read_text()):
        assert name.lower() in Settings.model_fields
