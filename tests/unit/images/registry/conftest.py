"""A registry that can be asked for trouble, and limits with which trouble is quickly over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.images.registry.settings import Bounds, Settings
from tests.unit.images.registry.server import FakeRegistry


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as made:
        yield made


@pytest.fixture
def settings() -> Settings:
    bounds = Bounds(attempts=3, backoff_s=0.001, silence_s=0.3, answer_s=0.5, connect_s=5.0, wait_s=5.0)
    return Settings(bounds, certificates=())
