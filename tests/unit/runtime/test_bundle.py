"""A container's directory, when who was making it was killed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.contracts.runtime import OciConfig, SandboxSpec
from orchestrator.contracts.site import IdMap, Site
from orchestrator.model.names import ContainerId, ProjectName, project_key
from orchestrator.runtime.bundle import bundle_path, prepare_site, write_bundle

BOX = ContainerId("rt-a-1")
BASE = 1 << 20
SPEC = SandboxSpec(BOX, ("/nowhere",), OciConfig({"linux": {"namespaces": [{"type": "user"}]}}))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    project = ProjectName("rt")
    made = Site(project, project_key(str(tmp_path), project), f"{tmp_path}/data", f"{tmp_path}/run", IdMap(BASE))
    prepare_site(made)
    return made


def owners(site: Site) -> dict[str, int]:
    path = bundle_path(site, BOX)
    return {name: os.stat(f"{path}/{name}").st_uid for name in ("upper", "work")}


@pytest.mark.parametrize("left", [(), ("upper",), ("upper", "work")])
def test_what_was_half_made_gets_its_owner(site: Site, left: tuple[str, ...]) -> None:
    for name in left:
        os.makedirs(f"{bundle_path(site, BOX)}/{name}")
    write_bundle(site, SPEC)
    assert owners(site) == {"upper": BASE, "work": BASE}


def test_a_container_s_root_may_have_given_its_tree_to_somebody(site: Site) -> None:
    assert write_bundle(site, SPEC) is False
    os.chown(f"{bundle_path(site, BOX)}/upper", BASE + 7, BASE + 7)
    assert write_bundle(site, SPEC) is True
    assert owners(site) == {"upper": BASE + 7, "work": BASE}
