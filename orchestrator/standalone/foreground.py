"""`run` and `exec` that stay: signals are passed on, a terminal of the container's is copied, and the exit code is its.

The caller's own terminal is never handed to the container: what the container has is a pty of its own devpts.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct

from orchestrator.errors import OperationError
from orchestrator.kernel import fdpass

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    import socket

    from orchestrator.standalone.notifying import Readiness
else:  # Both would make enumerations of all that they have
    import _signal as signal
    import _socket as socket

_TIOCGWINSZ, _TIOCSWINSZ = 0x5413, 0x5414
_PASSED = (
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT,
    signal.SIGALRM, signal.SIGWINCH,
)  # fmt: skip
_CHUNK = 65536


class Foreground:
    def __init__(self) -> None:
        self._ours: socket.socket | None = None
        self._master = -1
        self._before: list[object] | None = None
        self._wake, self._woken = -1, -1
        self._pid = 0
        self.readiness: Readiness | None = None
        """Of the container, passed on while we wait."""

    def take_terminal(self, size: tuple[int, int] | None) -> socket.socket:
        """The end over which the container's process sends its terminal."""
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        return theirs

    def receive_terminal(self) -> None:
        """Raises OperationError."""
        assert self._ours is not None
        _, fds, _ = fdpass.receive(self._ours, 4096)
        if len(fds) != 1:
            raise OperationError("the container's process sent no terminal")
        self._master = fds[0]
        self._ours.close()
        if os.isatty(0):
            import termios

            self._resize()
            self._before = termios.tcgetattr(0)
            raw = termios.tcgetattr(0)
            raw[0] &= ~(termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP)
            raw[0] &= ~(termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON)
            raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
            termios.tcsetattr(0, termios.TCSANOW, raw)

    def restore(self) -> None:
        if self._before is not None:
            import termios

            termios.tcsetattr(0, termios.TCSANOW, self._before)  # type: ignore[arg-type]
            self._before = None

    def hold(self) -> None:
        """From here on signals wait for `wait`: before the program runs, so that it misses none."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED)

    def wait(self, pid: int) -> int:
        """Until our child `pid` has ended: its exit code, 128 + N after signal N."""
        fd = os.pidfd_open(pid)
        self._pid = pid
        self._wake, self._woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)
        for number in _PASSED:
            signal.signal(number, _nothing)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED)
        try:
            if self._master >= 0:
                self._copy(fd)
            else:
                self._sleep(fd)
        finally:
            self.restore()
        _, status = os.waitpid(pid, 0)
        return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)

    def _sleep(self, process: int) -> None:
        poll = select.poll()
        poll.register(process, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        if self.readiness is not None:
            poll.register(self.readiness.fileno(), select.POLLIN)
        while True:
            # The process last: what it said before its end is still heard.
            for fd in sorted({fd for fd, _ in poll.poll()}, key=process.__eq__):
                if fd == process:
                    return
                if fd == self._wake:
                    self._pass_on(process)
                else:
                    self._hear()

    def _hear(self) -> None:
        assert self.readiness is not None
        self.readiness.hear(self._pid)

    def _pass_on(self, process: int) -> None:
        for number in os.read(self._wake, 256):
            if number == signal.SIGWINCH and self._master >= 0:
                self._resize()
                continue
            try:
                signal.pidfd_send_signal(process, number)
            except OSError:
                continue

    def _resize(self) -> None:
        if os.isatty(0):
            size = fcntl.ioctl(0, _TIOCGWINSZ, bytes(8))
            if struct.unpack("4H", size)[0]:
                fcntl.ioctl(self._master, _TIOCSWINSZ, size)

    def _copy(self, process: int) -> None:
        """Until the container's side is closed and all of it has been written."""
        poll = select.poll()
        for fd in (process, self._wake, self._master, 0):
            poll.register(fd, select.POLLIN)
        if self.readiness is not None:
            poll.register(self.readiness.fileno(), select.POLLIN)
        ended = False
        while True:
            events = poll.poll(0 if ended else None)
            if not events and ended:
                return
            for fd, _ in events:
                if fd == process:
                    ended = True
                    poll.unregister(process)
                elif fd == self._wake:
                    self._pass_on(process)
                elif self.readiness is not None and fd == self.readiness.fileno():
                    self._hear()
                elif fd == self._master:
                    if not self._forward(self._master, 1):
                        poll.unregister(self._master)
                        if ended:
                            return
                elif not self._forward(0, self._master):
                    poll.unregister(0)

    def _forward(self, source: int, target: int) -> bool:
        """False at the end of `source`."""
        try:
            data = os.read(source, _CHUNK)
        except OSError:
            return False
        while data:
            try:
                data = data[os.write(target, data) :]
            except OSError:
                return False
            if not data:
                return True
        return False


def _nothing(number: int, frame: object) -> None:
    """Python writes the number of the signal to the wake-up descriptor."""
