"""The life of processes: from a start request over its status pipe to its end.

    request -> stage 1 cloned -> (errors by the status pipe) -> pipe ends: executed or failed -> pidfd: ended

Every process is known by its pidfd alone; there is no SIGCHLD and no wait for "any child", so no exit can be mistaken.
"""

from __future__ import annotations

import errno
import os

from orchestrator.kernel import fdpass, process
from orchestrator.kernel import pidfd as pidfds
from orchestrator.kernel.constants import CLONE_NEWPID
from orchestrator.kernel.jsontext import loads
from orchestrator.kernel.suppress import suppress
from orchestrator.runtime.monitor import starter as starters
from orchestrator.runtime.monitor import wire
from orchestrator.runtime.monitor.logfile import Log
from orchestrator.runtime.monitor.loop import Loop
from orchestrator.runtime.monitor.mount_namespace import MountNamespaces
from orchestrator.runtime.monitor.stage1 import BROKEN, CANNOT, EXECUTING, READY, REPORT, WARNING, WORD
from orchestrator.runtime.monitor.starter import Starter
from orchestrator.runtime.monitor.steps import Child
from orchestrator.runtime.monitor.terminal import slave_of

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would cost the monitor a megabyte
    import signal
    from collections.abc import Callable
    from typing import Any
else:  # `signal` makes enumerations of all of them
    import _signal as signal

STDOUT, STDERR = 1, 2
_NOBODY = -7
"""Instead of the step of a failure: no process could be made."""
_RETRY_S = 0.02
_LOST_AFTER_S = 3.0
TRIM_S = 2.0


class Run:
    """A process that was executed. `pipes`: read end, or master of its terminal -> stream; `log` is None for an exec.
    `echo`: the supervisor's own.

    `on_end` gets the wait status (None: lost), after the pipes were read to their end. Raises OSError; nothing is
    listened to then, and pidfd and pipes are the caller's."""

    def __init__(
        self,
        loop: Loop,
        pid: int,
        pidfd: int,
        on_end: Callable[[Run, int | None], None],
        *,
        log: Log | None = None,
        pipes: dict[int, int] | None = None,
        started: float = 0.0,
        container: str = "",
        number: int = 0,
        echo: Any = None,
    ) -> None:
        self.pid, self.pidfd = pid, pidfd
        self.container, self.number, self.echo = container, number, echo
        self.started = started
        self.ended = False
        self._loop, self._on_end = loop, on_end
        self.log = log
        self.pipes = pipes or {}
        self._waited_s = 0.0
        self._slaves: dict[int, int] = {}
        self._trims = False
        try:
            self._listen()
        except BaseException:
            for fd in (*self.pipes, pidfd):
                loop.remove(fd)
            for slave in self._slaves.values():
                os.close(slave)
            raise

    def _listen(self) -> None:
        for fd, stream in self.pipes.items():
            if os.isatty(fd):
                self._slaves[fd] = slave_of(fd)
            os.set_blocking(fd, False)
            self._loop.add(fd, self._puller(fd, stream))
        self._loop.add(self.pidfd, self._pidfd_ready)

    @property
    def log_policy(self) -> dict[str, Any]:
        return self.log.policy if self.log else {}

    def _puller(self, fd: int, stream: int) -> Callable[[int], None]:
        def ready(_: int) -> None:
            if fd in self.pipes and self.log is not None:
                if self.log.pull(fd, stream) is False:
                    self._close_pipe(fd)
                if self.log.held and not self._trims:
                    self._trims = True
                    self._loop.later(TRIM_S, self._trim)

        return ready

    def _trim(self) -> None:
        """What readers have read meanwhile can go, also when nothing more is written."""
        if self.log is not None and not self.ended:
            self.log.trim()
            self._trims = self.log.held
            if self._trims:
                self._loop.later(TRIM_S, self._trim)

    def _close_pipe(self, fd: int) -> None:
        del self.pipes[fd]
        if (slave := self._slaves.pop(fd, None)) is not None:
            os.close(slave)
        self._loop.remove(fd)
        os.close(fd)

    def _pidfd_ready(self, _: int) -> None:
        if self.ended:
            return
        try:
            status = pidfds.reap(self.pidfd)
            if status is not None:
                self.end(status)
        except ChildProcessError:
            # Not ours: adopted from a killed monitor. Its parent reaps it and tells us; or the kernel does.
            self._loop.remove(self.pidfd)
            self._ask_again()

    def _ask_again(self) -> None:
        if self.ended:
            return
        status = pidfds.exit_status(self.pidfd)
        if status is not None or self._waited_s >= _LOST_AFTER_S:
            self.end(status)
            return
        self._waited_s += _RETRY_S
        self._loop.later(_RETRY_S, self._ask_again)

    def end(self, status: int | None) -> None:
        """It has ended: read the pipes to their end, then tell. Idempotent."""
        if self.ended:
            return
        self.ended = True
        self._loop.remove(self.pidfd)
        for fd, stream in list(self.pipes.items()):
            # All its processes are gone, so "empty" is the end too, even if somebody else got hold of the write end.
            if self.log is not None:
                _read_to_the_end(self.log, fd, stream)
            self._close_pipe(fd)
        if self.log is not None:
            self.log.end()
        self._on_end(self, status)
        os.close(self.pidfd)


def _read_to_the_end(log: Log, pipe: int, stream: int) -> None:
    try:
        while log.pull(pipe, stream):
            pass
    except OSError as exc:  # A shortage, and this cannot wait.
        while log.discard(pipe, exc.errno or errno.EIO):
            pass


def told(step: int, error: int, text: str) -> wire.Header:
    """What `on_failed` gets, as an answer."""
    if step == _NOBODY:
        return {"error": "os", "errno": error, "path": None}
    return {"error": "step", "step": step, "errno": error, "text": text}


class Start:
    """A program on its way to its execve. `on_done` gets (pid, pidfd, warnings: pairs of a step and what the child said of
    it) once it was executed; `on_failed` (step, errno, what the child said of it), after everything of it is gone.
    `within`: the pidfd of a process whose pid namespace it begins in, so that it needs no second process to get there.
    `on_ready`: it is held at the descriptor `gate` when all but the execve is done; a byte there lets it go, the gate's end
    makes it fail. `starter`: makes its processes, if it can; what it cannot is done here.

    All descriptors are the caller's, who gives those that it does not need to `take` as soon as this has been made."""

    def __init__(
        self,
        loop: Loop,
        namespaces: MountNamespaces,
        program: bytes,
        fds: dict[str, int],
        procs: list[int],
        on_done: Callable[[int, int, list[tuple[int, str]]], None],
        on_failed: Callable[[int, int, str], None],
        *,
        starter: Starter,
        within: int = -1,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        self._loop, self._on_done, self._on_failed = loop, on_done, on_failed
        self._namespaces, self._fds, self._procs, self._within = namespaces, fds, procs, within
        self._starter = starter
        self._steps = loads(program)  # Here: what a child allocates, it has to copy a page for.
        self._begun: starters.Begun | None = None
        """By the starter; else by us."""
        self._born: process.SharedPid | None = None
        """Where stage 1 tells the pid of the final child; None: it is the final child."""
        self._taken: list[int] = []
        self._first = 0
        self._executing = self._unwanted = False
        self._on_ready = on_ready
        self._failure: tuple[int, int] | None = None
        self._text = b""
        self._warnings: list[tuple[int, str]] = []
        self._begin(self._by_starter)

    def take(self, fds: list[int]) -> None:
        """They are ours from now on, if they are needed yet; those that are not stay in the list."""
        if self._begun is not None:
            self._taken += fds
            fds.clear()

    def _begin(self, way: Callable[[int], None]) -> None:
        """Raises OSError."""
        self._reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            way(writer)
        except OSError:
            os.close(self._reader)
            raise
        finally:
            os.close(writer)
        os.set_blocking(self._reader, False)
        self._loop.add(self._reader, self._status_ready)

    def _by_starter(self, status: int) -> None:
        self._begun = self._starter.begin(self._steps, status, self._fds, self._procs)
        if self._begun is None:
            self._by_fork(status)

    def _by_fork(self, status: int) -> None:
        within, cgroup = self._within, self._fds.get("cgroup")
        pid = _clone_within(within, self._namespaces, cgroup) if within >= 0 else None
        if pid is None:
            self._born = process.SharedPid()
            pid = process.clone3(0, cgroup=cgroup)
        if pid == 0:
            Child(status, self._fds, self._procs, self._namespaces, self._born).run(self._steps)
        self._first = pid

    def _status_ready(self, _: int) -> None:
        try:
            data = os.read(self._reader, REPORT.size * 64)
        except BlockingIOError:
            return
        # Reports are smaller than PIPE_BUF: they arrive whole.
        for at, (step, number) in enumerate(REPORT.iter_unpack(data)):
            if step == WORD:
                self._text += data[at * REPORT.size + 4 : (at + 1) * REPORT.size]
            elif step == WARNING:
                self._warnings.append((number, self._said()))
                self._text = b""
            elif step == EXECUTING:
                self._executing = True
            elif step == READY and self._on_ready is not None:
                self._on_ready()
            else:
                self._failure = self._failure or (step, number)
        if not data:
            self._loop.remove(self._reader)
            os.close(self._reader)
            self._settle()

    def _pids(self) -> tuple[int, int]:
        """The first process, if it is another than the one that executes; and that. 0: there is none."""
        if self._begun is not None:
            first, second = self._begun.pids
            return (0, first) if self._within >= 0 else (first, second)
        return (0, self._first) if self._born is None else (self._first, self._born.value)

    def _settle(self) -> None:
        first, pid = self._pids()
        if first:
            with suppress(ChildProcessError):
                _, status = os.waitpid(first, 0)
                self._first = 0
                if os.WIFSIGNALED(status) and self._failure is None:
                    # Killed with what it made, or before it was done with it: what it made is not what was asked for.
                    self._failure = BROKEN, errno.EOWNERDEAD
        if self._begun is not None:
            self._begun.free()
            self._begun, cannot = None, self._failure is not None and self._failure[0] == CANNOT
            if cannot or not (first or pid):
                if not self._unwanted:
                    self._fall_back(first or pid, pid)
                    return
                self._failure = BROKEN, errno.EOWNERDEAD
            fdpass.close_all(self._taken)
            self._taken = []
        one = self._born is None and not first
        if (one or self._on_ready is not None) and not self._executing:
            self._failure = self._failure or (BROKEN, errno.EOWNERDEAD)
        if not pid:
            self._on_failed(*(self._failure or (BROKEN, errno.EOWNERDEAD)), self._said())
            return
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as exc:  # Nobody could watch it. Its number is its own until it is reaped.
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self._on_failed(*(self._failure or (BROKEN, exc.errno or errno.EIO)), self._said())
            return
        if self._failure is not None:
            self._give_up(pidfd)
            return
        try:
            self._on_done(pid, pidfd, self._warnings)
        except Exception as exc:  # Whatever it was: nobody watches it, and who asked would wait for ever.
            self._failure = BROKEN, getattr(exc, "errno", None) or errno.EIO
            self._give_up(pidfd)
            raise

    def end(self) -> None:
        """It is not wanted any more."""
        self._unwanted = True
        if self._begun is not None and not self._begun.pids[0]:
            self._starter.stop()  # Or it would make it yet.
        for pid in {*self._pids()} - {0}:
            os.kill(pid, signal.SIGKILL)  # Not reaped yet: the numbers are theirs.

    def _fall_back(self, begun: int, pid: int) -> None:
        """`begun`: whether anybody had; `pid`: who is not at his end yet, perhaps."""
        if begun:
            self._fds.pop("before", None)  # Who could not do it was let through there.
        if self._executing:
            self._fds.pop("gate", None)  # There too, and there is nothing behind it for another.
        pidfd = -1
        if pid:
            try:
                pidfd = os.pidfd_open(pid)
            except OSError:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        if pidfd >= 0:
            self._once_ended(pidfd, self._begin_again)
        else:
            self._begin_again()

    def _begin_again(self) -> None:
        """By processes of ours, which say what is the matter, if anything is."""
        self._failure, self._text, self._executing = None, b"", False
        self._warnings = []
        try:
            self._begin(self._by_fork)
        except OSError as exc:
            self._on_failed(_NOBODY, exc.errno or errno.EIO, "")
        finally:
            fdpass.close_all(self._taken)
            self._taken = []

    def _give_up(self, pidfd: int) -> None:
        assert self._failure is not None
        failure = self._failure
        self._once_ended(pidfd, lambda: self._on_failed(*failure, self._said()))

    def _once_ended(self, pidfd: int, then: Callable[[], None]) -> None:
        """It is killed."""

        def ended(_: int) -> None:
            if pidfds.reap(pidfd) is not None:
                self._loop.remove(pidfd)
                os.close(pidfd)
                then()

        pidfds.send(pidfd, signal.SIGKILL)
        self._loop.add(pidfd, ended)

    def _said(self) -> str:
        return self._text.rstrip(b"\0").decode("utf-8", "replace")


def _clone_within(target: int, namespaces: MountNamespaces, cgroup: int | None) -> int | None:
    """A child in the pid namespace of the process `target`; everything else is ours. None when that is not to be had: it
    has just ended, as the program's first look at it will tell."""
    try:
        process.setns(target, CLONE_NEWPID)  # Of children; we ourselves stay where we are (pid_namespaces(7)).
    except OSError:
        return None
    try:
        pid = process.clone3(0, cgroup=cgroup)
    except OSError:
        pid = None
    if pid != 0:
        process.setns(namespaces.own_pids, CLONE_NEWPID)
    return pid
