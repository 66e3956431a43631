"""What SECURITY.md says is tested is tested, and its settings exist."""

import ast
import re
from pathlib import Path

from app.settings import Settings

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "SECURITY.md").read_text()


def names_of_tests() -> set[str]:
    return {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_defence_has_a_test_that_exists() -> None:
    table = TEXT.partition("## What is defended")[2].partition("## What is not")[0]
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    assert len(rows) > 10
    existing = names_of_tests()
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        assert named, row
        assert set(named) <= existing, row


def test_every_setting_that_is_named_exists() -> None:
    for name in re.findall(r"MENNY_(\w+)", TEXT):
        assert name.lower() in Settings.model_fields
