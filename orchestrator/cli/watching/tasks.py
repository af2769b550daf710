"""Operations that a watch begins: a rebuild, a restart, commands in containers. Each is waited for with everything else."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from orchestrator.cli.connection import connect, manage, require
from orchestrator.cli.operation import Operation
from orchestrator.cli.render.board import Board
from orchestrator.cli.render.progress import Progress
from orchestrator.cli.settings import Settings
from orchestrator.cli.wanted_images import caller_variables, with_policies
from orchestrator.cli.wire import encoded, event_of, selected, statuses_of
from orchestrator.client import Client, ResultMessage, ensure_supervisor
from orchestrator.contracts.control import Exec, Restart, Up
from orchestrator.contracts.events import EventKind
from orchestrator.contracts.site import Site
from orchestrator.errors import OperationError, PystackError
from orchestrator.model.hooks import Hook
from orchestrator.model.names import ContainerId, Role, ServiceName
from orchestrator.model.phase import LIVE
from orchestrator.values import replace

_CHUNK = 1 << 16
_OF_BUILDS = frozenset(
    {EventKind.IMAGE_OBTAINING, EventKind.IMAGE_PROGRESS, EventKind.IMAGE_OBTAINED, EventKind.IMAGE_FAILED}
)


class Task(Protocol):
    """`replaced`: it left new containers. `done`, then `error` says how it ended."""

    done: bool
    error: PystackError | None

    @property
    def replaced(self) -> bool: ...

    def sources(self) -> list[Any]: ...

    def left_s(self) -> float | None: ...

    def pump(self) -> None: ...

    def close(self) -> None:
        """It may go on without us, but for a command in a container."""
        ...


class OperationTask(Operation):
    """An operation of the supervisor. `everything`: all its events are shown, and not only those of builds."""

    def __init__(self, client: Client, request: Up | Restart, progress: Progress, *, everything: bool) -> None:
        super().__init__(client, request, progress, Board())
        self._everything = everything

    @property
    def replaced(self) -> bool:
        return bool(self.result and self.result.get("changed"))

    def sources(self) -> list[Any]:
        return [] if self.done else [self.client]

    def take(self, value: Any) -> None:
        event = event_of(value)
        if event is not None and (self._everything or event.kind in _OF_BUILDS):
            self._progress.event(event, value)

    def close(self) -> None:
        self.client.close()


def rebuild(
    settings: Settings, site: Site, service: ServiceName, replicas: int, progress: Progress, *, everything: bool
) -> OperationTask:
    """As ``up --build --no-deps SERVICE``, by the files as they are now. `replicas`: how many there are; 0: as the stack
    has it. Raises what loading the stack does."""
    project, _ = replace(settings, progress="quiet").load_to_run((service,))
    project = with_policies(project, (service,), build=True, no_build=False, pull=None)
    request = Up(
        project,
        selected((service,), no_deps=True),
        scale={service: replicas} if replicas and replicas != project.services[service].replicas else {},
        ignore_orphans=True,
        named=settings.origin()[1],
        registry=caller_variables(settings.environ),
    )
    client, _ = ensure_supervisor(site)
    return OperationTask(client, request, progress, everything=everything)


def restart(site: Site, service: ServiceName, progress: Progress, *, everything: bool) -> OperationTask:
    """Raises OperationError when nothing of the project exists."""
    client = manage(site)
    if client is None:
        raise OperationError(f"project {site.project} does not exist")
    return OperationTask(client, Restart(selected((service,))), progress, everything=everything)


class ExecTask:
    """`hooks` one after the other, each in all containers that run. `tell`: what they write, a line at a time, with the
    container. After a command that failed the next is run all the same; `error` is the first's. Raises OperationError when
    nothing of the project runs."""

    replaced = False

    def __init__(
        self,
        site: Site,
        service: ServiceName,
        hooks: Sequence[Hook],
        tell: Callable[[str], None],
    ) -> None:
        self.done = False
        self.error: PystackError | None = None
        self._site, self._service, self._tell = site, service, tell
        with require(site) as client:
            statuses = statuses_of(client.request("ps"))
        there = [
            (status.container, status.number)
            for status in statuses
            if status.service == service and status.role is Role.REPLICA and status.phase in LIVE
        ]
        self._todo = [(hook, *container) for hook in hooks for container in there][::-1]
        self._running: _Command | None = None
        self._next()

    def _next(self) -> None:
        if not self._todo:
            self.done = True
            return
        hook, container, number = self._todo.pop()
        client = connect(self._site)
        if client is None:
            self.done, self.error = True, OperationError(f"project {self._site.project} is not running")
            return
        self._running = _Command(client, self._service, hook, container, number, self._tell)

    def sources(self) -> list[Any]:
        return self._running.sources() if self._running is not None else []

    def left_s(self) -> float | None:
        return self._running.client.left_s() if self._running is not None else None

    def pump(self) -> None:
        while self._running is not None and self._running.pump():
            self.error = self.error or self._running.error
            self._running.close()
            self._running = None
            self._next()

    def close(self) -> None:
        if self._running is not None:
            self._running.close()


class _Command:
    """One command in one container."""

    def __init__(
        self,
        client: Client,
        service: ServiceName,
        hook: Hook,
        container: ContainerId,
        number: int,
        tell: Callable[[str], None],
    ) -> None:
        self.client = client
        self.error: PystackError | None = None
        self._container, self._command, self._tell = container, hook.command, tell
        request = Exec(
            service,
            hook.command,
            number,
            environment=hook.environment,
            working_dir=hook.working_dir,
            user=hook.user,
            privileged=hook.privileged,
        )
        their_in, ours = os.pipe2(os.O_CLOEXEC)
        os.close(ours)  # Nothing is to be read.
        self._outputs: dict[int, bytes] = {}
        theirs = [their_in]
        for _ in range(2):
            reader, writer = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(reader, False)
            self._outputs[reader] = b""
            theirs.append(writer)
        try:
            client.send(*encoded(request), theirs)
        finally:
            for fd in theirs:
                os.close(fd)

    def sources(self) -> list[Any]:
        return [self.client, *self._outputs]

    def pump(self) -> bool:
        """Whether it has ended."""
        self._read()
        try:
            message = self.client.receive(0)
        except PystackError as error:
            self.error = error
            return True
        if not isinstance(message, ResultMessage):
            return False
        self._read()
        status = int(message.value["status"])
        if status:
            self.error = OperationError(f'"{" ".join(self._command)}" ended with code {status} in {self._container}')
        return True

    def _read(self) -> None:
        for fd in list(self._outputs):
            with contextlib.suppress(BlockingIOError):
                while data := os.read(fd, _CHUNK):
                    *lines, self._outputs[fd] = (self._outputs[fd] + data).split(b"\n")
                    for line in lines:
                        self._say(line)
                self._end(fd)

    def _end(self, fd: int) -> None:
        if rest := self._outputs.pop(fd):
            self._say(rest)
        os.close(fd)

    def _say(self, line: bytes) -> None:
        self._tell(f"{self._container} -> | {line.decode('utf-8', 'replace')}")

    def close(self) -> None:
        self.client.close()
        for fd in list(self._outputs):
            self._end(fd)
