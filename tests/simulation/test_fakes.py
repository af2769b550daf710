"""The fakes check whoever drives them, and the small parts around the scheduler."""

from __future__ import annotations

import pytest
import trio

from orchestrator.contracts.runtime import OciConfig, SandboxSpec
from orchestrator.errors import CommandError, HostError, InputError, OperationError, PystackError
from orchestrator.model.names import ContainerId, NetworkName, ServiceName
from orchestrator.model.network import Attachment
from orchestrator.model.project import Place
from orchestrator.scheduler.faults import located
from orchestrator.testing import seeds
from orchestrator.testing.build import project, service
from orchestrator.testing.fake_runtime import FakeRuntime
from orchestrator.testing.world import World
from orchestrator.values import replace

BOX = ContainerId("demo-db-1")
SPEC = SandboxSpec(BOX, (), OciConfig({"linux": {"namespaces": [{"type": "network"}]}}))


def test_a_start_before_create_is_a_bug() -> None:
    async def main() -> None:
        with pytest.raises(AssertionError, match="demo-db-1 is started before it is made"):
            await FakeRuntime({}).start(BOX)

    seeds.run(main)


def test_a_sandbox_without_an_intent_on_disk_is_a_bug() -> None:
    async def main() -> None:
        with pytest.raises(AssertionError, match="without an intent on disk"):
            await World().runtime.create(SPEC)

    seeds.run(main)


def test_a_start_without_a_network_is_a_bug() -> None:
    async def main() -> None:
        runtime = FakeRuntime({}, attached=lambda container: False)
        await runtime.create(SPEC)
        with pytest.raises(AssertionError, match="before it is on its networks"):
            await runtime.start(BOX)

    seeds.run(main)


def test_an_address_without_a_network_is_a_bug() -> None:
    async def main() -> None:
        with pytest.raises(AssertionError, match="no such network"):
            World().networking.reserve(BOX, ServiceName("db"), [Attachment(NetworkName("back"))])

    seeds.run(main)


def test_a_network_in_use_is_not_removed() -> None:
    async def main() -> None:
        networking = World().networking
        stack = project(service("db"))
        await networking.ensure(list(stack.networks.values()))
        endpoints = networking.reserve(BOX, ServiceName("db"), [Attachment(NetworkName("default"))])
        await networking.attach(BOX, 1, endpoints, [])
        with pytest.raises(OperationError, match="has containers attached: demo-db-1"):
            await networking.remove([NetworkName("default")])

    seeds.run(main)


def test_a_seed_makes_the_order_of_tasks_repeatable_and_seeds_differ() -> None:
    def order(seed: int) -> tuple[int, ...]:
        done: list[int] = []

        async def note(number: int) -> None:
            await trio.sleep(1)
            done.append(number)

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                for number in range(8):
                    nursery.start_soon(note, number)

        seeds.run(main, seed=seed)
        return tuple(done)

    assert [order(seed) for seed in range(8)] == [order(seed) for seed in range(8)]
    assert len({order(seed) for seed in range(8)}) > 1


@pytest.mark.parametrize(
    ("error", "key", "message"),
    [
        (HostError("no overlayfs"), "", "c.yaml:3:3: services.web: no overlayfs"),
        (CommandError("x was not found"), "command", "c.yaml:5:5: services.web.command: x was not found"),
        (
            OperationError("port 80 is in use", place="services.web.ports[0]"),
            "",
            "c.yaml:7:9: services.web.ports[0]: port 80 is in use",
        ),
        (
            OperationError("it is taken", place="networks.front.ipam.config[0].subnet"),
            "",
            "c.yaml:20:3: networks.front.ipam.config[0].subnet: it is taken",
        ),
        (
            HostError("there is no processor 99", place="linux.resources.cpu.cpus"),
            "",
            "c.yaml:6:5: services.web.cpuset: there is no processor 99",
        ),
        (HostError("not so low", place="process.oomScoreAdj"), "", "c.yaml:3:3: services.web.oom_score_adj: not so low"),
        (InputError("holds NUL", place="mounts[3].destination"), "", "c.yaml:3:3: services.web.volumes: holds NUL"),
        (
            InputError("no such user", place="c.yaml:9:1: services.web.user"),
            "",
            "c.yaml:9:1: services.web.user: no such user",
        ),
    ],
)
def test_errors_point_into_the_compose_file_once(error: PystackError, key: str, message: str) -> None:
    places = {
        "services.web": Place("c.yaml", 3, 3),
        "services.web.command": Place("c.yaml", 5, 5),
        "services.web.cpuset": Place("c.yaml", 6, 5),
        "services.web.ports[0]": Place("c.yaml", 7, 9),
        "networks.front": Place("c.yaml", 20, 3),
    }
    stack = replace(project(service("web")), places=places)
    error.hint = "do this"
    found = located(error, stack, stack.services[ServiceName("web")], key)
    assert str(found) == message
    assert (type(found), found.hint, found.exit_code) == (type(error), "do this", error.exit_code)
    assert located(found, stack, stack.services[ServiceName("web")]) is found


def test_a_command_that_is_not_there_is_the_entry_point_s_where_there_is_one() -> None:
    places = {"services.web.command": Place("c.yaml", 5, 5), "services.web.entrypoint": Place("c.yaml", 4, 5)}
    stack = replace(project(replace(service("web"), entrypoint=("nope",))), places=places)
    found = located(CommandError("command not found"), stack, stack.services[ServiceName("web")], "command")
    assert str(found) == "c.yaml:4:5: services.web.entrypoint: command not found"
