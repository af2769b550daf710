"""``pystack logs``: reads the log files itself; needs no supervisor."""

from __future__ import annotations

import itertools
import time

import click

from orchestrator.cli.commands import options
from orchestrator.cli.logfiles import LogFollower, containers_with_logs, merged, show
from orchestrator.cli.render.loglines import LogPrinter
from orchestrator.cli.selection import check_services
from orchestrator.cli.settings import Settings
from orchestrator.errors import OperationError


class Tail(click.ParamType[int]):
    """A number of lines, or ``all`` (-1)."""

    name = "lines"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        if text in ("all", "-1"):
            return -1
        if not text.isdecimal():
            self.fail(f'"{text}" is neither a number of lines nor "all"', param, ctx)
        return int(text)


@click.command()
@options.services
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written, until all have ended or Ctrl-C.")
@click.option("-n", "--tail", type=Tail(), default=-1, metavar="LINES", help="Only the last lines of each container.")
@click.option("-t", "--timestamps", is_flag=True, help="Show when each line was written.")
@click.option("--since", metavar="TIME", help="Only since then: 10m, or 2026-05-04T12:00:00Z.")
@click.option("--until", metavar="TIME", help="Only before then.")
@click.option("--no-log-prefix", is_flag=True, help="Without the service's name.")
@click.option("--no-color", is_flag=True, help="Without colours.")
@click.option("--raw", is_flag=True, help="Do not escape what containers wrote. Always so when stdout is no terminal.")
@click.pass_obj
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
    known = containers_with_logs(site)
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
        from orchestrator.cli.tailing import follow_logs

        with LogFollower(site, printer) as follower:
            follow_logs(site, follower, shown, services, lines, begin)
        return
    entries = merged(site, shown, lines, begin)
    if end is not None:
        entries = itertools.takewhile(lambda item: item[1].time < end, entries)
    show(entries, printer)


def _instant(text: str | None) -> float | None:
    if text is None:
        return None
    from orchestrator.cli.instants import parse_instant

    return parse_instant(text, time.time())
