"""kill -9 at every state-changing system call of the supervisor, of the monitor and of the children that it makes, from the
birth of both through create, start, exec, stop and delete: the next command, `up` or `down`, heals it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.machine import Pystack
from tests.soak.injection import Point
from tests.soak.sweep import MOST, VICTIMS, Sweep, thinned

pytestmark = [pytest.mark.kernel, pytest.mark.soak]
LEAST_POINTS = 50
"""Fewer, and the calls were not found in the trace."""


@pytest.mark.parametrize("victim", VICTIMS)
def test_whatever_call_it_is_killed_at_the_next_command_heals_it(
    pystack: Pystack, busybox_rootfs: Path, victim: str
) -> None:
    if shutil.which("strace") is None:
        pytest.skip("no strace")
    sweep = Sweep(pystack, busybox_rootfs, Path(tempfile.gettempdir()))
    points = sweep.points(victim)
    assert len(points) > LEAST_POINTS
    for index, (call, number) in enumerate(thinned(points, MOST)):
        sweep.check(victim, Point(call, number), ("up", "down")[index % 2])
    print(f"{victim}: {len(points)} points. {sweep}", flush=True)
    assert sweep.wrong == [], "\n".join(sweep.wrong)
    assert sweep.hits > 0
