"""``pystack logs``: reads the log files itself; needs no supervisor."""

from __future__ import annotations

from orchestrator.cli.logfiles import containers_to_show, merged, show
from orchestrator.cli.render.loglines import LogPrinter
from orchestrator.cli.selection import check_services
from orchestrator.errors import OperationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orchestrator.cli.settings import Settings


def logs(
    settings: Settings,
    services: tuple[str, ...],
    follow: bool,
    tail: int,
    timestamps: bool,
    since: str | None,
    until: str | None,
    no_log_prefix: bool,
    no_color: bool,
    raw: bool,
) -> None:
    """Show what services wrote, in the order of time."""
    site = settings.site()
    known = containers_to_show(site)
    if not known:
        raise OperationError(f"project {site.project} has no logs", hint="`pystack up` makes its containers")
    check_services(services, known.values(), site.project)
    shown = {container: service for container, service in known.items() if not services or service in services}
    terminal = settings.terminal()
    printer = LogPrinter(
        sorted(shown.values()),
        colour=terminal.colour_out and not no_color,
        raw=raw or not terminal.stdout_tty,
        prefix=not no_log_prefix,
        timestamps=timestamps,
    )
    begin, end = _instant(since), _instant(until)
    lines = None if tail < 0 else tail
    if follow:
        from orchestrator.cli.logfollower import LogFollower
        from orchestrator.cli.tailing import follow_logs

        with LogFollower(site, printer) as follower:
            follow_logs(site, follower, shown, services, lines, begin)
        return
    entries = merged(site, shown, lines, begin)
    if end is not None:
        from itertools import takewhile

        entries = takewhile(lambda item: item[1].time < end, entries)
    show(entries, printer)


def _instant(text: str | None) -> float | None:
    if text is None:
        return None
    import time

    from orchestrator.cli.instants import parse_instant

    return parse_instant(text, time.time())
