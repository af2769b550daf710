"""Small conversations that scenarios have with what they started."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.machine import Stack, eventually


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


def http(url: str, *, post: bool = False) -> tuple[int, str]:
    """Status and body; (0, reason) when nobody answers."""
    request = urllib.request.Request(url, data=b"" if post else None, method="POST" if post else "GET")
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read().decode()
    except OSError as exc:
        return 0, str(exc)


def supervisor_pid(stack: Stack) -> int:
    return _one(stack, "supervisor")


def monitor_pid(stack: Stack) -> int:
    return _one(stack, "monitor")


def _one(stack: Stack, program: str) -> int:
    found = [pid for pid, command in stack.pystack.processes().items() if f"orchestrator.{program}" in _dotted(command)]
    assert len(found) == 1, stack.pystack.processes()
    return found[0]


def _dotted(command: str) -> str:
    return command.replace("/", ".").replace("runtime.monitor", "monitor")


def kill_hard(pid: int) -> None:
    """SIGKILL, and wait until the process has gone."""
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{pid}").exists() or _is_zombie(pid))


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@contextlib.contextmanager
def running(stack: Stack, *args: str) -> Iterator[subprocess.Popen[str]]:
    """A `pystack` command that goes on; ended by force if it is still there."""
    process = subprocess.Popen(
        stack.pystack.command("-p", stack.name, *args),
        cwd=stack.directory,
        env=stack.pystack.child_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
