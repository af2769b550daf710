"""`up` in the foreground of a real terminal, and its keys."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.machine import Pystack, Stack, eventually
from tests.scenarios.test_terminal import CTRL_C, terminal

pytestmark = pytest.mark.kernel
SUSPEND = b"\x1a"
QUIT = b"\x1c"
STACK = """
services:
  web:
    image: rootfs:{rootfs}
    command: [sh, -c, "while :; do echo from-web; sleep 0.2; done"]
    stop_grace_period: 4s
  db:
    image: rootfs:{rootfs}
    command: [sh, -c, "trap exit TERM; while :; do echo from-db; sleep 0.2; done"]
"""


@pytest.fixture
def stack(pystack: Pystack, busybox_rootfs: Path) -> Stack:
    return pystack.stack(STACK.format(rootfs=busybox_rootfs))


def test_keys_choose_logs_restart_a_service_and_detach(stack: Stack) -> None:
    with terminal(stack, "up") as screen:
        screen.until(b"keys: d detaches")
        assert not screen.is_canonical()
        before = {name: row["Pid"] for name, row in stack.ps().items()}
        screen.type(b"l")
        screen.until(b"0 all, 1 web, 2 db")
        screen.type(b"1")
        screen.until(b"only the logs of web are shown")
        screen.until(b"from-web")
        screen.until(b"from-web")
        screen.type(b"r")
        screen.until(b"restart: 1 web, 2 db")
        assert b"from-db" not in screen.seen
        screen.type(b"2")
        screen.until(b"db-1 started")
        screen.type(b"d")
        screen.until(b"detached")
        assert screen.end() == 0
        assert screen.is_canonical()
    after = {name: row["Pid"] for name, row in stack.ps().items()}
    assert after["web"] == before["web"]
    assert after["db"] not in (None, before["db"])


def test_ctrl_backslash_gives_the_terminal_back_and_leaves_what_runs(stack: Stack) -> None:
    with terminal(stack, "up") as screen:
        screen.until(b"keys: d detaches")
        screen.type(QUIT)
        assert screen.end() == -signal.SIGQUIT
        assert screen.is_canonical()
    assert {row["State"] for row in stack.ps().values()} == {"running"}


def test_who_ignores_the_stop_signal_is_named_while_ctrl_c_waits(stack: Stack) -> None:
    with terminal(stack, "up") as screen:
        screen.until(b"keys: d detaches")
        screen.type(CTRL_C)
        screen.until(b"web-1 ignores SIGTERM; killed in 3s; its PID 1 is sh")
        assert screen.end() == 130
        assert screen.is_canonical()


def test_a_shell_gets_its_terminal_back_while_it_is_suspended(stack: Stack) -> None:
    up = " ".join(stack.pystack.command("-p", stack.name, "up"))
    with terminal(stack, command=("bash", "--norc", "--noprofile", "-i")) as screen:
        screen.type(f"{up}\n".encode())
        screen.until(b"keys: d detaches")
        screen.type(SUSPEND)
        screen.until(b"Stopped")
        screen.type(b"stty -a | grep -o -- '[-]*icanon' | tr a-z A-Z\n")
        screen.until(b"\rICANON\r")
        screen.type(b"fg\n")
        screen.until(b"from-web")
        eventually(lambda: not screen.is_canonical())
        screen.type(b"d")
        screen.until(b"detached")
        screen.type(b"exit 5\n")
        assert screen.end() == 5


def test_without_the_menu_the_terminal_is_left_as_it_is(stack: Stack) -> None:
    with terminal(stack, "up", "--menu=false") as screen:
        screen.until(b"2 services up")
        screen.until(b"from-web")
        assert screen.is_canonical()
        screen.process.send_signal(signal.SIGINT)
        assert screen.end() == 130


def test_w_watches_files_and_ends_that(pystack: Pystack, busybox_rootfs: Path) -> None:
    text = f"""
services:
  web:
    image: rootfs:{busybox_rootfs}
    command: [sh, -c, "while :; do cat /srv/new; sleep 0.1; done"]
    stop_grace_period: 0s
    develop: {{watch: [{{path: ./src, action: sync, target: /srv}}]}}
"""
    stack = pystack.stack(text, files={"src/there": ""})
    with terminal(stack, "up") as screen:
        screen.until(b"w watches")
        screen.type(b"w")
        screen.until(b"watch: enabled")
        (stack.directory / "src/new").write_text("came in\n")
        screen.until(b"came in")
        screen.type(b"w")
        screen.until(b"watch: disabled")
        screen.type(b"d")
        screen.until(b"detached")
        assert screen.end() == 0


def test_w_says_when_there_is_nothing_to_watch(stack: Stack) -> None:
    with terminal(stack, "up") as screen:
        screen.until(b"w watches")
        screen.type(b"w")
        screen.until(b"error: none of the selected services has anything to watch")
        screen.type(b"d")
        assert screen.end() == 0
