"""The task that lives with a container: start, wait and probe, decide, back off, start again.

One task per container makes every change of it, so there are no locks: an operation asks (`Keeper.dismiss`,
`hasten_start`) and waits for `Keeper.idle` or for a watch. Cancelling the task (the supervisor ends) touches nothing: the
container runs on and is adopted by the next supervisor.
"""

from __future__ import annotations

import trio

from orchestrator.contracts.events import EventKind
from orchestrator.contracts.runtime import Exit, Run
from orchestrator.contracts.state import Wanted
from orchestrator.errors import HostError, PystackError
from orchestrator.model.health import OnUnhealthy
from orchestrator.policy.exits import describe_exit
from orchestrator.policy.health import describe_probe
from orchestrator.policy.lifecycle import Happening, State
from orchestrator.policy.restart import GiveUp, Restart, RestartHistory, decide, delay_text
from orchestrator.scheduler import sandbox
from orchestrator.scheduler.crew import Crew
from orchestrator.scheduler.faults import key_of, located, signal_number
from orchestrator.scheduler.keeper import Keeper
from orchestrator.scheduler.prober import probe_run

START_DEADLINE_S = 60.0
KILL_DEADLINE_S = 30.0


def launch(crew: Crew, keeper: Keeper, *, adopted: Run | None = None, delay_s: float | None = None) -> None:
    """Supervise `keeper`'s container from now on: start it (after `delay_s`, if given), or watch over the run `adopted`."""
    assert crew.nursery is not None, "Engine.run is not running"
    assert keeper.idle is None, f"{keeper.container} is supervised already"
    keeper.idle = trio.Event()
    keeper.ending = trio.Event()
    keeper.dismissed = False
    keeper.hurry = False
    crew.nursery.start_soon(_supervise, crew, keeper, adopted, delay_s)


def hasten_start(keeper: Keeper) -> None:
    """Do not wait for the back-off's end: a user wants it started now, and counts its restarts from now."""
    keeper.hurry = True
    keeper.amend(restarts=0, gave_up="", wanted=Wanted.RUNNING)
    if keeper.delay is not None:
        keeper.delay.cancel()


async def stop(crew: Crew, keeper: Keeper, grace_s: float, *, stays_wanted: bool = False) -> None:
    """End the run, or the wait for the next one, and return when it is over. `stays_wanted`: the record does not say
    "stopped", because a start follows. Raises HostError when it does not end even when killed."""
    if not stays_wanted:
        keeper.amend(wanted=Wanted.STOPPED)
        keeper.save()
    if (idle := keeper.idle) is not None:
        keeper.dismiss(grace_s)
        await at_rest(keeper, idle, START_DEADLINE_S + grace_s + KILL_DEADLINE_S)
    keeper.held = False


async def at_rest(keeper: Keeper, idle: trio.Event, deadline_s: float) -> None:
    """Return when the container's task has ended. Raises HostError when it takes longer than `deadline_s`."""
    try:
        with trio.fail_after(deadline_s):
            await idle.wait()
    except trio.TooSlowError:
        raise HostError(
            f"{keeper.container} does not end, even when killed",
            hint="a process of it may be stuck in the kernel; see its state in /proc/PID/stack",
        ) from None


async def _supervise(crew: Crew, keeper: Keeper, run: Run | None, delay_s: float | None) -> None:
    while True:
        if run is None:
            if delay_s is not None and not await _back_off(keeper, delay_s):
                break
            run = await _start(crew, keeper)
            if run is None:
                break
        keeper.run = run
        exit = await _live(crew, keeper, run)
        run = None
        delay_s = _conclude(crew, keeper, exit)
        if delay_s is None:
            break
    if not keeper.held:  # Else the operation starts it again at once, or unwires it.
        await sandbox.unwire(crew, keeper)
    if keeper.fresh:  # Its first run was refused.
        await sandbox.undo(crew, keeper)
        keeper.save()
    assert keeper.idle is not None
    keeper.idle.set()
    keeper.idle = None


async def _back_off(keeper: Keeper, delay_s: float) -> bool:
    """Wait out the delay. False: stopped meanwhile."""
    if not keeper.dismissed and not keeper.hurry:
        with trio.CancelScope(deadline=trio.current_time() + delay_s) as keeper.delay:
            await trio.sleep_forever()
        keeper.delay = None
    keeper.hurry = False
    if keeper.dismissed:
        keeper.step(Happening.ENDED_DONE, "stopped by request, while it waited for its restart")
        keeper.note(EventKind.CONTAINER_STOPPED, f"{keeper.name} stopped: it waited for its restart")
        return False
    return True


async def _start(crew: Crew, keeper: Keeper) -> Run | None:
    """A new run, or None when it is refused."""
    keeper.step(Happening.START, "starting")
    keeper.note(EventKind.CONTAINER_STARTING, f"starting {keeper.container}")
    if not keeper.dismissed:
        keeper.ending = trio.Event()
    try:
        with trio.fail_after(START_DEADLINE_S):
            await sandbox.wire(crew, keeper)
            run = await crew.adapters.runtime.start(keeper.container)
    except PystackError as error:
        refuse(crew, keeper, located(error, crew.project, keeper.service, key_of(error)))
        return None
    except trio.TooSlowError:
        await crew.adapters.runtime.kill(keeper.container)
        refuse(crew, keeper, HostError(f"{keeper.container} did not start within {START_DEADLINE_S:.0f} s"))
        return None
    keeper.run = run
    keeper.step(Happening.STARTED, "running" if keeper.check is None else "running, not healthy yet")
    keeper.note(EventKind.CONTAINER_STARTED, f"started {keeper.container}", number=run.number)
    if keeper.check is None:
        keeper.note(EventKind.SERVICE_READY, f"{keeper.name} is running")
    return run


async def _live(crew: Crew, keeper: Keeper, run: Run) -> Exit:
    """Until the run has ended."""
    exit = Exit()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_obey, crew, keeper)
        if keeper.check is not None:
            nursery.start_soon(probe_run, crew.adapters.runtime, keeper)
        try:
            exit = await crew.adapters.runtime.wait(run)
        except PystackError as error:
            keeper.note(EventKind.WARNING, f"cannot tell how {keeper.container} ended: {error}")
        nursery.cancel_scope.cancel()
    return exit


async def _obey(crew: Crew, keeper: Keeper) -> None:
    """End the run when that is asked for: the stop signal, time to comply, the kill. Cancelled when the run is over."""
    await keeper.ending.wait()
    runtime = crew.adapters.runtime
    why = "requested" if keeper.dismissed else "unhealthy"
    keeper.step(Happening.STOP, f"stopping: {why}")
    keeper.note(EventKind.CONTAINER_STOPPING, f"stopping {keeper.container} ({why})", grace_s=keeper.grace_s)
    try:
        if keeper.grace_s > 0:
            await runtime.signal(keeper.container, stop_signal(keeper))
            with trio.CancelScope(deadline=trio.current_time() + keeper.grace_s) as keeper.grace:
                await trio.sleep_forever()
    except PystackError as error:
        keeper.note(EventKind.WARNING, f"cannot signal {keeper.container}: {error}")
    finally:
        keeper.grace = None
    try:
        await runtime.kill(keeper.container)
    except PystackError as error:
        keeper.note(EventKind.WARNING, f"cannot kill {keeper.container}: {error}")


def stop_signal(keeper: Keeper) -> int:
    inherited = keeper.image.config.stop_signal if keeper.image is not None else None
    return signal_number(keeper.service.stop_signal or inherited)


def _conclude(crew: Crew, keeper: Keeper, exit: Exit) -> float | None:
    """The run has ended: say so, and return the delay before the next one, or None when there is none."""
    run_s = keeper.age_s
    what = f"{keeper.name} {describe_exit(exit)} after {delay_text(run_s)}"
    keeper.exit = exit
    keeper.amend(last_exit=exit)
    requested = keeper.dismissed
    if keeper.wanted:
        keeper.ended_runs += 1
    kind = EventKind.CONTAINER_STOPPED if requested else EventKind.CONTAINER_EXITED
    keeper.note(
        kind,
        what,
        exit_status=exit.status,
        signal=exit.signal,
        oom=exit.oom_killed,
        run=keeper.run.number if keeper.run else 0,
    )
    decision = judge_end(keeper, exit, run_s)
    return settle_end(crew, keeper, exit, decision)


def judge_end(keeper: Keeper, exit: Exit, run_s: float) -> Restart | GiveUp:
    """What follows the end of a run."""
    keeper.history = keeper.history.ended_after(run_s)
    if keeper.unhealthy and keeper.wanted and keeper.service.on_unhealthy is OnUnhealthy.STOP:
        return GiveUp("became unhealthy; stopped (x-pystack.on_unhealthy: stop)", failed=True)
    return decide(keeper.service.restart, keeper.history, exit, unhealthy=keeper.unhealthy, wanted=keeper.wanted)


def settle_end(crew: Crew, keeper: Keeper, exit: Exit, decision: Restart | GiveUp) -> float | None:
    """Act on the decision: the transition and the events. Returns the delay before the next run."""
    if isinstance(decision, Restart):
        keeper.history = keeper.history.restarted(decision.after_s)
        keeper.amend(restarts=keeper.record.restarts + 1)
        keeper.step(Happening.ENDED_RESTART, decision.reason)
        keeper.note(
            EventKind.RESTART_SCHEDULED,
            f"{keeper.name} {decision.reason}",
            after_s=decision.after_s,
            attempt=keeper.history.restarts,
        )
        return decision.after_s
    bad = keeper.wanted and (decision.failed or not exit.ok)
    blocked = crew.held_up_by(keeper.name) if bad else ()
    if decision.failed:
        keeper.amend(gave_up=decision.reason)
    keeper.step(Happening.ENDED_FAILED if decision.failed else Happening.ENDED_DONE, decision.reason)
    if bad:
        announce_failure(keeper, f"{keeper.name} {decision.reason}", exit, blocked)
    return None


def refuse(crew: Crew, keeper: Keeper, error: PystackError) -> None:
    """It cannot be made or started: it has failed, and says why."""
    keeper.error = error
    keeper.pending = keeper.held = False
    keeper.amend(gave_up=error.message)
    blocked = crew.held_up_by(keeper.name)
    keeper.step(Happening.REFUSED, error.message)
    announce_failure(keeper, f"{keeper.name} failed: {error.message}", None, blocked)


def announce_failure(keeper: Keeper, text: str, exit: Exit | None, blocked: tuple[str, ...]) -> None:
    results = keeper.health.results if keeper.health is not None else ()
    keeper.note(
        EventKind.SERVICE_FAILED,
        text,
        exit_status=exit.status if exit is not None else (keeper.error.exit_code if keeper.error is not None else None),
        signal=exit.signal if exit is not None else None,
        oom=exit.oom_killed if exit is not None else False,
        probe_output=describe_probe(results[-1]) if results and not results[-1].ok else None,
        blocked=blocked,
    )


def fresh_history(keeper: Keeper) -> RestartHistory:
    """After a restart of the supervisor: the attempts are remembered, the delay begins anew."""
    return RestartHistory(restarts=keeper.record.restarts, run_s=0.0)


def may_start(keeper: Keeper) -> bool:
    """Nothing runs in it and nothing will by itself."""
    return keeper.phase not in (State.STARTING, State.RUNNING, State.STOPPING, State.BACKOFF)
