"""A thousand containers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.machine import Pystack
from tests.scenarios.test_many import check_many

pytestmark = [pytest.mark.kernel, pytest.mark.soak]


def test_a_thousand_services_come_up_healthy_and_go_down(pystack: Pystack, busybox_rootfs: Path) -> None:
    check_many(pystack, busybox_rootfs, 1000, deadline_s=900)
