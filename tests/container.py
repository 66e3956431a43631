"""Carries out a Dockerfile where there is no Docker, with what the kernel gives to root.

Each stage is a directory that becomes the root of its own mount namespace, so that the steps run
as they are written. In place of the base image it has this machine's /usr and Python, read-only,
and a copy of /etc; its compilers are hidden, for slim images have none. That shows that the steps
work and that their result serves; it does not show that the base image has all that they need.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from dockerfile_parse import DockerfileParser

_FROM_THE_MACHINE = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/opt", "/dev", "/sys"]
_INTERPRETER = "/base-image/bin"


@dataclass
class Stage:
    """A stage that has been carried out, and what it says about running it."""

    root: Path
    user: str = "0:0"
    folder: str = "/"
    environment: dict[str, str] = field(default_factory=dict)
    volumes: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)


def reason_not_to() -> str | None:
    """Why no stage can be carried out here, if so."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs Linux and root, to make a root directory of its own"
    for tool in ("unshare", "nsenter", "setpriv", "ip"):
        if shutil.which(tool) is None:
            return f"needs {tool} (util-linux, iproute2)"
    trial = ["unshare", "--mount", "--pid", "--net", "--fork", "mount", "-t", "tmpfs", "x", "/mnt"]
    if subprocess.run(trial, capture_output=True, timeout=30).returncode != 0:
        return "this machine gives no namespaces"
    return None


def build(dockerfile: Path, context: Path, folder: Path) -> Stage:
    """Carry out every step; the last stage."""
    stages: dict[str, Stage] = {}
    stage = Stage(folder)
    for step in DockerfileParser(fileobj=BytesIO(dockerfile.read_bytes())).structure:
        value = step["value"]
        match step["instruction"]:
            case "COMMENT":
                pass
            case "FROM":
                stage = Stage(folder / str(len(stages)))
                stages[value.split(" AS ")[1] if " AS " in value else "last"] = stage
                _make_base(stage)
            case "WORKDIR":
                stage.folder = value
                (stage.root / value.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "RUN":
                with running(stage, ["/bin/sh", "-c", value], network=True) as process:
                    output, _ = process.communicate(timeout=600)
                assert process.returncode == 0, f"RUN {value}:\n{output}"
            case "COPY":
                _copy(value, context, stage, stages)
            case "ENV":
                stage.environment |= dict(pair.split("=", 1) for pair in shlex.split(value))
            case "USER":
                stage.user = value
            case "VOLUME":
                stage.volumes += value.split()
            case "HEALTHCHECK":
                stage.healthcheck = json.loads(value[value.index("CMD") + 3 :])
            case "ENTRYPOINT":
                stage.entrypoint = json.loads(value)
            case "CMD":
                stage.command = json.loads(value)
            case "EXPOSE":
                assert value.isdecimal()
            case other:
                raise AssertionError(f"{other} is not known here")
    return stage


def _make_base(stage: Stage) -> None:
    stage.root.mkdir(parents=True)
    for name in (*_FROM_THE_MACHINE, sys.base_prefix):
        if Path(name).is_symlink():
            (stage.root / name.lstrip("/")).symlink_to(os.readlink(name))
        elif Path(name).is_dir():
            (stage.root / name.lstrip("/")).mkdir(parents=True, exist_ok=True)
    for name in ("proc", "tmp", "root"):
        (stage.root / name).mkdir(exist_ok=True)
    # ... with this machine's way to its package registry.
    subprocess.run(["cp", "-a", "/etc", str(stage.root / "etc")], check=True, timeout=60)
    if Path("/root/.config/pip").is_dir():
        shutil.copytree("/root/.config/pip", stage.root / "root/.config/pip")
    interpreters = stage.root / _INTERPRETER.lstrip("/")
    interpreters.mkdir(parents=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (interpreters / "python").symlink_to(Path(sys.base_prefix, "bin", version))


def _copy(value: str, context: Path, stage: Stage, stages: dict[str, Stage]) -> None:
    *sources, target = value.split()
    if sources[0].startswith("--from="):
        context = stages[sources.pop(0).removeprefix("--from=")].root
    to = stage.root / os.path.join(stage.folder, target).lstrip("/")
    for source in sources:
        path = context / source.lstrip("/")
        if path.is_dir():
            ignored = shutil.ignore_patterns("__pycache__") if context.name != "0" else None
            shutil.copytree(path, to, symlinks=True, dirs_exist_ok=True, ignore=ignored)
        else:
            shutil.copy2(path, to)


@contextmanager
def running(
    stage: Stage, command: list[str], network: bool = False, read_only: bool = False
) -> Iterator[subprocess.Popen[str]]:
    """Run a command as process 1 of the stage; without `network` it has a loopback of its own.

    With `read_only`, nothing but the volumes can be written. Killed at the end.
    """
    root = shlex.quote(str(stage.root))
    script = ["set -e", "mount --make-rprivate /", f"mount --bind {root} {root}"]
    for name in (*_FROM_THE_MACHINE, sys.base_prefix):
        if Path(name).is_dir() and not Path(name).is_symlink():
            script.append(f"mount --rbind {shlex.quote(name)} {root}{shlex.quote(name)}")
            if name != "/dev":
                script.append(f"mount -o remount,bind,ro {root}{shlex.quote(name)}")
    script += [f"mount --bind /dev/null {root}{compiler}" for compiler in _compilers()]
    script.append(f"mount -t proc proc {root}/proc")
    if read_only:
        script += [f"mount --bind {root}{volume} {root}{volume}" for volume in stage.volumes]
        script.append(f"mount -o remount,bind,ro {root}")
    environment = _environment(stage, network)
    pairs = " ".join(shlex.quote(f"{name}={value}") for name, value in environment.items())
    if not network:
        script.append("ip link set lo up")
    user, group = stage.user.split(":")
    privileges = "--no-new-privs --bounding-set=-all --inh-caps=-all" if read_only else ""
    inside = f"cd {shlex.quote(stage.folder)} && exec {shlex.join(command)}"
    script.append(
        f"exec env -i {pairs} chroot {root} setpriv --reuid={user} --regid={group} --clear-groups "
        f"{privileges} sh -c {shlex.quote(inside)}"
    )
    namespaces = ["--mount", "--pid", "--fork", "--kill-child", *([] if network else ["--net"])]
    process = subprocess.Popen(
        ["unshare", *namespaces, "sh", "-c", "\n".join(script)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def _compilers() -> set[str]:
    found = [shutil.which(name) for name in ("cc", "c++", "gcc", "g++", "clang", "clang++")]
    return {os.path.realpath(path) for path in found if path is not None}


def first_process(process: subprocess.Popen[str]) -> int:
    """The process number, out here, of process 1 in there."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if children:
            return int(children[0])
    raise AssertionError(process.communicate()[0])


def enter(
    stage: Stage, process: subprocess.Popen[str], command: list[str]
) -> subprocess.CompletedProcess[str]:
    """Run another command in the running stage, as its user."""
    user, group = stage.user.split(":")
    pairs = [f"{name}={value}" for name, value in _environment(stage, False).items()]
    target = str(first_process(process))
    return subprocess.run(
        ["nsenter", "--target", target, "--mount", "--net", "--pid", "--root", "--wd", "env", "-i"]
        + [*pairs, "setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", *command],
        capture_output=True,
        text=True,
        timeout=60,
    )


def _environment(stage: Stage, network: bool) -> dict[str, str]:
    passed = ("PIP_", "SSL_CERT", "REQUESTS_CA") if network else ()
    ours = {name: value for name, value in os.environ.items() if name.startswith(passed or ("\0",))}
    path = f"{_INTERPRETER}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return ours | {"PATH": path, "HOME": "/root"} | stage.environment
