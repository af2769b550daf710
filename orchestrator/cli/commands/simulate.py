"""``pystack simulate``: what the stack would do, on virtual time, and whether that is what it expects of itself."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from orchestrator.cli import rehearsal
from orchestrator.cli.render.escape import escape_line
from orchestrator.cli.settings import Settings
from orchestrator.cli.wire import selected
from orchestrator.compose.model.choice import select
from orchestrator.errors import InputError, OperationError
from orchestrator.model.codec import to_json
from orchestrator.state.directory import DEFAULT_DATA
from orchestrator.testing.failures import Failure, FailureKind
from orchestrator.testing.fake_runtime import EPOCH
from orchestrator.testing.judging import USUAL, Verdict, judge
from orchestrator.testing.search import Try, search
from orchestrator.testing.simulate import Report, lines_of
from orchestrator.testing.stand_ins import images_for
from orchestrator.units import format_duration, parse_duration
from orchestrator.values import replace

if TYPE_CHECKING:
    from orchestrator.cli.rehearsal import Rehearsal
    from orchestrator.model.project import Project

_LONGEST_S = 366 * 86400.0
_LATER = 6
"""What has not converged is looked at again after so many times the time."""


def simulate(
    settings: Settings,
    services: tuple[str, ...],
    kills: tuple[str, ...],
    ills: tuple[str, ...],
    exits: tuple[str, ...],
    slow: tuple[str, ...],
    kill_supervisor: tuple[str, ...],
    no_chaos: bool,
    recorded: bool,
    seed: int,
    duration: str,
    tries: int,
    shape: str,
) -> None:
    """Bring the stack up on virtual time, with these failures; print what happens, and judge it. Raises OperationError when
    an expectation does not hold, or (`tries`) when failures were found after which the stack does not converge."""
    duration_s = _duration(duration)
    given = rehearsal.failures_of(
        {
            FailureKind.KILL: kills,
            FailureKind.ILL: ills,
            FailureKind.EXIT: exits,
            FailureKind.SLOW: slow,
            FailureKind.KILL_SUPERVISOR: kill_supervisor,
        }
    )
    stack = _rehearsal(settings, services, recorded=recorded, scripted=not no_chaos)
    if tries:
        _search(stack, given, tries, seed, duration_s)
        return
    report = stack.run(given, seed=seed, duration_s=duration_s)
    verdicts = judge(stack.project.expect or USUAL, report, stack.services)
    if shape == "json":
        print(json.dumps(_data(report, verdicts, seed, duration_s, stack.left_out()), indent=2))
    else:
        print(_text(report, verdicts, stack.left_out()))
    _conclude(stack.project, verdicts)


def _rehearsal(settings: Settings, services: tuple[str, ...], *, recorded: bool, scripted: bool) -> Rehearsal:
    project = settings.load(services)
    found = images_for(project, os.path.join(settings.data_root or DEFAULT_DATA, "images"))
    if found.made_up and settings.progress not in ("quiet", "json"):
        names = escape_line(", ".join(found.made_up))
        print(f"note: not on this machine, so they bring no health check, user or command: {names}", file=sys.stderr)
    behaviours = rehearsal.usual_behaviours(project)
    if recorded:
        behaviours = rehearsal.recorded_behaviours(settings.site_named(project.name), behaviours)
    chosen = select(project, services)
    script = project.chaos if scripted else ()
    return rehearsal.Rehearsal(project, selected(services), chosen, found.images, behaviours, script)


def _search(stack: Rehearsal, given: tuple[Failure, ...], tries: int, seed: int, duration_s: float) -> None:
    expect = stack.project.expect or USUAL
    final = replace(USUAL, eventually=expect.eventually or USUAL.eventually)

    def converges(one: Try) -> bool:
        for length_s in (duration_s, _LATER * duration_s):
            report = stack.run(one.failures, seed=one.seed, duration_s=length_s)
            if all(verdict.holds for verdict in judge(final, report, stack.services)):
                return True
        return False

    found, made = search(converges, stack.services, tries, seed, given)
    if found is None:
        print(f"{made} simulations of {format_duration(duration_s)}: all came to rest as expected")
        return
    length_s = _LATER * duration_s
    report = stack.run(found.failures, seed=found.seed, duration_s=length_s)
    verdicts = judge(final, report, stack.services)
    print(_text(report, verdicts, stack.left_out()))
    unscripted = " --no-chaos" if stack.project.chaos and not stack.script else ""
    command = f"pystack simulate {found.options}{unscripted} --for {format_duration(length_s)}"
    raise OperationError(
        f"it does not converge: found in simulation {made} of {tries}, and made as small as it is", hint=f"again: {command}"
    )


def _text(report: Report, verdicts: tuple[Verdict, ...], left_out: list[str]) -> str:
    lines = lines_of(report.story)
    if left_out:
        lines.append(f"left out of x-pystack.chaos, for nothing here notices its network: {'; '.join(left_out)}")
    lines += ["in the end:", *report.end()]
    lines += [f"{'ok   ' if verdict.holds else 'FAILS'}  {verdict.claim}: {verdict.why}" for verdict in verdicts]
    return "\n".join(escape_line(line) for line in lines)


def _data(
    report: Report, verdicts: tuple[Verdict, ...], seed: int, duration_s: float, left_out: list[str]
) -> Any:
    events = [{"at_s": round(event.at - EPOCH, 6), **_without_clocks(to_json(event))} for event in report.story]
    return {
        "seed": seed,
        "for_s": duration_s,
        "events": events,
        "restarts": dict(report.restarts),
        "statuses": to_json(report.statuses),
        "expectations": to_json(verdicts),
        "left_out": left_out,
    }


def _without_clocks(event: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key not in ("at", "clock_s")}


def _conclude(project: Project, verdicts: tuple[Verdict, ...]) -> None:
    broken = [verdict for verdict in verdicts if not verdict.holds]
    if broken:
        first = broken[0]
        more = f" ({len(broken) - 1} more do not hold)" if len(broken) > 1 else ""
        place = project.where(first.place) if first.place else ""
        raise OperationError(f"expected: {first.claim}; but {first.why}{more}", place=place)


def _duration(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as exc:
        raise InputError(f"--for: {exc}") from None
    if not 0 < seconds <= _LONGEST_S:
        raise InputError(f'--for: "{text}" is not between 0 and a year')
    return seconds
