"""Hostile layers for minutes, from a seed that no run had before: a finding names its seed and its case."""

from __future__ import annotations

import pytest

from tests.soak.test_fuzzers import MINUTES, fresh_seed, must

pytestmark = pytest.mark.soak


def test_hostile_layers_are_contained() -> None:
    must("tests.fuzz.layers", "--minutes", str(MINUTES), "--seed", str(fresh_seed()))
