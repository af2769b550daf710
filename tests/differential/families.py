"""Whole small stacks, by family: sections, files, interpolation, .env dialects, how the loader is called."""

from __future__ import annotations

from tests.differential.forms_parts import section_stacks
from tests.differential.oracle import Stack


def stack_families() -> dict[str, dict[str, Stack]]:
    """family -> what it is -> the stack."""
    return {"sections": section_stacks()}
