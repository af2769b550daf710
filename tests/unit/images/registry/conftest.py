"""A registry that can be asked for trouble, and settings with which trouble is quickly over."""

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
    """Patient, so that a busy machine is not taken for trouble; see `server.patience`."""
    return Settings(Bounds(attempts=3, backoff_s=0.001, silence_s=20.0, answer_s=20.0, wait_s=5.0), certificates=())
