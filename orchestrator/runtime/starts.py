"""Starts of runs: what is asked of the monitor, and what is prepared of one before its time.

A start that is prepared has done all but its execve: it is held by the monitor (docs/monitor-protocol.md, ``held``) until
it is wanted, and does not outlive what it was made for: another spec, another monitor, another file at a bind's source, the
end of this supervisor.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping
from typing import Any

import trio

from orchestrator.contracts.runtime import Run, SandboxSpec, TtySink
from orchestrator.contracts.site import Site
from orchestrator.errors import HostError, OperationError, PystackError
from orchestrator.model.names import ContainerId
from orchestrator.oci.terms import HOSTS_OWN
from orchestrator.runtime.cgroups import ContainerCgroup
from orchestrator.runtime.ends import Ends
from orchestrator.runtime.ground import Ground, ground_of
from orchestrator.runtime.history import History
from orchestrator.runtime.link import Answer, Link, MonitorLost, StepFailed
from orchestrator.runtime.processes import END_S, failure, killed_at_birth, warnings_of
from orchestrator.runtime.program import Program
from orchestrator.runtime.rootfs import check_folders
from orchestrator.runtime.sandbox import ActiveRun, Sandbox, has_own_processes
from orchestrator.runtime.session import Session
from orchestrator.runtime.sharing import has_just_ended, joined, network_of
from orchestrator.runtime.sources import mapped_sources
from orchestrator.runtime.stdio import KEPT_TERMINAL, Streams, closing
from orchestrator.values import entity

_HELD_SINCE = 6
_AFTER_SINCE = 7
"""The versions of the monitor's protocol."""


class BornKilled(Exception):
    """See `Sandbox.spoil`: the group was killed before we knew it."""


@entity
class _Asked:
    """A start that a monitor was asked for. `ends`: descriptors of the request by name, but for those of cgroups."""

    sandbox: Sandbox
    link: Link
    program: Program
    encoded: bytes
    number: int
    echo: Mapping[str, Any]
    log: Mapping[str, int]
    owners: Mapping[str, str]
    ends: Mapping[str, int]
    streams: Streams
    shared: bool = False
    after: int = 0
    """It begins when that run has ended; `echo` is not known before."""
    ground: Ground = ()
    """As it was before it was prepared."""


class Starts:
    """Of one project's containers; one at a time of each."""

    def __init__(self, site: Site, session: Session, ends: Ends) -> None:
        self._site = site
        self._session = session
        self._ends = ends
        self._prepared: dict[ContainerId, tuple[_Asked, contextlib.ExitStack]] = {}

    async def start(
        self, sandbox: Sandbox, stdin: int | None = None, on_tty: TtySink | None = None, size: tuple[int, int] = (0, 0)
    ) -> Run:
        """As `contracts.runtime.Runtime.start`, once. Raises MonitorLost and BornKilled, too."""
        if (run := await self._prepared_run(sandbox)) is not None:
            return run
        with contextlib.ExitStack() as stack:
            asked = await self._ready(sandbox, stdin, on_tty, size, stack)
            return self._begun(asked, await self._request(asked))

    async def prepare(self, sandbox: Sandbox) -> None:
        """Do all of the next `start` but the end, where that can be. What is wrong with it, that will say."""
        spec = sandbox.spec
        plain = not (sandbox.terminal or spec.stdin_open or spec.shares)
        if not plain or sandbox.container in self._prepared:
            return
        if (ground := await _ground(spec)) is None:
            return  # It would be made by us, and not by who is to make it.
        active = self._session.active.get(sandbox.container)
        with contextlib.ExitStack() as stack, contextlib.suppress(PystackError, OSError, MonitorLost, BornKilled):
            if active is not None:
                with trio.CancelScope(shield=True):  # The run may end at once, and it is for that very moment.
                    await self._announce(sandbox, active.run.number, ground, stack)
                return
            if (await self._session.link()).version < _HELD_SINCE:
                return
            asked = await self._ready(sandbox, None, None, (0, 0), stack, ground=ground)
            with trio.CancelScope(shield=True):  # Milliseconds; a child that nobody knows of would be in its way for ever.
                await self._request(asked, held=True)
            self._prepared[sandbox.container] = asked, stack.pop_all()

    async def _announce(self, sandbox: Sandbox, after: int, ground: Ground, stack: contextlib.ExitStack) -> None:
        """The monitor begins with it when the run `after` has ended, and tells us nothing of it before `go`."""
        if (await self._session.link()).version < _AFTER_SINCE or not has_own_processes(sandbox.spec):
            return
        asked = await self._ready(sandbox, None, None, (0, 0), stack, after=after, ground=ground)
        descriptors, fields = _message(asked)
        await asked.link.announce("start", asked.encoded, descriptors, held=True, after=after, **fields)
        self._prepared[sandbox.container] = asked, stack.pop_all()

    async def give_up(self, container: ContainerId) -> None:
        """What was prepared of it is gone when this returns."""
        found = self._prepared.pop(container, None)
        if found is None:
            return
        asked, stack = found
        with stack, contextlib.suppress(StepFailed, MonitorLost, HostError, OSError), trio.CancelScope(shield=True):
            await asked.link.request("unhold", container=container)

    async def leave(self) -> None:
        """Give up all that was prepared."""
        for container in list(self._prepared):
            await self.give_up(container)

    async def _prepared_run(self, sandbox: Sandbox) -> Run | None:
        """The run that was prepared; None when there is none that is still what is wanted."""
        found = self._prepared.get(sandbox.container)
        if found is None:
            return None
        asked, stack = found
        fits = asked.sandbox is sandbox and asked.link is await self._session.link()
        fits = fits and sandbox.program(asked.link.version, owners=asked.owners)[1] == asked.encoded
        if not fits or await _ground(sandbox.spec) != asked.ground:
            await self.give_up(sandbox.container)
            return None
        del self._prepared[sandbox.container]
        fields: dict[str, Any] = {}
        if asked.after:
            fields["echo"] = asked.echo = self._ends.base_of(sandbox.container, sandbox.cgroup, asked.number)
        with stack:
            try:
                answer = await asked.link.request("go", container=sandbox.container, **fields)
            except StepFailed as exc:
                if asked.after or killed_at_birth(exc):
                    return None
                raise failure(sandbox.container, asked.program, exc) from exc
            except (MonitorLost, HostError):
                return None
            return self._begun(asked, answer)

    async def _ready(
        self,
        sandbox: Sandbox,
        stdin: int | None,
        on_tty: TtySink | None,
        size: tuple[int, int],
        stack: contextlib.ExitStack,
        *,
        after: int = 0,
        ground: Ground = (),
    ) -> _Asked:
        """All that a request takes; `stack` has what is to be closed after it."""
        container = sandbox.container
        link = await self._session.link()
        terminal = sandbox.terminal or on_tty is not None
        if terminal and on_tty is None and link.version < KEPT_TERMINAL:
            message = f"cannot make a terminal for {container}: the monitor of this project was started by an older pystack"
            raise OperationError(message, hint="`pystack down` and `pystack up` start a new one")
        owners, maps = await mapped_sources(self._session, self._site, sandbox.spec, link.version)
        program, encoded = sandbox.program(link.version, terminal=terminal, size=size, owners=owners)
        netns = await network_of(self._session, self._site, sandbox.spec)
        if not has_own_processes(sandbox.spec) and sandbox.cgroup.populated():
            await end_leftovers(sandbox.cgroup)
            sandbox.spoil(sandbox.cgroup)
        log = sandbox.log_policy(link.version)
        number = self._session.history.setdefault(container, History()).last_run + 1
        echo = {} if after else self._ends.base_of(container, sandbox.cgroup, number)
        if sandbox.spec.stdin_open and stdin is None and not terminal:
            stdin, writer = os.pipe2(os.O_CLOEXEC)
            stack.enter_context(closing(stdin, writer))
            await self._session.keep(f"stdin:{container}", [writer])
        streams = stack.enter_context(Streams(sandbox.log_owner, stdin, on_tty, terminal=terminal))
        shared = stack.enter_context(joined(self._session, self._site, sandbox.spec))
        own = {"net": netns} if netns >= 0 else {}
        ends = {**own, **maps, **shared, **streams.descriptors}
        about = sandbox, link, program, encoded, number, echo, log
        return _Asked(*about, owners, ends, streams, bool(shared), after, ground)

    async def _request(self, asked: _Asked, *, held: bool = False) -> Answer:
        sandbox, container = asked.sandbox, asked.sandbox.container
        descriptors, fields = _message(asked)
        if held:
            fields["held"] = True
        try:
            return await asked.link.request("start", asked.encoded, descriptors, **fields)
        except StepFailed as exc:
            if asked.shared and exc.number == errno.ESRCH:
                raise has_just_ended(sandbox.spec) from exc
            if killed_at_birth(exc) and sandbox.spoil(sandbox.cgroup):
                raise BornKilled from exc
            if sandbox.cgroup.oom_kills() > asked.echo["oom_kills"]:
                raise HostError(f"cannot start {container}: its memory limit is too small to start anything") from exc
            await trio.to_thread.run_sync(check_folders, sandbox.spec)  # Which has better words for it.
            raise failure(container, asked.program, exc) from exc
        except OSError as exc:
            raise HostError(f"cannot start {container}: {exc.strerror}: {exc.filename or 'clone3'}") from exc

    def _begun(self, asked: _Asked, answer: Answer) -> Run:
        container = asked.sandbox.container
        said = warnings_of(asked.program, answer.header.get("warnings", ()))
        run = Run(container, asked.number, answer.header["pid"], answer.header["started"], said)
        self._session.history.setdefault(container, History()).last_run = asked.number
        taken = asked.streams.taken(answer.fds[1:])
        self._session.add_active(ActiveRun(run, answer.fds[0], taken, asked.echo, asked.log))
        asked.streams.hand_over()
        return run


async def _ground(spec: SandboxSpec) -> Ground | None:
    """As `ground_of`, which is asked in a thread where there is something to ask: the machine's own /usr stays."""
    binds = (entry.get("options") or () for entry in spec.config.get("mounts") or () if entry.get("type") == "bind")
    if all(set(HOSTS_OWN).issubset(options) for options in binds):
        return ()
    return await trio.to_thread.run_sync(ground_of, spec)


def _message(asked: _Asked) -> tuple[list[int], dict[str, Any]]:
    """Descriptors and header of a request `start`."""
    sandbox = asked.sandbox
    names, fds = sandbox.placement(sandbox.cgroup)
    about = {"container": sandbox.container, "run": asked.number, "echo": asked.echo, "log": asked.log}
    return [*asked.ends.values(), *fds], {**about, "names": [*asked.ends, *names], **asked.streams.fields}


async def end_leftovers(cgroup: ContainerCgroup) -> None:
    """Processes of a run that no monitor knows any more: both of us were killed."""
    cgroup.kill()
    with trio.move_on_after(END_S):
        while cgroup.populated():  # noqa: ASYNC110 - v1 groups cannot notify
            await trio.sleep(0.005)
