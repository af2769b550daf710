"""What is to be done for a service, and in which order. No I/O: instants come as arguments (time.monotonic()).

Changed paths make every container of the service *behind* by them, until they were copied; a rule with a further action
makes that *due*. Operations of a service follow each other: rebuild, restart, exec; while one is under way files are copied
all the same. What was changed since the beginning is remembered: a container that is made anew is behind by all of it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Mapping
from enum import Enum

from orchestrator.cli.watching.timing import Calm
from orchestrator.model.names import ContainerId
from orchestrator.model.watch import WatchAction
from orchestrator.values import frozen

Behind = dict[int, set[str]]
"""Paths by the number of their rule."""
Path = tuple[int, str]
"""With the number of its rule."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0
_MOST_TRIES = 8
"""Then it is waited for an event about it."""
_FIRST_REFUSED_S, _LONGEST_REFUSED_S = 0.5, 10.0


class Kind(Enum):
    """Operations, in their order."""

    REBUILD = "rebuild"
    RESTART = "restart"
    EXEC = "exec"


@frozen
class Operation:
    """`rules`: of an exec, whose commands are run, in this order."""

    kind: Kind
    rules: tuple[int, ...] = ()


class _Container:
    def __init__(self, made_at: float, behind: Behind) -> None:
        self.made_at, self.behind = made_at, behind
        self.tries = 0
        self.again_s = 0.0
        self.refused: set[Path] = set()
        """What would not go in (the disk is full): nothing waits for it, and it is tried again."""
        self.refusals = 0
        self.refused_again_s = math.inf

    def falls_behind(self, behind: Behind) -> None:
        for rule, paths in behind.items():
            self.behind.setdefault(rule, set()).update(paths)

    def changed(self, rule: int, paths: Collection[str]) -> None:
        self.falls_behind({rule: set(paths)})
        self.refused.difference_update([(rule, path) for path in paths] if self.refused else ())

    def copies_s(self) -> float:
        """When there is something to copy."""
        first_s = -math.inf if self.behind else self.refused_again_s
        return max(self.again_s, first_s)


def shared_out(behind: Behind, most: int) -> tuple[Behind, Behind]:
    """The first `most` paths, and the others. In their order, so what is in a folder comes after it."""
    share: Behind = {}
    rest: Behind = {}
    for rule, paths in behind.items():
        first = set(heapq.nsmallest(most, paths)) if len(paths) > most else paths
        most -= len(first)
        for some, found in ((first, share), (paths - first, rest)):
            if some:
                found[rule] = some
    return share, rest


def _may_be_reached(container: _Container) -> bool:
    """Whether it is behind, and what it lacks may be copied soon."""
    return bool(container.behind) and container.again_s < math.inf


class ServiceState:
    """One service. `actions`: of its rules, by number."""

    def __init__(self, actions: Mapping[int, WatchAction]) -> None:
        self._actions = actions
        self._touched: Behind = {}
        self._containers: dict[ContainerId, _Container] = {}
        self._calm = Calm()
        self._due: set[Kind] = set()
        self._commands: set[int] = set()
        self._busy: Operation | None = None

    def __repr__(self) -> str:
        behind = {name: sum(map(len, item.behind.values())) for name, item in self._containers.items()}
        return f"ServiceState(behind={behind}, due={sorted(kind.value for kind in self._due)}, busy={self._busy})"

    @property
    def busy(self) -> Operation | None:
        return self._busy

    # What happens.

    def begins_with(self, rule: int, paths: Collection[str]) -> None:
        """All that there is belongs into the containers: ``initial_sync``."""
        self._fall_behind(rule, paths)

    def changed(self, rule: int, paths: Collection[str], now_s: float) -> None:
        if not paths:
            return
        action = self._actions[rule]
        if action.syncs:
            self._fall_behind(rule, paths)
        self._is_due(rule, now_s)

    def _is_due(self, rule: int, now_s: float) -> None:
        """What follows the copying."""
        action = self._actions[rule]
        if action is WatchAction.SYNC:
            return
        self._calm.came(now_s)
        if action is WatchAction.REBUILD:
            self._due.add(Kind.REBUILD)
        elif action.restarts:
            self._due.add(Kind.RESTART)
        else:
            self._due.add(Kind.EXEC)
            self._commands.add(rule)

    def _fall_behind(self, rule: int, paths: Collection[str]) -> None:
        self._touched.setdefault(rule, set()).update(paths)
        for container in self._containers.values():
            container.changed(rule, paths)

    def containers(self, made_at: Mapping[ContainerId, float]) -> None:
        """Those that there are, and when each was made: one that was made anew has nothing yet of what was copied."""
        for name in [name for name in self._containers if name not in made_at]:
            del self._containers[name]
        for name, instant in made_at.items():
            known = self._containers.get(name)
            if known is None or known.made_at != instant:
                self._containers[name] = _Container(instant, {rule: set(paths) for rule, paths in self._touched.items()})

    def stirred(self, container: ContainerId | None) -> None:
        """Something happened to it (None: to any): what failed may do now."""
        for name, known in self._containers.items():
            if container in (None, name):
                known.again_s, known.tries, known.refusals = 0.0, 0, 0
                if known.refused:
                    known.refused_again_s = 0.0

    # Copying.

    def to_copy(self, now_s: float) -> list[tuple[ContainerId, Behind]]:
        """What each container is behind by, if it is time; taken away from it: `failed` gives it back."""
        found = []
        for name, container in self._containers.items():
            if now_s < container.copies_s():
                continue
            if now_s >= container.refused_again_s:
                container.refused_again_s = math.inf
                for rule, path in container.refused:
                    container.behind.setdefault(rule, set()).add(path)
            found.append((name, container.behind))
            container.behind = {}
        return found

    def copied(
        self, container: ContainerId, tried: Collection[Path], refused: Collection[Path], now_s: float
    ) -> Collection[Path]:
        """`refused`: those of `tried` that would not go in, which are tried again later; returned are those of which that
        is news. What follows on a copy follows on one that comes late, too."""
        known = self._containers.get(container)
        if known is None:
            return ()
        known.tries = 0
        for rule in {rule for rule, _ in known.refused.intersection(tried).difference(refused)}:
            self._is_due(rule, now_s)
        news = set(refused) - known.refused
        known.refused = (known.refused - set(tried)) | set(refused)
        if not known.refused:
            known.refusals, known.refused_again_s = 0, math.inf
        elif known.refused_again_s == math.inf:
            known.refused_again_s = now_s + min(_FIRST_REFUSED_S * 2**known.refusals, _LONGEST_REFUSED_S)
            known.refusals += 1
        return news

    def left(self, container: ContainerId, behind: Behind) -> None:
        """That much of it is still to be copied, when others have had their turn."""
        if (known := self._containers.pop(container, None)) is not None:
            self._containers[container] = known
            known.falls_behind(behind)

    def failed(self, container: ContainerId, behind: Behind, now_s: float) -> int:
        """It could not be reached just now. How often that was so, one after the other."""
        known = self._containers.get(container)
        if known is None:
            return 0
        known.falls_behind(behind)
        known.again_s = now_s + min(_FIRST_PAUSE_S * 2**known.tries, _LONGEST_PAUSE_S)
        known.tries += 1
        if known.tries >= _MOST_TRIES:
            known.again_s = math.inf
        return known.tries

    # Operations.

    def next_operation(self, now_s: float) -> Operation | None:
        """The one that begins now, if any; it is under way until `ended`."""
        if self._busy is not None or not self._due or not self._calm.over(now_s):
            return None
        kind = next(kind for kind in Kind if kind in self._due)
        if kind is not Kind.REBUILD and any(map(_may_be_reached, self._containers.values())):
            return None
        self._due.discard(kind)
        rules: tuple[int, ...] = ()
        if kind is Kind.EXEC:
            rules, self._commands = tuple(sorted(self._commands)), set()
        if not self._due:
            self._calm.clear()
        self._busy = Operation(kind, rules)
        return self._busy

    def ended(self, *, replaced: bool = False) -> None:
        """The operation has ended. `replaced`: its containers are new, so they need no restart that was due by then."""
        if replaced:
            self._due.discard(Kind.RESTART)
        if not self._due:
            self._calm.clear()
        self._busy = None

    def wake_s(self) -> float | None:
        """When there is something to do, as far as that is known; None: nothing before something happens."""
        times = [instant for item in self._containers.values() if (instant := item.copies_s()) < math.inf]
        due_s, waits = self._calm.due_s, any(map(_may_be_reached, self._containers.values()))
        if self._busy is None and self._due and due_s is not None and (not waits or Kind.REBUILD in self._due):
            times.append(due_s)
        return min(times, default=None)
