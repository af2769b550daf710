"""What a supervisor sends, line by line, and the errors that it stands for."""

from __future__ import annotations

from orchestrator.errors import EXIT_FAILED, KINDS, HostError, OperationError, PystackError
from orchestrator.kernel import jsontext
from orchestrator.values import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class SupervisorGone(HostError):
    """The connection ended in the middle of a request: the supervisor ended, or was killed."""


class Unanswered(HostError):
    """The supervisor exists and has given no sign of life in time (`client.silence` says what it does instead)."""


class OtherProtocol(HostError):
    """The supervisor is of another version of pystack. `version`: of the protocol it speaks."""

    def __init__(self, message: str, version: int, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.version = version


@frozen
class EventMessage:
    """One event, as JSON. `fds` came with it and belong to the receiver."""

    value: Any
    fds: tuple[int, ...] = ()


@frozen
class ResultMessage:
    """The request has ended well."""

    value: Any


@frozen
class Alive:
    """A sign of life: the acknowledgement of the request, or a beat while it is worked on."""


@frozen
class Refusal:
    """The request has ended with `error`. `version`: of the protocol, told by a supervisor that took no request; None in
    the answer to a request, and in all that a supervisor of version 1 says."""

    error: PystackError
    version: int | None


def decode(line: bytes) -> EventMessage | ResultMessage | Alive | Refusal:
    """Raises HostError for what is no message."""
    try:
        message = jsontext.loads(line)
    except ValueError as exc:
        raise HostError("the supervisor sent what is no message of the control protocol") from exc
    if isinstance(message, dict):
        if "event" in message:
            return EventMessage(message["event"])
        if "ok" in message:
            return ResultMessage(message["ok"])
        if "error" in message:
            version = message.get("v")
            return Refusal(error_from(message["error"]), version if isinstance(version, int) else None)
        if "ack" in message or "beat" in message:
            return Alive()
    raise HostError("the supervisor sent a message that is neither an event, nor a result, nor an error")


def error_from(data: object) -> PystackError:
    """The error that a Fault stands for."""
    fields = data if isinstance(data, dict) else {}
    message = str(fields.get("message") or "the supervisor reported an error without a message")
    hint, code, kind = fields.get("hint"), fields.get("exit_code"), fields.get("kind")
    # Exit code 1 is the default, and so left out.
    code = code if isinstance(code, int) and 0 < code < 256 else EXIT_FAILED
    cls = KINDS.get(kind, OperationError) if isinstance(kind, str) else OperationError
    return cls(message, hint=str(hint) if hint else None, exit_code=code, place=str(fields.get("place") or ""))
