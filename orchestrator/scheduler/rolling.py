"""Rolling updates, carried out (docs/rolling-updates.md): the rules are `policy.rolling`'s, the operations `execution`'s.

A slot's first operation waits for the slot's turn; the others follow it in the plan's order. What a slot is to become is
known here alone: the record of a container that succeeds another is made when its turn comes, so that whoever comes after a
supervisor that was killed finds no more than what had been begun.

Two containers in one place are one too many, whatever happens. Which one that is, is in the record
(`ContainerRecord.surplus`): it goes when the slot is over (`close`), or by the next supervisor (`adoption`).

What keeps one update from another one's slots:

* **A slot has one owner**: the execution that has claimed its names. It alone begins the slot, makes and takes back its new
  container, and tells its old one anything.
* **The owner closes the slot, once**, as a part of the last of the slot's operations, however these ended: done, failed,
  halted, cancelled, or given up to another operation. It does nothing for the slot after that: the same names may be
  another update's by then, with containers of its own.
* **Who takes the slot over waits until it is closed**: `Execution.give_up` returns when the slot's operations are done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import trio

from orchestrator.contracts.events import EventKind
from orchestrator.contracts.images import Image
from orchestrator.contracts.state import ContainerRecord, Definition, Wanted
from orchestrator.errors import OperationError, PystackError
from orchestrator.model.names import ContainerId
from orchestrator.plan.plan import Kind, Operation, Plan, Roll, Slot
from orchestrator.policy.conditions import Met, Never, NotYet, Verdict
from orchestrator.policy.requests import Step
from orchestrator.policy.rolling import Progress, Stage, judge
from orchestrator.scheduler import sandbox, supervise
from orchestrator.scheduler.container import Container
from orchestrator.scheduler.engine_state import EngineState
from orchestrator.values import entity, field

ANSWERS_LAST_S = 5.0
"""The TTL of our answers: so long somebody may go by one that names the old container."""
_LOOK_EACH_S = 0.1
_LEAST_S = 0.001
_HINT = "`pystack up` goes on with the others"


class Halted(Exception):
    """Ends the first operation of a slot whose turn does not come."""

    def __init__(self, error: PystackError) -> None:
        super().__init__(error.message)
        self.error = error


@entity
class LiveRoll:
    """One update under way. `image`: what `roll.former` was made from. `left`: how many operations of each slot are not
    over yet. `moved`: set with each change. `given_up`: those in its places that other operations have taken over."""

    roll: Roll
    progress: Progress
    left: list[int]
    image: Image | None = None
    given_up: set[ContainerId] = field(default_factory=set)
    moved: trio.Event = field(default_factory=trio.Event)

    @property
    def taken(self) -> bool:
        """All of it is somebody else's, who has the last word."""
        return all(slot.new in self.given_up for slot in self.roll.slots)

    def move(self, progress: Progress) -> None:
        if progress is not self.progress:
            self.progress = progress
            self.moved.set()
            self.moved = trio.Event()


class Rolling:
    """The rolling updates of one plan."""

    def __init__(self, state: EngineState, plan: Plan) -> None:
        self._state = state
        self._rolls = [_live(state, plan, roll) for roll in plan.rolls]
        self._places: dict[ContainerId, tuple[LiveRoll, int]] = {
            name: (live, number)
            for live in self._rolls
            for number, slot in enumerate(live.roll.slots)
            for name in (slot.old, slot.new)
        }
        made = {item.container: item for item in plan.of(Kind.CREATE) if item.succeeds is not None}
        self._successors: dict[ContainerId, Operation] = {name: item for name, item in made.items() if name is not None}

    @property
    def to_take_back(self) -> list[LiveRoll]:
        return [live for live in self._rolls if live.progress.rolls_back]

    def verdict(self) -> str:
        """What has become of updates that did not go well; "": all did."""
        texts = []
        for live in self._rolls:
            progress = live.progress
            if progress.failures and not progress.rolls_back:
                how = "paused" if progress.halted else "done"
                many = f"{progress.done} of {len(progress.slots)} replicas have it"
                texts.append(f"update of {live.roll.service} {how}: {many}")
        return "; ".join(texts)

    def has(self, operation: Operation) -> bool:
        return operation.container is not None and self.has_place(operation.container)

    def has_place(self, container: ContainerId) -> bool:
        return container in self._places

    def comes_later(self, container: ContainerId | None) -> bool:
        """It gets its record when its turn comes."""
        return container in self._successors

    def will_be_succeeded(self, container: ContainerId) -> bool:
        """It goes on until another one has been announced in its place."""
        slot = self._slot(container) if self.has_place(container) else None
        return slot is not None and slot.old == container and slot.new in self._successors

    def whole(self, container: ContainerId) -> frozenset[ContainerId]:
        """All containers of the update that `container` is in; else itself."""
        if (place := self._places.get(container)) is None:
            return frozenset((container,))
        return frozenset(name for slot in place[0].roll.slots for name in (slot.old, slot.new))

    def with_mates(self, containers: Iterable[ContainerId]) -> frozenset[ContainerId]:
        """With those that have the same places."""
        found = set(containers)
        for name in tuple(found & self._places.keys()):
            slot = self._slot(name)
            found |= {slot.old, slot.new}
        return frozenset(found)

    def give_up(self, containers: Iterable[ContainerId]) -> None:
        """Another operation has taken these over."""
        for name in containers:
            if (place := self._places.get(name)) is not None:
                place[0].given_up.add(name)

    def _slot(self, container: ContainerId) -> Slot:
        live, number = self._places[container]
        return live.roll.slots[number]

    # -- the order of slots -----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Who will be succeeded counts as being restarted: who waits for the service waits for the update."""
        for name in self._successors:
            if (old := self._state.containers.get(self._slot(name).old)) is not None:
                old.told(Step.ASK_RESTART)

    async def turn(self, operation: Operation) -> None:
        """Return when the slot of `operation` has its turn, or had it before. Raises Halted."""
        live, number = self._place(operation)
        waited = False
        while live.progress.slots[number].stage is Stage.QUEUED:
            verdict = live.progress.turn(number, trio.current_time())
            match verdict:
                case Met():
                    if waited:
                        self._tell_turn(live, number)
                    live.move(live.progress.begun(number))
                    self._admit(live.roll.slots[number].new)
                case Never():
                    raise Halted(OperationError(f"update of {live.roll.service}: {verdict.reason}"))
                case NotYet():
                    waited = True
                    await _until_either(live.moved, verdict.recheck_s)

    def _tell_turn(self, live: LiveRoll, number: int) -> None:
        before = live.progress.made_room(trio.current_time())
        if before is not None:
            name, after = live.roll.slots[number].new, live.roll.slots[before].new
            text = f"{name} has its turn, after {after}"
            self._state.events.note(EventKind.CONTAINER_TURN, text, live.roll.service, name, after=after)

    def _admit(self, name: ContainerId) -> None:
        made = self._successors.get(name)
        if made is None:
            return
        assert made.instance is not None
        assert made.definition is not None
        assert made.succeeds is not None
        record = ContainerRecord(
            name, made.instance, Definition(made.definition), boot_id=self._state.boot_id, succeeds=made.succeeds
        )
        self._state.add(record).begin_operation(Step.ASK_START)

    def failed(self, operation: Operation) -> None:
        """What it does for its slot has failed."""
        if not self.has(operation):
            return
        live, number = self._place(operation)
        halted = live.progress.halted
        live.move(live.progress.failed(number, trio.current_time()))
        if live.progress.halted and not halted:
            self._tell_halted(live)

    def _tell_halted(self, live: LiveRoll) -> None:
        progress, rules = live.progress, live.roll.rules
        text = f"update of {live.roll.service}: {progress.failures} of {len(progress.slots)} failed, {progress.done} done"
        rest = f"; the others stay as they are ({rules.on_failure.value})"
        text += "; it is rolled back" if progress.rolls_back else rest
        self._state.events.note(EventKind.WARNING, text, live.roll.service)

    def is_queued(self, operation: Operation) -> bool:
        """Its slot has not begun, and its replica is as it was."""
        if not self.has(operation):
            return False
        live, number = self._place(operation)
        return live.progress.slots[number].stage is Stage.QUEUED

    async def skip(self, operation: Operation) -> None:
        """It is not done, because what it comes after is not: the replica stays as it was, as far as it still is."""
        live, number = self._place(operation)
        slot = live.roll.slots[number]
        live.move(live.progress.left(number))
        if operation.kind is Kind.ANNOUNCE:
            await self._take_back(slot.new)
        self._withdraw(slot)

    def _withdraw(self, slot: Slot) -> None:
        """The old container is not replaced after all."""
        old = self._state.containers.get(slot.old)
        if old is not None and not old.doomed:
            old.told(Step.WITHDRAWN)

    # -- the operations ---------------------------------------------------------------------------------------------

    async def announce(self, operation: Operation) -> None:
        """Wait until it is ready, and put it in the other one's place. Raises OperationError when it fails, and then it is
        removed."""
        live, number = self._place(operation)
        slot = live.roll.slots[number]
        container, old = self._new_of(live, number), self._state.containers.get(slot.old)
        try:
            await self._ready(container)
            await sandbox.announce(self._state, container, old, slot.old)
        except PystackError:
            await self._take_back(slot.new)
            self._withdraw(slot)
            raise
        if old is not None:
            old.doomed = True
            old.changed()
        live.move(live.progress.updated(number, trio.current_time()))
        container.note(EventKind.CONTAINER_ANNOUNCED, f"{container.id} is in the place of {slot.old}")

    async def watch(self, operation: Operation) -> None:
        """Until it has been watched for long enough. Raises OperationError when it fails."""
        live, number = self._place(operation)
        container = self._new_of(live, number)
        if live.progress.slots[number].stage is Stage.REPLACING:
            await self._ready(container)
            live.move(live.progress.updated(number, trio.current_time()))
        ends_s = live.progress.slots[number].at_s + live.roll.rules.monitor_s
        verdict: Verdict = Met()
        with trio.move_on_after(max(0.0, ends_s - trio.current_time())):
            verdict = await _until(container, lambda found: isinstance(found, Never))
        if isinstance(verdict, Never):
            after_s = trio.current_time() - live.progress.slots[number].at_s
            raise OperationError(f"{verdict.reason}, {after_s:.1f}s after it was updated", hint=_HINT)

    async def drain(self, operation: Operation) -> None:
        """Before the old container is stopped: until nobody has an answer that names it or a connection to it any more, but
        no longer than its grace."""
        slot = self._slot(operation.container or ContainerId(""))
        old = self._state.containers.get(slot.old)
        if slot.old == slot.new or operation.container != slot.old or old is None:
            return
        begun_s = trio.current_time()
        with trio.move_on_after(operation.grace_s):
            # Looked at again and again: the kernel tells nobody that a connection in another namespace has ended.
            while old.live and (trio.current_time() - begun_s < ANSWERS_LAST_S or await self._is_used(old)):
                await _until_either(old.next_change(), _LOOK_EACH_S)

    async def _is_used(self, container: Container) -> bool:
        fd = container.sandbox.netns_fd
        if fd is None or not container.sandbox.wired:
            return False
        try:
            return await self._state.adapters.networking.open_connections(container.id, fd) > 0
        except PystackError as error:
            self._state.warn(f"cannot tell whether {container.id} is still used", error)
            return False

    def _new_of(self, live: LiveRoll, number: int) -> Container:
        return self._state.containers[live.roll.slots[number].new]

    async def _ready(self, container: Container) -> None:
        verdict = await _until(container, lambda found: not isinstance(found, NotYet))
        if isinstance(verdict, Never):
            raise container.error or OperationError(verdict.reason, hint=_HINT)

    # -- the end ----------------------------------------------------------------------------------------------------

    async def ended(self, operation: Operation) -> None:
        """It is over, however it went. The last one of a slot closes that."""
        if not self.has(operation):
            return
        live, number = self._place(operation)
        live.left[number] -= 1
        if live.left[number] == 0:
            await self._close(live, number)

    async def _close(self, live: LiveRoll, number: int) -> None:
        """Of two in its place one goes: the new one, unless it was announced. Nobody waits for an old one, which has time
        to end."""
        slot = live.roll.slots[number]
        live.move(live.progress.left(number))
        new = self._state.containers.get(slot.new)
        if new is not None and new.record.succeeds and not new.record.took_over:
            await self._take_back(slot.new)
        elif new is not None and new.record.took_over:
            retire(self._state, slot.old)
        if slot.new in self._successors:
            self._withdraw(slot)

    async def _take_back(self, name: ContainerId) -> None:
        container = self._state.containers.get(name)
        if container is None or not container.record.succeeds or container.record.took_over:
            return
        # Shielded: nobody else would remove it. The runtime has its own deadlines.
        with trio.move_on_after(sandbox.UNDO_DEADLINE_S + supervise.KILL_DEADLINE_S, shield=True):
            await discard(self._state, container)

    def _place(self, operation: Operation) -> tuple[LiveRoll, int]:
        assert operation.container is not None
        return self._places[operation.container]


async def discard(state: EngineState, container: Container) -> None:
    """Kill and remove one that was to succeed another. What goes wrong is a warning; then it stays. Only the slot's owner
    asks for it: the next container of that name may be there a moment later."""
    assert container.id not in state.retiring, f"{container.id} is discarded twice"
    over = state.retiring[container.id] = trio.Event()
    container.doomed = True
    try:
        try:
            if container.idle is not None:
                await supervise.stop(state, container, 0.0)
            else:
                container.amend(wanted=Wanted.STOPPED)
                container.told(Step.WITHDRAWN)
        except PystackError as error:
            container.note(EventKind.WARNING, f"cannot stop {container.id}: {error}")
        await supervise.remove_for_good(state, container)
    finally:
        del state.retiring[container.id]
        over.set()


def _live(state: EngineState, plan: Plan, roll: Roll) -> LiveRoll:
    left = [sum(item.container in (slot.old, slot.new) for item in plan.operations) for slot in roll.slots]
    return LiveRoll(roll, Progress.of(roll.rules, len(roll.slots)), left, _image_of(state, roll.slots[0].old))


def _image_of(state: EngineState, name: ContainerId) -> Image | None:
    container = state.containers.get(name)
    return container.image if container is not None else None


def retire(state: EngineState, name: ContainerId) -> None:
    """Stop and remove, in the background, a container in whose place there is another."""
    container = state.containers.get(name)
    if container is not None and state.nursery is not None and name not in state.retiring:
        container.doomed = True
        state.retiring[name] = trio.Event()
        state.nursery.start_soon(_retire, state, container)


async def _retire(state: EngineState, container: Container) -> None:
    try:
        try:
            own_s = container.definition.stop_grace_s
            await supervise.stop(state, container, own_s, own_s)
        except PystackError as error:
            container.note(EventKind.WARNING, f"cannot stop {container.id}: {error}")
        if state.containers.get(container.id) is container:
            await supervise.remove_for_good(state, container)
    finally:
        state.retiring.pop(container.id).set()


async def _until(container: Container, enough: Callable[[Verdict], bool]) -> Verdict:
    """The first verdict that is `enough`, looked at whenever the container changes and when time alone may change it."""
    while not enough(verdict := judge(container.facts())):
        recheck_s = verdict.recheck_s if isinstance(verdict, NotYet) else None
        await _until_either(container.next_change(), recheck_s)
    return verdict


async def _until_either(event: trio.Event, seconds: float | None) -> None:
    with trio.move_on_after(max(seconds, _LEAST_S) if seconds is not None else float("inf")):
        await event.wait()
