"""``up --abort-on-container-exit``, ``--abort-on-container-failure``, ``--exit-code-from``: when all is to be stopped, and
the exit code. Events go in; what is done about it is the caller's.

What counts is that a container has ended and will not be started again, whether by itself or stopped by somebody. The
code of ``--exit-code-from SERVICE`` is that of SERVICE's first end, also when it is stopped because another has ended. A
job that others wait for may end with 0 without ending the tests that wait for it; with ``--abort-on-container-exit`` alone
it ends all, as with Docker Compose.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from orchestrator.contracts.events import ContainerStatus, Event, EventKind
from orchestrator.errors import EXIT_FAILED
from orchestrator.model.names import ServiceName
from orchestrator.model.phase import Phase

_ENDS = (EventKind.CONTAINER_EXITED, EventKind.CONTAINER_STOPPED)
_OVER = (Phase.EXITED, Phase.FAILED)
_LOST = 255


class Cascade:
    """`managed`: the services whose ends count. `only_failures`: ends with 0 do not. `code_from`: whose code it is, None:
    of the first that ended. `completing`: services whose end with 0 others wait for."""

    def __init__(
        self,
        managed: Collection[str],
        *,
        only_failures: bool = False,
        code_from: str | None = None,
        completing: Collection[str] = (),
    ) -> None:
        self._managed = managed
        self._only_failures = only_failures
        self._code_from = code_from
        self._completing = completing
        self._first: int | None = None
        self._own: int | None = None

    def see(self, event: Event) -> str | None:
        """What to say when all is to be stopped because of `event`; None when it is not, or is already."""
        code = event.detail.get("exit_status")
        if event.kind not in _ENDS or event.service is None or event.detail.get("restarts"):
            return None
        return self._ended(event.service, code if isinstance(code, int) else _LOST)

    def found(self, statuses: Iterable[ContainerStatus]) -> str | None:
        """As `see`, for what the last look found: only `code_from` counts, the others may have ended long ago."""
        told = None
        for status in statuses:
            if status.service != self._code_from or status.phase not in _OVER:
                continue
            if status.refused:
                told = self._ended(status.service, status.refused) or told
            elif status.exit is not None:
                told = self._ended(status.service, status.exit.status) or told
        return told

    @property
    def exit_code(self) -> int:
        """So far. When `code_from` never ran: of the first that ended, but a failure."""
        if self._code_from is None:
            return self._first or 0
        if self._own is not None:
            return self._own
        return 0 if self._first is None else self._first or EXIT_FAILED

    def _ended(self, service: ServiceName, code: int) -> str | None:
        if service not in self._managed:
            return None
        if service == self._code_from:
            self._own = code if self._own is None else self._own
        elif code == 0 and self._code_from is not None and service in self._completing:
            return None
        if self._first is not None or (self._only_failures and code == 0):
            return None
        self._first = code
        return f"stopping: {service} has ended with {code}"
