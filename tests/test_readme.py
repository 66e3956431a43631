"""What the README and the Dockerfile say is so."""

import json
import re
from pathlib import Path

import pytest

from app.settings import Settings, variable_of
from tests.service import Service
from training.weights import SHIPPED_WEIGHTS, load_weights

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_curl_command_gives_the_answer_that_is_shown(service: Service) -> None:
    (body,) = re.findall(r"/transform -H 'Content-Type: application/json' -d '(.*)'", README)
    (shown,) = re.findall(r"```json\n(.*)\n```", README)
    assert service.transform(**json.loads(body)) == json.loads(shown)


def test_every_setting_is_on_the_configuration_page_with_its_default_and_meaning() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    rows = re.findall(r"^\| `(MENNY_\w+)` \| (.*?) \| (.*) \|$", page, re.MULTILINE)
    assert [name for name, _, _ in rows] == [variable_of(name) for name in Settings.model_fields]
    for (_, default, meaning), (name, field) in zip(
        rows, Settings.model_fields.items(), strict=True
    ):
        assert meaning == field.description
        if name not in {"weights", "state_dir", "admin_token"}:
            assert default == (f"`{field.default}`" if field.default not in (None, ()) else "none")


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_every_link_to_a_file_leads_somewhere(document: str) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", (ROOT / document).read_text()):
        if not link.startswith(("http", "#")):
            assert (ROOT / link).exists(), link


def test_the_metrics_are_those_of_the_shipped_weights() -> None:
    card = load_weights(SHIPPED_WEIGHTS).card
    assert card is not None
    row = re.search(r"^\| `excess_nll` \|.*?\| (\S+) \|", README, re.MULTILINE)
    assert row is not None
    assert row[1] == f"{card.metrics.excess_nll:.4f}"


def test_the_shipped_weights_are_proven() -> None:
    weights = load_weights(SHIPPED_WEIGHTS)
    assert weights.card is not None
    assert weights.card.proves(weights.version)


def test_the_dockerfile_copies_what_there_is_and_sets_what_is_a_setting() -> None:
    dockerfile = (ROOT / "Dockerfile.notes").read_text()
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists(), source
    for name in re.findall(r"\b(MENNY_\w+)=", dockerfile):
        assert name.removeprefix("MENNY_").lower() in Settings.model_fields
