"""Exec and health probes."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from orchestrator.contracts.runtime import ExecSpec, Execution, Exit
from orchestrator.errors import CommandError, OperationError
from orchestrator.kernel.cgroup import detect
from orchestrator.model.names import ContainerId, cgroup_path
from orchestrator.oci.terms import ANNOTATION_GROUPS, ANNOTATION_INIT
from orchestrator.runtime.client import open_runtime
from orchestrator.runtime.host_check import find_host
from tests.kernel.place import Place, place

pytestmark = pytest.mark.kernel
BOX = ContainerId("rt-a-1")


@pytest.fixture
async def here(leaves_nothing_behind: None, busybox_rootfs: Path) -> AsyncGenerator[Place, None]:
    async with place(busybox_rootfs) as opened:
        yield opened


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)


async def execute(here: Place, *argv: str, **options: object) -> tuple[Exit, str]:
    return await execute_in(here, BOX, *argv, **options)


async def execute_in(here: Place, name: str, *argv: str, **options: object) -> tuple[Exit, str]:
    """Run to the end with output of at most a pipe's size."""
    null = os.open("/dev/null", os.O_RDWR)
    try:
        with pipe() as (reader, writer):
            exit_ = await here.runtime.exec(ContainerId(name), ExecSpec(argv, (null, writer, writer), **options))  # type: ignore[arg-type]
            os.set_blocking(reader, False)
            try:
                return exit_, os.read(reader, 1 << 16).decode()
            except BlockingIOError:
                return exit_, ""
    finally:
        os.close(null)


async def test_an_exec_is_in_the_container_with_its_environment_and_privileges(here: Place) -> None:
    run = await here.begin(["sleep", "1000"], env=["A=1", "B=2"])
    script = "echo $A $B $C; pwd; readlink /proc/self/ns/net; readlink /proc/self/ns/pid"
    script += "; grep -E '^(CapEff|Seccomp):' /proc/self/status"
    exit_, output = await execute(here, "sh", "-c", script, environment={"B": "3", "C": "4"}, working_dir="/tmp")
    ns = [os.readlink(f"/proc/{run.pid}/ns/{kind}") for kind in ("net", "pid")]
    own = Path(f"/proc/{run.pid}/status").read_text()
    capabilities = next(line for line in own.splitlines() if line.startswith("CapEff"))
    assert exit_.code == 0
    assert output.splitlines() == ["1 3 4", "/tmp", *ns, capabilities, "Seccomp:\t2"]


async def test_an_exec_as_another_user_is_in_the_groups_that_were_added(here: Place) -> None:
    await here.begin(["sleep", "1000"], annotations={ANNOTATION_GROUPS: "44 70000"})
    for user in ("nobody", "root"):
        assert {"44", "70000"} < set((await execute(here, "id", "-G", user=user))[1].split())


async def test_an_exec_as_another_user(here: Place) -> None:
    await here.begin(["sleep", "1000"])
    _, output = await execute(here, "sh", "-c", "id -u; id -g; grep CapEff /proc/self/status; echo $HOME", user="nobody")
    assert output.split() == ["65534", "65534", "CapEff:", "0" * 16, "/"]
    with pytest.raises(CommandError, match='there is no user "ghost"'):
        await execute(here, "true", user="ghost")


async def test_exit_codes_signals_and_commands_that_cannot_be_executed(here: Place) -> None:
    await here.begin(["sleep", "1000"])
    assert (await execute(here, "sh", "-c", "exit 12"))[0].code == 12
    assert (await execute(here, "sh", "-c", "kill -9 $$"))[0].signal == signal.SIGKILL
    with pytest.raises(CommandError) as missing:
        await execute(here, "nothing-here")
    with pytest.raises(CommandError) as refused:
        await execute(here, "/etc/passwd")
    assert (missing.value.exit_code, refused.value.exit_code) == (127, 126)


async def test_an_exec_in_a_container_that_does_not_run(here: Place) -> None:
    run = await here.begin(["true"])
    await here.runtime.wait(run)
    with pytest.raises(OperationError, match="not running"):
        await execute(here, "true")
    with pytest.raises(OperationError, match="not running"):
        await here.runtime.probe(BOX, ("true",), 1)


async def test_cancelling_an_exec_kills_it_and_its_children(here: Place) -> None:
    await here.begin(["sleep", "1000"])
    with pipe() as (reader, writer):
        null = os.open("/dev/null", os.O_RDWR)
        async with trio.open_nursery() as nursery:
            script = "sleep 2000 & echo up; sleep 3000"
            nursery.start_soon(here.runtime.exec, BOX, ExecSpec(("sh", "-c", script), (null, writer, null)))
            await trio.lowlevel.wait_readable(reader)
            nursery.cancel_scope.cancel()
        os.close(null)
    result = await here.runtime.probe(BOX, ("ps", "-o", "args"), 5)
    assert "2000" not in result.output
    assert "3000" not in result.output


def groups_of_execs(here: Place) -> list[str]:
    return [path.name for path in Path("/sys/fs/cgroup").glob(f"**/pystack/{here.site.key}/{BOX}/exec-*")]


LEAVE = "sleep 2000 & echo $! > /{}"
END = "kill $(cat /{0}); while kill -0 $(cat /{0}); do :; done"


async def test_the_group_of_what_an_exec_left_running_goes_when_that_has_ended(here: Place) -> None:
    await here.begin(["sleep", "1000"], annotations={ANNOTATION_INIT: "true"})
    for name in ("first", "second"):
        await execute(here, "sh", "-c", LEAVE.format(name))
    left = set(groups_of_execs(here))
    assert len(left) == 2
    await execute(here, "sh", "-c", END.format("first"))
    await execute(here, "true")
    assert len(left & set(groups_of_execs(here))) == 1
    # A supervisor that comes later knows nothing of them, and finds them.
    async with open_runtime(here.site, find_host()) as second:
        there = dataclasses.replace(here, runtime=second)
        await execute(there, "sh", "-c", END.format("second"))
        await execute(there, "true")
        assert left & set(groups_of_execs(here)) == set()
        assert len(set(groups_of_execs(here))) == 1  # Empty, and kept for the next exec.


async def test_the_container_s_end_ends_its_execs(here: Place) -> None:
    run = await here.begin(["sleep", "1000"])
    ended: list[OperationError] = []

    async def long() -> None:
        with pytest.raises(OperationError, match="ended while the command ran in it") as raised:
            await execute(here, "sleep", "1000")
        ended.append(raised.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(long)
        with trio.fail_after(30):
            while "sleep 1000\nsleep 1000" not in (await here.runtime.probe(BOX, ("ps", "-o", "args"), 5)).output:
                await trio.lowlevel.checkpoint()
        await here.runtime.kill(BOX)
        await here.runtime.wait(run)
    assert ended[0].exit_code == 128 + signal.SIGKILL


async def test_an_interrupt_of_a_shell_is_one_of_what_it_waits_for_too(here: Place) -> None:
    await here.begin(["sleep", "1000"])
    script = "trap 'echo told' INT; sh -c 'echo $$ > /proc/self/fd/2; exec sleep 1000'; echo code=$?"
    with pipe() as (out, out_writer), pipe() as (err, err_writer):
        spec = ExecSpec(("sh", "-c", script), (out, out_writer, err_writer))

        async def interrupt(process: Execution) -> None:
            await trio.lowlevel.wait_readable(err)
            process.signal(signal.SIGINT)

        async with trio.open_nursery() as nursery:
            with trio.fail_after(30):
                exit_ = await here.runtime.exec(
                    BOX, spec, on_start=lambda process: nursery.start_soon(interrupt, process)
                )
        assert (exit_.code, os.read(out, 100)) == (0, b"told\ncode=130\n")


async def test_an_exec_that_the_end_comes_before_says_that(here: Place) -> None:
    """The main process is gone, and the monitor has not told it: it is stopped."""
    run = await here.begin(["sleep", "1000"])
    ended: list[OperationError] = []

    async def late() -> None:
        with pytest.raises(OperationError, match=f"{BOX} ended before the command ran in it") as raised:
            await execute(here, "true")
        ended.append(raised.value)

    os.kill(here.runtime.monitor_pid, signal.SIGSTOP)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(late)
        await trio.testing.wait_all_tasks_blocked()
        os.kill(run.pid, signal.SIGKILL)
        os.kill(here.runtime.monitor_pid, signal.SIGCONT)
    assert ended[0].exit_code == 1


async def test_the_command_without_a_name_is_not_found(here: Place) -> None:
    await here.begin(["sleep", "1000"])
    with pytest.raises(CommandError, match='command not found: ""') as raised:
        await execute(here, "")
    assert raised.value.exit_code == 127
    await here.runtime.kill(BOX)
    with pytest.raises(CommandError, match='command not found: ""'):
        await here.begin([""], ContainerId("rt-b-1"))


async def test_an_exec_with_a_terminal(here: Place) -> None:
    await here.begin(["sleep", "1000"])
    masters: list[int] = []
    spec = ExecSpec(("sh", "-c", "test -t 0 && test -t 1 && tty; read line; echo got $line; exit 4"), (0, 1, 2), tty=True)
    results: list[Exit] = []
    arrived = trio.Event()

    def on_tty(master_fd: int) -> None:
        masters.append(master_fd)
        arrived.set()

    async def run() -> None:
        results.append(await here.runtime.exec(BOX, spec, on_tty))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await arrived.wait()
        os.write(masters[0], b"hello\n")
    text = b""
    try:
        while data := os.read(masters[0], 4096):
            text += data
    except OSError:
        pass  # EIO is a pty's end of file.
    os.close(masters[0])
    assert results[0].code == 4
    assert b"/dev/pts/0" in text
    assert b"got hello" in text


async def test_a_probe_s_result_and_output(here: Place) -> None:
    await here.begin(["sleep", "1000"])
    good = await here.runtime.probe(BOX, ("sh", "-c", "echo out; echo err >&2"), 5)
    assert (good.exit_code, good.output, good.ok) == (0, "out\nerr\n", True)
    bad = await here.runtime.probe(BOX, ("sh", "-c", "printf 'a\\377b'; exit 3"), 5)
    assert (bad.exit_code, bad.output, bad.ok) == (3, "a\ufffdb", False)
    assert (await here.runtime.probe(BOX, ("sh", "-c", "kill -9 $$"), 5)).exit_code == 137


async def test_a_probe_that_cannot_be_executed_is_a_result(here: Place) -> None:
    await here.begin(["sleep", "1000"])
    missing = await here.runtime.probe(BOX, ("no-such-probe",), 5)
    assert (missing.exit_code, "no-such-probe" in missing.output) == (127, True)
    assert (await here.runtime.probe(BOX, ("/etc/passwd",), 5)).exit_code == 126


async def test_a_probe_that_writes_without_end_is_cut_and_drained(here: Place) -> None:
    await here.begin(["sleep", "1000"])
    result = await here.runtime.probe(BOX, ("sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x; exit 7"), 10)
    assert (result.exit_code, result.output) == (7, "x" * 4096)


async def test_a_probe_that_takes_too_long_is_killed_with_its_children(here: Place) -> None:
    await here.begin(["sleep", "1000"])
    with trio.fail_after(30):
        script = "echo before; setsid sleep 2000 & (sleep 3000 &) ; sleep 4000"
        result = await here.runtime.probe(BOX, ("sh", "-c", script), 1.5)
    assert (result.exit_code, result.output) == (None, "before\n")
    assert result.duration_s >= 1.5
    for _ in range(3):
        after = await here.runtime.probe(BOX, ("ps", "-o", "args"), 5)
        assert after.ok
        assert not any(f"{number}000" in after.output for number in (2, 3, 4))


async def test_a_probe_leaves_no_process_in_the_background(here: Place) -> None:
    await here.begin(["sleep", "1000"])
    with trio.fail_after(30):
        assert (await here.runtime.probe(BOX, ("sh", "-c", "sleep 2000 & exit 0"), 5)).ok
    with trio.fail_after(30):
        while "2000" in (await here.runtime.probe(BOX, ("ps", "-o", "args"), 5)).output:
            await trio.lowlevel.checkpoint()


async def test_many_probes_and_execs_leave_no_zombie_and_one_group_of_either(here: Place) -> None:
    await here.begin(["sleep", "1000"])
    for _ in range(20):
        assert (await here.runtime.probe(BOX, ("true",), 5)).ok
        assert (await execute(here, "true"))[0].ok
    groups = [
        entry
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if " - cgroup2 " in line
        for entry in os.listdir(f"{line.split()[4]}/{cgroup_path(here.site.key, BOX)}")
        if entry.startswith(("exec-", "probe"))
    ]
    assert len([name for name in groups if name.startswith("exec-")]) <= 1
    assert groups.count("probe") <= 1
    children = Path(f"/proc/{here.runtime.monitor_pid}/task/{here.runtime.monitor_pid}/children").read_text().split()
    assert len(children) == len(["the container", "the starter"])


async def test_probes_and_execs_work_in_a_container_that_was_killed_and_started_again(here: Place) -> None:
    run = await here.begin(["sleep", "1000"])
    for _ in range(3):
        assert (await here.runtime.probe(BOX, ("echo", "up"), 5)).output == "up\n"
        await here.runtime.kill(BOX)
        assert (await here.runtime.wait(run)).signal == signal.SIGKILL
        run = await here.runtime.start(BOX)
    assert (await here.runtime.probe(BOX, ("echo", "up"), 5)).output == "up\n"
    assert (await execute(here, "echo", "up"))[1] == "up\n"


async def test_groups_that_somebody_else_killed_can_be_used(here: Place) -> None:
    """A supervisor before us, say: what is born into them would be killed at birth (docs/runtime.md)."""
    run = await here.begin(["sleep", "1000"])
    assert (await here.runtime.probe(BOX, ("true",), 5)).ok
    unified = detect().unified
    if unified is None:
        pytest.skip("no unified hierarchy: there is no cgroup.kill")
    Path(unified, cgroup_path(here.site.key, BOX), "cgroup.kill").write_text("1")
    assert (await here.runtime.wait(run)).signal == signal.SIGKILL
    await here.runtime.start(BOX)
    for _ in range(2):
        assert (await here.runtime.probe(BOX, ("echo", "up"), 5)).output == "up\n"
    assert (await execute(here, "echo", "up"))[1] == "up\n"


@pytest.mark.parametrize("init", ["false", "true"])
async def test_what_probes_leave_behind_is_reaped_whatever_pid_1_is(here: Place, init: str) -> None:
    await here.begin(["sleep", "1000"], annotations={"pystack.init": init})
    for script, timeout_s, ok in (
        ("sleep 1001 & (setsid sleep 1001 &) ; sleep 1001", 0.2, False),
        ("sleep 1001 & (sleep 1001 &) ; exit 0", 20.0, True),
    ):
        for _ in range(2):
            assert (await here.runtime.probe(BOX, ("sh", "-c", script), timeout_s)).ok is ok
    # One is PID 1, or the child of the init. An init that is the container's reaps at once, but we do not wait for it.
    with trio.fail_after(10):
        while await sleepers(here) != [("(sleep)", "S")]:
            await trio.sleep(0.02)


async def sleepers(here: Place) -> list[tuple[str, ...]]:
    """Name and state of each sleep, and of each zombie."""
    seen = await here.runtime.probe(BOX, ("sh", "-c", "cat /proc/[0-9]*/stat"), 20)
    found = [tuple(line.split()[1:3]) for line in seen.output.splitlines()]
    return [each for each in found if each[0] == "(sleep)" or each[1] == "Z"]


async def test_a_probe_s_status_is_its_own(here: Place) -> None:
    await here.begin(["sleep", "1000"])
    assert (await here.runtime.probe(BOX, ("sh", "-c", "exit 7"), 20)).exit_code == 7
    assert (await here.runtime.probe(BOX, ("sh", "-c", "kill -9 $$"), 20)).exit_code == 128 + signal.SIGKILL
    assert (await here.runtime.probe(BOX, ("sh", "-c", "kill -9 $PPID; sleep 1000"), 20)).exit_code == 128 + signal.SIGKILL
