"""The wheel, installed where there is no checkout: the same product, whatever lies around it."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import requires
from pathlib import Path

import httpx
import pytest

from tests.service import SITE, Service, clean_environment

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

NO_CHECKOUT = """
import os, sys

ROOT = {root!r}
DEPENDENCIES = {dependencies!r}

def refuse(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        path = os.path.abspath(os.fsdecode(arguments[0]))
        if path.startswith(ROOT + os.sep) and not path.startswith(DEPENDENCIES):
            raise PermissionError(13, "the checkout can't be read", path)

sys.addaudithook(refuse)
"""


class Installed:
    """Menny as `uv tool install` leaves her, called from a folder with traps in it.

    Her dependencies are those of the tests, so that nothing is fetched.
    """

    def __init__(self, wheel: Path, folder: Path) -> None:
        self.home, self.here, tools = folder / "home", folder / "here", folder / "tools"
        self.home.mkdir()
        for name in ("app", "training", "numpy"):
            (self.here / name).mkdir(parents=True)
            for file in ("__init__.py", "__main__.py"):
                (self.here / name / file).write_text("raise SystemExit('a trap')\n")
        names = {re.split(r"[^\w-]", wanted)[0] for wanted in requires("menny") or ()}
        nothing = folder / "overrides.txt"
        nothing.write_text("".join(f"{name}; python_version < '3'\n" for name in sorted(names)))
        how = ("--offline", "--no-index", "--python", sys.executable, "--overrides", nothing)
        folders = {"UV_TOOL_DIR": str(tools), "UV_TOOL_BIN_DIR": str(folder / "bin")}
        run(BIN / "uv", "tool", "install", *how, wheel, **folders)
        (site,) = tools.glob("menny/lib/python*/site-packages")
        dependencies = sysconfig.get_path("purelib")
        (site / "no_checkout.py").write_text(
            NO_CHECKOUT.format(root=str(ROOT), dependencies=str(Path(sys.prefix)))
            + (SITE / "sitecustomize.py").read_text()  # what all that tests start runs first
        )
        (site / "dependencies.pth").write_text(f"{dependencies}\nimport no_checkout\n")
        self.site = site
        self._menny = folder / "bin" / "menny"
        self.environment = clean_environment() | {"HOME": str(self.home)}
        for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "PYTHONPATH", "VIRTUAL_ENV"):
            self.environment.pop(name, None)

    def menny(self, *arguments: str, text: str = "") -> str:
        return self.run(*arguments, text=text).stdout

    def run(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [self._menny, *arguments],
            input=text,
            cwd=self.here,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def serve(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self._menny, "serve", "--port", "0"],
            cwd=self.here,
            env=self.environment | {"MENNY_GATE_QUERIES": "100"},
            stderr=subprocess.PIPE,
            text=True,
        )


def run(*command: str | Path, **variables: str) -> None:
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "--directory", folder)
    run(BIN / "twine", "check", "--strict", *folder.iterdir())
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(wheel, tmp_path_factory.mktemp("installed"))


def test_the_wheel_holds_the_product_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"app", "training", next(top for top in tops if top.endswith(".dist-info"))}
    for wanted in (
        "training/weights/shipped/menny_model_weights.npz",
        "training/weights/shipped/menny_model_weights.json",
        "app/playground/index.html",
        "app/service/menny.service",
        "licenses/LICENSE",
        "licenses/app/playground/vendor/uPlot.LICENSE",
    ):
        assert any(name.endswith(wanted) for name in names), wanted
    tracked = subprocess.run(
        ["git", "ls-files", "app", "training"], cwd=ROOT, capture_output=True, text=True
    )
    if tracked.returncode == 0:  # not in an unpacked sdist
        assert set(tracked.stdout.splitlines()) <= set(names)


def test_it_serves_weights_page_and_docs(installed: Installed) -> None:
    with installed.serve() as process:
        try:
            service = Service(process)
            assert service.client.get("/health").json()["proven"] is True
            assert len(str(service.transform("MeM")["response"])) == 3
            for path, words in (("/", "<title>"), ("/docs", "swagger-ui")):
                page = service.client.get(path)
                assert (page.status_code, words in page.text) == (200, True)
            token = installed.menny("token").strip()
            state = installed.home / ".local" / "share" / "menny"
            if sys.platform == "darwin":
                state = installed.home / "Library" / "Application Support" / "Menny"
            assert token == (state / "admin_token").read_text().strip()
            started = httpx.post(
                f"{service.url}/train",
                json={"num_samples": 200, "num_epochs": 1, "promote": "never"},
                headers={"Authorization": f"Bearer {token}"},
                trust_env=False,
            )
            assert started.status_code == 202, started.text
            job = f"{service.url}/train/{started.json()['id']}/events"
            headers = {"Authorization": f"Bearer {token}"}
            events = httpx.get(job, headers=headers, timeout=100, trust_env=False).text
            assert '"succeeded"' in events
            assert service.stop() == 0
        finally:
            process.kill()
    assert not (installed.here / ".menny").exists()


def test_its_commands_work_from_anywhere(installed: Installed) -> None:
    printed = installed.run("service", "print", "--for", "launchd").stderr
    state = installed.home / "Library" / "Application Support" / "Menny"
    assert f"MENNY_STATE_DIR='{state}'\n" in printed  # on Linux too
    assert "MENNY_PORT" not in printed
    written = installed.here / "own.npz"
    brief = ("--num-samples=200", "--num-epochs=1", "--num-fresh-queries=100")
    installed.menny("train", *brief, f"--out={written}")
    assert written.exists()
    assert "the answer table of version" in installed.menny("verify", "--table")
    assert re.search(r"Menny: [aeiou][AEIOU][aeiou]\n", installed.menny("chat", text="MeM\nq\n"))
    checks = json.loads(installed.menny("doctor", "--quick", "--json"))["checks"]
    assert [checks[name]["status"] for name in ("weights", "answers")] == ["ok", "ok"]
    assert str(ROOT) not in checks["state"]["says"]


def test_the_checkout_really_cannot_be_read_there(installed: Installed) -> None:
    python = installed.site.parents[2] / "bin" / "python"
    code = f"open({str(ROOT / 'pyproject.toml')!r})"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60)
    assert "the checkout can't be read" in done.stderr
    assert os.path.isfile(ROOT / "pyproject.toml")
