"""Events to starts: what each container's start consisted of, and how long each part took.

A start is opened by an operation that names the container (`starts`), or by the end of a run that the restart policy
follows. It is closed when the container is ready, has failed or is blocked, when another start of it is opened, or when its
supervisor ends: the next one has another clock, and what one start took is never measured with two. Times are on the
steady clock of the supervisor (`Event.clock_s`); of events that an older version logged, the wall clock is all there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from orchestrator.contracts.events import Event, EventKind
from orchestrator.values import entity, field, frozen, replace

PHASES: Mapping[str, tuple[str, str]] = {
    "queue": (".", "waits for other steps"),
    "turn": ("t", "waits for its turn in the update"),
    "image": ("i", "image"),
    "stop": ("s", "stops the old run"),
    "sandbox": ("b", "sandbox"),
    "network": ("n", "network"),
    "wait": ("w", "waits for dependencies"),
    "prepare": ("p", "pre_start"),
    "exec": ("x", "clone to exec"),
    "backoff": ("z", "waits for its restart"),
    "ready": ("=", "until it is ready"),
    "run": ("-", "until it has ended"),
}
"""Each phase of a start -> its letter in a bar of text, and what it is called."""

STARTING_VERBS = frozenset({"up", "scale", "run", "start", "restart"})
READY = frozenset({"ready", "completed"})
"""The good ends of a start."""


@frozen
class Span:
    """Seconds on the start's clock."""

    phase: str
    begin_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        return self.end_s - self.begin_s


@frozen
class Start:
    """`spans`: without gaps, in order. `marks`: moments: `opened`, `turn` (it came, in a rolling update, after it had to be
    waited for), `prepared` (made, and its conditions aside, it could have started), `starting`, `started`, `output` (the
    first byte that it wrote), `ready`, `completed`, as far as it came. `needs`: services and the conditions on them.
    `after`: the container of the same update that made room for its turn. `end`: ready, completed, failed, blocked, cut
    short, stopped, or under way. `anchors`: (wall clock, steady clock) of when it was starting and of its last moment."""

    container: str
    service: str
    spans: tuple[Span, ...]
    marks: Mapping[str, float]
    needs: tuple[tuple[str, str], ...] = ()
    after: str = ""
    end: str = "under way"
    text: str = ""
    anchors: tuple[tuple[float, float], ...] = ()

    @property
    def finish_s(self) -> float:
        return self.spans[-1].end_s if self.spans else self.marks["opened"]


@frozen
class Episode:
    """What one operation started, or (`operation` False) one restart by policy. `at`: when it began, epoch seconds.
    `steady`: its times are of a clock that nobody sets."""

    title: str
    at: float
    begin_s: float
    starts: tuple[Start, ...]
    steady: bool = True
    operation: bool = True

    @property
    def end_s(self) -> float:
        return max((start.finish_s for start in self.starts), default=self.begin_s)


@entity
class _Open:
    """A start that has not ended yet. `until_s`: up to where its spans reach. `gap`: the phase of what comes next."""

    episode: _Group
    container: str
    until_s: float
    service: str = ""
    gap: str = "queue"
    steady: bool = True
    spans: list[Span] = field(default_factory=list)
    marks: dict[str, float] = field(default_factory=dict)
    needs: tuple[tuple[str, str], ...] = ()
    after: str = ""
    end: str = ""
    text: str = ""
    anchors: list[tuple[float, float]] = field(default_factory=list)

    def reach(self, moment_s: float, phase: str | None = None) -> None:
        """It was in `phase` (None: that of the gap) until `moment_s`."""
        if moment_s > self.until_s:
            name = phase or self.gap
            if self.spans and self.spans[-1].phase == name:
                self.spans[-1] = replace(self.spans[-1], end_s=moment_s)
            else:
                self.spans.append(Span(name, self.until_s, moment_s))
            self.until_s = moment_s

    def close(self, end: str, text: str = "") -> None:
        if not self.end:
            self.end, self.text = end, text


@entity
class _Group:
    title: str
    at: float
    begin_s: float
    steady: bool
    operation: bool = True
    members: list[_Open] = field(default_factory=list)


def episodes(events: Iterable[Event]) -> tuple[Episode, ...]:
    """All that the events tell of, oldest first. Episodes without a start are left out."""
    reader = _Reader()
    for event in events:
        reader.take(event)
    return tuple(found for group in reader.groups if (found := _episode(group)).starts)


class _Reader:
    def __init__(self) -> None:
        self.groups: list[_Group] = []
        self._open: dict[str, _Open] = {}
        self._images: dict[str, tuple[float, float]] = {}

    def take(self, event: Event) -> None:
        if event.kind is EventKind.SUPERVISOR_STARTED:
            self._forget("cut short", "its supervisor ended")
            return
        now_s = event.clock_s if event.clock_s is not None else event.at
        match event.kind:
            case EventKind.OPERATION_STARTED:
                self._open_all(event, now_s)
            case EventKind.IMAGE_OBTAINING:
                self._images[str(event.detail.get("image"))] = (now_s, now_s)
            case EventKind.IMAGE_OBTAINED:
                name = str(event.detail.get("image"))
                self._images[name] = (self._images.get(name, (now_s, now_s))[0], now_s)
            case _ if event.container is not None:
                self._of_container(event, event.container, now_s)

    def _of_container(self, event: Event, name: str, now_s: float) -> None:
        found = self._open.get(name)
        if found is not None and found.steady is not (event.clock_s is not None) and event.kind in _STEPS:
            found.close("cut short", "its supervisor ended")
            del self._open[name]
        elif found is not None and not found.end and event.kind in _STEPS:
            found.service = event.service or found.service
            _STEPS[event.kind](self, found, event, now_s)
        elif event.kind is EventKind.CONTAINER_EXITED:
            self._ended_later(found, event, name, now_s)

    def _open_all(self, event: Event, now_s: float) -> None:
        names = event.detail.get("starts")
        if not isinstance(names, list | tuple) or not names:
            return
        group = _Group(event.text, event.at, now_s, event.clock_s is not None)
        self.groups.append(group)
        for name in names:
            self._add(group, name, now_s)

    def _add(self, group: _Group, container: str, now_s: float) -> _Open:
        if (before := self._open.get(container)) is not None:
            before.close("stopped", "another operation took it over")
        made = self._open[container] = _Open(group, container, now_s, steady=group.steady, marks={"opened": now_s})
        group.members.append(made)
        return made

    def _forget(self, end: str, text: str) -> None:
        for found in self._open.values():
            found.close(end, text)
        self._open.clear()
        self._images.clear()

    def _ended_later(self, found: _Open | None, event: Event, name: str, now_s: float) -> None:
        """A run of what was ready, or of what this supervisor has taken over, has ended."""
        if event.detail.get("restarts"):
            self._open.pop(name, None)
            group = _Group(f"restart {name}", event.at, now_s, event.clock_s is not None, operation=False)
            self.groups.append(group)
            again = self._add(group, name, now_s)
            again.service, again.gap = event.service or "", "backoff"
        elif found is not None and found.end == "ready" and event.detail.get("exit_status") == 0:
            found.marks["completed"] = now_s
            found.reach(now_s, "run")
            del self._open[found.container]

    def _turn(self, found: _Open, event: Event, now_s: float) -> None:
        found.reach(now_s, "turn")
        found.marks["turn"], found.after = now_s, str(event.detail.get("after"))

    def _creating(self, found: _Open, event: Event, now_s: float) -> None:
        begin_s, end_s = self._images.get(str(event.detail.get("image")), (now_s, now_s))
        if begin_s >= found.marks["opened"]:
            found.reach(begin_s)
            found.reach(min(end_s, now_s), "image")
        found.reach(now_s)

    def _created(self, found: _Open, event: Event, now_s: float) -> None:
        for name, phase in (("networks_s", "network"), ("sandbox_s", "sandbox")):
            length_s = event.detail.get(name)
            if isinstance(length_s, int | float):
                found.reach(min(now_s, found.until_s + length_s), phase)
        found.reach(now_s, "network" if "networks_s" in event.detail else "sandbox")
        found.marks["prepared"] = now_s

    def _stopping(self, found: _Open, event: Event, now_s: float) -> None:
        found.reach(now_s)
        found.gap = "stop"

    def _stopped(self, found: _Open, event: Event, now_s: float) -> None:
        found.reach(now_s)
        found.gap = "queue"
        if event.kind is EventKind.CONTAINER_STOPPED and "started" in found.marks:
            found.close("stopped", event.text)

    def _waiting(self, found: _Open, event: Event, now_s: float) -> None:
        found.reach(now_s)
        found.marks.setdefault("prepared", now_s)

    def _met(self, found: _Open, event: Event, now_s: float) -> None:
        found.reach(now_s, "wait")

    def _hook(self, found: _Open, event: Event, now_s: float) -> None:
        """A ``pre_stop`` is a part of the stop, a ``post_start`` of the way to ready: these have begun already."""
        if str(event.detail.get("hook")).startswith("pre_start"):
            found.reach(now_s)
            found.gap = "prepare"

    def _starting(self, found: _Open, event: Event, now_s: float) -> None:
        found.reach(now_s)
        found.marks.setdefault("prepared", now_s)
        found.marks["starting"] = now_s
        found.anchors[:] = [(event.at, now_s)]
        needs = event.detail.get("needs")
        if isinstance(needs, list | tuple):
            pairs = (str(need).rpartition(":") for need in needs)
            found.needs = tuple((service, condition) for service, _, condition in pairs)
        found.gap = "exec"

    def _started(self, found: _Open, event: Event, now_s: float) -> None:
        if event.detail.get("adopted"):  # By the supervisor that began it: it was put on its networks again.
            return
        length_s = event.detail.get("network_s")
        if isinstance(length_s, int | float):
            found.reach(min(now_s, found.until_s + length_s), "network")
        found.reach(now_s)
        found.marks["started"] = now_s
        found.gap = "ready"

    def _ready(self, found: _Open, event: Event, now_s: float) -> None:
        found.reach(now_s)
        found.marks["ready"] = now_s
        found.anchors.append((event.at, now_s))
        found.close("ready")

    def _exited(self, found: _Open, event: Event, now_s: float) -> None:
        found.reach(now_s)
        found.anchors.append((event.at, now_s))
        if event.detail.get("restarts"):
            found.gap = "backoff"
        elif event.detail.get("exit_status") == 0:
            found.marks["completed"] = now_s
            found.close("completed")
        else:
            found.close("failed", event.text)

    def _failed(self, found: _Open, event: Event, now_s: float) -> None:
        found.reach(now_s, "wait" if event.kind is EventKind.SERVICE_BLOCKED else None)
        found.close("blocked" if event.kind is EventKind.SERVICE_BLOCKED else "failed", event.text)


_STEPS = {
    EventKind.CONTAINER_TURN: _Reader._turn,
    EventKind.CONTAINER_CREATING: _Reader._creating,
    EventKind.CONTAINER_CREATED: _Reader._created,
    EventKind.CONTAINER_STOPPING: _Reader._stopping,
    EventKind.CONTAINER_STOPPED: _Reader._stopped,
    EventKind.CONTAINER_REMOVED: _Reader._stopped,
    EventKind.SERVICE_WAITING: _Reader._waiting,
    EventKind.CONDITION_MET: _Reader._met,
    EventKind.HOOK_STARTED: _Reader._hook,
    EventKind.CONTAINER_STARTING: _Reader._starting,
    EventKind.CONTAINER_STARTED: _Reader._started,
    EventKind.SERVICE_READY: _Reader._ready,
    EventKind.CONTAINER_EXITED: _Reader._exited,
    EventKind.SERVICE_FAILED: _Reader._failed,
    EventKind.SERVICE_BLOCKED: _Reader._failed,
}


def _episode(group: _Group) -> Episode:
    starts = [item for item in group.members if item.service]
    awaited = {need for item in starts for need in item.needs}
    made = tuple(_start(item, awaited) for item in starts)
    return Episode(group.title, group.at, group.begin_s, made, group.steady, group.operation)


def _start(item: _Open, awaited: Iterable[tuple[str, str]]) -> Start:
    """That it ran on to its end is a part of a start only for a job that somebody waits for."""
    spans: Sequence[Span] = item.spans
    job = (item.service, "service_completed_successfully") in awaited
    if not job:
        spans = [span for span in spans if span.phase != "run"]
    end = "completed" if job and "completed" in item.marks else item.end or "under way"
    return Start(
        item.container,
        item.service,
        tuple(spans),
        dict(item.marks),
        item.needs,
        item.after,
        end,
        item.text,
        tuple(item.anchors),
    )
