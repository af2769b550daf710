"""What `run` makes a container from."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.compose.model.one_off import Changes, one_off, with_undeclared
from orchestrator.errors import InputError
from orchestrator.model.names import NetworkName, ServiceName
from orchestrator.model.network import PortMapping
from orchestrator.model.restart import RestartPolicy
from orchestrator.model.service import Service
from orchestrator.model.volume import Mount, MountKind
from orchestrator.values import replace
from tests.unit.compose.stacks import Stack

TEXT = """
services:
  web:
    image: host
    command: [serve, -x]
    entrypoint: [start]
    environment: {COLOUR: red, SHAPE: round}
    labels: {a: one, b: two}
    ports: ["80:8000"]
    volumes: ["data:/data", "/srv:/srv"]
    restart: always
    scale: 1
    container_name: the-web
    user: "7"
    working_dir: /app
    healthcheck: {test: [CMD, "true"]}
    networks: {default: {aliases: [www], ipv4_address: 10.9.0.4}}
    stop_grace_period: 3s
    depends_on: [db]
  db: {image: host}
volumes: {data: {}}
networks: {default: {ipam: {config: [{subnet: 10.9.0.0/24}]}}}
"""


def made(stack: Stack, **changes: Any) -> Service:
    project = stack.load(TEXT).project
    return one_off(project, project.services[ServiceName("web")], Changes("/here", "/home/me", **changes))


def original(stack: Stack) -> Service:
    return stack.load(TEXT).project.services[ServiceName("web")]


def test_without_changes_it_is_the_service_but_for_what_is_of_its_replicas(stack: Stack) -> None:
    service, was = made(stack), original(stack)
    network = replace(was.networks[NetworkName("default")], aliases=("www",), ipv4_address=None)
    assert service == replace(
        was, restart=RestartPolicy(), container_name=None, ports=(), networks={network.network: network}
    )
    assert service.healthcheck is not None
    assert service.stop_grace_s == 3.0
    assert list(service.depends_on) == ["db"]


def test_a_command_replaces_the_services_and_an_entrypoint_clears_it(stack: Stack) -> None:
    assert (made(stack, command=("sh",)).entrypoint, made(stack, command=("sh",)).command) == (("start",), ("sh",))
    entered = made(stack, entrypoint="sh -c 'a b'")
    assert (entered.entrypoint, entered.command) == (("sh", "-c", "a b"), ())
    both = made(stack, entrypoint="", command=("ls",))
    assert (both.entrypoint, both.command) == ((), ("ls",))


def test_variables_and_labels_are_added_and_win(stack: Stack) -> None:
    service = made(stack, environment={"COLOUR": "blue", "NEW": ""}, labels={"b": "three", "c": ""})
    assert service.environment == {"COLOUR": "blue", "SHAPE": "round", "NEW": ""}
    assert service.labels == {"a": "one", "b": "three", "c": ""}
    assert made(stack, user="8:9", working_dir="/tmp").user == "8:9"
    assert made(stack, user="8:9", working_dir="/tmp").working_dir == "/tmp"


def test_ports_are_the_services_or_those_of_the_command_line(stack: Stack) -> None:
    assert made(stack, service_ports=True).ports == original(stack).ports
    flag = "--publish 127.0.0.1:90-91:9000-9001/udp"
    assert made(stack, ports=(flag.split()[1], "70")).ports == (
        PortMapping(9000, (90, 90), "127.0.0.1", "udp", flag),
        PortMapping(9001, (91, 91), "127.0.0.1", "udp", flag),
        PortMapping(70, place="--publish 70"),
    )
    with pytest.raises(InputError, match="--publish and --service-ports cannot be combined"):
        made(stack, ports=("70",), service_ports=True)


def test_mounts_are_added_and_take_the_place_of_what_is_there(stack: Stack) -> None:
    service = made(stack, volumes=("./x:/srv:ro", "~/y:/y", "data:/more", "/anonymous"))
    old = original(stack).volumes[0]
    assert service.volumes == (
        old,
        Mount(MountKind.BIND, "/srv", "/here/x", True, True, place="--volume ./x:/srv:ro"),
        Mount(MountKind.BIND, "/y", "/home/me/y", False, True, place="--volume ~/y:/y"),
        Mount(MountKind.VOLUME, "/more", "data", place="--volume data:/more"),
        Mount(MountKind.VOLUME, "/anonymous", None, place="--volume /anonymous"),
    )


def test_a_volume_that_the_stack_does_not_have_is_nobodys_and_called_as_it_is_written(stack: Stack) -> None:
    service, project = made(stack, volumes=("other:/x",)), stack.load(TEXT).project
    assert service.volumes[-1] == Mount(MountKind.VOLUME, "/x", "other", place="--volume other:/x", undeclared=True)
    volumes = with_undeclared(project, service).volumes.values()
    assert [(volume.full_name, volume.external) for volume in volumes] == [("shop_data", False), ("other", True)]


def test_what_is_mounted_takes_the_place_of_the_service_s_however_that_is_written(stack: Stack) -> None:
    project = stack.load("services: {web: {image: host, tmpfs: [/x/]}}").project
    service = one_off(project, project.services[ServiceName("web")], Changes("/here", volumes=("/srv:/x",)))
    assert [(mount.kind, mount.target) for mount in service.volumes] == [(MountKind.BIND, "/x")]


def test_capabilities_have_the_kernels_names(stack: Stack) -> None:
    service = made(stack, cap_add=("net_admin", "CAP_NET_ADMIN", "all"), cap_drop=("CHOWN",))
    assert (service.cap_add, service.cap_drop) == (("CAP_NET_ADMIN", "ALL"), ("CAP_CHOWN",))


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"ports": ("x",)}, '--publish x: "x": "x" is not a port or a range', "write TARGET"),
        ({"ports": ("80/sctp",)}, "--publish 80/sctp: an sctp port cannot be published", None),
        ({"volumes": ("/a:/b:ro:x",)}, '--volume /a:/b:ro:x: "/a:/b:ro:x" has too many colons', "write SOURCE"),
        ({"volumes": ("/a:b",)}, '--volume /a:b: the target "b" is not an absolute path', None),
        ({"entrypoint": "a 'b"}, "--entrypoint: not a command line: a single quote is not closed", None),
        ({"cap_drop": ("FLY",)}, '--cap-drop: there is no capability "FLY"', "capabilities(7)"),
    ],
)
def test_what_cannot_be_read_is_one_error_with_the_option(
    stack: Stack, changes: dict[str, Any], message: str, hint: str | None
) -> None:
    with pytest.raises(InputError) as caught:
        made(stack, **changes)
    assert caught.value.message.startswith(message)
    assert hint is None or (caught.value.hint or "").startswith(hint)
