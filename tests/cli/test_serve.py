"""`menny serve`: what it refuses at its start, and whose weights it serves."""

from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from app.cli.settings import read_settings
from app.inference import engine as engine_module
from app.inference.batcher import Batcher
from app.inference.engine import Engine
from app.metrics import ServiceMetrics
from app.settings import Settings
from tests.cli.command import menny, menny_process
from tests.jobs.house import SHIPPED, house
from training.backend import mx
from training.config import Device
from training.errors import DeviceError


@pytest.mark.skipif(mx.is_available(mx.gpu), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_ends_the_start_in_one_sentence(tmp_path: Path) -> None:
    done = menny_process(
        "serve", "--port", "0", MENNY_DEVICE="gpu", MENNY_STATE_DIR=tmp_path / "state"
    )
    assert done.status == 1
    assert done.stderr == ("error: MLX has no GPU on this machine: take the device cpu, or auto\n")


def test_whatever_fails_on_the_engines_thread_at_its_start_ends_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(device: Device) -> None:
        raise DeviceError(f"the {device} is on fire")

    monkeypatch.setattr(engine_module, "use_device", broken)
    with pytest.raises(DeviceError, match="the auto is on fire"):
        Engine(Batcher(max_batch=1, max_queue=1), ServiceMetrics()).start()


def test_a_weights_flag_wins_over_the_active_version_at_start_and_at_sighup(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with house(tmp_path) as home:
        version = home.make(seed=1, promote="always")
        assert home.engine.answers == version
    with house(tmp_path) as home:
        assert home.engine.answers == version
        assert home.retraining.note is None
    with house(tmp_path, pin_weights=True) as home:
        assert home.engine.answers == SHIPPED
        assert f"though version {version} is the active one" in str(home.retraining.note)
        assert f"though version {version} is the active one" in caplog.text
        home.retraining.reload()  # what SIGHUP does
        assert home.engine.answers == SHIPPED
        home.versions.activate(version)
        assert home.engine.answers == version
        assert home.retraining.note is None


def test_the_weights_flag_pins_them_and_the_variable_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Settings] = []

    def read_and_stop(**flags: Any) -> Settings:
        seen.append(read_settings(**flags))
        raise typer.Exit

    monkeypatch.setattr("app.cli.serve.read_settings", read_and_stop)
    menny("serve", "--weights", "some.npz")
    menny("serve", MENNY_WEIGHTS="some.npz")
    assert [settings.weights.name for settings in seen] == ["some.npz", "some.npz"]
    assert [settings.pin_weights for settings in seen] == [True, False]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"MENNY_PORT": "many"}, "MENNY_PORT: Input should be a valid integer"),
        ({"MENNY_ADMIN_TOKEN": "short"}, "MENNY_ADMIN_TOKEN: a token has 16 characters or more"),
        ({"MENNY_ALLOWED_HOSTS": "no host!"}, "MENNY_ALLOWED_HOSTS: 'no host!' is not a host"),
        ({"MENNY_CORS_ORIGINS": "example.org"}, "MENNY_CORS_ORIGINS: 'example.org' is not an"),
    ],
)
def test_a_variable_that_makes_no_sense_is_named_without_its_secret(
    variables: dict[str, str], message: str
) -> None:
    done = menny("serve", **variables)
    assert done.status == 2
    assert message in done.stderr
    assert "short" not in done.stderr


def test_settings_are_parsed_once_into_their_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MENNY_ALLOWED_HOSTS", "menny.example.org, *.example.net,")
    monkeypatch.setenv("MENNY_CORS_ORIGINS", "https://example.org")
    settings = Settings()
    assert settings.allowed_hosts == ("menny.example.org", "*.example.net")
    assert settings.cors_origins == ("https://example.org",)
    assert Settings(allowed_hosts=("a.example",)).allowed_hosts == ("a.example",)


def test_help_lists_the_values_of_the_settings_that_are_a_choice() -> None:
    words = " ".join(menny("serve", "--help").stdout.split())
    for name in ("device", "log_level", "log_format"):
        values = ", ".join(get_args(Settings.model_fields[name].annotation))
        assert f"MENNY_{name.upper()} ({values})" in words
