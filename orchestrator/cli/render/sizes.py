"""Sizes as Docker writes them in ``stats``: three digits by thousands, four by 1,024."""

from __future__ import annotations

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def decimal_size(size: int) -> str:
    """``0B``, ``1.05kB``, ``12.3MB``."""
    return _sized(size, 1000.0, _DECIMAL, 3)


def binary_size(size: int) -> str:
    """``0B``, ``1.234MiB``, ``15.5GiB``."""
    return _sized(size, 1024.0, _BINARY, 4)


def _sized(size: int, base: float, units: tuple[str, ...], digits: int) -> str:
    value, at = float(size), 0
    # Also what would be rounded to the next unit.
    while float(f"{value:.{digits}g}") >= base and at < len(units) - 1:
        value, at = value / base, at + 1
    return f"{value:.{digits}g}{units[at]}"
