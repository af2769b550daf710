"""`exec`, `run` and `attach` from a real command line: what is the caller's stays the caller's; who leaves ends nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from select import select

import pytest

from tests.machine import Pystack, Stack, eventually
from tests.scenarios.talk import kill_hard, running, supervisor_pid
from tests.scenarios.test_terminal import CTRL_C, terminal

pytestmark = pytest.mark.kernel
LEAVE = b"\x10\x11"
MEGABYTES = 200
STACK = """
services:
  web:
    image: rootfs:{rootfs}
    command: [sleep, "3600"]
    init: true
    stop_grace_period: 1s
  shell:
    image: rootfs:{rootfs}
    command: [sh]
    tty: true
    stdin_open: true
    stop_grace_period: 1s
  reader:
    image: rootfs:{rootfs}
    command: [sh, -c, "trap 'echo int' INT; echo ready; while :; do read line && echo got $$line; done"]
    stdin_open: true
    attach: false
    stop_grace_period: 1s
"""


@pytest.fixture
def stack(pystack: Pystack, busybox_rootfs: Path) -> Stack:
    made = pystack.stack(STACK.format(rootfs=busybox_rootfs))
    made.must("up", "-d")
    return made


def shell(stack: Stack, script: str) -> subprocess.CompletedProcess[str]:
    """`script` with ``$P`` for pystack."""
    command = " ".join(stack.pystack.command("-p", stack.name))
    return subprocess.run(
        ["bash", "-c", script],
        cwd=stack.directory,
        env={**stack.pystack.child_environment(), "P": command},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


def test_nothing_of_the_caller_s_enters_a_container(stack: Stack) -> None:
    cut = "': > /dev/stdout; readlink /proc/self/fd/1'"
    said = shell(stack, f"echo before > f; $P exec -T web sh -c {cut} >> f; cat f").stdout
    assert said.startswith("before\npipe:[")
    by_name = "for f in /dev/stdout /dev/stderr /proc/self/fd/1; do echo $0 > $f; done; exec 5</dev/stdin; cat <&5"
    for user in ("root", "nobody"):
        done = shell(stack, f"echo in | $P exec -T -u {user} web sh -c '{by_name}' x 2>&1")
        assert sorted(done.stdout.split()) == ["in", "x", "x", "x"], user
    assert shell(stack, "$P exec -T web cat < compose.yaml | head -2 | tail -1").stdout == "services:\n"
    behind = "'(read a; echo $a > /seen) < /dev/stdin & echo left'"
    left = shell(stack, f"(sleep 0.5; echo typed later) | ($P exec -T web sh -c {behind}; cat)")
    assert left.stdout == "left\ntyped later\n"
    eventually(lambda: stack.run("exec", "-T", "web", "cat", "/seen").stdout == "\n")
    assert shell(stack, "mkfifo never; exec 9<>never; $P exec -T web true <&9; echo $?").stdout == "0\n"
    assert shell(stack, "$P exec -T web sh -c 'sleep 100 & echo out'; echo $?").stdout == "out\n0\n"
    assert shell(stack, "$P exec -T web yes | head -1; echo ${PIPESTATUS[0]}").stdout == "line\n141\n".replace("line", "y")


def test_much_goes_through_an_exec_both_ways(stack: Stack) -> None:
    began = time.monotonic()
    script = f"head -c {MEGABYTES << 20} /dev/zero | $P exec -T web cat | tee >(wc -c >&2) | md5sum"
    done = shell(stack, f"{script}; head -c {MEGABYTES << 20} /dev/zero | md5sum")
    first, second = done.stdout.splitlines()
    assert first == second, done.stderr
    print(f"{MEGABYTES / (time.monotonic() - began):.0f} MB/s")


def test_exit_codes_are_those_of_a_shell(stack: Stack) -> None:
    for script, code in (("exit 3", 3), ("kill -TERM $$", 143), ("kill -INT $$", 130)):
        assert stack.run("exec", "-T", "web", "sh", "-c", script).code == code
    assert stack.run("exec", "-T", "web", "nope").code == 127
    assert stack.run("exec", "-T", "web", "/etc/passwd").code == 126
    missing = stack.run("exec", "-T", "-w", "/none", "web", "true")
    assert (missing.code, "/none" in missing.stderr) == (127, True)
    assert stack.run("exec", "-T", "web", "ls", "-d", "/none").code == 1
    for verb in ("exec", "run", "attach"):
        unknown = stack.run(verb, "--bogus", "web", "true")
        assert (unknown.code, "no such option" in unknown.stderr) == (2, True)
    absent = stack.run("exec", "-T", "--index", "9", "web", "true")
    assert (absent.code, absent.stderr.splitlines()[0]) == (1, 'error: service "web" is not running container #9')
    assert "error: --user ghost: " in stack.run("run", "--rm", "-u", "ghost", "web", "true").stderr
    for words, place in ((("web", "nope"), "the command line"), (("--entrypoint", "nope", "web"), "--entrypoint nope")):
        unknown = stack.run("run", "--rm", *words)
        assert (unknown.code, f"error: {place}: " in unknown.stderr) == (127, True)
    stack.must("exec", "-d", "web", "sh", "-c", "echo $$ > /detached; exec sleep 3000")
    eventually(lambda: stack.run("exec", "-T", "web", "sh", "-c", "kill $(cat /detached)").code == 0)


def test_signals_reach_the_command_and_its_container_s_end_is_told(stack: Stack) -> None:
    trapping = "trap 'exit 7' INT; echo up; while :; do sleep 0.1; done"
    with running(stack, "exec", "-T", "web", "sh", "-c", trapping) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 7
    with running(stack, "exec", "-T", "web", "sh", "-c", "echo up; exec sleep 3000") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        stack.must("kill", "web")
        assert process.wait(20) == 137
        assert process.stderr is not None
        assert "ended while the command ran in it" in process.stderr.read()
    stack.must("start", "web")
    with running(stack, "exec", "-T", "web", "sh", "-c", "echo up; exec sleep 3000") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        kill_hard(supervisor_pid(stack))
        assert process.wait(20) == 125
        assert process.stderr is not None
        assert "has ended while the command ran" in process.stderr.read()


def test_an_exec_has_the_terminal_s_size_at_once_and_job_control(stack: Stack) -> None:
    with terminal(stack, "exec", "-it", "web", "sh", "-c", "stty size; tty") as screen:
        screen.until(b"33 101\r\n/dev/pts/")
        assert screen.end() == 0
    with terminal(stack, "exec", "web", "sh") as screen:
        screen.type(b"echo at''once; sleep 3000\n")  # Before the terminal is raw: nothing typed is lost.
        screen.until(b"atonce")
        eventually(lambda: state_of_sleep(stack) == "S")  # It is in the foreground by then.
        screen.type(b"\x1a")  # Ctrl-Z is the container's.
        screen.until(b"Stopped")
        screen.type(b"fg\n")
        eventually(lambda: state_of_sleep(stack) == "S")
        screen.type(CTRL_C)
        screen.type(b"echo code=$?'!'\n")
        screen.until(b"code=130!")
        screen.type(b"sleep 2000 &\n")
        screen.type(LEAVE)
        screen.until(b"detached")
        assert screen.end() == 0
        assert screen.is_canonical()
    # The shell's child is there at once, and called so when it has got to its execve.
    eventually(lambda: "sleep 2000" in stack.must("exec", "-T", "web", "ps", "-o", "args").stdout)


def state_of_sleep(stack: Stack) -> str:
    """Of the ``sleep`` with a terminal: S, T, or "" when there is none."""
    fields = "for f in /proc/[0-9]*/stat; do read a < $f && echo $a; done"
    rows = [row.split() for row in stack.must("exec", "-T", "web", "sh", "-c", fields).stdout.splitlines()]
    return "".join(row[2] for row in rows if row[1] == "(sleep)" and row[6] != "0")


def test_the_shell_has_its_terminal_while_the_client_is_stopped(stack: Stack) -> None:
    client = " ".join(stack.pystack.command("-p", stack.name, "exec", "web", "sh"))
    script = f"{client}; echo st''opped; read line; echo $line; fg; echo ended $?"
    with terminal(stack, command=["bash", "-mc", script]) as screen:
        screen.type(b"echo at''once\n")
        screen.until(b"atonce")
        (pid,) = map(int, Path(f"/proc/{screen.process.pid}/task/{screen.process.pid}/children").read_text().split())
        os.kill(pid, signal.SIGTSTP)
        screen.until(b"stopped")
        assert screen.is_canonical()
        screen.type(b"for the shell\n")
        screen.until(b"for the shell\r\nfor the shell")
        eventually(lambda: not screen.is_canonical())
        screen.type(b"exit 5\n")
        screen.until(b"ended 5")
        assert screen.end() == 0


def test_a_service_with_a_terminal_is_attached_to_left_and_attached_to_again(stack: Stack) -> None:
    with terminal(stack, "attach", "shell") as screen, terminal(stack, "attach", "shell") as other:
        other.type(b"echo second''there\n")  # Who comes later has not seen what was written before.
        other.until(b"secondthere")
        screen.type(b"stty size; echo typed''here\n")
        screen.until(b"33 101\r\ntypedhere")
        other.until(b"typedhere")
        screen.type(LEAVE)
        screen.until(b"detached")
        assert screen.end() == 0
        assert screen.is_canonical()
        other.resize(50, 120)
        other.process.send_signal(signal.SIGWINCH)
        other.type(b"until [ \"$(stty size)\" = '50 120' ]; do :; done; echo resized'!'; exit 9\n")
        other.until(b"resized!")
        assert other.end() == 9
    assert "typedhere" in stack.must("logs", "shell").stdout


def test_tty_false_is_no_terminal(stack: Stack) -> None:
    for verb in (("exec", "--tty=false"), ("run", "--rm", "-q", "--tty=false")):
        with terminal(stack, *verb, "web", "tty") as screen:
            screen.until(b"not a tty")
            assert screen.end() == 1


def test_who_only_looks_at_a_terminal_leaves_with_ctrl_c(stack: Stack) -> None:
    with terminal(stack, "attach", "shell") as screen, terminal(stack, "attach", "--no-stdin", "shell") as other:

        def shown() -> bool:
            screen.type(b"echo seen''there\n")  # Again and again: who comes later does not see what was written before.
            return b"seenthere" in other.seen

        eventually(shown)
        other.type(CTRL_C)
        assert other.end() == 130
    assert stack.ps()["shell"]["State"] == "running"


@contextlib.contextmanager
def fed(stack: Stack, line: bytes) -> Iterator[subprocess.Popen[bytes]]:
    """`attach reader`, which has passed on `line` and shown the answer."""
    words = stack.pystack.command("-p", stack.name, "attach", "reader")
    environment = stack.pystack.child_environment()
    with subprocess.Popen(
        words, env=environment, cwd=stack.directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line + b"\n")
        process.stdin.close()
        assert process.stdout.readline() == b"got " + line + b"\n"
        yield process
        process.kill()


def test_attach_without_a_terminal_passes_lines_and_signals(stack: Stack) -> None:
    with fed(stack, b"one") as process:  # Its stdin is at its end: the container's stays open.
        assert process.stdout is not None
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == b"int\n"
    with running(stack, "attach", "--sig-proxy=false", "--no-stdin", "reader") as left:

        def shows() -> bool:
            with fed(stack, b"again"):
                assert left.stdout is not None
                return bool(select([left.stdout], [], [], 0)[0])

        eventually(shows)
        left.send_signal(signal.SIGINT)
        assert left.wait(20) == 130
    assert stack.ps()["reader"]["State"] == "running"
    with running(stack, "up") as foreground:
        eventually(lambda: stack.ps()["web"]["State"] == "running")
        with fed(stack, b"shown"):
            pass
        foreground.send_signal(signal.SIGINT)
        told = foreground.communicate(timeout=30)[0]
    assert "got shown" not in told
    assert "got shown" in stack.must("logs", "reader").stdout


def test_a_run_is_left_and_goes_on(stack: Stack) -> None:
    with terminal(stack, "run", "--rm", "--name", "one-off", "web", "sh") as screen:
        screen.type(b"stty size; exec sleep 3000\n")
        screen.until(b"33 101")
        screen.type(LEAVE)
        screen.until(b"detached: one-off goes on")
        assert screen.end() == 0
        assert screen.is_canonical()
    assert "one-off" in stack.must("ps").stdout
