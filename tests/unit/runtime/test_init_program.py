"""The programs that are machine code: what is in the repository is what their sources make. And what the init does."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
from binascii import a2b_base64
from pathlib import Path
from types import ModuleType

import pytest

from orchestrator.kernel.process import execute_descriptor, set_child_subreaper
from orchestrator.runtime.monitor import init, starter
from orchestrator.runtime.monitor.init import NAME, PROGRAMS, open_program
from tests.machine import eventually

HERE = platform.machine()


@pytest.mark.parametrize(
    ("package", "machine"), [(package, machine) for package in (init, starter) for machine in sorted(package.PROGRAMS)]
)
def test_the_program_is_what_the_assembler_makes_of_its_source(package: ModuleType, machine: str, tmp_path: Path) -> None:
    sources = Path(str(package.__file__)).parent
    prefix = "" if machine == HERE else f"{machine}-linux-gnu-"
    if not (assembler := shutil.which(f"{prefix}as")) or not (copier := shutil.which(f"{prefix}objcopy")):
        pytest.skip(f"no assembler for {machine}")
    subprocess.run([assembler, "-o", tmp_path / "object", sources / f"{machine}.s"], check=True)
    subprocess.run([copier, "-O", "binary", tmp_path / "object", tmp_path / "program"], check=True)
    assert (tmp_path / "program").read_bytes() == a2b_base64(package.PROGRAMS[machine])


def begin(*command: str) -> int:
    """The init's pid, executed as the step does, over a shell."""
    program = open_program()
    assert program >= 0
    pid = os.fork()
    if pid == 0:
        try:
            every = signal.valid_signals()
            signal.pthread_sigmask(signal.SIG_BLOCK, every)
            child = os.fork()
            if child == 0:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, every)
                os.execvp(command[0], command)
            execute_descriptor(program, (NAME, b"%d" % child))
        finally:
            os._exit(99)
    os.close(program)
    return pid


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


needs_one = pytest.mark.skipif(HERE not in PROGRAMS, reason=f"no init for {HERE}")


@needs_one
@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -9 $$", 137), ("(true &); (exit 3) & exit 4", 4)])
def test_it_ends_as_its_child_does(script: str, code: int) -> None:
    assert ended(begin("sh", "-c", script)) == code


@needs_one
def test_nobody_can_change_a_program() -> None:
    """Not even its owner, whom no mode keeps from anything: ``#!/proc/self/exe`` of a container leads here."""
    program = open_program()
    with pytest.raises(PermissionError):
        os.pwrite(program, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(program, 0)
    if tuple(map(int, platform.release().split(".")[:2])) >= (6, 3):
        with pytest.raises(PermissionError):
            os.fchmod(program, 0o444)
    os.close(program)


@needs_one
def test_it_passes_signals_on_and_nothing_of_us_is_in_it(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    pid = begin("sh", "-c", f"trap 'exit 33' USR1; touch {ready}; while :; do sleep 0.05; done")
    proc = Path(f"/proc/{pid}")
    eventually(lambda: ready.exists() and (proc / "comm").read_bytes() == NAME + b"\n")
    assert (proc / "cmdline").read_bytes().rstrip(b"\0") == NAME
    assert (proc / "environ").read_bytes() == b""
    files = {line.split(maxsplit=5)[5] for line in (proc / "maps").read_text().splitlines() if "/" in line}
    assert files == {"/memfd:pystack-init (deleted)"}
    os.kill(pid, signal.SIGUSR1)
    assert ended(pid) == 33


@needs_one
def test_nobody_can_change_the_program() -> None:
    program = open_program()
    for change in (lambda: os.pwrite(program, b"x", 0), lambda: os.ftruncate(program, 9)):
        with pytest.raises(PermissionError):
            change()
    os.close(program)


@needs_one
def test_after_a_plus_it_tells_the_status_at_once_and_ends_with_its_last_child() -> None:
    reader, writer = os.pipe()
    held, hold = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            set_child_subreaper()
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            child = os.fork()
            if child == 0:
                if os.fork() == 0:
                    os.close(hold)
                    os.read(held, 1)
                    os._exit(0)
                os._exit(5)
            os.dup2(writer, 0)
            execute_descriptor(open_program(), (NAME, b"+%d" % child))
        finally:
            os._exit(99)
    os.close(writer)
    os.close(held)
    assert os.waitstatus_to_exitcode(int.from_bytes(os.read(reader, 4), sys.byteorder)) == 5
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    os.close(hold)
    assert ended(pid) == 5
    os.close(reader)
