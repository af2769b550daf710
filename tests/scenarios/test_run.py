"""`pystack run`: what it is connected to, how it ends, and what is left."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.machine import Pystack, Stack, eventually
from tests.scenarios.talk import kill_hard, running, supervisor_pid
from tests.scenarios.test_terminal import CTRL_C, terminal

pytestmark = pytest.mark.kernel

STACK = """
services:
  web:
    image: rootfs:{rootfs}
    command: [sh, -c, "echo ready; exec sleep 3600"]
    stop_grace_period: 1s
    depends_on: {{db: {{condition: service_healthy}}}}
    environment: {{COLOUR: red, SHAPE: round}}
    ports: ["127.0.0.1::8000"]
    volumes: [data:/data]
    restart: always
    container_name: the-web
  db:
    image: rootfs:{rootfs}
    command: [sleep, "3600"]
    stop_grace_period: 1s
    healthcheck: {{test: [CMD, "true"], interval: 1s}}
  tool:
    image: rootfs:{rootfs}
    command: [echo, the tool]
    profiles: [tools]
  never:
    image: rootfs:{rootfs}
    command: [echo, never]
    depends_on: {{sick: {{condition: service_healthy}}}}
  sick:
    image: rootfs:{rootfs}
    command: [sh, -c, "echo I am sick; exec sleep 3600"]
    stop_grace_period: 1s
    healthcheck: {{test: [CMD, "false"], interval: 1s, retries: 1}}
  maimed:
    image: rootfs:{rootfs}
    depends_on: [headless]
  headless:
    image: rootfs:{rootfs}
    command: [no-such-command]
  long:
    image: rootfs:{rootfs}
    command: [echo, long]
    depends_on: {{slow: {{condition: service_completed_successfully}}}}
  slow:
    image: rootfs:{rootfs}
    command: [sleep, "3600"]
    stop_grace_period: 1s
volumes: {{data: }}
"""
RM = ("run", "--rm", "--no-deps")


@pytest.fixture
def stack(pystack: Pystack, busybox_rootfs: Path) -> Iterator[Stack]:
    made = pystack.stack(STACK.format(rootfs=busybox_rootfs))
    yield made
    made.must("down", "-v", "-t", "1")  # Also when nothing is left but a volume.


def piped(stack: Stack, words: Sequence[str], data: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        stack.pystack.command("-p", stack.name, *words),
        cwd=stack.directory,
        env=stack.pystack.child_environment(),
        input=data,
        capture_output=True,
        timeout=120,
    )


def containers(stack: Stack) -> list[str]:
    return stack.must("ps", "-a", "-q").stdout.split()


def test_output_and_exit_code_are_the_commands(stack: Stack) -> None:
    done = stack.run(*RM, "-q", "web", "sh", "-c", "echo out; echo err >&2; printf 'no newline'; exit 7")
    told = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]  # Of this machine's limits.
    assert (done.code, done.stdout, told) == (7, "out\nno newline", ["err"])
    assert containers(stack) == []
    assert stack.run(*RM, "web", "sh", "-c", "kill -KILL $$").code in (0, 137)
    assert stack.run(*RM, "web", "nope").code == 127
    assert stack.run(*RM, "web", "/etc/passwd").code == 126
    assert containers(stack) == []


def test_what_it_needs_is_started_and_stays(stack: Stack) -> None:
    done = stack.must("run", "--rm", "web", "sh", "-c", "echo $COLOUR $SHAPE; ls -d /data")
    assert done.stdout == "red round\n/data\n"
    assert {name: row["State"] for name, row in stack.ps().items()} == {"db": "running"}


def test_the_command_line_changes_what_it_is_made_from(stack: Stack) -> None:
    (stack.directory / "some.env").write_text("SIZE=big\nCOLOUR=green\nBOTH=$COLOUR-$SHAPE\n")
    options = ["-e", "COLOUR=blue", "-e", "FROM_HERE", "--env-from-file", "some.env", "-w", "/tmp", "-v", "./here:/there"]
    (stack.directory / "here").mkdir()
    (stack.directory / "here" / "file").write_text("mine\n")
    script = "echo $COLOUR $SHAPE $SIZE $BOTH $FROM_HERE; pwd; cat /there/file"
    done = stack.must(*RM, *options, "-T", "web", "sh", "-c", script, env={"FROM_HERE": "yes"})
    assert done.stdout == "blue round big blue- yes\n/tmp\nmine\n"
    assert stack.must(*RM, "-u", "nobody", "web", "id", "-un").stdout == "nobody\n"
    assert stack.must(*RM, "--entrypoint", "echo 'a b'", "web").stdout == "a b\n"
    assert stack.must(*RM, "--entrypoint", "echo", "web", "c").stdout == "c\n"
    assert stack.must("run", "--rm", "tool").stdout == "the tool\n"  # Of a profile that is not active.


def test_capabilities_are_added_and_dropped(stack: Stack) -> None:
    def held(*options: str) -> int:
        return int(stack.must(*RM, *options, "web", "grep", "CapBnd", "/proc/self/status").stdout.split()[1], 16)

    usual = held()
    assert held("--cap-add", "net_admin") == usual | 1 << 12
    assert held("--cap-drop", "CAP_CHOWN") == usual & ~1
    assert held("--cap-drop", "ALL", "--cap-add", "KILL") == 1 << 5
    refused = stack.run(*RM, "--cap-add", "FLY", "web", "true")
    assert refused.code == 2
    assert 'there is no capability "FLY"' in refused.stderr


def test_ports_are_published_when_they_are_asked_for(stack: Stack) -> None:
    for options, ports in (((), 0), (("-P",), 1), (("-p", "127.0.0.1::9000", "-p", "127.0.0.1::9001"), 2)):
        name = stack.must("run", "-d", "--no-deps", *options, "web", "sleep", "3600").stdout.strip()
        assert name.startswith(f"{stack.name}-web-run-")
        (row,) = [row for row in [stack.ps()["web"]] if row["Name"] == name]
        assert len(row["Publishers"]) == ports
        stack.must("down")


def test_ten_megabytes_go_through_it_and_come_back_to_the_byte(stack: Stack) -> None:
    data = os.urandom(10 << 20)
    done = piped(stack, [*RM, "-q", "-T", "web", "cat"], data)
    assert done.stdout == data
    assert done.returncode == 0


def test_output_that_is_read_slowly_is_complete_whatever_its_size(stack: Stack) -> None:
    lines = 600_000
    script = f"seq 1 {lines} | awk '{{print $1, \"{'x' * 100}\"}}'"
    words = stack.pystack.command("-p", stack.name, *RM, "-q", "web", "sh", "-c", script)
    process = subprocess.Popen(
        words, cwd=stack.directory, env=stack.pystack.child_environment(), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.read(1)  # It has begun; nobody reads until all of it is written.
        log = stack.pystack.data_dir / "projects" / stack.name / "logs"
        eventually(lambda: sum(path.stat().st_size for path in log.glob("*.log*")) >= 100 * lines, deadline_s=60)
        rest = process.stdout.read()
        assert process.wait() == 0
    assert rest.count(b"\n") == lines


def test_stdin_that_ends_or_is_not_read_hinders_nobody(stack: Stack) -> None:
    assert piped(stack, [*RM, "-q", "web", "true"], b"x" * (1 << 20)).returncode == 0
    assert piped(stack, [*RM, "-q", "web", "sh", "-c", "read a; echo $a; exec <&-; echo done"], b"one\ntwo\n").stdout == (
        b"one\ndone\n"
    )
    closed = ["sh", "-c", 'exec "$@" <&-', "sh", *stack.pystack.command("-p", stack.name, *RM, "-q", "web", "cat")]
    environment = stack.pystack.child_environment()
    assert subprocess.run(closed, cwd=stack.directory, env=environment, capture_output=True, timeout=60).returncode == 0


def test_a_shell_has_the_terminal(stack: Stack) -> None:
    with terminal(stack, "run", "--rm", "--no-deps", "web", "sh") as screen:
        screen.until(b"# ")
        screen.type(b"stty size; tty\n")
        screen.until(b"\n33 101\r\n/dev/pts/0\r\n")
        screen.resize(50, 120)
        screen.process.send_signal(signal.SIGWINCH)
        screen.type(b"until [ \"$(stty size)\" = '50 120' ]; do :; done; echo resized'!'\n")
        screen.until(b"\nresized!\r\n")
        screen.type(b"sh -c \"echo at'!'; exec sleep 3600\"\n")
        screen.until(b"\nat!\r\n")
        screen.type(CTRL_C)
        screen.until(b"^C")
        screen.type(b"echo code=$?'!'\n")
        screen.until(b"code=130!")
        screen.type(b"sleep 3600 &\n")
        screen.type(b"jobs; kill %1; exit 42\n")
        assert screen.end() == 42
        assert screen.is_canonical()
    assert containers(stack) == []


def test_a_command_that_ends_at_once_on_a_terminal_shows_all_of_it(stack: Stack) -> None:
    with terminal(stack, "run", "--rm", "--no-deps", "web", "sh", "-c", "seq 1 2000; exit 3") as screen:
        screen.until(b"\r\n2000\r\n")
        assert screen.end() == 3
        assert screen.is_canonical()
    with terminal(stack, "run", "--rm", "--no-deps", "web", "nope") as screen:
        assert screen.end() == 127
        assert screen.is_canonical()
    assert containers(stack) == []


def test_sigterm_gives_the_terminal_back_and_ends_it(stack: Stack) -> None:
    with terminal(stack, "run", "--rm", "--no-deps", "web", "sh") as screen:
        screen.until(b"# ")
        eventually(lambda: not screen.is_canonical())
        screen.process.send_signal(signal.SIGTERM)
        assert screen.end() == 130
        assert screen.is_canonical()
    assert containers(stack) == []


def test_ctrl_c_stops_it_and_a_second_one_kills_it(stack: Stack) -> None:
    stubborn = "trap '' TERM INT; echo ready; while :; do sleep 1; done"
    for options, left in ((("--rm",), 0), ((), 1)):
        with running(stack, "run", *options, "--no-deps", "never", "sh", "-c", stubborn) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            eventually(lambda: "stopping" in stack.must("ps", "-a", "--format", "json").stdout)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=5) == 130
        assert len(containers(stack)) == left


def test_a_terminal_that_is_closed_ends_it_unless_the_caller_ignores_that(stack: Stack) -> None:
    for number in (signal.SIGHUP, signal.SIGQUIT):
        with running(stack, "run", "--rm", "--no-deps", "never", "sh", "-c", "echo ready; sleep 600") as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(number)
            assert process.wait(timeout=20) == 130
        assert containers(stack) == []
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # As nohup(1) does; a new program inherits it.
    try:
        with running(stack, "run", "--rm", "--no-deps", "never", "sh", "-c", "echo ready; sleep 1; exit 5") as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGHUP)
            assert process.wait(timeout=20) == 5
    finally:
        signal.signal(signal.SIGHUP, before)


def test_ctrl_c_while_it_waits_for_what_it_needs_leaves_nothing_of_it(stack: Stack) -> None:
    with running(stack, "run", "long") as process:

        def it_waits() -> bool:
            assert process.poll() is None, process.communicate()
            return bool(stack.ps().get("slow", {}).get("State") == "running")

        eventually(it_waits)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert process.returncode == 130, err
    assert set(stack.ps()) == {"slow"}


def test_a_dependency_that_fails_is_told_and_nothing_is_left_of_it(stack: Stack) -> None:
    done = stack.run("run", "never")
    assert done.code == 1
    assert done.stdout == ""
    assert "sick" in done.stderr
    assert set(stack.ps()) == {"sick"}


def test_a_dependency_without_its_command_is_not_taken_for_ones_own(stack: Stack) -> None:
    done = stack.run("run", "maimed", "true")
    assert (done.code, 'command not found: "no-such-command"' in done.stderr) == (1, True)
    assert stack.run("run", "headless").code == 127


def test_names(stack: Stack) -> None:
    assert stack.must("run", "-d", "--no-deps", "--name", "mine", "web", "sleep", "3600").stdout == "mine\n"
    taken = stack.run("run", "--no-deps", "--name", "mine", "web", "true")
    assert taken.code == 2
    assert 'the container name "mine" is already in use' in taken.stderr
    strange = stack.run("run", "--no-deps", "--name", "../x", "web", "true")
    assert strange.code == 2
    assert '"../x" is not a container name' in strange.stderr
    unknown = stack.run("run", "wbe")
    assert unknown.code == 2
    assert 'did you mean "web"?' in unknown.stderr


def test_twenty_at_once(stack: Stack) -> None:
    stack.must("up", "-d", "db")
    processes = [
        subprocess.Popen(
            stack.pystack.command("-p", stack.name, "run", "--rm", "web", "sh", "-c", f"echo {number}; exit {number}"),
            cwd=stack.directory,
            env=stack.pystack.child_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(20)
    ]
    for number, process in enumerate(processes):
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out) == (number, f"{number}\n"), err
    assert set(stack.ps()) == {"db"}


def test_a_client_that_is_killed_leaves_it_running_and_it_goes_when_it_has_ended(stack: Stack) -> None:
    with running(stack, *RM, "web", "sh", "-c", "echo on; read line; echo off") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        process.kill()
    eventually(lambda: containers(stack) == [])  # Its stdin ended with the client.


@pytest.mark.parametrize("moment", ["waiting", "running"])
def test_a_supervisor_that_is_killed_is_told_and_the_next_command_heals(stack: Stack, moment: str) -> None:
    command = {"waiting": ("long",), "running": ("db", "sh", "-c", "echo ready; exec sleep 3600")}[moment]
    with running(stack, "run", "--rm", *command) as process:
        assert process.stdout is not None
        if moment == "running":
            assert process.stdout.readline() == "ready\n"
        else:
            eventually(lambda: stack.ps().get("slow", {}).get("State") == "running")
        kill_hard(supervisor_pid(stack))
        _, err = process.communicate(timeout=20)
        assert process.returncode == 1
        assert "has ended" in err
    left = {"db": "running"} if moment == "running" else {"slow": "running"}
    eventually(lambda: {name: row["State"] for name, row in stack.ps().items()} == left)


def test_a_reader_that_is_gone_ends_it(stack: Stack) -> None:
    command = [*stack.pystack.command("-p", stack.name, *RM, "-q", "web", "yes")]
    shell = ["sh", "-c", '"$@" | head -n 1', "sh", *command]
    environment = stack.pystack.child_environment()
    done = subprocess.run(shell, cwd=stack.directory, env=environment, capture_output=True, input=b"", timeout=60)
    assert done.stdout == b"y\n"
    eventually(lambda: containers(stack) == [])


def test_port_says_where_a_container_is_published(stack: Stack) -> None:
    stack.must("up", "-d", "web")
    published = stack.ps()["web"]["Publishers"][0]["PublishedPort"]
    assert stack.must("port", "web", "8000").stdout == f"127.0.0.1:{published}\n"
    missing = stack.run("port", "web", "9000")
    assert (missing.code, missing.stdout) == (1, "")
    assert "port 9000/tcp of the-web is not published" in missing.stderr
    assert stack.run("port", "--index", "2", "web", "8000").code == 2
    assert stack.must("exec", "--index", "1", "-it", "web", "echo", "here").stdout == "here\n"
    assert stack.run("exec", "--index", "2", "web", "true").code == 1


def test_detached_it_waits_for_input_that_never_comes_and_exec_finds_it(stack: Stack) -> None:
    stack.must("run", "-d", "--rm", "--no-deps", "web", "sh", "-c", "touch /here; exec cat")
    assert stack.must("exec", "web", "ls", "/here").stdout == "/here\n"
    alone = stack.run("exec", "--index", "1", "web", "true")
    assert alone.code == 1
    assert 'service "web" is not running container #1' in alone.stderr
    stack.must("up", "-d", "--no-deps", "web")
    assert stack.run("exec", "web", "ls", "/here").code == 1  # A replica comes first.


def test_down_finds_the_network_that_a_run_alone_has_made(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(f'services: {{app: {{image: "rootfs:{busybox_rootfs}"}}}}\n')
    stack.must("run", "--rm", "-T", "app", "true")
    eventually(lambda: not pystack.processes())
    assert "0 containers removed" in stack.must("down").stderr
    assert "nothing to remove" in stack.must("down").stderr


def test_a_volume_that_the_stack_does_not_have_is_made_and_outlives_the_stack(stack: Stack) -> None:
    name = f"{stack.name}.extra"
    first = stack.must(*RM, "-v", f"{name}:/x", "tool", "sh", "-c", "echo kept > /x/file")
    assert f"volume {name} was made: the stack has none of that name" in first.stderr
    container = stack.must("run", "-d", "--no-deps", "-v", f"{name}:/x:ro", "tool", "sleep", "3600").stdout.strip()
    stack.must("up", "-d", "db")  # Whose stack does not have it.
    refused = stack.run("volume", "rm", name)
    assert (refused.code, f"in use by container {container}" in refused.stderr) == (1, True)
    stack.must("down", "-v", "-t", "0")
    again = stack.must(*RM, "-v", f"{name}:/x", "tool", "cat", "/x/file")
    assert (again.stdout, "was made" in again.stderr) == ("kept\n", False)
    stack.must("down", "-v")
    stack.must("volume", "rm", name)
