"""What is held together with the monitor, and how it survives the monitor: the part of the runtime that heals.

The supervisor has duplicates of everything a monitor holds: kept descriptors, pidfds and log pipes of the runs, the user
namespace. When the monitor is gone, `_recover` starts another and hands it all over; requests that were on the way are
asked again by their callers (`ask`).
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import trio

from orchestrator.contracts.runtime import Exit, Run
from orchestrator.contracts.site import Site
from orchestrator.errors import HostError
from orchestrator.kernel import fdpass, mounts
from orchestrator.kernel.constants import AT_FDCWD
from orchestrator.model.names import ContainerId
from orchestrator.runtime import cradle
from orchestrator.runtime.history import History, compact_journal, exit_of, read_journal
from orchestrator.runtime.link import Answer, Link, MonitorLost, connect, launch
from orchestrator.runtime.monitor.wire import LOWEST_VERSION, VERSION
from orchestrator.runtime.owners import OwnerMap
from orchestrator.runtime.program import too_old
from orchestrator.runtime.reaping import reap_strays, wait_process
from orchestrator.runtime.sandbox import ActiveRun

if TYPE_CHECKING:
    from orchestrator.runtime.monitor.wire import Header

USERNS = "userns"
_PLAIN = "plain."
"""Before the key of a layer whose ids are not mapped."""
_PLAIN_SINCE = 5
"""The version of the monitor's protocol."""
_MOST_RECOVERIES = 8
_RECOVERY_WINDOW_S = 10.0
_LEAVE_S = 5.0
_EARLY_KEPT = 64
_MOST_KEPT = fdpass.MOST_FDS - 1
"""In one message; room for a memfd is left (`monitor.wire`)."""
_MOST_NETNS = 64
"""In one request: they cost half a millisecond each, and the others wait for it."""


class Session:
    """`active`: runs by container. `kept`: name -> our duplicates of what the monitor keeps. `history`: from the journal.
    `completed`: an end of a container's run with what else is known of it. `outlives`: kills what outlives a container's
    run, if anything can."""

    def __init__(self, site: Site, respawn_argv: tuple[str, ...] | None, nursery: trio.Nursery) -> None:
        self.site = site
        self.active: dict[ContainerId, ActiveRun] = {}
        self.kept: dict[str, tuple[int, ...]] = {}
        self.history: dict[ContainerId, History] = {}
        self.tell_unlogged: Callable[[ContainerId, int, str], None] = lambda container, count, why: None
        self.completed: Callable[[ActiveRun, Exit], Exit] = lambda active, exit_: exit_
        self.outlives: Callable[[ContainerId], bool] = lambda container: False
        self.generation = 0
        """Counts the monitors: numbers that belong to one monitor (layers) are void for the next."""
        self._layers: dict[str, tuple[int, str]] = {}
        self._respawn = list(respawn_argv) if respawn_argv else None
        self._nursery = nursery
        self._link: Link | None = None
        self._ready = trio.Event()
        self._closing = False
        self._recovering: trio.Event | None = None
        """Set when a killed monitor's containers are in another's hands."""
        self._hopeless: HostError | None = None
        self._recoveries: deque[float] = deque(maxlen=_MOST_RECOVERIES)
        self._early: dict[tuple[ContainerId, int], Header] = {}
        self._netns_wanted: list[str] = []
        self._netns_lock = trio.Lock()

    @property
    def monitor_pid(self) -> int:
        assert self._link is not None, "the session is not open"
        return self._link.pid

    @property
    def _journal_path(self) -> str:
        return f"{self.site.data_dir}/exits.journal"

    async def open(self) -> None:
        """Find the monitor that runs, or start one; then know all that it knows. Raises HostError."""
        link = connect(self.site, self._on_event)
        answer = None
        if link is not None:
            answer = await self._first_hello(link)
            if answer is not None and self._is_left_over(answer):
                link.end_monitor()
                await link.ended.wait()
                link.close()
                fdpass.close_all([fd for _, fds in answer.items for fd in fds])
                answer = None
            if answer is not None:
                cradle.discard(self.site.data_dir)
        if link is None or answer is None:  # None runs, or one that is about to end.
            with _journal_errors(self._journal_path):
                compact_journal(self._journal_path)
            link = launch(self.site, self._on_event)
            answer = await self._first_hello(link)
        if answer is None:
            raise HostError(
                "the monitor ended as soon as it was started", hint=f"see {self.site.data_dir}/monitor.log"
            )
        for header, fds in answer.items:
            if header["item"] == "run":
                self._take_run(header, fds)
            else:
                self.kept[header["name"]] = tuple(fds)
        for key, number in answer.header["layers"].items():
            self._layers[key] = number, key.partition(":")[2]
        # After hello: what ended before it is in the journal, what ends after it is told.
        with _journal_errors(self._journal_path):
            self.history = read_journal(self._journal_path)
        self._set_link(link)

    def _is_left_over(self, answer: Answer) -> bool:
        """Whether that monitor looks after nothing, in a data directory that is gone: who took the project down was killed
        just before the end. All that it would make would be there."""
        here = os.stat(self.site.data_dir)
        moved = answer.header.get("place") not in (None, [here.st_dev, here.st_ino])
        return moved and all(header["item"] != "run" for header, _ in answer.items)

    async def _first_hello(self, link: Link) -> Answer | None:
        """None when that monitor ended."""
        self._nursery.start_soon(self._attend, link)
        try:
            return await self._hello(link)
        except MonitorLost:
            await link.ended.wait()
            link.close()
            return None
        except OSError as exc:
            raise HostError(f"the monitor cannot make a user namespace: {exc.strerror}") from exc

    def _set_link(self, link: Link) -> None:
        self._link = link
        self.generation += 1
        self._ready.set()

    async def _hello(self, link: Link, fds: Sequence[int] = ()) -> Answer:
        """Asks for the lowest version, which any monitor speaks; the answer says which it speaks in fact (1: nothing)."""
        answer = await link.request("hello", b"", fds, version=LOWEST_VERSION, respawn=self._respawn)
        link.version = min(VERSION, int(answer.header.get("version", LOWEST_VERSION)))
        return answer

    def _take_run(self, header: Header, fds: list[int]) -> None:
        run = Run(ContainerId(header["container"]), header["run"], header["pid"], header["started"])
        pipes = dict(zip(header["streams"], fds[1:], strict=True))
        self.active[run.container] = ActiveRun(run, fds[0], pipes, header["echo"] or {}, header["log"])

    async def link(self) -> Link:
        """The link to the living monitor; waits while a new one is being started. Raises HostError when there is to be none
        any more: who is shielded would wait for ever."""
        while True:
            if not self._ready.is_set():  # An event that is set costs a turn of the loop, too.
                await self._ready.wait()
            if self._hopeless is not None:
                raise HostError(self._hopeless.message, hint=self._hopeless.hint)
            if self._link is not None and not self._link.lost:
                return self._link
            self._ready = trio.Event() if self._ready.is_set() else self._ready

    async def ask(self, op: str, fds: Sequence[int] = (), **fields: Any) -> Answer:
        """An idempotent request, asked again when the monitor is killed meanwhile. Raises OSError, HostError."""
        while True:
            link = await self.link()
            with contextlib.suppress(MonitorLost):
                return await link.request(op, b"", fds, **fields)

    # Losing the monitor.

    async def _attend(self, link: Link) -> None:
        await link.run()
        if self.generation and not self._closing:
            try:
                await self._recover(link)
            except HostError as error:
                self._hopeless = error
                self._ready.set()
                raise

    async def _recover(self, old: Link) -> None:
        now = trio.current_time()
        if len(self._recoveries) == _MOST_RECOVERIES and now - self._recoveries[0] < _RECOVERY_WINDOW_S:
            raise HostError(
                f"the monitor ended {_MOST_RECOVERIES} times within {_RECOVERY_WINDOW_S:g} seconds",
                hint=f"see {self.site.data_dir}/monitor.log",
            )
        self._recoveries.append(now)
        if self._ready.is_set():
            self._ready = trio.Event()
        self._recovering = recovered = trio.Event()
        try:
            await self._begin_anew(old)
        finally:
            recovered.set()

    async def _begin_anew(self, old: Link) -> None:
        old.close()
        link = launch(self.site, self._on_event)
        self._nursery.start_soon(self._attend, link)
        with contextlib.suppress(MonitorLost):  # Killed as well: its own `_attend` recovers.
            await self._hand_over(link)
            self._set_link(link)
            self._reap_strays()

    async def _hand_over(self, link: Link) -> None:
        answer = await self._hello(link, self.kept.get(USERNS, ()))
        for header, fds in answer.items:
            if header["name"] not in self.kept:
                self.kept[header["name"]] = tuple(fds)
            else:
                fdpass.close_all(fds)
        for name in [name for name in self.kept if name != USERNS]:
            if (kept := self.kept.get(name)) is not None:  # Else somebody has dropped it, and closed what was kept.
                await link.request("keep", b"", kept, name=name)
        for key, (_, path) in list(self._layers.items()):
            with contextlib.suppress(OSError):  # A layer that is gone is missed by the next start that needs it.
                self._layers[key] = await _add_layer(link, key, path), path
        for active in list(self.active.values()):
            if active.exit is not None:
                continue  # It ended while we were handing over the others.
            run = active.run
            streams = sorted(active.pipes)
            self._nursery.start_soon(self._watch_orphan, active, os.dup(active.pidfd))
            await link.request(
                "adopt", b"", [active.pidfd, *(active.pipes[stream] for stream in streams)],
                container=run.container, run=run.number, pid=run.pid, started=run.started_at,
                echo=active.echo, log=active.log, streams=streams,
            )  # fmt: skip

    async def _watch_orphan(self, active: ActiveRun, pidfd: int) -> None:
        """A run whose monitor was killed is our child now, if we are its ancestor: we know its status, and tell it."""
        try:
            status = await wait_process(pidfd)
            await self.ask("reaped", container=active.run.container, run=active.run.number, status=status)
        finally:
            os.close(pidfd)

    def _reap_strays(self) -> None:
        """Half-made processes of a killed monitor are our children too; runs and execs are waited for by their pidfds."""
        known = {active.run.pid for active in self.active.values()}
        self._nursery.start_soon(reap_strays, known | ({self._link.pid} if self._link is not None else set()))

    # Events.

    def _on_event(self, event: Header) -> None:
        if event.get("event") == "unlogged":
            self.tell_unlogged(ContainerId(event["container"]), event["bytes"], os.strerror(event["errno"]))
        if event.get("event") != "exit":
            return
        container = ContainerId(event["container"])
        active = self.active.get(container)
        if active is None or active.run.number != event["run"]:
            # Told in the same breath as the start, whose caller has not run yet.
            self._early[container, event["run"]] = event
            while len(self._early) > _EARLY_KEPT:
                del self._early[next(iter(self._early))]
            return
        self._end(active, event)

    def add_active(self, active: ActiveRun) -> None:
        self.active[active.run.container] = active
        event = self._early.pop((active.run.container, active.run.number), None)
        if event is not None:
            self._end(active, event)

    def _end(self, active: ActiveRun, event: Header) -> None:
        container = active.run.container
        del self.active[container]
        exit_ = self.completed(active, exit_of(event["status"], event["at"]))
        history = self.history.setdefault(container, History())
        history.last_run = max(history.last_run, active.run.number)
        history.add_exit(active.run.number, exit_)
        if self.outlives(container):
            # Whose parents have ended are ours, if they were not in another pid namespace.
            self._reap_strays()
        active.finish(exit_)

    # What the monitor keeps.

    async def keep(self, name: str, fds: Sequence[int]) -> None:
        """The monitor and we keep duplicates of `fds` under `name`; the caller's stay the caller's. As many as are asked
        for: what does not fit a message is kept in parts, as NAME#1, NAME#2, ..."""
        firsts = range(0, len(fds), _MOST_KEPT)
        wanted = {f"{name}#{at // _MOST_KEPT}" if at else name: fds[at : at + _MOST_KEPT] for at in firsts}
        for part in self._parts(name):
            if part not in wanted:
                await self._drop_one(part)
        for part, some in wanted.items():
            self._forget_kept(part)
            self.kept[part] = tuple(os.dup(fd) for fd in some)
            await self.ask("keep", some, name=part)

    def fetch(self, name: str) -> tuple[int, ...]:
        """What is kept under `name` (nothing: an empty tuple); the descriptors stay the runtime's."""
        return tuple(fd for part in self._parts(name) for fd in self.kept[part])

    async def drop(self, name: str) -> None:
        for part in self._parts(name) or [name]:
            await self._drop_one(part)

    async def _drop_one(self, part: str) -> None:
        self._forget_kept(part)
        await self.ask("drop", name=part)

    def _parts(self, name: str) -> list[str]:
        """Those under which something is kept for `name`, in order."""
        parts = [name] if name in self.kept else []
        while parts and (part := f"{name}#{len(parts)}") in self.kept:
            parts.append(part)
        return parts

    def _forget_kept(self, name: str) -> None:
        fdpass.close_all(self.kept.pop(name, ()))

    async def owner_namespace(self, wanted: OwnerMap) -> int:
        """A user namespace with these maps, made if there is none yet. Owned by the session. Raises OSError."""
        if wanted.name not in self.kept:
            made = await self.ask("userns", name=wanted.name, uids=wanted.uids, gids=wanted.gids)
            if wanted.name in self.kept:  # Somebody else has asked meanwhile.
                fdpass.close_all(made.fds)
            else:
                self.kept[wanted.name] = tuple(made.fds)
        return self.kept[wanted.name][0]

    async def network_namespace(self, container: ContainerId) -> int:
        """The container's, made if it has none. Owned by the session."""
        name = f"net:{container}"
        if name not in self.kept:
            self._netns_wanted.append(name)
            try:
                async with self._netns_lock:
                    while name not in self.kept:
                        await self._make_network_namespaces()
            finally:
                self._netns_wanted.remove(name)
        return self.kept[name][0]

    async def _make_network_namespaces(self) -> None:
        """Those who want one while a batch is being made get theirs in one batch after it."""
        names = [name for name in dict.fromkeys(self._netns_wanted) if name not in self.kept][:_MOST_NETNS]
        # Shielded: the monitor keeps what it makes, so we must know of it. The answer has a deadline of its own.
        with trio.CancelScope(shield=True):
            try:
                made = await self.ask("netns", names=names)
            except OSError as exc:
                if exc.errno != errno.EOWNERDEAD:
                    raise
                raise HostError(
                    "the process that makes network namespaces was killed",
                    hint="the machine may be out of memory: see the kernel's log",
                ) from exc
            self.kept |= {name: (fd,) for name, fd in zip(names, made.fds, strict=False)}
            for name in names:
                if name in self.kept and name not in self._netns_wanted:  # Cancelled meanwhile.
                    await self.drop(name)

    async def layers(self, paths: Sequence[str], *, plain: bool = False) -> tuple[int, ...]:
        """The numbers of image layers, topmost first. `plain`: their files belong to whom they belong to on disk. Raises
        HostError, and OperationError when the monitor is too old for that."""
        numbers = []
        for path in paths:
            try:
                found = os.stat(path)
                key = f"{_PLAIN if plain else ''}{found.st_dev}.{found.st_ino}:{path}"
                if key not in self._layers:
                    self._layers[key] = await _add_layer(await self.link(), key, path), path
            except MonitorLost:
                return await self.layers(paths, plain=plain)
            except OSError as exc:
                hint = "its file system cannot map owners (id-mapped mounts): ext4, xfs, btrfs and tmpfs can"
                raise HostError(
                    f"cannot use the image layer {path}: {exc.strerror}", hint=hint if exc.errno == errno.EINVAL else None
                ) from exc
            numbers.append(self._layers[key][0])
        return tuple(numbers)

    async def drop_layers(self, is_used: Callable[[bool, str], bool]) -> None:
        """Unmount what no container uses. `is_used`: asked with `plain` and a path."""
        keys = [key for key, (_, path) in self._layers.items() if not is_used(key.startswith(_PLAIN), path)]
        if keys:
            for key in keys:
                del self._layers[key]
            await self.ask("unlayer", keys=keys)

    async def close(self) -> None:
        """Leave. A monitor that has nothing to look after ends. What one that was just killed looked after is in another's
        hands before: nobody else has it."""
        with trio.move_on_after(_LEAVE_S) as scope:
            scope.shield = True  # A goodbye that is not said makes the monitor start us again.
            while not await self._said_goodbye():
                pass
        self._closing = True
        if self._link is not None:
            self._link.close()
        for active in self.active.values():
            active.release()
        for name in list(self.kept):
            self._forget_kept(name)

    async def _said_goodbye(self) -> bool:
        """False when the monitor was killed instead, and there is something to hand over."""
        self._closing = not self.active
        link = self._link
        if link is None:
            return True
        try:
            await link.request("goodbye" if self.active else "shutdown")
        except MonitorLost:
            await link.ended.wait()
            if self._recovering is not None:  # Begun by the task that told the end.
                await self._recovering.wait()
            return not self.active or self._hopeless is not None
        except (OSError, HostError):
            return True
        if not self.active:
            await link.ended.wait()
        return True


async def _add_layer(link: Link, key: str, path: str) -> int:
    plain = key.startswith(_PLAIN)
    if plain and link.version < _PLAIN_SINCE:
        raise too_old("use an image with the host's ids")
    tree = mounts.open_tree(AT_FDCWD, os.fsencode(path))
    try:
        number: int = (await link.request("layer", b"", (tree,), key=key, plain=plain)).header["number"]
        return number
    finally:
        os.close(tree)


@contextlib.contextmanager
def _journal_errors(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise HostError(f"cannot read {path}: {exc.strerror}", hint="move it away") from exc
