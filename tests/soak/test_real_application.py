"""An application that others wrote, with its own Dockerfile and compose files, on bases of Debian's packages: API, worker,
migration, PostgreSQL, Redis and RabbitMQ. It comes from PyPI (fastapi_template, MIT), and needs PyPI and Debian's archive
for its own RUNs; no registry of images is asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.machine import Pystack, Stack, eventually
from tests.world import outside

pytestmark = [pytest.mark.soak, pytest.mark.kernel]

GENERATOR = ("fastapi_template==5.1.4", "poetry==1.8.5")
FEATURES = (
    "--api-type rest --db postgresql --orm sqlalchemy --redis --taskiq --rabbit --migrations --dummy --routers --ci none"
)
BASES = ("python:3.11.4-slim-bullseye", "postgres:16.3-bullseye", "bitnami/redis:6.2.5", "rabbitmq:3.9.16-alpine")
SOURCE = '\n[[tool.poetry.source]]\nname = "index"\nurl = "https://pypi.org/simple/"\npriority = "primary"\n'
"""Poetry asks PyPI's own JSON interface otherwise, which mirrors do not have. The one thing that is changed."""


def make_application(directory: Path) -> Path:
    """Made by its generator, with a lock file."""

    def do(*command: str, at: Path = directory) -> None:
        argv = [*outside(), "env", f"TMPDIR={directory}", *command]
        done = subprocess.run(argv, cwd=at, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"

    do(sys.executable, "-m", "venv", "tools")
    programs = directory / "tools" / "bin"
    do(f"{programs}/pip", "install", "--quiet", *GENERATOR)
    do("env", f"PATH={programs}:/usr/bin:/bin", "fastapi_template", "--name", "myapp", "--quiet", *FEATURES.split())
    application = directory / "myapp"
    with (application / "pyproject.toml").open("a") as file:
        file.write(SOURCE)
    do(f"{programs}/poetry", "lock", at=application)
    return application


def answer(path: str) -> str:
    """What the API says, or ""; asked from outside of the tests' world, where it is published."""
    argv = [*outside(), "curl", "--silent", "--fail", "--max-time", "10", f"http://127.0.0.1:8000/api/{path}"]
    return subprocess.run(argv, capture_output=True, text=True).stdout


def test_an_application_that_others_wrote_is_built_and_serves(pystack: Pystack, tmp_path: Path) -> None:
    application = make_application(tmp_path)
    pystack.prefix = outside()  # where the network is
    made = pystack.run("image", "make", *BASES, timeout_s=600)
    assert made.code == 0, str(made)
    pystack.environment["COMPOSE_FILE"] = "docker-compose.yml:deploy/docker-compose.dev.yml"
    stack: Stack = pystack.stack_in(application, "myapp")
    stack.must("up", "-d", "--build", "--wait", timeout_s=600)
    assert stack.ps()["migrator"]["ExitCode"] == 0
    eventually(lambda: answer("health") == "null")
    assert answer("dummy/") == "[]"
    assert answer("redis/?key=a") == '{"key":"a","value":null}'
    eventually(lambda: "Listening started" in str(stack.must("logs", "taskiq-worker")))
