"""One connection to a supervisor.

A supervisor acknowledges a request at once and then gives a sign of life every few seconds, so one that is stopped or
stuck is told from one that works for long: `receive` raises Unanswered when the next sign is overdue.
"""

from __future__ import annotations

import _socket as socket  # The module around it adds what we do not use, and takes longer to import than `ps` to answer.
import os
import select
import sys
import time

from orchestrator.client.messages import (
    Alive,
    EventMessage,
    OtherProtocol,
    Refusal,
    ResultMessage,
    SupervisorGone,
    decode,
)
from orchestrator.contracts.protocol import (
    ACK_TIMEOUT_S,
    MAX_DESCRIPTORS,
    MAX_MESSAGE_BYTES,
    SILENCE_TIMEOUT_S,
    UNTIMED,
    VERSION,
)
from orchestrator.errors import HostError, InputError, access_hint
from orchestrator.kernel import jsontext
from orchestrator.kernel.identity import is_trusted
from orchestrator.values import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from orchestrator.contracts.site import Site
    from orchestrator.errors import PystackError

    OnEvent = Callable[[EventMessage], None]

_INT_BYTES = 4
_LONG_BYTES = (sys.maxsize.bit_length() + 1) // 8
_ANCILLARY_BYTES = socket.CMSG_SPACE(MAX_DESCRIPTORS * _INT_BYTES)

Message = EventMessage | ResultMessage


@frozen
class Patience:
    """Seconds: `ack_s` for the first sign of life after a request, `silence_s` between two."""

    ack_s: float = ACK_TIMEOUT_S
    silence_s: float = SILENCE_TIMEOUT_S


PATIENT = Patience()


class Client:
    """A connection to a supervisor. Use it as a context manager, or call `close`. `version`: of the protocol; an older one
    only to make a supervisor hand over. `pid`: the supervisor's process, 0 if it is not in our pid namespace."""

    def __init__(
        self, connection: socket.socket, site: Site, *, version: int = VERSION, patience: Patience = PATIENT
    ) -> None:
        self._socket = connection
        self._site = site
        self._version = version
        self._patience = patience
        self._buffer = bytearray()
        self._scanned = 0
        self._fds: list[int] = []
        self._acknowledged = True
        self._due_s: float | None = None
        """When the next sign of life is overdue (time.monotonic()); None while none is due."""
        self._within_s: float | None = None
        self.pid, self._uid = _peer(connection)

    @classmethod
    def connect(cls, site: Site, *, version: int = VERSION, patience: Patience = PATIENT) -> Client | None:
        """A connection to the supervisor that listens, or None if there is none.

        Raises HostError when the socket cannot be reached or belongs to another user, Unanswered when so many wait for the
        supervisor already that no more can.
        """
        path = os.path.join(site.run_dir, "control.sock")
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            # Not settimeout: a socket that does not block gives up at once when the backlog is full (connect(2), EAGAIN).
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(patience.ack_s))
            connection.connect(path)
            client = cls(connection, site, version=version, patience=patience)
            if not is_trusted(client._uid):
                raise HostError(f"the supervisor at {path} runs as user {client._uid}", hint="use another PYSTACK_RUN_DIR")
            return client
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            connection.close()
            return None
        except BlockingIOError:
            connection.close()
            raise _unanswered(site, None) from None
        except OSError as exc:
            connection.close()
            reason = exc.strerror or str(exc)
            raise HostError(f"cannot reach the project at {path}: {reason}", hint=access_hint(exc)) from exc
        except BaseException:
            connection.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, verb: str, args: Mapping[str, Any] | None = None, fds: Sequence[int] = ()) -> None:
        """Send a request. Raises InputError when it is too long, Unanswered when nobody reads it, SupervisorGone."""
        line = jsontext.dumps({"v": self._version, "verb": verb, "args": dict(args or {})}).encode() + b"\n"
        if len(line) > MAX_MESSAGE_BYTES:
            raise InputError(f"the request {verb} has {len(line)} bytes: the limit is {MAX_MESSAGE_BYTES}")
        try:
            sent = 0
            if fds:
                numbers = b"".join(fd.to_bytes(_INT_BYTES, sys.byteorder) for fd in fds)
                sent = self._socket.sendmsg([line], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])
            if sent < len(line):
                self._socket.sendall(line[sent:])
        except BlockingIOError:
            raise _unanswered(self._site, self.pid) from None
        except OSError as exc:
            # It may have said why before it closed the connection.
            if not readable(self._socket.fileno(), 0):
                raise _gone() from exc
        self._acknowledged = False
        self._within_s = None if verb in UNTIMED else self._patience.silence_s
        self._due_s = time.monotonic() + self._patience.ack_s

    def say(self, word: Mapping[str, Any]) -> None:
        """A word to a request that is worked on (docs/control-protocol.md, "Standard streams"). Who is gone does not hear
        it; `receive` says so."""
        try:
            self._socket.sendall(jsontext.dumps(dict(word)).encode() + b"\n")
        except OSError:
            return

    def left_s(self) -> float | None:
        """Seconds until the next sign of life is overdue and `receive` raises; None when none is due."""
        return None if self._due_s is None else max(0.0, self._due_s - time.monotonic())

    def receive(self, timeout_s: float | None = None) -> Message | None:
        """The next message; None when there is none within `timeout_s` (None: wait for it, 0: what is there already).

        Call it until it gives None after the connection became readable, and after `left_s`. Raises the request's error,
        Unanswered, OtherProtocol or SupervisorGone.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            while (line := self._take_line()) is None:
                own_s = None if deadline is None else max(0.0, deadline - time.monotonic())
                if readable(self._socket.fileno(), soonest(own_s, self.left_s())):
                    self._fill()
                elif self.left_s() == 0.0:
                    raise _unanswered(self._site, self.pid)
                elif deadline is not None and time.monotonic() >= deadline:
                    return None
            if (message := self._read(line)) is not None:
                return message

    def request(
        self, verb: str, args: Mapping[str, Any] | None = None, on_event: OnEvent | None = None, fds: Sequence[int] = ()
    ) -> Any:
        """Send a request, pass its events to `on_event`, and return its result. Raises what `receive` does."""
        self.send(verb, args, fds)
        while True:
            match self.receive():
                case ResultMessage(value):
                    return value
                case EventMessage() as event:
                    if on_event is not None:
                        on_event(event)
                    else:
                        _close_all(event.fds)

    def close_and_wait_end(self, timeout_s: float) -> bool:
        """Close the connection and wait until the supervisor's process has ended; False when it has not."""
        try:
            process = os.pidfd_open(self.pid)
        except ProcessLookupError:
            self.close()
            return True
        try:
            self.close()
            return readable(process, timeout_s)
        finally:
            os.close(process)

    def _read(self, line: bytes) -> Message | None:
        """The message, or None for a sign of life alone. Raises the error that it is."""
        message = decode(line)
        if self._within_s is None:
            self._due_s = None
        else:
            self._due_s = time.monotonic() + self._within_s
        match message:
            case Alive():
                self._acknowledged = True
                return None
            case EventMessage(value):
                fds, self._fds = tuple(self._fds), []
                return EventMessage(value, fds)
            case ResultMessage():
                self._due_s = None
                return message
            case Refusal(error, version):
                self._due_s = None
                spoken = version or 1
                if self._version == VERSION and not self._acknowledged and spoken != VERSION:
                    raise OtherProtocol(error.message, spoken, hint=error.hint)
                raise error

    def _take_line(self) -> bytes | None:
        end = self._buffer.find(b"\n", self._scanned)
        if end < 0:
            self._scanned = len(self._buffer)
            if len(self._buffer) > MAX_MESSAGE_BYTES:
                raise HostError(f"the supervisor sent a message of more than {MAX_MESSAGE_BYTES} bytes")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._scanned = 0
        return line

    def _fill(self) -> None:
        try:
            # Not socket.recv_fds, which ignores its flags in Python 3.11: descriptors would be open in every child.
            data, ancillary, _, _ = self._socket.recvmsg(1 << 16, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
        except OSError as exc:
            raise _gone() from exc
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self._fds.extend(memoryview(payload[: len(payload) // _INT_BYTES * _INT_BYTES]).cast("i"))
        if not data:
            raise _gone()
        self._buffer += data


def readable(fd: int, timeout_s: float | None) -> bool:
    """Whether `fd` becomes readable, or ends, within `timeout_s` (None: wait for it)."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if timeout_s is None else timeout_s * 1000))


def soonest(*waits_s: float | None) -> float | None:
    """The shortest of several times to wait, where None is for ever."""
    return min((wait_s for wait_s in waits_s if wait_s is not None), default=None)


def _timeval(seconds: float) -> bytes:
    """``struct timeval``: two longs."""
    parts = (int(seconds), int(seconds % 1 * 1_000_000))
    return b"".join(part.to_bytes(_LONG_BYTES, sys.byteorder) for part in parts)


def _peer(connection: socket.socket) -> tuple[int, int]:
    """Process and user of the other side: whoever called listen(2) (SO_PEERCRED, unix(7))."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 3 * _INT_BYTES)
    pid, uid, _ = memoryview(data).cast("i")
    return pid, uid


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def _unanswered(site: Site, pid: int | None) -> PystackError:
    from orchestrator.client.silence import unanswered  # It looks at processes; most supervisors answer.

    return unanswered(site, pid)


def _gone() -> SupervisorGone:
    return SupervisorGone(
        "the connection to the supervisor ended before its answer",
        hint="run the command again: a new supervisor takes over what runs; supervisor.log in the project's data "
        "directory may say why",
    )
