"""The starter: a process of some kilobytes that makes the first processes of starts and execs for the monitor.

A fork of the monitor copies its page tables and then each page that Python touches, twice for a start; the starter has next
to none, and what it makes carries out a flat list of system calls (`monitor.operations`) without Python. It is an ELF file
of one kilobyte, whose assembler source is beside this file. docs/monitor-protocol.md says what it is sent.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import resource
import struct

from orchestrator.kernel import fdpass, process
from orchestrator.kernel import pidfd as pidfds
from orchestrator.kernel.machine_code import open_program
from orchestrator.kernel.syscalls import cloexec_from
from orchestrator.runtime.monitor.loop import Loop
from orchestrator.runtime.monitor.mount_namespace import MountNamespaces
from orchestrator.runtime.monitor.operations.language import NotSaid
from orchestrator.runtime.monitor.operations.translator import Translator

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would cost the monitor a megabyte
    import signal
    import socket
    from collections.abc import Mapping, Sequence
    from typing import Any, NoReturn
else:  # `signal` and `socket` make enumerations of all that they have
    import _signal as signal
    import _socket as socket

NAME = b"pystack-start"
PROGRAMS = {
    "x86_64": (
        b"f0VMRgIBAQAAAAAAAAAAAAIAPgABAAAAvgBAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAAAAEAAOAACAAAAAAAAAAEAAAAFAAAAAAAAAAAAAAAAAEAAAAAAAAAA"
        b"QAAAAAAAggQAAAAAAACCBAAAAAAAAAAAAQAAAAAAUeV0ZAYAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAEAAAAAAAAABweXN0"
        b"YWNrLXN0YXJ0ALgJAAAAvwAAABC+ACABALoDAAAAQboyAAAAScfA/////0UxyQ8FSIXAD4hrAwAASYnEuAkAAAC/AAAAIL4AEAAAugMAAABBuhEAAABBuAgA"
        b"AABFMckPBUiFwA+IOgMAALidAAAAvw8AAABIjTWB////DwW4nQAAAL8EAAAAMfYPBbidAAAAvwEAAAC+CQAAAA8FuLQBAAC/CAAAAL7/////MdIPBUmNhCTA"
        b"BAAASY2MJAAQAABIiQhIx0AIAAABAEmJhCSQBAAASceEJJgEAAABAAAASY2MJAAFAABIxwEAAAAASYmMJKAEAABJx4QkqAQAABABAABJx4QksAQAAAAAAAC4"
        b"LwAAAL8DAAAASY20JIAEAAC6AAAAQA8FSIP4/A+EbP///0iD+FAPjGoCAABNjawEABAAAEyJ57mAAAAASMfA//////NIq0nHRCQwBAAAAEnHRCQ4BQAAAEnH"
        b"RCRABgAAAEGLhCQAEAAAweADBQAAACBJiYQkGAQAAIPABEmJRCQoQYuMJAQQAABIjRSNEAAAAEk7lCQABQAAD4X3AQAAMfY5znQZQQ+2hDQQEAAAQYuUtBAF"
        b"AABJiRTE/8br47oAgBAAMclJi0QkGEiFwHgISA+66iFIicFJiZQkAAQAAEmJjCRQBAAASYt8JCBIhf94Eb4AAAAguDQBAAAPBUiFwHhKuLMBAABJjbwkAAQA"
        b"AL5YAAAADwVIhcB0O0mJxr8HAAAASYN8JCAAfBW+AAAAILg0AQAADwVIhcAPiFYBAABMifBIhcAPiUL+///oTAEAAOk4/v//uCQBAABJizwkvgMAAAC6AAAI"
        b"AA8FSIXAD4jKAAAASYkEJLgDAAAADwVIg+xASY2cJFAQAAAxwEw56w+DqAAAAEQPt3MCMclIi0TLEESJ8kHB7gKD4gN0Df/KdAVIAdjrBEmLBMRIiQTM/8GD"
        b"+QZ110iLPCRIi3QkCEiLVCQQTItUJBhMi0QkIEyLTCQoi0MIhcB4eA8FSIXAeDwPtksHgPn/dARJiQTMD7ZLBID5A3ISdwdIhcB0NesJSIXAdAQx/+svD7ZL"
        b"Bg+3E0gB04PpAXP16V7///8PtksE/8l0G//JdCOD6QN0GOhaAAAAv38AAAC45wAAAA8F9EiD+Ox0BkiD+P514g+2SwXru//AdBT/wHQaD7YHKfB0gEjHwP7/"
        b"///rs0iJNzHA6W3///9IAR9Ig8cI/8519THA6Vv///+/AQAAAOur99hQiUQkBMcEJPr///+4AQAAAEmLPCRIiea6CAAAAA8FWMM="
    ),
}
"""What the source's first line makes, in base64."""
_PIDS = struct.Struct("=ii")
_MOST = mmap.PAGESIZE // _PIDS.size
_PATIENCE_S = 2.0
"""A starter that makes nothing of what it was sent for so long is stopped, or worse. On a busy machine it may be late."""
_SENDS_S = 0.5
"""As one that takes nothing: the monitor does nothing else meanwhile."""
_TIMEVAL = struct.Struct("@ll")
_MOST_DEATHS = 5
_FIRST, _SAFE = 3, 64
"""Descriptors: the first of those that it is executed with, and from where on they can be put there."""


class Begun:
    """Where the pids of one start are told, by the kernel, before its processes run (CLONE_PARENT_SETTID)."""

    def __init__(self, page: mmap.mmap, free: list[int]) -> None:
        self._page, self._free = page, free
        self.number = free.pop()
        self._freed = False
        _PIDS.pack_into(page, self.number * _PIDS.size, 0, 0)

    @property
    def pids(self) -> tuple[int, int]:
        """The first process, and the one that it made; 0: there is none yet."""
        first, second = _PIDS.unpack_from(self._page, self.number * _PIDS.size)
        return first, second

    @property
    def waits(self) -> bool:
        """Whether nobody has been made yet."""
        return not (self._freed or self.pids[0])

    def free(self) -> None:
        """Once there is none any more, or who they are is known."""
        self._freed = True
        self._free.append(self.number)


class Starter:
    """`begin` starts it when it is needed, and again when it was killed."""

    def __init__(self, loop: Loop, namespaces: MountNamespaces) -> None:
        self._loop, self._namespaces = loop, namespaces
        self._translator = Translator()
        self._program = open_program(NAME.decode(), PROGRAMS)  # Now: what there is too little of later says nothing of it.
        self._deaths = 0
        self._pid, self._pidfd = 0, -1
        self._socket: socket.socket | None = None
        self._page: mmap.mmap | None = None
        self._free: list[int] = []
        self._sent: list[Begun] = []
        self._late: list[Begun] = []
        """What it was sent since the last look, and what it had been sent before."""
        self._looks = False

    def begin(
        self, program: Sequence[list[Any]], status: int, named: Mapping[str, int], procs: Sequence[int]
    ) -> Begun | None:
        """Let it start `program`. `status`: the pipe for reports; it and the other descriptors stay the caller's. None: it
        has to be done without it."""
        if not self._alive() or self._page is None or self._socket is None or not self._free:
            return None
        begun = Begun(self._page, self._free)
        try:
            packet, fds = self._translator.packet(begun.number, program, status, named, procs)
            fdpass.send(self._socket, packet, fds)
        except BlockingIOError:
            begun.free()
            self.stop()
            return None
        except (NotSaid, OSError, ValueError, ArithmeticError, struct.error):  # A number or a text that no call takes.
            begun.free()
            return None
        self._sent.append(begun)
        self._look_later()
        return begun

    def _look_later(self) -> None:
        if not self._looks:
            self._looks = True
            self._loop.later(_PATIENCE_S, self._look)

    def _look(self) -> None:
        self._looks = False
        late = any(begun.waits for begun in self._late)
        self._late, self._sent = [begun for begun in self._sent if begun.waits], []
        if late:
            self.stop()
        elif self._late:
            self._look_later()

    def stop(self) -> None:
        """It is no more when this returns; what it has made goes on."""
        if self._pid:
            self._deaths += 1
            os.kill(self._pid, signal.SIGKILL)  # Not reaped yet: the number is its own.
            os.waitpid(self._pid, 0)
            self._forget()

    def _alive(self) -> bool:
        """Whether there is one now."""
        if self._pid:
            return True
        if self._program < 0 or self._deaths >= _MOST_DEATHS:
            return False
        try:
            self._launch()
        except OSError:
            return False
        return True

    def _launch(self) -> None:
        """Raises OSError. A page of its own: who was killed may have made somebody who still tells it."""
        memory = os.memfd_create("pystack-pids", os.MFD_CLOEXEC)
        ours = theirs = None
        try:
            os.truncate(memory, mmap.PAGESIZE)
            page = mmap.mmap(memory, mmap.PAGESIZE)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(0, int(_SENDS_S * 1e6)))
            pid = process.clone3(0)
            if pid == 0:
                self._become(theirs.fileno(), memory)
            self._pid = pid
            self._pidfd = os.pidfd_open(pid)
        except OSError:
            if ours is not None:
                ours.close()
            if self._pid:
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
                self._pid = 0
            raise
        finally:
            os.close(memory)
            if theirs is not None:
                theirs.close()
        self._socket, self._page, self._free = ours, page, list(range(_MOST))
        self._loop.add(self._pidfd, self._ended)

    def _become(self, socket_: int, memory: int) -> NoReturn:
        spaces = self._namespaces
        try:
            most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # The monitor may be short of them; this one is not.
            wanted = (socket_, spaces.host_ns, spaces.own_ns, spaces.null, spaces.own_pids, memory)
            safe = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _SAFE) for fd in (*wanted, self._program)]
            for number, fd in enumerate(safe[:-1], _FIRST):
                os.dup2(fd, number)
            for number in range(_FIRST):
                os.dup2(safe[3], number)
            cloexec_from(_FIRST + len(wanted))
            process.execute_descriptor(safe[-1], (NAME,))
        finally:
            os._exit(127)

    def _ended(self, _: int) -> None:
        if self._pid and pidfds.reap(self._pidfd) is not None:
            self._deaths += 1
            self._forget()

    def _forget(self) -> None:
        self._loop.remove(self._pidfd)
        os.close(self._pidfd)
        self._pid, self._pidfd = 0, -1
        if self._socket is not None:
            self._socket.close()
        self._sent, self._late = [], []
        # The page lives on with those who wait for what it tells.
        self._socket, self._page = None, None
        self._free = []
