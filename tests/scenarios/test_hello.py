"""stacks/hello, which is what ``make demo`` shows."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.machine import ROOT, Pystack, Stack, eventually
from tests.scenarios.talk import free_port, http

pytestmark = pytest.mark.kernel


def test_the_demo_shows_both_mishaps_healed_and_ends_well(pystack: Pystack) -> None:
    demo = ROOT / "stacks" / "hello" / "demo.py"
    environment = pystack.child_environment()
    done = subprocess.run([sys.executable, demo], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Hello, visitor 1!" in done.stdout
    assert "greeter crashed, and was restarted and healthy" in done.stdout
    assert "web became unhealthy, and was restarted and healthy" in done.stdout
    assert "nothing left behind" in done.stdout


@pytest.fixture
def hello(pystack: Pystack) -> Stack:
    pystack.environment["HELLO_PORT"] = str(free_port())
    stack = pystack.stack_in(ROOT / "stacks" / "hello", f"hello{free_port()}")
    stack.must("up", "-d", "--wait")
    return stack


def healed(stack: Stack) -> bool:
    rows = stack.ps()
    return all(rows[name]["Restarts"] == 1 and rows[name]["Health"] == "healthy" for name in ("greeter", "web"))


def test_a_crash_and_a_sickness_are_each_explained_by_why(hello: Stack) -> None:
    eventually(lambda: healed(hello))
    assert "exited with code 3" in hello.must("why", "greeter").stdout
    assert "unhealthy" in hello.must("why", "web").stdout


def test_services_keep_address_and_files_over_a_restart(hello: Stack) -> None:
    before = {name: row["Addresses"] for name, row in hello.ps().items()}
    eventually(lambda: healed(hello))
    assert {name: row["Addresses"] for name, row in hello.ps().items()} == before
    # The marker that the first run wrote is what keeps the second from failing again.
    assert hello.must("exec", "greeter", "ls", "/tmp").stdout == "crashed\n"


def test_the_published_port_answers_by_loopback_and_by_the_container_address(hello: Stack) -> None:
    address = next(iter(hello.ps()["web"]["Addresses"].values()))
    port = hello.pystack.environment["HELLO_PORT"]
    for url in (f"http://127.0.0.1:{port}/", f"http://{address}:8000/"):
        status, body = http(url)
        assert (status, body[:14]) == (200, "Hello, visitor"), url


def test_a_service_reaches_another_by_its_name(hello: Stack) -> None:
    program = "import socket; print(socket.gethostbyname('store'))"
    answer = hello.must("exec", "greeter", "/usr/bin/python3", "-c", program).stdout.strip()
    assert answer in hello.ps()["store"]["Addresses"].values()


def test_nothing_private_of_the_machine_is_visible(hello: Stack) -> None:
    program = "find /home /root /opt /srv /run /var/lib -mindepth 1; ls -d /etc/shadow /etc/ssh /etc/ssl/private || true"
    seen = hello.must("exec", "-u", "0", "web", "/bin/sh", "-c", program)
    assert seen.stdout == ""
    assert seen.stderr.count("No such file") == 3
