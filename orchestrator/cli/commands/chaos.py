"""``pystack chaos``: faults on purpose. What is written is understood by `model.chaos`, as it is in a stack."""

from __future__ import annotations

from typing import Any

from orchestrator.cli.connection import connect, require
from orchestrator.cli.render.escape import escape_line
from orchestrator.cli.settings import Settings
from orchestrator.cli.wire import encoded
from orchestrator.contracts.injecting import Inject, Injected, Standing, Undo
from orchestrator.errors import InputError
from orchestrator.model.chaos import FaultKind, Injection, injection_of
from orchestrator.model.codec import from_json
from orchestrator.units import format_duration

_COLUMNS = {"ID": "ID", "Fault": "FAULT", "Left": "LEFT"}


def cut(settings: Settings, on: str, to: str, lasting: str | None, one_way: bool) -> None:
    """Drop all packets between two ends."""
    _inject(settings, FaultKind.CUT, (on, to), {"for": lasting, "one-way": one_way})


def loss(settings: Settings, on: str, to: str, amount: str, lasting: str | None, one_way: bool) -> None:
    """Drop some of them."""
    _inject(settings, FaultKind.LOSS, (on, to, amount), {"for": lasting, "one-way": one_way})


def lag(
    settings: Settings, on: str, rest: tuple[str, ...], lasting: str | None, one_way: bool, jitter: str | None
) -> None:
    """Hold them back."""
    _inject(settings, FaultKind.LAG, (on, *rest), {"for": lasting, "one-way": one_way, "jitter": jitter})


def rate(settings: Settings, on: str, rest: tuple[str, ...], lasting: str | None, one_way: bool) -> None:
    """Limit how fast they pass."""
    _inject(settings, FaultKind.RATE, (on, *rest), {"for": lasting, "one-way": one_way})


def dns_fail(settings: Settings, on: str, rest: tuple[str, ...], lasting: str | None, silent: bool) -> None:
    """Let the name server fail."""
    _inject(settings, FaultKind.DNS_FAIL, (on, *rest), {"for": lasting, "timeout": silent})


def pause(settings: Settings, on: str, lasting: str | None) -> None:
    """Let processes stand still for a while."""
    _inject(settings, FaultKind.PAUSE, (on,), {"for": lasting})


def kill(settings: Settings, on: str, signal: str | None) -> None:
    """Let it crash."""
    _inject(settings, FaultKind.KILL, (on,), {"signal": signal})


def oom(settings: Settings, on: str) -> None:
    """Let it run out of memory."""
    _inject(settings, FaultKind.OOM, (on,), {})


def _inject(
    settings: Settings, kind: FaultKind, words: tuple[str, ...], options: dict[str, str | bool | None]
) -> None:
    """Options that were not given are None or False."""
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    try:
        wanted = injection_of(kind, words, given)
    except ValueError as exc:
        raise InputError(str(exc), hint=f"`pystack chaos {kind.value} --help` explains it") from None
    with require(settings.site()) as client:
        made = from_json(Standing, client.request(*encoded(Inject(wanted))))
    print(escape_line(begun_text(made)))


def begun_text(made: Standing) -> str:
    """``cut-1: cut api from db, for 60s``"""
    return f"{made.id}: {made.text}{_lasting(made.injection)}"


def _lasting(wanted: Injection) -> str:
    if not wanted.kind.lasts:
        return ""
    return f", for {format_duration(wanted.for_s)}" if wanted.for_s else ", until it is undone"


def list_(settings: Settings, shape: str) -> None:
    """List what stands."""
    from orchestrator.cli.render.rows import render_rows

    rows: list[dict[str, Any]] = []
    if (client := connect(settings.site())) is not None:
        with client:
            found = from_json(tuple[Standing, ...], client.request(*encoded(Injected())))
        rows = [_row(fault) for fault in found]
    if text := render_rows(rows, shape, _COLUMNS):
        print(text)


def _row(fault: Standing) -> dict[str, Any]:
    left = "until it is undone" if fault.left_s is None else format_duration(fault.left_s)
    wanted = fault.injection
    return {
        "ID": fault.id,
        "Kind": wanted.kind.value,
        "Fault": fault.text,
        "On": wanted.on,
        "To": wanted.to,
        "OneWay": wanted.one_way,
        "Left": left,
        "LeftSeconds": None if fault.left_s is None else round(fault.left_s, 3),
        "BegunAt": fault.begun_at,
    }


def undo(settings: Settings, faults: tuple[str, ...], everything: bool) -> None:
    """End faults now."""
    if bool(faults) == everything:
        raise InputError("say which faults to end, or --all", hint="`pystack chaos ls` shows those that stand")
    with require(settings.site()) as client:
        ended = client.request(*encoded(Undo(faults, everything)))
    for fault in from_json(tuple[Standing, ...], ended):
        print(escape_line(f"{fault.id} has ended: {fault.text}"))


def run(settings: Settings) -> None:
    """Carry out the stack's script."""
    from orchestrator.cli.chaos_script import carry_out

    steps = settings.load().chaos
    if not steps:
        hint = "as in: x-pystack: {chaos: [{at: 10s, do: cut api db, for: 5s}]} (docs/chaos.md)"
        raise InputError("the stack has no script of faults (x-pystack.chaos)", hint=hint)
    carry_out(settings.site(), steps)
