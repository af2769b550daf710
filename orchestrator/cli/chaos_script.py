"""``pystack chaos run``: a stack's script of faults, carried out here. The faults are the supervisor's, each with its time,
so a script that is killed leaves none for longer than that."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

from orchestrator.cli.commands.chaos import begun_text
from orchestrator.cli.connection import require
from orchestrator.cli.failures import note
from orchestrator.cli.render.escape import escape_line
from orchestrator.cli.wire import encoded
from orchestrator.contracts.injecting import Inject, Injected, Standing, Undo
from orchestrator.contracts.site import Site
from orchestrator.errors import OperationError, PystackError
from orchestrator.model.chaos import ChaosStep, Injection
from orchestrator.model.codec import from_json
from orchestrator.policy.script import moments


def carry_out(
    site: Site,
    steps: Sequence[ChaosStep],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """To the end of the last fault. Whatever ends it earlier, what it has made is undone. A fault that cannot be made is
    told, and the rest follows; raises OperationError in the end if there were such."""
    began_s, last_s, failed = clock(), 0.0, 0
    made: set[str] = set()
    with require(site):
        pass
    try:
        for at_s, step in moments(steps):
            sleep(max(0.0, began_s + at_s - clock()))
            try:
                fault = _inject(site, step.injection)
            except PystackError as error:
                failed += 1
                note(f"{step.place or step.injection}: {error.message}", error.hint)
                continue
            print(escape_line(f"{at_s:7.1f}s  {begun_text(fault)}"), flush=True)
            if step.injection.kind.lasts:
                made.add(fault.id)
                last_s = max(last_s, at_s + step.injection.for_s)
        sleep(max(0.0, began_s + last_s - clock()))
    finally:
        _undo(site, made)
    if failed:
        raise OperationError(f"{failed} of the faults could not be made")


def _inject(site: Site, wanted: Injection) -> Standing:
    with require(site) as client:
        return from_json(Standing, client.request(*encoded(Inject(wanted))))


def _undo(site: Site, made: Collection[str]) -> None:
    """Those of `made` that still stand."""
    with suppress(PystackError), require(site) as client:  # It is down: so are they.
        there = from_json(tuple[Standing, ...], client.request(*encoded(Injected())))
        if left := tuple(fault.id for fault in there if fault.id in made):
            client.request(*encoded(Undo(left)))
