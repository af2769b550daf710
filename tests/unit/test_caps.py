"""Capability numbers against the kernel's own header and the running kernel."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.kernel.caps import CAPABILITIES, LAST_CAPABILITY, mask_of, names_of


def test_numbers_are_those_of_the_kernel_header() -> None:
    header = Path("/usr/include/linux/capability.h")
    if not header.exists():
        pytest.skip("no kernel headers here")
    defined = {m[1]: int(m[2]) for m in re.finditer(r"#define (CAP_[A-Z_]+)\s+(\d+)\s", header.read_text())}
    assert {name: bit for name, bit in CAPABILITIES.items() if name in defined} == defined


def test_the_running_kernel_knows_no_capability_beyond_the_table() -> None:
    assert int(Path("/proc/sys/kernel/cap_last_cap").read_text()) <= LAST_CAPABILITY


def test_a_mask_and_its_names_are_each_others_inverse() -> None:
    names = ("CAP_CHOWN", "CAP_KILL", "CAP_SETFCAP")
    assert mask_of(names) == 1 << 0 | 1 << 5 | 1 << 31
    assert names_of(mask_of(names)) == names
    assert names_of(1 << 60) == ()


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="CAP_EVERYTHING"):
        mask_of(["CAP_EVERYTHING"])
