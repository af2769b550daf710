"""Names of kernel objects, from ids that may be anything a `container_name` may be."""

from __future__ import annotations

import pytest

from orchestrator.model.names import ContainerId, ProjectKey, cgroup_path

KEY = ProjectKey("0123abcd")


@pytest.mark.parametrize("name", ["p-web-1", "A_b-c.D", "web.1", "x.log.1", "a..b", "cpus.max", "memory", "tasks.1"])
def test_a_container_s_group_has_its_name(name: str) -> None:
    assert cgroup_path(KEY, ContainerId(name)) == f"pystack/0123abcd/{name}"


@pytest.mark.parametrize("name", ["memory.max", "cgroup.procs", "cpu.x", "tasks", "release_agent"])
def test_a_name_that_the_kernel_has_for_a_file_of_its_own_is_set_apart(name: str) -> None:
    """No id begins with an underscore, so it cannot be another's."""
    assert cgroup_path(KEY, ContainerId(name)) == f"pystack/0123abcd/_{name}"
