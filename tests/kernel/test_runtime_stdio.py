"""First processes with a stdin or a terminal, as `pystack run` has them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import termios
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from orchestrator.contracts.runtime import Run
from orchestrator.errors import CommandError
from orchestrator.model.names import ContainerId
from orchestrator.oci.terms import ANNOTATION_INIT
from tests.kernel.place import Place, place

pytestmark = pytest.mark.kernel
BOX = ContainerId("rt-a-1")


@pytest.fixture
async def here(leaves_nothing_behind: None, busybox_rootfs: Path) -> AsyncGenerator[Place, None]:
    async with place(busybox_rootfs) as opened:
        yield opened


@contextlib.contextmanager
def pipe() -> Iterator[list[int]]:
    ends = list(os.pipe())
    try:
        yield ends
    finally:
        for fd in ends:
            with contextlib.suppress(OSError):
                os.close(fd)


class Screen:
    """The holder of a terminal's master."""

    def __init__(self) -> None:
        self.master = -1
        self.text = b""

    def take(self, master_fd: int) -> None:
        os.set_blocking(master_fd, False)
        self.master = master_fd

    async def until(self, what: bytes) -> None:
        with trio.fail_after(10):
            while what not in self.text:
                await self._more()

    async def to_the_end(self) -> bytes:
        with trio.fail_after(10), contextlib.suppress(OSError):  # EIO is a terminal's end.
            while True:
                await self._more()
        os.close(self.master)
        return self.text

    async def _more(self) -> None:
        await trio.lowlevel.wait_readable(self.master)
        self.text += os.read(self.master, 4096)

    def type(self, text: bytes) -> None:
        os.write(self.master, text)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


async def begin(here: Place, script: str, **options: Any) -> tuple[Run, Screen]:
    screen = Screen()
    await here.runtime.create(here.spec(["sh", "-c", script], **options))
    return await here.runtime.start(BOX, on_tty=screen.take), screen


async def test_what_is_piped_in_comes_out_in_the_log_and_ends_with_it(here: Place) -> None:
    await here.runtime.create(here.spec(["sh", "-c", "cat; echo end; exit 3"]))
    with pipe() as (reader, writer):
        run = await here.runtime.start(BOX, stdin=reader)
        os.close(reader)
        os.write(writer, b"one\ntwo\n")
        os.close(writer)
        assert (await here.runtime.wait(run)).code == 3
    assert here.log(BOX) == b"one\ntwo\nend\n"


async def test_the_container_s_user_can_open_dev_stdin(here: Place) -> None:
    await here.runtime.create(here.spec(["sh", "-c", "id -u; cat /dev/stdin"], uid=1234))
    with pipe() as (reader, writer):
        run = await here.runtime.start(BOX, stdin=reader)
        os.close(reader)
        os.write(writer, b"text\n")
        os.close(writer)
        assert (await here.runtime.wait(run)).code == 0
    assert here.log(BOX) == b"1234\ntext\n"


async def test_a_file_of_the_caller_s_keeps_its_owner(here: Place, tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_text("from a file\n")
    await here.runtime.create(here.spec(["cat"], uid=1234))
    with open(file) as opened:
        run = await here.runtime.start(BOX, stdin=opened.fileno())
        assert (await here.runtime.wait(run)).code == 0
    assert here.log(BOX) == b"from a file\n"
    assert file.stat().st_uid == os.geteuid()


async def test_a_restart_has_the_stdin_that_it_is_given(here: Place) -> None:
    await here.runtime.create(here.spec(["sh", "-c", "wc -c"]))
    with pipe() as (reader, writer):
        os.write(writer, b"12345")
        os.close(writer)
        await here.runtime.wait(await here.runtime.start(BOX, stdin=reader))
    await here.runtime.wait(await here.runtime.start(BOX))
    assert here.log(BOX).split() == [b"5", b"0"]


async def test_a_terminal_is_stdin_stdout_stderr_the_console_and_the_controlling_terminal(here: Place) -> None:
    script = (
        "stat -c %u /dev/pts/0; tty; for n in 0 1 2; do test -t $n && echo yes$n; done; echo term=$TERM"
        "; echo to-tty > /dev/tty; echo to-console > /dev/console; read line; echo got $line; exit 4"
    )
    run, screen = await begin(here, script, uid=0)
    await screen.until(b"to-console")
    screen.type(b"hello\n")
    exit_ = await here.runtime.wait(run)
    lines = (await screen.to_the_end()).replace(b"\r", b"").splitlines()
    assert exit_.code == 4
    assert lines[:8] == [b"0", b"/dev/pts/0", b"yes0", b"yes1", b"yes2", b"term=xterm", b"to-tty", b"to-console"]
    assert lines[-1] == b"got hello"
    assert here.log(BOX) == b""


async def test_a_terminal_belongs_to_the_container_s_user_and_term_is_kept(here: Place) -> None:
    run, screen = await begin(here, "stat -c %u /dev/pts/0; echo x > /dev/console; echo $TERM", uid=77, env=["TERM=vt100"])
    assert (await here.runtime.wait(run)).code == 0
    assert (await screen.to_the_end()).split() == [b"77", b"x", b"vt100"]


async def test_the_holder_of_the_master_sets_the_size_and_the_program_is_told(here: Place) -> None:
    script = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.1; done"
    run, screen = await begin(here, script)
    await screen.until(b"ready")
    screen.resize(40, 132)
    assert (await here.runtime.wait(run)).code == 0
    assert b"40 132" in await screen.to_the_end()


@pytest.mark.parametrize("init", ["false", "true"])
async def test_ctrl_c_reaches_the_foreground_group_once(here: Place, init: str) -> None:
    """The shell's trap counts; with an init of ours between, the terminal's signal is not passed on a second time."""
    script = "n=0; trap 'n=$((n+1))' INT; echo ready; until read line && test $line = go; do :; done; echo count $n; exit 5"
    run, screen = await begin(here, script, annotations={ANNOTATION_INIT: init})
    await screen.until(b"ready")
    screen.type(b"\x03")
    await screen.until(b"^C")
    screen.type(b"go\n")
    assert (await here.runtime.wait(run)).code == 5
    assert b"count 1" in await screen.to_the_end()


async def test_job_control_works(here: Place) -> None:
    """An interactive shell: Ctrl-C ends its foreground job, and not the shell."""
    screen = Screen()
    await here.runtime.create(here.spec(["sh", "-i"]))
    run = await here.runtime.start(BOX, on_tty=screen.take)
    screen.type(b"echo pro''mpt\n")
    await screen.until(b"prompt")
    screen.type(b"echo run''ning; sleep 1000\n")
    await screen.until(b"running")
    with trio.fail_after(10):
        while "sleep 1000" not in (await here.runtime.probe(BOX, ("ps", "-o", "args"), 5)).output:
            await trio.lowlevel.checkpoint()
    screen.type(b"\x03")
    screen.type(b"echo af''ter; exit 6\n")
    assert (await here.runtime.wait(run)).code == 6
    text = await screen.to_the_end()
    assert b"after" in text
    assert b"can't access tty" not in text


async def test_ctrl_d_is_the_end_of_stdin(here: Place) -> None:
    run, screen = await begin(here, "echo ready; cat; echo end")
    await screen.until(b"ready")
    screen.type(b"\x04")
    assert (await here.runtime.wait(run)).code == 0
    assert b"end" in await screen.to_the_end()


async def test_a_closed_master_ends_what_reads_from_the_terminal(here: Place) -> None:
    run, screen = await begin(here, "trap '' HUP; echo ready; cat; exit 8")
    await screen.until(b"ready")
    os.close(screen.master)
    with trio.fail_after(10):
        assert (await here.runtime.wait(run)).code == 8


async def test_a_command_that_does_not_exist_leaves_no_terminal(here: Place) -> None:
    before = len(os.listdir("/proc/self/fd"))
    await here.runtime.create(here.spec(["nothing-here"]))
    masters: list[int] = []
    with pytest.raises(CommandError):
        await here.runtime.start(BOX, on_tty=masters.append)
    assert masters == []
    # The sandbox's own descriptors stay.
    again = len(os.listdir("/proc/self/fd"))
    with pytest.raises(CommandError):
        await here.runtime.start(BOX, on_tty=masters.append)
    assert len(os.listdir("/proc/self/fd")) == again
    assert again - before < 20


async def test_a_monitor_of_version_1_makes_terminals_too(here: Place) -> None:
    """It cannot make /dev/console, and is not asked to (its other steps are the same)."""
    (await here.runtime._session.link()).version = 1
    run, screen = await begin(here, "tty; test -e /dev/console || echo none")
    assert (await here.runtime.wait(run)).code == 0
    assert (await screen.to_the_end()).split() == [b"/dev/pts/0", b"none"]
