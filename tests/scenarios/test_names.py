"""Names as programs in containers find them, also while the supervisor is away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.machine import ROOT, Pystack, Stack, eventually
from tests.scenarios.talk import kill_hard, supervisor_pid

pytestmark = pytest.mark.kernel

STACK = """
x-service: &service
  image: rootfs:{rootfs}
  stop_signal: SIGKILL
services:
  web:
    <<: *service
    command: [sleep, "98711"]
    hostname: front
    domainname: example.test
    networks: [default, back]
  db:
    <<: *service
    command: [sleep, "98712"]
    networks: {{back: {{aliases: [store]}}}}
  more:
    <<: *service
    command: [sleep, "98713"]
    scale: 5
networks:
  back:
"""


@pytest.fixture
def stack(pystack: Pystack, busybox_rootfs: Path) -> Stack:
    return pystack.stack(STACK.format(rootfs=busybox_rootfs))


def namespace_of(stack: Stack, *command: str) -> int:
    """The network namespace of the container that runs `command`; the caller closes it."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cmdline").read_bytes() == b"\0".join(part.encode() for part in command) + b"\0":
                return os.open(entry / "ns/net", os.O_RDONLY)
        except OSError:
            continue
    raise AssertionError(f"nobody runs {command}")


def server_of(stack: Stack, service: str) -> str:
    text = stack.must("exec", "-T", service, "cat", "/etc/resolv.conf").stdout
    return text.split("nameserver ")[1].split()[0]


@contextmanager
def client(fd: int, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-m", "tests.fuzz.names", arguments[0], str(fd), *arguments[1:]]
    with subprocess.Popen(argv, cwd=ROOT, pass_fds=[fd], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def another_supervisor(stack: Stack, than: int) -> bool:
    try:
        return supervisor_pid(stack) != than
    except AssertionError:
        return False


def found(stack: Stack, asking: str, name: str) -> str:
    """The address that `asking` finds for `name`; "" for none."""
    lines = stack.run("exec", "-T", asking, "ping", "-c", "1", "-W", "1", name).stdout.splitlines()
    return lines[0].split("(")[1].split(")")[0] if lines else ""


def test_a_container_is_found_by_each_of_its_names_on_its_networks(stack: Stack) -> None:
    stack.must("up", "-d")
    web = stack.must("exec", "-T", "web", "hostname", "-i").stdout.split()[0]
    for name in ("web", "front", "front.example.test", "web.default", f"{stack.name}-web-1", f"web.{stack.name}_default"):
        assert found(stack, "more", name) == web, name
    assert found(stack, "web", "store.back") == found(stack, "web", "db") != ""
    for name in ("store", "db", "db.back", "web.back", "front.elsewhere"):
        assert found(stack, "more", name) == "", name
    gateway = stack.must("exec", "-T", "more", "ip", "route", "show", "default").stdout.split()[2]
    assert found(stack, "more", "host.docker.internal") == gateway != server_of(stack, "more")


@pytest.mark.parametrize("loopback", [False, True], ids=["the network's", "127.0.0.11"])
def test_names_are_answered_rightly_while_the_supervisor_is_killed_again_and_again(stack: Stack, loopback: bool) -> None:
    stack.must("up", "-d")
    server, fd = "127.0.0.11" if loopback else server_of(stack, "web"), namespace_of(stack, "sleep", "98711")
    try:
        with client(fd, "--ask", server, "4", "5") as asking:
            for _ in range(3):
                pid = supervisor_pid(stack)
                kill_hard(pid)
                eventually(partial(another_supervisor, stack, pid))
            assert asking.stdout is not None
            said = json.loads(asking.stdout.read())
            assert asking.wait() == 0
    finally:
        os.close(fd)
    print(said)
    assert said["lost"] == 0
    # A resolver asks again after five seconds; musl's after two and a half.
    assert said["most_ms"] < 2500


@pytest.mark.parametrize("loopback", [False, True], ids=["the network's", "127.0.0.11"])
def test_whatever_a_container_sends_the_supervisor_lives_and_others_are_answered(stack: Stack, loopback: bool) -> None:
    stack.must("up", "-d")
    server, pid = "127.0.0.11" if loopback else server_of(stack, "more"), supervisor_pid(stack)
    address = stack.must("exec", "-T", "--index", "1", "more", "hostname", "-i").stdout.split()[0]
    bad, good = namespace_of(stack, "sleep", "98713"), namespace_of(stack, "sleep", "98711")
    try:
        attack, ask = client(bad, "--attack", address, server, "5", "3"), client(good, "--ask", server, "5", "1")
        with attack as attacking, ask as asking:
            assert asking.stdout is not None
            assert attacking.stdout is not None
            said = json.loads(asking.stdout.read())
            assert int(attacking.stdout.read()) > 1000
    finally:
        os.close(bad)
        os.close(good)
    print(said)
    assert supervisor_pid(stack) == pid
    assert said["lost"] == 0
    assert said["p50_ms"] < 5
