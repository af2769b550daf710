"""Options that several verbs have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


def services(function: Function) -> Function:
    """``[SERVICE]...``: none means all."""
    return click.argument("services", nargs=-1, metavar="[SERVICE]...")(function)


def timeout(function: Function) -> Function:
    return click.option(
        "-t",
        "--timeout",
        "timeout_s",
        type=click.FloatRange(min=0),
        metavar="SECONDS",
        help="Time to stop gracefully, instead of stop_grace_period.",
    )(function)
