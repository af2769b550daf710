"""The client's side of the control protocol (docs/control-protocol.md), and how a supervisor is started.

Standard library only: every verb pays for this module's imports. A `Client` is one connection and carries one request
at a time. Events and results are JSON as it came; errors are raised as the PystackError they were on the other side.
"""

from __future__ import annotations

import _socket as socket  # The module around it adds what we do not use, and takes longer to import than `ps` to answer.
import os
import select
import sys
import time

from orchestrator.errors import (
    EXIT_FAILED,
    EXIT_NOT_FOUND,
    BusyError,
    CommandError,
    HostError,
    InputError,
    OperationError,
    PystackError,
)
from orchestrator.kernel import jsontext
from orchestrator.values import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from orchestrator.contracts.site import Site
    from orchestrator.launch import Launch

VERSION = 1
MAX_LINE_BYTES = 8 * 1024 * 1024
SEND_TIMEOUT_S = 30.0
"""A supervisor that does not read a request for so long is stopped or stuck."""
READY_TIMEOUT_S = 60.0
"""For a new supervisor: adopting a hundred containers takes a second or two."""
_RACE_PAUSE_S = 0.05
_INT_BYTES = 4
_ANCILLARY_BYTES = socket.CMSG_SPACE(8 * _INT_BYTES)

_KINDS: Mapping[int, type[PystackError]] = {
    kind.exit_code: kind for kind in (OperationError, InputError, HostError, CommandError)
} | {EXIT_NOT_FOUND: CommandError}
_BUSY = (" is busy: ", " already has a supervisor ")


class SupervisorGone(HostError):
    """The connection ended in the middle of a request: the supervisor ended, or was killed."""


@frozen
class EventMessage:
    """One event, as JSON. `fds` came with it and belong to the receiver."""

    value: Any
    fds: tuple[int, ...] = ()


@frozen
class ResultMessage:
    """The request has ended well."""

    value: Any


Message = EventMessage | ResultMessage
if TYPE_CHECKING:
    OnEvent = Callable[[EventMessage], None]


def error_from(data: object) -> PystackError:
    """The error that an error object of the protocol stands for."""
    fields = data if isinstance(data, dict) else {}
    message = str(fields.get("message") or "the supervisor reported an error without a message")
    hint = fields.get("hint")
    code = fields.get("exit_code")
    code = code if isinstance(code, int) and 0 < code < 256 else EXIT_FAILED
    kind = BusyError if any(words in message for words in _BUSY) else _KINDS.get(code, PystackError)
    return kind(message, hint=str(hint) if hint else None, exit_code=code)


class Client:
    """A connection to a supervisor. Use it as a context manager, or call `close`."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = bytearray()
        self._scanned = 0
        self._fds: list[int] = []

    @classmethod
    def connect(cls, run_dir: str) -> Client | None:
        """A connection to the supervisor that listens in `run_dir`, or None if there is none.

        Raises HostError when the socket cannot be reached or belongs to another user.
        """
        path = os.path.join(run_dir, "control.sock")
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            connection.settimeout(SEND_TIMEOUT_S)
            connection.connect(path)
            _check_peer(connection, path)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            connection.close()
            return None
        except OSError as exc:
            connection.close()
            reason = exc.strerror or str(exc)
            hint = "run as the user who started it, or as root" if isinstance(exc, PermissionError) else None
            raise HostError(f"cannot connect to the supervisor at {path}: {reason}", hint=hint) from exc
        except BaseException:
            connection.close()
            raise
        return cls(connection)

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
        """Send a request. Raises InputError when it is too long, SupervisorGone when nobody reads it."""
        line = jsontext.dumps({"v": VERSION, "verb": verb, "args": dict(args or {})}).encode() + b"\n"
        if len(line) > MAX_LINE_BYTES:
            raise InputError(f"the request {verb} has {len(line)} bytes: the limit is {MAX_LINE_BYTES}")
        try:
            sent = 0
            if fds:
                numbers = b"".join(fd.to_bytes(_INT_BYTES, sys.byteorder) for fd in fds)
                sent = self._socket.sendmsg([line], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])
            self._socket.sendall(line[sent:])
        except TimeoutError:
            raise SupervisorGone(
                f"the supervisor has not taken the request {verb} for {SEND_TIMEOUT_S:g} s",
                hint="it may be stopped: look at its process, and at supervisor.log in the project's data directory",
            ) from None
        except OSError as exc:
            raise _gone() from exc

    def receive(self, timeout_s: float | None = None) -> Message | None:
        """The next message; None when there is none within `timeout_s` (None: wait for it, 0: what is there already).

        Call it until it gives None after the connection became readable. Raises the request's error, or SupervisorGone.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (line := self._take_line()) is None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not _readable(self._socket.fileno(), left):
                return None
            self._fill()
        return self._decode(line)

    def request(
        self,
        verb: str,
        args: Mapping[str, Any] | None = None,
        on_event: OnEvent | None = None,
        fds: Sequence[int] = (),
        *,
        timeout_s: float | None = None,
    ) -> Any:
        """Send a request, pass its events to `on_event`, and return its result. Raises its error; HostError when there
        was no message at all for `timeout_s`."""
        self.send(verb, args, fds)
        while True:
            match self.receive(timeout_s):
                case ResultMessage(value):
                    return value
                case EventMessage() as event:
                    if on_event is not None:
                        on_event(event)
                    else:
                        _close_all(event.fds)
                case None:
                    raise HostError(
                        f"the supervisor has not answered {verb} for {timeout_s:g} s",
                        hint="look at supervisor.log in the project's data directory",
                    )

    def close_and_wait_end(self, timeout_s: float) -> bool:
        """Close the connection and wait until the supervisor's process has ended; False when it has not."""
        try:
            process = os.pidfd_open(_peer(self._socket)[0])
        except ProcessLookupError:
            self.close()
            return True
        try:
            self.close()
            return _readable(process, timeout_s)
        finally:
            os.close(process)

    def _take_line(self) -> bytes | None:
        end = self._buffer.find(b"\n", self._scanned)
        if end < 0:
            self._scanned = len(self._buffer)
            if len(self._buffer) > MAX_LINE_BYTES:
                raise HostError(f"the supervisor sent a message of more than {MAX_LINE_BYTES} bytes")
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
                whole = len(payload) // _INT_BYTES * _INT_BYTES
                self._fds.extend(memoryview(payload[:whole]).cast("i"))
        if not data:
            raise _gone()
        self._buffer += data

    def _decode(self, line: bytes) -> Message:
        try:
            message = jsontext.loads(line)
        except ValueError as exc:
            raise HostError("the supervisor sent what is no message of the control protocol") from exc
        if isinstance(message, dict):
            if "event" in message:
                fds, self._fds = tuple(self._fds), []
                return EventMessage(message["event"], fds)
            if "ok" in message:
                return ResultMessage(message["ok"])
            if "error" in message:
                raise error_from(message["error"])
        raise HostError("the supervisor sent a message that is neither an event, nor a result, nor an error")


def ensure_supervisor(
    site: Site, begun: Launch | None = None, *, timeout_s: float = READY_TIMEOUT_S
) -> tuple[Client, bool]:
    """A connection to the project's supervisor, started if none runs; True when this call started it. `begun`: one that was
    started early (orchestrator.launch) and waits; it is used, or ended.

    Two commands may race: the supervisor's lock decides, the loser exits with a BusyError and we connect to the winner.
    Raises what the supervisor reports (no root, no overlayfs), or HostError when it does not come up in `timeout_s`.
    """
    from orchestrator import launch

    deadline = time.monotonic() + timeout_s
    started = False
    lost: BusyError | None = None
    if begun is not None and begun.site != site:
        begun.abandon()
        begun = None
    try:
        while (client := _greeted(site)) is None:
            if time.monotonic() > deadline:
                message = f"the supervisor of project {site.project} does not stay"
                raise lost or HostError(message, hint=_log_hint(site))
            if begun is None:
                begun = launch.begin(site)
            begun.go()
            try:
                _await_ready(begun, timeout_s)
                started = True
            except BusyError as error:
                # The winner is not listening yet, or a supervisor that ends (`down`) still holds the lock. Nothing tells
                # when that is over, so look again: rare, short, and with a deadline.
                lost = error
                time.sleep(_RACE_PAUSE_S)
            begun = None
    except OSError as exc:
        raise HostError(f"cannot start a supervisor: {exc.strerror or exc}") from exc
    finally:
        if begun is not None:
            begun.abandon()
    return client, started


def _await_ready(begun: Launch, timeout_s: float) -> None:
    """Raises the error that the new supervisor reports, or HostError."""
    site = begun.site
    text, status = begun.answer(timeout_s)
    if text == "ready":
        return
    if status is None:
        raise HostError(f"the supervisor of project {site.project} was not ready in time", hint=_log_hint(site))
    try:
        error = jsontext.loads(text)
        error = error.get("error", error)
    except (ValueError, AttributeError):
        ended = f"with code {status}" if status >= 0 else f"by signal {-status}"
        hint = f"it said: {text}" if text else _log_hint(site)
        raise HostError(f"the supervisor of project {site.project} ended {ended} before it was ready", hint=hint) from None
    raise error_from(error)


def _greeted(site: Site) -> Client | None:
    """A connection on which the supervisor has answered; None if there is none, or it was about to end."""
    client = Client.connect(site.run_dir)
    if client is None:
        return None
    try:
        client.request("hello", timeout_s=READY_TIMEOUT_S)
    except SupervisorGone:
        client.close()
        return None
    except BaseException:
        client.close()
        raise
    return client


def _log_hint(site: Site) -> str:
    """Where its log is, and the last line of it."""
    path = os.path.join(site.data_dir, "supervisor.log")
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            lines = [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    return f"its log is {path}" + (f"; the last line: {lines[-1].strip()}" if lines else "")


def _readable(fd: int, timeout_s: float | None) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if timeout_s is None else timeout_s * 1000))


def _peer(connection: socket.socket) -> tuple[int, int]:
    """Process and user of the other side: whoever called listen(2) (SO_PEERCRED, unix(7))."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 3 * _INT_BYTES)
    pid, uid, _ = memoryview(data).cast("i")
    return pid, uid


def _check_peer(connection: socket.socket, path: str) -> None:
    """The other side must be ours or root's."""
    _, uid = _peer(connection)
    if uid not in (0, os.geteuid()):
        raise HostError(f"the supervisor at {path} runs as user {uid}", hint="use another PYSTACK_RUN_DIR")


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def _gone() -> SupervisorGone:
    return SupervisorGone(
        "the connection to the supervisor ended before its answer",
        hint="run the command again: a new supervisor takes over what runs; supervisor.log in the project's data "
        "directory may say why",
    )
