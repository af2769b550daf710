"""A watch: what is told by the kernel, what that means, and the work that follows, in one loop of whoever has it.

`sources` and `left_s` say what to wait for, `pump` does what can be done now: some of the copying, so that whoever waits
for keys and signals too gets to them; operations go on beside it. `notice` must be told of the project's events: they say
when containers come and go.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from orchestrator.cli.render.progress import Progress
from orchestrator.cli.settings import Settings
from orchestrator.cli.watching import tasks
from orchestrator.cli.watching.copies import Unreached, copy
from orchestrator.cli.watching.mirror import Part
from orchestrator.cli.watching.notices import Notices, Root
from orchestrator.cli.watching.preparing import Prepared
from orchestrator.cli.watching.pruning import Pruning
from orchestrator.cli.watching.rules import target_of
from orchestrator.cli.watching.states import Behind, Kind, ServiceState, shared_out
from orchestrator.cli.watching.timing import Burst
from orchestrator.cli.watching.trees import Tree
from orchestrator.client.connection import soonest
from orchestrator.contracts.events import Event, EventKind
from orchestrator.contracts.site import Site
from orchestrator.contracts.state import ContainerRecord
from orchestrator.errors import PystackError
from orchestrator.model.names import ContainerId, Role, ServiceName
from orchestrator.state.reading import Reading
from orchestrator.values import frozen

_TOLD_AT_TRY = 8
_COPYING_S, _MOST_AT_ONCE = 0.05, 1000
"""Of one `pump`: it begins no further slice (`mirror.bring`) after that, and takes no more paths of a container."""
_COME_AND_GO = frozenset(
    {
        EventKind.CONTAINER_CREATED,
        EventKind.CONTAINER_STARTED,
        EventKind.CONTAINER_STOPPED,
        EventKind.CONTAINER_EXITED,
        EventKind.CONTAINER_REMOVED,
    }
)


@frozen
class Manner:
    """`everything`: all events of operations are shown (nobody else does it), and not only what builds say."""

    prune: bool = True
    everything: bool = True


class _Rule:
    """A rule that is watched, by its number among all."""

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        self.tree = Tree(prepared.ground, prepared.filter)
        self.burst = Burst()
        self._held = -1
        self.identity: tuple[int, int] | None = None
        self.hold()

    def hold(self) -> None:
        """Go by the root as it is now, and hold on to it: the inode's number of a folder that was deleted is given to the
        next one, which would pass for it."""
        self.let_go()
        with contextlib.suppress(OSError, ValueError):
            self._held = os.open(os.path.join(self.prepared.ground.root, ""), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            found = os.fstat(self._held)
            self.identity = found.st_dev, found.st_ino

    def let_go(self) -> None:
        if self._held >= 0:
            os.close(self._held)
        self._held, self.identity = -1, None


class _Copied:
    """What was copied to a service until nothing was left."""

    def __init__(self) -> None:
        self.began_s = time.monotonic()
        self.paths: set[tuple[int, str]] = set()
        self.containers: set[ContainerId] = set()


class Watching:
    """A context manager: files are watched from its beginning on, and something is done about them from `begin` on."""

    def __init__(
        self, settings: Settings, site: Site, prepared: Iterable[Prepared], progress: Progress, manner: Manner
    ) -> None:
        self._settings, self._site, self._progress, self._manner = settings, site, progress, manner
        every = tuple(prepared)
        self._notices = Notices(Root(each.ground.root, each.filter.enters) for each in every)
        self._rules = dict(enumerate(map(_Rule, every)))
        self._states: dict[ServiceName, ServiceState] = {}
        for service in dict.fromkeys(rule.prepared.service for rule in self._rules.values()):
            of_service = {number: rule for number, rule in self._rules.items() if rule.prepared.service == service}
            self._states[service] = ServiceState({n: rule.prepared.rule.action for n, rule in of_service.items()})
        self._tasks: dict[ServiceName, tasks.Task] = {}
        self._pruning: dict[ServiceName, Pruning] = {}
        self._containers: dict[ContainerId, ContainerRecord] = {}
        self._copied: dict[ServiceName, _Copied] = {}
        self._stale = True
        self._begun = False

    def __enter__(self) -> Watching:
        for rule in self._rules.values():
            rule.tree.look({""})
        return self

    def __exit__(self, *_: object) -> None:
        self._notices.close()
        for task in self._tasks.values():
            task.close()
        for rule in self._rules.values():
            rule.let_go()

    def begin(self) -> None:
        """The services are there: from now on changes are brought to them, and those since `__enter__`."""
        self._begun = True
        for number, rule in self._rules.items():
            if rule.prepared.rule.initial_sync and rule.prepared.rule.action.syncs:
                self._states[rule.prepared.service].begins_with(number, rule.tree.paths)
        self._tell("enabled")

    @property
    def busy(self) -> bool:
        """An operation is under way: what ends now comes back."""
        return bool(self._tasks)

    def sources(self) -> list[Any]:
        heard = [self._notices] if self._begun else []  # Nobody takes what it has before.
        return [*heard, *(source for task in self._tasks.values() for source in task.sources())]

    def left_s(self) -> float | None:
        """Until there is something to do, whatever happens."""
        if not self._begun:
            return None
        times = [rule.burst.due_s for rule in self._rules.values()]
        times += [state.wake_s() for state in self._states.values()]
        due_s = soonest(*times)
        own_s = None if due_s is None else max(0.0, due_s - time.monotonic())
        return soonest(own_s, *(task.left_s() for task in self._tasks.values()))

    def notice(self, event: Event) -> None:
        if event.kind in _COME_AND_GO:
            self._stale = True
            if event.container is not None and event.service in self._states:
                self._states[event.service].stirred(event.container)

    def missed(self) -> None:
        """Nobody told of events for a while."""
        self._stale = True
        for state in self._states.values():
            state.stirred(None)

    def given_up(self, error: PystackError) -> None:
        """Tell that the watch ends by itself."""
        self._tell(f"ended: {error}" + (f" ({error.hint})" if error.hint else ""))

    def pump(self) -> None:
        """Raises HostError when the kernel watches no more."""
        if not self._begun:
            return
        self._hear()
        self._look()
        for service in list(self._tasks):
            self._attend(service)
        if self._stale:
            self._find_containers()
        until_s = time.monotonic() + _COPYING_S
        for service, state in self._states.items():
            self._copy(service, state, until_s)
            self._operate(service, state)

    # Files.

    def _hear(self) -> None:
        paths = self._notices.take()
        now_s = time.monotonic()
        for rule in self._rules.values() if paths else ():
            root = rule.prepared.ground.root
            below = f"{root.rstrip('/')}/"
            hints = {path[len(below) :] for path in paths if path.startswith(below)}
            if root in paths:
                hints.add("")
            if hints:
                rule.burst.came(hints, now_s)

    def _look(self) -> None:
        now_s = time.monotonic()
        for number, rule in self._rules.items():
            if not (hints := rule.burst.take(now_s)):
                continue
            if rule.identity != rule.tree.identity:
                rule.hold()
                if rule.identity is None:
                    self._tell(f"{rule.prepared.ground.root} is gone; what was copied stays until it is back")
                hints.add("")
            self._states[rule.prepared.service].changed(number, rule.tree.look(hints), now_s)

    # Containers.

    def _find_containers(self) -> None:
        self._stale = False
        record = Reading(self._site).record
        self._containers = {
            item.container: item
            for item in (record.containers if record is not None else ())
            if item.instance.service in self._states and item.instance.role is Role.REPLICA
        }
        for service, state in self._states.items():
            state.containers({name: item.created_at for name, item in self._of(service).items()})

    def _of(self, service: ServiceName) -> Mapping[ContainerId, ContainerRecord]:
        return {name: item for name, item in self._containers.items() if item.instance.service == service}

    def _copy(self, service: ServiceName, state: ServiceState, until_s: float) -> None:
        def enough() -> bool:
            return time.monotonic() >= until_s

        if due := state.to_copy(time.monotonic()):
            self._copied.setdefault(service, _Copied())
        elif service not in self._copied:
            return
        copied, unfinished = self._copied[service], False
        for container, all_behind in due:
            behind, left = shared_out(all_behind, 0 if enough() else _MOST_AT_ONCE)
            if not behind:
                state.left(container, left)
                unfinished = True
                continue
            warn = self._warner(f"{container}: ")
            try:
                brought = copy(self._settings, self._site, container, self._parts(behind), warn, enough)
            except Unreached as unreached:
                if state.failed(container, all_behind, time.monotonic()) == _TOLD_AT_TRY:
                    self._tell(f"{container} cannot be reached: {unreached.error}; it gets its files when it is back")
                continue
            undone = {(part.rule, path) for part in brought.left for path, _ in part.paths}
            for rule, path in undone:
                left.setdefault(rule, set()).add(path)
            tried = {(rule, path) for rule, paths in behind.items() for path in paths} - undone
            news = state.copied(container, tried, brought.refused.keys(), time.monotonic())
            self._tell_refused(container, [brought.refused[each] for each in sorted(news)])
            if done := tried - brought.refused.keys():
                copied.containers.add(container)
                copied.paths |= done
            if left:
                state.left(container, left)
                unfinished = True
        if not unfinished:
            self._tell_copied(service, self._copied.pop(service))

    def _tell_refused(self, container: ContainerId, errors: list[PystackError]) -> None:
        if errors:
            others = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
            self._tell(f"{container}: {errors[0]}{others}; it is tried again")

    def _tell_copied(self, service: ServiceName, copied: _Copied) -> None:
        if not copied.containers:
            return
        changes = f"{len(copied.paths)} change{'' if len(copied.paths) == 1 else 's'}"
        to = service if len(copied.containers) == 1 else f"{len(copied.containers)} containers of {service}"
        self._tell(f"{changes} copied to {to} in {(time.monotonic() - copied.began_s) * 1000:.0f} ms")

    def _parts(self, behind: Behind) -> list[Part]:
        parts = []
        for number, paths in behind.items():
            prepared = self._rules[number].prepared
            ground = prepared.ground
            targets = {path: target_of(prepared.rule, ground, path) for path in paths}
            folder = next(iter(targets.values()))[0]
            parts.append(Part(number, ground.root, folder, tuple((path, place) for path, (_, place) in targets.items())))
        return parts

    # Operations.

    def _operate(self, service: ServiceName, state: ServiceState) -> None:
        operation = state.next_operation(time.monotonic())
        if operation is None:
            return
        show = {"everything": self._manner.everything}
        try:
            if operation.kind is Kind.REBUILD:
                self._tell(f"rebuilding {service}")
                if self._manner.prune:
                    image = next(r.prepared.image for r in self._rules.values() if r.prepared.service == service)
                    self._pruning[service] = Pruning(self._settings, image)
                count = len(self._of(service))
                task: tasks.Task = tasks.rebuild(self._settings, self._site, service, count, self._progress, **show)
            elif operation.kind is Kind.RESTART:
                self._tell(f"restarting {service}")
                task = tasks.restart(self._site, service, self._progress, **show)
            else:
                hooks = [hook for rule in operation.rules if (hook := self._rules[rule].prepared.rule.exec) is not None]
                task = tasks.ExecTask(self._site, service, hooks, self._progress.note)
        except PystackError as error:
            self._failed(service, operation.kind, error)
            state.ended()
            return
        self._tasks[service] = task
        self._attend(service)

    def _attend(self, service: ServiceName) -> None:
        task, state = self._tasks[service], self._states[service]
        task.pump()
        if not task.done:
            return
        task.close()
        del self._tasks[service]
        self._stale = True
        kind = state.busy.kind if state.busy is not None else Kind.EXEC
        pruning = self._pruning.pop(service, None)
        if task.error is not None:
            self._failed(service, kind, task.error)
        elif kind is Kind.REBUILD:
            what = "rebuilt and replaced" if task.replaced else "rebuilt: the image is the same, so nothing was replaced"
            self._tell(f"{service} {what}")
            if pruning is not None:
                pruning.finish(self._tell)
        else:
            self._tell(f"{service} restarted" if kind is Kind.RESTART else f"commands were run in {service}")
        state.ended(replaced=kind is Kind.REBUILD and task.replaced)

    def _failed(self, service: ServiceName, kind: Kind, error: PystackError) -> None:
        what = {Kind.REBUILD: "rebuild", Kind.RESTART: "restart", Kind.EXEC: "commands"}[kind]
        self._tell(f"{what} of {service} failed: {error}" + (f" ({error.hint})" if error.hint else ""))

    def _warner(self, head: str) -> Callable[[str], None]:
        return lambda text: self._tell(f"{head}{text}")

    def _tell(self, text: str) -> None:
        self._progress.note(f"watch: {text}")
