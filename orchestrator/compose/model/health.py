"""``healthcheck`` as the runtime takes it."""

from __future__ import annotations

from orchestrator.compose.kinds.values import duration_ns, go_text
from orchestrator.compose.model.reader import Reader
from orchestrator.compose.text.tree import Node
from orchestrator.model.health import HealthCheck
from orchestrator.units import NS_PER_SECOND

MIN_PROBE_NS = 1_000_000
"""moby refuses shorter intervals and time-outs than a millisecond; 0 stands for the default."""


def healthcheck(read: Reader, node: Node, path: str) -> HealthCheck | None:
    item = node.get("healthcheck")
    if item is None or not isinstance(item.value, dict):
        return None
    path = f"{path}.healthcheck"
    for key, value in item.value.items():
        read.mark(value, f"{path}.{key}")
    test, disabled = _health_test(read, item)
    start_interval = item.get("start_interval")
    if start_interval is not None and item.get("start_period") is None:
        message = "healthcheck.start_interval requires healthcheck.start_period to be set"
        hint = "it is the interval during start_period; add one, or use interval"
        read.error(start_interval, f"{path}.start_interval", message, hint)
    defaults = HealthCheck()
    retries = item.get("retries")
    count = int(retries.value) if retries is not None and isinstance(retries.value, int | float) else 0
    if retries is not None and count < 0:
        read.error(retries, f"{path}.retries", "must not be negative")
    return HealthCheck(
        test=test,
        interval_s=_probe_seconds(read, item, path, "interval", defaults.interval_s),
        timeout_s=_probe_seconds(read, item, path, "timeout", defaults.timeout_s),
        retries=count or defaults.retries,
        start_period_s=_probe_seconds(read, item, path, "start_period", defaults.start_period_s),
        start_interval_s=_probe_seconds(read, item, path, "start_interval", defaults.start_interval_s),
        disabled=disabled or read.flag(item, path, "disable"),
    )


def _health_test(read: Reader, node: Node) -> tuple[tuple[str, ...] | None, bool]:
    """(argv or None, disabled)."""
    test = node.get("test")
    if test is None or test.value is None:
        return None, False
    if isinstance(test.value, str):
        return ("/bin/sh", "-c", test.value), False
    words = [go_text(item.value) for item in test.elements()]
    match words:
        case ["NONE", *_]:
            return None, True
        case ["CMD-SHELL", *rest]:
            return ("/bin/sh", "-c", " ".join(rest)), False
        case ["CMD", *rest] if rest:
            return tuple(rest), False
        case _:
            return None, False


def _probe_seconds(read: Reader, node: Node, path: str, key: str, default: float) -> float:
    item = node.get(key)
    if item is None:
        return default
    value = read.attempt(item, f"{path}.{key}", duration_ns, None)
    if value is None or value == 0:
        return default
    if value < MIN_PROBE_NS:
        read.error(item, f"{path}.{key}", "must be at least 1ms (0 stands for the default)")
    return value / NS_PER_SECOND
