"""Terminals and open stdins that are the container's own: kept by the monitor, whoever is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import trio

from orchestrator.contracts.runtime import Attachment, ExecSpec, Run
from orchestrator.errors import CommandError, OperationError
from orchestrator.model.names import ContainerId
from orchestrator.runtime.client import open_runtime
from orchestrator.runtime.host_check import find_host
from orchestrator.values import replace
from tests.kernel.place import Place, place

pytestmark = pytest.mark.kernel
BOX = ContainerId("rt-a-1")
LINES = 3000


@pytest.fixture
async def here(leaves_nothing_behind: None, busybox_rootfs: Path) -> AsyncGenerator[Place, None]:
    async with place(busybox_rootfs) as opened:
        yield opened


async def begin(here: Place, script: str, *, tty: bool = True, size: tuple[int, int] = (0, 0), **options: Any) -> Run:
    spec = replace(here.spec(["sh", "-c", script], **options), stdin_open=True)
    spec.config["process"]["terminal"] = tty
    await here.runtime.create(spec)
    return await here.runtime.start(BOX, size=size)


async def shown(here: Place, text: bytes) -> None:
    with trio.fail_after(20):
        while text not in here.log(BOX):
            await trio.sleep(0.01)


def type_(attached: Attachment, text: bytes) -> None:
    try:
        assert os.write(attached.fd, text) == len(text)
    finally:
        os.close(attached.fd)


async def test_what_a_terminal_shows_is_in_the_log_to_the_last_byte(here: Place) -> None:
    run = await begin(here, f"tty; stty size; seq 1 {LINES}; echo err >&2; exit 3", size=(41, 133))
    assert (await here.runtime.wait(run)).code == 3
    expected = ["/dev/pts/0", "41 133", *map(str, range(1, LINES + 1)), "err", ""]
    assert here.log(BOX).decode().split("\r\n") == expected


async def test_several_are_attached_at_once_and_leaving_ends_nothing(here: Place) -> None:
    run = await begin(here, "stty -echo; echo ready; read a; echo got $a; read b; echo got $b; exit 4")
    await shown(here, b"ready")
    one, other = [await here.runtime.attach(BOX) for _ in range(2)]
    assert (one.run, one.tty, one.stdin) == (run, True, True)
    type_(one, b"one\n")
    await shown(here, b"got one")
    type_(other, b"other\n")
    assert (await here.runtime.wait(run)).code == 4
    assert here.log(BOX).endswith(b"got other\r\n")
    with pytest.raises(OperationError, match="is not running"):
        await here.runtime.attach(BOX)


@pytest.mark.parametrize("tty", [True, False])
async def test_a_stdin_that_stays_open_survives_the_monitor_and_the_supervisor(here: Place, tty: bool) -> None:
    """Killed is the monitor; then a new supervisor comes, which has nothing but what the monitor keeps."""
    run = await begin(here, "echo ready; while read line; do echo got $line; done; exit 5", tty=tty)
    await shown(here, b"ready")
    os.kill(here.runtime.monitor_pid, signal.SIGKILL)
    type_(await here.runtime.attach(BOX), b"after the monitor\n")
    await shown(here, b"got after the monitor")
    async with open_runtime(here.site, find_host()) as second:
        attached = await second.attach(BOX)
        assert (attached.run.pid, attached.tty, attached.stdin) == (run.pid, tty, True)
        type_(attached, b"after the supervisor\n")
        await shown(here, b"got after the supervisor")
        await second.kill(BOX)
        await second.wait(attached.run)


async def test_a_restart_has_a_terminal_and_a_stdin_of_its_own(here: Place) -> None:
    for number in (1, 2):
        run = await begin(here, "stty -echo; echo ready; read a; exit $a") if number == 1 else await here.runtime.start(BOX)
        await shown(here, b"ready\r\n" * number)
        type_(await here.runtime.attach(BOX), b"%d\n" % number)
        assert (await here.runtime.wait(run)).code == number


async def test_a_monitor_that_cannot_keep_a_terminal_is_told_from_one_that_can(here: Place) -> None:
    (await here.runtime._session.link()).version = 4
    with pytest.raises(OperationError, match="started by an older pystack"):
        await begin(here, "true")


async def test_a_script_without_its_interpreter_is_told_with_it(here: Place, tmp_path: Path) -> None:
    script = here.rootfs / "bin" / "script"
    script.write_text("#!/opt/none -x\n")
    script.chmod(0o755)
    try:
        await here.begin(["sleep", "1000"])
        for command in ("script", "/bin/script"):
            with pytest.raises(CommandError, match=f'"{command}": its interpreter "/opt/none" does not exist') as raised:
                await here.runtime.exec(BOX, ExecSpec((command,)))
            assert raised.value.exit_code == 127
        with pytest.raises(CommandError, match='its interpreter "/opt/none" does not exist'):
            await here.begin(["script"], "rt-b-1")
    finally:
        script.unlink()


async def test_the_folder_of_an_exec_must_exist_and_that_of_a_container_is_made(here: Place) -> None:
    await here.begin(["sleep", "1000"], cwd="/made/here")
    with pytest.raises(CommandError, match="/none: No such file or directory") as raised:
        await here.runtime.exec(BOX, ExecSpec(("true",), working_dir="/none"))
    assert raised.value.exit_code == 127
    with pytest.raises(CommandError) as refused:
        await here.runtime.exec(BOX, ExecSpec(("true",), working_dir="/etc/passwd"))
    assert refused.value.exit_code == 126
    assert (await here.runtime.probe(BOX, ("ls", "/none"), 5)).exit_code == 1
    assert (await here.runtime.probe(BOX, ("pwd",), 5)).output == "/made/here\n"


@pytest.mark.parametrize("uid", [0, 1234])
async def test_a_probe_can_open_its_streams_by_name(here: Place, uid: int) -> None:
    await here.begin(["sleep", "1000"], uid=uid)
    script = "echo a > /dev/stdout; echo b > /dev/stderr; exec 4>/proc/self/fd/1; echo c >&4; cat /dev/stdin"
    assert (await here.runtime.probe(BOX, ("sh", "-c", script), 5)).output == "a\nb\nc\n"


async def test_a_privileged_exec_has_all_capabilities_as_root_and_none_more_otherwise(here: Place) -> None:
    await here.begin(["sleep", "1000"])

    async def effective(**options: Any) -> int:
        reader, writer = os.pipe()
        try:
            argv = ("grep", "CapEff", "/proc/self/status")
            assert (await here.runtime.exec(BOX, ExecSpec(argv, (reader, writer, writer), **options))).ok
            return int(os.read(reader, 1000).split()[1], 16)
        finally:
            os.close(reader)
            os.close(writer)

    everything = (1 << int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1) - 1
    assert await effective(privileged=True) == everything
    assert await effective() not in (0, everything)
    assert await effective(privileged=True, user="nobody") == 0
