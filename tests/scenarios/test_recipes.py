"""The stacks of docs/recipes.md, as they stand there."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Callable

import pytest

from tests.machine import ROOT, Pystack
from tests.scenarios.talk import free_port, http

pytestmark = pytest.mark.kernel

PAGE = (ROOT / "docs" / "recipes.md").read_text()
RECIPES = dict(re.findall(r"## ([^\n]+)\n```yaml\n(.*?)```\n", PAGE, re.DOTALL))


def answers_ping(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(b"PING\r\n")
        return client.recv(100) == b"+PONG\r\n"


def adds_numbers(port: int) -> bool:
    ask = ["psql", "-h", "127.0.0.1", "-p", str(port), "-U", "app", "-d", "postgres", "-Atc", "select 40 + 2"]
    return subprocess.run(ask, capture_output=True, text=True, check=True).stdout == "42\n"


def works(port: int) -> bool:
    return http(f"http://127.0.0.1:{port}/") == (200, "<h1>It works</h1>")


def lists_files(port: int) -> bool:
    status, page = http(f"http://127.0.0.1:{port}/")
    return status == 200 and "compose.yaml" in page


USES: dict[str, Callable[[int], bool]] = {
    "Redis": answers_ping,
    "PostgreSQL": adds_numbers,
    "nginx": works,
    "Your own program": lists_files,
}


def test_every_recipe_is_tried() -> None:
    assert list(RECIPES) == list(USES)


@pytest.mark.parametrize("name", USES)
def test_a_recipe_comes_up_healthy_and_answers(pystack: Pystack, name: str) -> None:
    port = free_port()
    text, replaced = re.subn(r"127\.0\.0\.1:\d+:", f"127.0.0.1:{port}:", RECIPES[name])
    assert replaced == 1
    stack = pystack.stack(text)
    stack.must("up", "-d", "--wait", "--wait-timeout", "90")
    assert USES[name](port)
    stack.must("down", "-v", "-t", "5")
