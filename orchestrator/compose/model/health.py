"""``healthcheck`` as the runtime takes it."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.compose.kinds.values import duration_ns, go_text
from orchestrator.compose.model.reader import Reader
from orchestrator.compose.text.tree import Node
from orchestrator.model.health import HealthCheck
from orchestrator.model.network import PortMapping
from orchestrator.units import NS_PER_SECOND

MIN_PROBE_NS = 1_000_000
"""moby refuses shorter intervals and time-outs than a millisecond; 0 stands for the default."""


def health(read: Reader, node: Node, path: str, ports: Sequence[PortMapping]) -> HealthCheck | None:
    """What is in force for a service: its ``healthcheck``, or what ``x-pystack`` says instead. `ports`: as published."""
    own, extension = healthcheck(read, node, path), node.get("x-pystack")
    if extension is None or (extension.get("ready") or extension.get("probe")) is None:
        return own
    from orchestrator.compose.model.looks import check_from_outside  # Few stacks ask for it.

    return check_from_outside(read, node, path, own, ports)


def healthcheck(read: Reader, node: Node, path: str) -> HealthCheck | None:
    item = node.get("healthcheck")
    if item is None or not isinstance(item.value, dict):
        return None
    path = f"{path}.healthcheck"
    for key, value in item.value.items():
        read.mark(value, f"{path}.{key}")
    test, disabled, shell = _health_test(read, item, path)
    if any("\0" in word for word in test or ()):
        read.error(item.get("test") or item, f"{path}.test", "holds a NUL byte")
    start_interval = item.get("start_interval")
    if start_interval is not None and item.get("start_period") is None:
        message = "healthcheck.start_interval requires healthcheck.start_period to be set"
        hint = "it is the interval during start_period; add one, or use interval"
        read.error(start_interval, f"{path}.start_interval", message, hint)
    retries = item.get("retries")
    count = int(retries.value) if retries is not None and isinstance(retries.value, int | float) else 0
    if retries is not None and count < 0:
        read.error(retries, f"{path}.retries", "must not be negative")
    return HealthCheck(
        test=test,
        interval_s=_probe_seconds(read, item, path, "interval"),
        timeout_s=_probe_seconds(read, item, path, "timeout"),
        retries=max(count, 0),
        start_period_s=_probe_seconds(read, item, path, "start_period"),
        start_interval_s=_probe_seconds(read, item, path, "start_interval"),
        disabled=disabled or read.flag(item, path, "disable"),
        shell=shell,
    )


def _health_test(read: Reader, node: Node, path: str) -> tuple[tuple[str, ...] | None, bool, bool]:
    """(argv or None, disabled, whether it is text for a shell)."""
    test = node.get("test")
    if test is None or not test.value:
        return None, False, False
    if isinstance(test.value, str):
        return ("/bin/sh", "-c", test.value), False, True
    words = [go_text(item.value) for item in test.elements()]
    match words:
        case ["NONE", *_]:
            return None, True, False
        case ["CMD-SHELL"]:
            read.error(test, f"{path}.test", "CMD-SHELL has no command behind it", 'write [CMD-SHELL, "COMMAND"]')
            return None, False, False
        case ["CMD-SHELL", *rest]:
            return ("/bin/sh", "-c", " ".join(rest)), False, True
        case ["CMD", *rest] if rest:
            return tuple(rest), False, False
        case ["CMD"]:
            read.error(test, f"{path}.test", "CMD has no command behind it", "write [CMD, PROGRAM, ARGUMENT...]")
            return None, False, False
        case _:
            return None, False, False


def _probe_seconds(read: Reader, node: Node, path: str, key: str) -> float:
    """0 where it is not said."""
    item = node.get(key)
    value = read.attempt(item, f"{path}.{key}", duration_ns, None) if item is not None else None
    if item is None or not value:
        return 0.0
    if value < MIN_PROBE_NS:
        read.error(item, f"{path}.{key}", "must be at least 1ms (0 stands for the default)")
    return value / NS_PER_SECOND
