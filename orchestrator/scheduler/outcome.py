"""What came of an operation."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.errors import CommandError, OperationError, PystackError
from orchestrator.model.names import ContainerId, ServiceName
from orchestrator.plan.plan import Verb
from orchestrator.values import entity, field, frozen, replace


@frozen
class Failure:
    """One thing that went wrong. `what`: a container as a user reads it, or an operation. `service` None: a network, a
    volume or the wait as a whole. `error` has the sentence, hint and exit code."""

    what: str
    service: ServiceName | None
    error: PystackError


@frozen
class Outcome:
    """`changed`: containers the plan touched. `removed`: containers removed. `failures`: in the order they happened, causes
    only. `blocked`: containers that could not start because of them, sorted. `container`: the one that ``run`` made."""

    verb: Verb
    changed: int = 0
    removed: int = 0
    failures: tuple[Failure, ...] = ()
    blocked: tuple[str, ...] = ()
    container: ContainerId | None = None

    @property
    def ok(self) -> bool:
        return not self.failures

    def noted(self, note: str) -> Outcome:
        return replace(self, failures=with_note(self.failures, note))

    def error(self) -> PystackError | None:
        """The operation's one error, for the user, with the exit code of the first failure; None when all went well. Of
        ``run`` a command that cannot be executed is its own one: that of a dependency is a failure like others (1)."""
        if not self.failures:
            return None
        first = self.failures[0].error
        more = ""
        others = [
            failure.what
            for failure in self.failures[1:]
            if failure.service is not None and failure.error.message != first.message  # Not by what the first says already.
        ]
        if others:
            more += f" (also failed: {', '.join(others)})"
        if self.blocked:
            more += f" (not started because of that: {', '.join(self.blocked)})"
        code = 1 if self.verb is Verb.RUN and self.blocked and isinstance(first, CommandError) else first.exit_code
        return OperationError(first.extended(more), hint=first.hint, exit_code=code, place=first.place)


def with_note(failures: Iterable[Failure], note: str) -> tuple[Failure, ...]:
    """With something said of all of them by the first one's error, which is the command's."""
    found = tuple(failures)
    if not found or not note:
        return found
    error = found[0].error
    told = OperationError(
        error.extended(f" ({note})"), hint=error.hint, exit_code=error.exit_code, place=error.place
    )
    return (replace(found[0], error=told), *found[1:])


@entity
class Tally:
    """What has come of an operation so far. A failure is said once for each container or operation, the first one."""

    failures: dict[str, Failure] = field(default_factory=dict)
    blocked: set[str] = field(default_factory=set)
    removed: int = 0

    def fail(self, what: str, service: ServiceName | None, error: PystackError) -> None:
        self.failures.setdefault(what, Failure(what, service, error))
