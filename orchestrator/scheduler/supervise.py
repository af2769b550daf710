"""The task that lives with a container: start, wait and probe, decide, back off, start again.

One task per container makes every change of it, so there are no locks: an operation asks (`stop`, `hasten_start`) and waits
for `Container.idle` or for a watch. Cancelling the task (the supervisor ends) touches nothing: the container runs on and is
adopted by the next supervisor.
"""

from __future__ import annotations

from contextlib import suppress

import trio

from orchestrator.contracts.events import EventKind
from orchestrator.contracts.runtime import Exit, Run
from orchestrator.contracts.state import Wanted
from orchestrator.errors import HostError, OperationError, PystackError
from orchestrator.model.health import OnUnhealthy
from orchestrator.model.phase import Phase
from orchestrator.policy.exits import describe_exit, lingering_text
from orchestrator.policy.lifecycle import Trigger
from orchestrator.policy.requests import Ask, Step
from orchestrator.policy.restart import FIRST_DELAY_S, GiveUp, Restart, RestartHistory, decide, delay_text
from orchestrator.scheduler import hooks, pausing, sandbox, sharing
from orchestrator.scheduler.container import Container
from orchestrator.scheduler.engine_state import EngineState
from orchestrator.scheduler.faults import key_of, located
from orchestrator.scheduler.ground import ground_of
from orchestrator.scheduler.live_run import LiveRun
from orchestrator.scheduler.prober import probe_run
from orchestrator.scheduler.stdio import FirstRun

START_DEADLINE_S = 60.0
KILL_DEADLINE_S = 30.0
LINGERS_AFTER_S = 1.0
"""What has not ended so long after its stop signal, somebody may be waiting for."""
PREPARED_AHEAD_S = 0.25
"""A run is made ready so long before its time: several times what that takes."""


def launch(
    state: EngineState, container: Container, *, adopted: LiveRun | None = None, delay_s: float | None = None
) -> None:
    """Supervise `container` from now on: start it (after `delay_s`, if given), or watch over the run `adopted`."""
    assert state.nursery is not None, "Engine.run is not running"
    assert container.idle is None, f"{container.id} is supervised already"
    container.idle = trio.Event()
    # At once: whoever comes between this and the task's first step finds that it is being started.
    fresh = _begin(container) if adopted is None and delay_s is None else None
    state.nursery.start_soon(_supervise, state, container, adopted, delay_s, fresh)


def hasten_start(container: Container) -> None:
    """Do not wait for the back-off's end: a user wants it started now, and counts its restarts from now."""
    container.amend(restarts=0, forgiven=0, gave_up="", wanted=Wanted.RUNNING)
    if container.delay is not None:
        container.delay.cancel()


async def stop(
    state: EngineState,
    container: Container,
    grace_s: float,
    hooks_s: float = 0.0,
    *,
    stays_wanted: bool = False,
    returns: bool = False,
) -> None:
    """End the run, or the wait for the next one, and return when it is over. `stays_wanted`: the record does not say
    "stopped", because a start follows; `returns`: in the same sandbox. Raises HostError when it does not end even when
    killed."""
    container.returns = returns
    if not stays_wanted:
        container.amend(wanted=Wanted.STOPPED)
        container.save()
    container.dismiss(Step.MAKE_WAY if stays_wanted else Step.ASK_STOP, grace_s, hooks_s)
    if (idle := container.idle) is not None:
        await at_rest(container, idle, START_DEADLINE_S + hooks_s + grace_s + KILL_DEADLINE_S)
    else:
        container.told(Step.AT_REST)


async def at_rest(container: Container, idle: trio.Event, deadline_s: float) -> None:
    """Return when the container's task has ended. Raises HostError when it takes longer than `deadline_s`."""
    try:
        with trio.fail_after(deadline_s):
            await idle.wait()
    except trio.TooSlowError:
        raise HostError(
            f"{container.id} does not end, even when killed",
            hint="a process of it may be stuck in the kernel; see its state in /proc/PID/stack",
        ) from None


def _begin(container: Container) -> LiveRun:
    """A new run, whose process is not there yet."""
    run = container.run = LiveRun(container.check)
    if container.ask.ending:
        run.end(container.grace_s, container.hooks_s)
    container.step(Trigger.START, "starting")
    return run


async def _supervise(
    state: EngineState, container: Container, run: LiveRun | None, delay_s: float | None, fresh: LiveRun | None
) -> None:
    while True:
        if run is None:
            if delay_s is not None and not await _wait_for_next(state, container, delay_s):
                await state.adapters.runtime.unprepare(container.id)
                break
            run = await _start(state, container, fresh or _begin(container))
            fresh = None
            if run is None:
                break
        assert run.process is not None
        exit = await _live(state, container, run, run.process)
        delay_s = _conclude(state, container, run, exit)
        run = None
        if delay_s is None:
            break
    if container.ask not in (Ask.RESTART, Ask.MAKING_WAY):  # Else the operation starts it again at once, or unwires it.
        await sandbox.unwire(state, container)
    if container.sandbox.fresh:  # Its first run was refused.
        await sandbox.undo(state, container)
        container.save()
    assert container.idle is not None
    container.idle.set()
    container.idle = None
    container.told(Step.AT_REST)
    remove_if_due(state, container)


def remove_if_due(state: EngineState, container: Container) -> None:
    """``run --rm``: it goes when it has ended and nobody reads what it wrote any more."""
    read = container.reader is None or not container.reader.reading
    due = container.record.auto_remove and read and container.idle is None and not container.pending
    if due and not container.doomed and state.nursery is not None:
        container.doomed = True
        state.nursery.start_soon(remove_for_good, state, container)


async def remove_for_good(state: EngineState, container: Container) -> None:
    """With its anonymous volumes. What goes wrong is a warning; then it stays."""
    container.doomed = True
    try:
        await sandbox.remove(state, container, anonymous=True, stays_wanted=False)
    except PystackError as error:
        container.note(EventKind.WARNING, f"cannot remove {container.id}: {error}")
        container.doomed = False
        return
    state.drop(container)


async def _wait_for_next(state: EngineState, container: Container, delay_s: float) -> bool:
    """Until the next run is due. False: stopped meanwhile."""
    return await _back_off(state, container, delay_s) and await _owners_run(state, container)


async def _back_off(state: EngineState, container: Container, delay_s: float) -> bool:
    """Wait out the delay, and prepare the next run before it is over. False: stopped meanwhile."""
    if not container.ask.ending and container.ask is not Ask.START:
        with trio.CancelScope(deadline=trio.current_time() + delay_s) as container.delay:
            await trio.sleep(max(0.0, delay_s - PREPARED_AHEAD_S))
            if not container.record.paused:  # In a group that stands still nothing gets ready.
                await state.adapters.runtime.prepare(container.id)
            await trio.sleep_forever()
        container.delay = None
    if container.ask.ending:
        container.step(Trigger.ENDED_DONE, "stopped by request, while it waited for its restart")
        container.note(
            EventKind.CONTAINER_STOPPED,
            f"{container.label} stopped: it waited for its restart",
            exit_status=container.exit.status if container.exit is not None else None,
            restarts=container.pending,
        )
        return False
    return True


async def _owners_run(state: EngineState, container: Container) -> bool:
    """Wait for those whose namespaces it will be in. False: stopped meanwhile."""
    with trio.CancelScope() as container.delay:
        await sharing.until_owners_run(state, container)
    container.delay = None
    return not container.ask.ending or await _back_off(state, container, 0.0)


async def _start(state: EngineState, container: Container, run: LiveRun) -> LiveRun | None:
    """The run with its process, or None when it is refused."""
    needs = tuple(f"{edge.service}:{edge.condition.value}" for edge in container.definition.depends_on.values())
    container.note(EventKind.CONTAINER_STARTING, f"starting {container.id}", needs=needs)
    begun_s = trio.current_time()
    first, container.first_run = container.first_run, None
    try:
        with trio.fail_after(START_DEADLINE_S):
            await sandbox.wire(state, container)
            await pausing.thaw(state, container)
            networked_s = trio.current_time()
            if first is None:
                process = await state.adapters.runtime.start(container.id)
            else:
                process = await state.adapters.runtime.start(container.id, stdin=first.stdin, size=first.size)
                await _hand_over(state, container, first)
    except PystackError as error:
        refuse(state, container, located(error, state.project, container.definition, key_of(error)))
        return None
    except trio.TooSlowError:
        await state.adapters.runtime.kill(container.id)
        refuse(state, container, HostError(f"{container.id} did not start within {START_DEADLINE_S:.0f} s"))
        return None
    finally:
        if first is not None:
            first.close()
    run.begin(process)
    container.failed_hook = None
    run.hook = hooks.first_of(container)
    run.joined = sharing.runs_of(state, container)
    # So that whoever comes after a reboot can tell what ran from what had ended.
    container.amend(ran_against=ground_of(state, container), boot_id=state.boot_id, last_exit=None, refused=0)
    container.step(Trigger.STARTED, "running" if container.check is None else "running, not healthy yet")
    state.adapters.networking.set_ready(container.id, container.check is None)
    container.note(
        EventKind.CONTAINER_STARTED,
        f"started {container.id}",
        number=process.number,
        network_s=round(networked_s - begun_s, 6),
    )
    for text in process.warnings:
        if text not in container.warned:  # And not again with each restart.
            container.note(EventKind.WARNING, f"{container.id}: {text}")
    container.warned = process.warnings
    if container.check is None and not run.hook:
        container.note(EventKind.SERVICE_READY, f"{container.label} is running")
    return run


async def _hand_over(state: EngineState, container: Container, first: FirstRun) -> None:
    """The master of its terminal; nothing is left to type to when it has ended already."""
    if first.on_tty is not None:
        with suppress(OperationError):
            attached = await state.adapters.runtime.attach(container.id)
            if attached.fd >= 0:
                first.on_tty(attached.fd)


async def _live(state: EngineState, container: Container, run: LiveRun, process: Run) -> Exit:
    """Until the run has ended."""
    exit = Exit()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_obey, state, container, run)
        for kind in run.joined:
            nursery.start_soon(sharing.end_with, state, container, run, kind)
        if run.check is not None:
            nursery.start_soon(probe_run, state.adapters, container, run)
        if run.hook:
            nursery.start_soon(hooks.post_start, state, container, run)
        try:
            exit = await state.adapters.runtime.wait(process)
        except PystackError as error:
            container.note(EventKind.WARNING, f"cannot tell how {container.id} ended: {error}")
        nursery.cancel_scope.cancel()
    await sharing.learn_why(state, run, exit)
    hooks.cut_off(state, container, run, exit)
    return exit


async def _obey(state: EngineState, container: Container, run: LiveRun) -> None:
    """End the run when that is asked for: the stop signal, time to comply, the kill. Cancelled when the run is over."""
    await run.ending.wait()
    runtime = state.adapters.runtime
    why = "" if container.ask.ending else run.orphaned or "unhealthy"
    container.step(Trigger.STOP, f"stopping: {why or 'requested'}")
    text = f"stopping {container.id} ({why or 'requested'})"
    container.note(EventKind.CONTAINER_STOPPING, text, grace_s=run.grace_s, why=why)
    try:
        if container.ask.ending and run.hooks_s > 0 and container.definition.pre_stop:
            await pausing.thaw(state, container)
            await hooks.pre_stop(state, container, run)
        if run.grace_s > 0:
            await runtime.signal(container.id, container.record.definition.stop_signal)
            await pausing.thaw(state, container)
            if container.ask.ending and container.returns:
                await runtime.prepare(container.id)
            with trio.CancelScope(deadline=trio.current_time() + run.grace_s) as run.grace:
                await trio.sleep(LINGERS_AFTER_S)
                await _tell_that_it_lingers(state, container, run.grace.deadline - trio.current_time())
                await trio.sleep_forever()
    except PystackError as error:
        container.note(EventKind.WARNING, f"cannot signal {container.id}: {error}")
    finally:
        run.grace = None
    try:
        await runtime.kill(container.id)
    except PystackError as error:
        container.note(EventKind.WARNING, f"cannot kill {container.id}: {error}")


async def _tell_that_it_lingers(state: EngineState, container: Container, left_s: float) -> None:
    """Whoever waits learns whom for, how long, and why."""
    first = await state.adapters.runtime.first_process(container.id)
    if first is None or left_s < 1:
        return
    number = container.record.definition.stop_signal
    ignored = first.ignores(number)
    container.note(
        EventKind.CONTAINER_LINGERS,
        f"{container.label} {lingering_text(left_s, number, ignored, first.name, first.pid)}",
        left_s=round(left_s, 1),
        signal=number,
        ignored=ignored,
        process=first.name,
        pid=first.pid,
    )


def _conclude(state: EngineState, container: Container, run: LiveRun, exit: Exit) -> float | None:
    """The run has ended: say so, and return the delay before the next one, or None when there is none."""
    run_s = run.age_s
    container.exit = exit
    container.amend(last_exit=exit)
    if container.wanted:
        container.ended_runs += 1
    decision = judge_end(state, container, exit, run_s)
    container.note(
        EventKind.CONTAINER_STOPPED if container.ask.ending else EventKind.CONTAINER_EXITED,
        f"{container.label} {describe_exit(exit)} after {delay_text(run_s)}",
        exit_status=exit.status,
        signal=exit.signal,
        oom=exit.oom_killed,
        oom_kills=exit.oom_kills,
        run=run.process.number if run.process is not None else 0,
        restarts=isinstance(decision, Restart) or container.pending,
    )
    return settle_end(state, container, exit, decision)


def judge_end(state: EngineState, container: Container, exit: Exit, run_s: float) -> Restart | GiveUp:
    """What follows the end of a run."""
    run, service = container.run, container.definition
    was_healthy = run is not None and run.was_healthy
    container.history = container.history.ended_after(run_s, service.restart, healthy=was_healthy)
    unhealthy = run is not None and run.unhealthy
    if run is not None and run.orphaned and container.wanted and sharing.go_on(run):
        return Restart(FIRST_DELAY_S, run.orphaned)
    if unhealthy and container.wanted and service.on_unhealthy is OnUnhealthy.STOP:
        return GiveUp("became unhealthy", "stopped (x-pystack.on_unhealthy: stop)", failed=True)
    return decide(
        service.restart,
        container.history,
        exit,
        unhealthy=unhealthy,
        wanted=container.wanted,
        now_s=trio.current_time(),
        luck=state.luck(),
    )


def settle_end(state: EngineState, container: Container, exit: Exit, decision: Restart | GiveUp) -> float | None:
    """Act on the decision: the transition and the events. Returns the delay before the next run."""
    if isinstance(decision, Restart):
        container.history = container.history.restarted(container.definition.restart, trio.current_time())
        container.amend(restarts=container.record.restarts + 1, forgiven=container.history.forgiven)
        container.step(Trigger.ENDED_RESTART, decision.reason)
        container.note(
            EventKind.RESTART_SCHEDULED,
            f"{container.label} {decision.reason}",
            after_s=decision.after_s,
            attempt=container.history.restarts,
        )
        state.crashed(container)
        return decision.after_s
    bad = container.wanted and (decision.failed or not exit.ok)
    blocked = state.held_up_by(container) if bad else ()
    if decision.failed:
        container.amend(gave_up=decision.reason)
    container.step(Trigger.ENDED_FAILED if decision.failed else Trigger.ENDED_DONE, decision.reason)
    if bad:
        announce_failure(container, f"{container.label} {decision.reason}", exit, blocked)
    return None


def refuse(state: EngineState, container: Container, error: PystackError) -> None:
    """It cannot be made or started: it has failed, and says why."""
    container.error = error
    container.amend(gave_up=error.headline, refused=error.exit_code)
    blocked = state.held_up_by(container)
    container.step(Trigger.REFUSED, error.headline, Step.WITHDRAWN)
    announce_failure(container, f"{container.label} failed: {error.headline}", None, blocked)


def announce_failure(container: Container, text: str, exit: Exit | None, blocked: tuple[str, ...]) -> None:
    run = container.run
    results = run.health.results if run is not None and run.health is not None else ()
    refused = container.error.exit_code if container.error is not None else None
    container.note(
        EventKind.SERVICE_FAILED,
        text,
        exit_status=exit.status if exit is not None else refused,
        signal=exit.signal if exit is not None else None,
        oom=exit.oom_killed if exit is not None else False,
        probe_output=run.last_probe if run is not None and results and not results[-1].ok else None,
        blocked=blocked,
    )


def fresh_history(container: Container) -> RestartHistory:
    """After a restart of the supervisor: the attempts are remembered, the delay and the budget begin anew."""
    return RestartHistory(restarts=container.record.restarts, forgiven=container.record.forgiven)


def may_start(container: Container) -> bool:
    """Nothing runs in it and nothing will by itself."""
    return container.phase not in (Phase.STARTING, Phase.RUNNING, Phase.PAUSED, Phase.STOPPING, Phase.BACKOFF)
