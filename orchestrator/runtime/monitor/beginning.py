"""A start on its way: from its request to a run, or to nothing. One that is held has done all but its execve, and waits for
`go`. One that follows a run is born in its lifetime, and waits for `begin` (docs/monitor-protocol.md)."""

from __future__ import annotations

import os

from orchestrator.kernel import fdpass
from orchestrator.kernel import pidfd as pidfds
from orchestrator.kernel.suppress import suppress
from orchestrator.runtime.monitor import wire
from orchestrator.runtime.monitor.logfile import Log
from orchestrator.runtime.monitor.loop import Connection, Loop
from orchestrator.runtime.monitor.mount_namespace import MountNamespaces
from orchestrator.runtime.monitor.runs import STDERR, STDOUT, Start, told
from orchestrator.runtime.monitor.starter import Starter
from orchestrator.runtime.monitor.terminal import Channel

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would cost the monitor a megabyte
    import signal
    from collections.abc import Callable
else:  # `signal` makes enumerations of all of them
    import _signal as signal


class Begun:
    """`asked`: the request that the outcome answers. `pipes`: read end, or master of its terminal -> stream; they and `log`
    are `on_executed`'s, which gets pid, pidfd and warnings, and gone when `on_failed` is called. `log`: None for one that
    waits for `begin`. `undecided`: it will wait for `go`, or does. Raises OSError, and ValueError for what is no
    program."""

    def __init__(
        self,
        loop: Loop,
        mounts: MountNamespaces,
        connection: Connection,
        header: wire.Header,
        body: bytes,
        named: dict[str, int],
        procs: list[int],
        log: Log | None,
        starter: Starter,
        on_executed: Callable[[Begun, int, int, list[tuple[int, str]]], None],
        on_failed: Callable[[Begun], None],
    ) -> None:
        self.connection, self.header, self.log = connection, header, log
        self.container: str = header["container"]
        self.asked: int = header["id"]
        self.undecided = bool(header.get("held"))
        self.pipes: dict[int, int] = {}
        self._on_executed, self._on_failed = on_executed, on_failed
        self._channel = Channel() if header.get("terminal") else None
        self._gate = self._before = -1
        waits_at: list[int] = []
        # Only until it has come to its end: it knows us, and nobody collects cycles in the monitor.
        self._start: Start | None = None
        try:
            if self._channel is not None:
                named["pty"] = self._channel.for_child()
            if self.undecided:
                named["gate"], self._gate = os.pipe2(os.O_CLOEXEC)
                waits_at.append(named["gate"])
            if log is None:
                named["before"], self._before = os.pipe2(os.O_CLOEXEC)
                waits_at.append(named["before"])
            ready = self._ready if self.undecided else None
            self._start = Start(
                loop, mounts, body, named, procs, self._executed, self._failed,
                starter=starter, on_ready=ready,
            )  # fmt: skip
            self._start.take(waits_at)
        except (OSError, ValueError):
            self._let_go()
            raise
        finally:
            fdpass.close_all(waits_at)
        if self._channel is not None:
            self._channel.forked()
        self.pipes = {named[name]: stream for name, stream in (("out", STDOUT), ("err", STDERR)) if name in named}

    def take(self, fds: list[int]) -> None:
        """As `Start.take`, of the request's."""
        if self._start is not None:
            self._start.take(fds)

    @property
    def masters(self) -> tuple[int, ...]:
        """What the supervisor needs of `pipes`: it has the others."""
        return tuple(self.pipes) if self.header.get("terminal") else ()

    def begin(self, log: Log) -> None:
        """The run that it follows has ended."""
        self.log = log
        self._before = _let_through(self._before)

    def go(self, asked: int) -> None:
        """`asked`: what is answered now. It may not be ready yet."""
        self.asked, self.undecided = asked, False
        self._gate = _let_through(self._gate)

    def give_up(self, asked: int = -1) -> None:
        """It fails; nothing of it is left when that is told."""
        self.asked, self.undecided = asked, False
        self._close_gates()

    def end(self) -> None:
        """It fails, however far it has come."""
        if self._start is not None:
            self._start.end()

    def _ready(self) -> None:
        if self.connection.closed:
            self.give_up()
        elif self.undecided:
            self.connection.send({"re": self.asked, "held": True})

    def _executed(self, pid: int, pidfd: int, warnings: list[tuple[int, str]]) -> None:
        self._start = None
        if self._channel is not None:
            try:
                self.pipes[self._channel.master()] = STDOUT
            except (OSError, IndexError):  # Out of descriptors: it would block as soon as it writes much.
                pidfds.send(pidfd, signal.SIGKILL)
            self._channel.close()
        self._on_executed(self, pid, pidfd, warnings)

    def _failed(self, step: int, error: int, text: str) -> None:
        self.undecided, self._start = False, None
        self._let_go()
        for fd in self.pipes:
            os.close(fd)
        self._on_failed(self)
        self.connection.send({"re": self.asked, **told(step, error, text)})

    def _let_go(self) -> None:
        self._close_gates()
        if self.log is not None:
            self.log.close()
        if self._channel is not None:
            self._channel.close()

    def _close_gates(self) -> None:
        fdpass.close_all(gate for gate in (self._gate, self._before) if gate >= 0)
        self._gate = self._before = -1


def _let_through(gate: int) -> int:
    """Who waits there goes on. Returns what is left of the gate: nothing."""
    with suppress(BrokenPipeError):  # It was killed, which will be told.
        os.write(gate, b"!")
    os.close(gate)
    return -1
