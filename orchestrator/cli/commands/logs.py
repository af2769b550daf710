"""``pystack logs``: reads the log files itself; needs no supervisor."""

from __future__ import annotations

from orchestrator.cli.logfiles import Writers, log_path, merged, show, without_log, writers
from orchestrator.cli.render.loglines import printer_for
from orchestrator.cli.selection import check_named
from orchestrator.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orchestrator.cli.settings import Settings
    from orchestrator.model.names import ContainerId


def logs(
    settings: Settings,
    services: tuple[str, ...],
    follow: bool,
    index: int,
    tail: int,
    timestamps: bool,
    since: str | None,
    until: str | None,
    no_log_prefix: bool,
    no_color: bool,
    raw: bool,
) -> None:
    """Show what containers wrote, in the order of time. One that has written nothing is shown as just that."""
    site = settings.site()
    known = writers(site)
    check_named(settings, services, known.services)
    chosen = known.of(services, index)
    if index and not chosen:
        _refuse_index(services, index, known)
    printer = printer_for(
        settings.terminal(), colour=not no_color, raw=raw, prefix=not no_log_prefix, timestamps=timestamps
    )
    begin, end = _instant(since), _instant(until)
    lines = None if tail < 0 else tail
    if follow and not _is_past(end):
        from orchestrator.cli.logfollower import LogFollower
        from orchestrator.cli.tailing import follow_logs

        with LogFollower(site, printer, services, index=index) as follower:
            follow_logs(site, follower, services, lines, begin, end)
        return
    printer.add({container: writer.label for container, writer in chosen.items()})

    def lost(container: ContainerId, count: int, why: str) -> None:
        from orchestrator.cli.failures import note

        note(printer.lost(container, count, why))

    if silent := known.silent(chosen):
        from orchestrator.cli.failures import note

        note(without_log(silent))
    if printer.exact and len(chosen) == 1 and (begin, end, lines) == (None, None, None):
        from orchestrator.cli.copying import copy_log

        (name,) = chosen
        copy_log(log_path(site, name), lambda count, why: lost(name, count, why))
        return
    entries = merged(site, chosen, lines, begin, lost, timed=timestamps or end is not None)
    if end is not None:
        from itertools import takewhile

        entries = takewhile(lambda item: item[1][0] < end, entries)
    show(entries, printer)


def _refuse_index(services: tuple[str, ...], index: int, known: Writers) -> None:
    there = sorted({writer.label for writer in known.of(services).values()})
    raise InputError(
        f"there is no container {index} of {' or '.join(services) or 'any service'}",
        hint=f"there are: {', '.join(there)}" if there else "none of its containers has been made",
    )


def _is_past(end: float | None) -> bool:
    if end is None:
        return False
    import time

    return end <= time.time()


def _instant(text: str | None) -> float | None:
    if not text:  # An empty variable of a script.
        return None
    import time

    from orchestrator.cli.instants import parse_instant

    return parse_instant(text, time.time())
