"""What came of an operation."""

from __future__ import annotations

from orchestrator.errors import OperationError, PystackError
from orchestrator.model.names import ServiceName
from orchestrator.plan.plan import Verb
from orchestrator.values import frozen


@frozen
class Failure:
    """One thing that went wrong. `service` None: a network or volume. `error` has the sentence, hint and exit code."""

    service: ServiceName | None
    error: PystackError


@frozen
class Outcome:
    """`changed`: services the plan touched. `removed`: containers removed. `failures`: in the order they happened, causes
    only. `blocked`: services that could not start because of them, sorted."""

    verb: Verb
    changed: int = 0
    removed: int = 0
    failures: tuple[Failure, ...] = ()
    blocked: tuple[ServiceName, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.failures

    def error(self) -> PystackError | None:
        """The operation's one error, for the user, with the exit code of the first failure; None when all went well."""
        if not self.failures:
            return None
        first = self.failures[0].error
        message = first.message
        others = [str(failure.service) for failure in self.failures[1:] if failure.service is not None]
        if others:
            message += f" (also failed: {', '.join(others)})"
        if self.blocked:
            message += f" (not started because of that: {', '.join(self.blocked)})"
        return OperationError(message, hint=first.hint, exit_code=first.exit_code)
