"""Sizes as Docker writes them in ``stats``."""

from __future__ import annotations

import pytest

from orchestrator.cli.render.sizes import binary_size, decimal_size


@pytest.mark.parametrize(
    ("size", "decimal", "binary"),
    [
        (0, "0B", "0B"),
        (999, "999B", "999B"),
        (1000, "1kB", "1000B"),
        (1023, "1.02kB", "1023B"),
        (1024, "1.02kB", "1KiB"),
        (12_345_678, "12.3MB", "11.77MiB"),
        (999_999, "1MB", "976.6KiB"),
        (16_640_000_000, "16.6GB", "15.5GiB"),
    ],
)
def test_sizes(size: int, decimal: str, binary: str) -> None:
    assert (decimal_size(size), binary_size(size)) == (decimal, binary)
