"""Names that become files' or the kernel's are refused in time when they are too long, with one clear error."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.contracts.control import Up
from orchestrator.errors import InputError
from orchestrator.model.keys import MOST_NAME, ProjectName
from orchestrator.model.names import ContainerId, NetworkName, ProjectKey, bridge_name, nft_table, veth_name
from orchestrator.plan.observed import observe
from orchestrator.plan.reconcile import plan_up
from orchestrator.state.directory import site_of
from orchestrator.testing.build import project, service
from orchestrator.values import replace
from tests.unit.compose.stacks import Stack


@pytest.mark.parametrize("length", [MOST_NAME + 1, 300, 5_000])
def test_a_project(length: int) -> None:
    with pytest.raises(InputError, match=f"has {length} characters, and {MOST_NAME} are the most") as caught:
        site_of("/data", "/run", ProjectName("p" * length))
    assert caught.value.hint
    assert len(caught.value.message) < 120


def test_a_container_by_its_service_or_its_own_name() -> None:
    for long in (service("s" * 300), replace(service("web"), container_name="c" * 300)):
        with pytest.raises(InputError, match=f"is longer than {MOST_NAME} bytes") as caught:
            plan_up(Up(project(long)), observe(None, [], []), images={})
        assert str(caught.value.place).endswith(f"services.{long.name}")


def test_a_volume(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    services = "services: {a: {image: host, volumes: ['vol:/v']}}"
    (text,) = stack.messages(f"{services}\nvolumes: {{vol: {{name: {'v' * 300}}}}}\n")
    assert text.endswith(f"volumes.vol.name: longer than {MOST_NAME} bytes")


def test_names_in_the_kernel_have_their_length_whatever_they_are_made_from() -> None:
    key, long = ProjectKey("0123abcd"), "n" * 5_000
    for name in (bridge_name(key, NetworkName(long)), veth_name(key, ContainerId(long), NetworkName(long))):
        assert len(name) == 15
    assert len(nft_table(key)) < 32
