"""``pystack start``, ``stop``, ``restart`` and ``kill``: one request each, one engine behind them."""

from __future__ import annotations

import time
from typing import Any

from orchestrator.cli.connection import explain_unknown, manage
from orchestrator.cli.operation import Operation, report_failures
from orchestrator.cli.render.board import Board
from orchestrator.cli.render.progress import choose
from orchestrator.cli.settings import Settings
from orchestrator.errors import InputError, OperationError, PystackError


def operate(settings: Settings, verb: str, args: dict[str, Any], past: str, key: str = "changed") -> None:
    """Run `verb` on the project's supervisor with progress; `past` words the summary, `key` is its number's."""
    began_s = time.monotonic()
    site = settings.site()
    services = tuple(args["services"])
    board = Board()
    progress = choose(settings.terminal(), f"{verb} {site.project}", board)
    client = manage(site)
    if client is None:
        raise OperationError(f"project {site.project} does not exist", hint="`pystack up` makes it")
    with client:
        try:
            result = Operation(client, verb, args, progress, board).run()
        except PystackError as error:
            progress.close()
            report_failures(site, board, progress, error)
            raise explain_unknown(site, error, services) from None
        finally:
            progress.close()
    number = result.get(key, 0)
    noun = "service" if number == 1 else "services"
    text = f"{number} {noun} {past} in {time.monotonic() - began_s:.2f} s" if number else f"nothing to {verb}"
    progress.summary(text, result)


def start(settings: Settings, services: tuple[str, ...], no_deps: bool) -> None:
    """Start stopped services."""
    operate(settings, "start", {"services": services, "timeout_s": None, "no_deps": no_deps}, "started")


def stop(settings: Settings, services: tuple[str, ...], timeout_s: float | None) -> None:
    """Stop services, dependents first. Their files, addresses and logs stay."""
    operate(settings, "stop", {"services": services, "timeout_s": timeout_s, "no_deps": False}, "stopped")


def restart(settings: Settings, services: tuple[str, ...], timeout_s: float | None, no_deps: bool) -> None:
    """Stop and start services, whether they run or not."""
    operate(settings, "restart", {"services": services, "timeout_s": timeout_s, "no_deps": no_deps}, "restarted")


def kill(settings: Settings, services: tuple[str, ...], name: str) -> None:
    """Send a signal to services' main processes."""
    operate(settings, "kill", {"services": services, "signal": signal_name(name)}, "signalled", "signalled")


def signal_name(text: str) -> str:
    """``SIGTERM`` for ``SIGTERM``, ``term`` and ``15``. Raises InputError."""
    if text == "SIGKILL":
        return text
    import signal

    try:
        if text.isdecimal():
            return signal.Signals(int(text)).name
        name = text.upper()
        return signal.Signals[name if name.startswith("SIG") else f"SIG{name}"].name
    except (KeyError, ValueError):
        raise InputError(
            f'invalid value for --signal: "{text}" is not a signal', hint="`pystack kill --help` lists what it takes"
        ) from None
