"""A container that stands still for a while: with real control groups, and whoever froze it killed."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.contracts.site import IdMap, Site
from orchestrator.errors import OperationError
from orchestrator.kernel import cgroup
from orchestrator.kernel.cgroup import Layout
from orchestrator.model.names import ContainerId, ProjectKey, ProjectName, cgroup_path
from orchestrator.runtime.cgroups import ContainerCgroup, remove_project
from orchestrator.runtime.freezing import frozen_container
from tests.kernel.test_cgroups import FOREVER, join
from tests.machine import ROOT, eventually

pytestmark = pytest.mark.kernel

CONTAINER = ContainerId("a-b-1")
HOLD = """
import signal, sys
from orchestrator.contracts.site import IdMap, Site
from orchestrator.kernel import cgroup
from orchestrator.kernel.cgroup import Layout
from orchestrator.runtime.freezing import frozen_container
found = cgroup.detect()
layout = found if sys.argv[3] == "all" else Layout("v1", None, found.controllers)
with frozen_container(Site("p", sys.argv[1], sys.argv[2], "", IdMap(1 << 30)), "a-b-1", layout):
    print("frozen", flush=True)
    signal.pause()
"""


@pytest.fixture(params=["all", "v1"])
def layout(request: pytest.FixtureRequest) -> Layout:
    """This machine's, and, where it has them, its v1 hierarchies alone."""
    found = cgroup.detect()
    if request.param == "all":
        return found
    if "freezer" not in found.controllers:
        pytest.skip("this machine has no v1 freezer")
    return Layout("v1", None, found.controllers)


@pytest.fixture
def site(leaves_nothing_behind: None, layout: Layout) -> Iterator[Site]:
    key = ProjectKey(uuid.uuid4().hex[:8])
    with tempfile.TemporaryDirectory() as data:
        Path(data, "containers", CONTAINER).mkdir(parents=True)
        yield Site(ProjectName("p"), key, data, "", IdMap(1 << 30))
    remove_project(layout, key)


def state(layout: Layout, site: Site) -> str:
    path = cgroup_path(site.key, CONTAINER)
    if layout.unified is not None:
        events = cgroup.read(f"{layout.unified}/{path}/cgroup.events")
        return "frozen" if "frozen 1" in events else "runs"
    found = cgroup.read(f"{layout.controllers['freezer']}/{path}/freezer.state")
    return {"FROZEN": "frozen", "THAWED": "runs"}.get(found, found)


def is_locked(site: Site) -> bool:
    bundle = os.open(f"{site.data_dir}/containers/{CONTAINER}", os.O_RDONLY)
    try:
        fcntl.flock(bundle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(bundle)
    return False


def test_it_stands_still_in_the_block_and_runs_after_it_whatever_happens(layout: Layout, site: Site) -> None:
    with ContainerCgroup.create(layout, cgroup_path(site.key, CONTAINER), {}) as group:
        child = join(group, FOREVER)
        with frozen_container(site, CONTAINER, layout):
            assert (state(layout, site), is_locked(site)) == ("frozen", True)
        assert (state(layout, site), is_locked(site)) == ("runs", False)
        with pytest.raises(KeyboardInterrupt), frozen_container(site, CONTAINER, layout):
            raise KeyboardInterrupt
        assert (state(layout, site), is_locked(site)) == ("runs", False)
        group.kill()
        child.end()


def test_it_runs_again_when_who_froze_it_is_killed(layout: Layout, site: Site) -> None:
    with ContainerCgroup.create(layout, cgroup_path(site.key, CONTAINER), {}) as group:
        child = join(group, FOREVER)
        kind = "all" if layout.unified is not None else "v1"
        words = [sys.executable, "-c", HOLD, site.key, site.data_dir, kind]
        with subprocess.Popen(words, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"frozen\n"
            assert state(layout, site) == "frozen"
            holder.kill()
        eventually(lambda: state(layout, site) == "runs" and not is_locked(site))
        group.kill()
        child.end()


def test_a_container_that_has_not_run_needs_no_freezer(layout: Layout, site: Site) -> None:
    with frozen_container(site, CONTAINER, layout):
        assert not is_locked(site)


def test_a_machine_without_a_freezer_says_so(site: Site) -> None:
    with (
        pytest.raises(OperationError, match="has no freezer"),
        frozen_container(site, CONTAINER, Layout("v1", None, {"memory": "/sys/fs/cgroup/memory"})),
    ):
        raise AssertionError("it was entered")
