"""network_mode, pid, ipc, uts, cgroup, userns_mode and cgroup_parent: what they may say, and what excludes each other."""

from __future__ import annotations

import pytest

from orchestrator.model.names import ServiceName
from orchestrator.model.namespaces import PRIVATE, Namespace, Namespaces, Sharing
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.values import replace
from tests.unit.compose.stacks import Stack

HOST, NONE = Namespace(Sharing.HOST), Namespace(Sharing.NONE)
OF_A, OF_X = Namespace(Sharing.SERVICE, "a"), Namespace(Sharing.CONTAINER, "x-1")


def load(stack: Stack, body: str) -> Project:
    return stack.load(f"services:\n  a: {{image: host}}\n  b:\n    image: host\n    {body}\n").project


def b(project: Project) -> Service:
    return project.services[ServiceName("b")]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("network_mode: host", {"network": HOST}),
        ("network_mode: none", {"network": NONE}),
        ('network_mode: ""', {}),
        ("network_mode: service:a", {"network": OF_A}),
        ("network_mode: container:x-1", {"network": OF_X}),
        ("pid: host", {"pid": HOST}),
        ("pid: service:a", {"pid": OF_A}),
        ("pid: container:x-1", {"pid": OF_X}),
        ("ipc: host", {"ipc": HOST}),
        ("ipc: none", {"ipc": NONE}),
        ("ipc: private", {}),
        ("ipc: shareable", {}),
        ("ipc: service:a", {"ipc": OF_A}),
        ("uts: host", {"uts": HOST}),
        ("cgroup: host", {"cgroup": HOST}),
        ("cgroup: private", {}),
        ("userns_mode: host", {"user": HOST}),
    ],
)
def test_what_may_be_written(stack: Stack, body: str, expected: dict[str, Namespace]) -> None:
    assert b(load(stack, body)).namespaces == replace(Namespaces(), **expected)


def test_what_is_shared_with_the_host_and_of_use_to_its_root_alone_is_with_its_root() -> None:
    for kind in ("user", "network", "pid", "ipc", "uts", "cgroup"):
        expected = kind in ("user", "network", "pid", "ipc")
        assert replace(Namespaces(), **{kind: HOST}).host_user == expected, kind
        assert not replace(Namespaces(), **{kind: OF_A}).host_user
    assert not Namespaces().host_user


@pytest.mark.parametrize(
    ("body", "message", "hint"),
    [
        ("network_mode: banana", '"banana" is not a value of network_mode', "host, none, bridge, default, service:NAME or"),
        ("network_mode: host:a", '"host:a" is not a value of network_mode', "service:NAME"),
        ("pid: private", '"private" is not a value of pid', "write host, service:NAME or container:NAME"),
        ("ipc: banana", '"banana" is not a value of ipc', "write host, none, private, shareable, "),
        ("ipc: 'container:'", '"" is not a container name', "letters"),
        ("ipc: container:../x", '"../x" is not a container name', "letters"),
        ("uts: service:a", '"service:a" is not a value of uts', "write host"),
        ("uts: private", '"private" is not a value of uts', "write host"),
        ("userns_mode: keep-id", '"keep-id" is not a value of userns_mode', "write host"),
        ("cgroup_parent: a/../b", '"a/../b" leads out of the cgroup hierarchy', "write a path below its root"),
        ("cgroup_parent: /", '"/" is not the path of a cgroup', "write a name"),
        ("cgroup_parent: 'a b'", '"a b" is not the path of a cgroup', "write a name"),
        ("cgroup_parent: memory.max", '"memory.max" has the name of one of the kernel\'s own files', "choose another name"),
    ],
)
def test_what_may_not_is_refused_at_its_place(stack: Stack, body: str, message: str, hint: str) -> None:
    error = stack.errors(f"services:\n  a: {{image: host}}\n  b:\n    image: host\n    {body}\n")
    (found,) = error.diagnostics
    assert (found.line, found.path.rpartition(".")[0]) == (5, "services.b")
    assert found.message == message
    assert hint in (found.hint or "")


@pytest.mark.parametrize("mode", ["network_mode: service:a", "network_mode: container:x-1"])
@pytest.mark.parametrize("other", ["ports: ['80:80']", "expose: [80]", "hostname: h", "links: [a]"])
def test_what_belongs_to_whose_network_it_is_is_refused(stack: Stack, mode: str, other: str) -> None:
    text = f"services:\n  a: {{image: host}}\n  b:\n    image: host\n    {mode}\n    {other}\n"
    found = [item for item in stack.errors(text).diagnostics if not item.message.startswith("not supported yet")]
    assert [(item.line, item.path) for item in found] == [(6, f"services.b.{other.partition(':')[0]}")]
    assert "exclude each other" in found[0].message


def test_a_host_name_beside_the_hosts_is_refused(stack: Stack) -> None:
    (found,) = stack.errors("services:\n  a:\n    image: host\n    uts: host\n    hostname: h\n").diagnostics
    assert (found.line, found.path) == (5, "services.a.hostname")


@pytest.mark.parametrize(
    ("body", "at"),
    [
        *((f"{key}: 'service:aa'", key) for key in ("network_mode", "pid", "ipc")),
        ("links: [aa]", "links[0]"),
        ("links: [a, 'aa:x']", "links[1]"),
        ("volumes_from: ['container:x', 'aa:ro']", "volumes_from[1]"),
    ],
)
def test_a_service_that_is_not_there_is_refused_once_where_it_is_named(stack: Stack, body: str, at: str) -> None:
    error = stack.errors(f"services:\n  a: {{image: host}}\n  b: {{image: host, {body}}}\n")
    assert [(item.path, item.message) for item in error.diagnostics] == [
        (f"services.b.{at}", '"aa" is not a service (did you mean "a"?)')
    ]


@pytest.mark.parametrize(
    ("body", "at"),
    [*((f"{key}: 'service:'", key) for key in ("network_mode", "pid", "ipc")), ("links: [':x']", "links[0]")],
)
def test_a_service_without_a_name_is_none(stack: Stack, body: str, at: str) -> None:
    error = stack.errors(f"services:\n  a: {{image: host}}\n  b: {{image: host, {body}}}\n")
    assert [(item.path, item.message) for item in error.diagnostics] == [(f"services.b.{at}", '"" is not a service')]


def test_of_who_is_not_asked_for_it_is_nobodys_concern(stack: Stack) -> None:
    body = "profiles: [x], links: [aa], pid: 'service:aa', volumes_from: [aa]"
    assert stack.load(f"services:\n  a: {{image: host}}\n  b: {{image: host, {body}}}\n").project.inactive == {"b"}


@pytest.mark.parametrize("key", ["pid", "ipc"])
def test_the_namespace_of_a_run_that_has_ended_by_then_is_refused(stack: Stack, key: str) -> None:
    text = "services:\n  a: {{image: host}}\n  b:\n    image: host\n    {}: 'service:a'\n"
    text += "    depends_on: {{a: {{condition: {}}}}}\n"
    (found,) = stack.errors(text.format(key, "service_completed_successfully")).diagnostics
    assert (found.line, found.path) == (5, f"services.b.{key}")
    assert found.message == '"a" does not run any more when this starts: it is waited for until it has ended'
    for at_load in (text.format(key, "service_started"), text.format("network_mode", "service_completed_successfully")):
        assert stack.load(at_load).project, "the network lasts as long as the container"


@pytest.mark.parametrize("mode", ["host", "none"])
def test_ports_that_cannot_be_published_are_discarded_with_dockers_warning(stack: Stack, mode: str) -> None:
    loaded = stack.load(f"services:\n  b:\n    image: host\n    network_mode: {mode}\n    ports: ['80:80']\n")
    assert loaded.project.services[ServiceName("b")].ports == ()
    (warning,) = loaded.warnings
    assert (warning.line, warning.path) == (5, "services.b.ports")
    assert warning.message == f"published ports are discarded when using {mode} network mode"


def test_ports_of_who_is_on_networks_of_other_machines_only_are_discarded_with_a_warning(stack: Stack) -> None:
    text = "services:\n  b: {image: host, networks: [lan], ports: ['80:80']}\n"
    text += "  c: {image: host, networks: [lan, own], ports: ['81:80']}\n  d: {image: host, networks: [lan]}\n"
    text += "networks:\n  own: {}\n  lan: {driver: macvlan, driver_opts: {parent: eth0}}\n"
    (warning,) = stack.load(text).warnings
    assert (warning.line, warning.path) == (2, "services.b.ports")
    assert warning.message == "published ports are discarded: b is on macvlan networks only"


def test_bridge_is_the_default_network(stack: Stack) -> None:
    project = load(stack, "network_mode: bridge")
    assert list(b(project).networks) == ["default"]
    assert b(project).namespaces.network == PRIVATE
    alone = stack.load("services: {b: {image: host, network_mode: bridge, ports: [80]}}").project
    assert list(alone.networks) == ["default"]
    assert alone.networks == {key: net for key, net in project.networks.items() if key == "default"}


def test_a_parent_cgroup_is_below_the_root(stack: Stack) -> None:
    for text, expected in (("apps", "apps"), ("/apps/web.slice/", "apps/web.slice"), ("./a//b", "a/b")):
        assert b(load(stack, f"cgroup_parent: {text}")).cgroup_parent == expected


def test_a_network_of_ones_own_is_needed_for_ports_of_a_one_off(stack: Stack) -> None:
    from orchestrator.compose.model.one_off import Changes, one_off
    from orchestrator.errors import InputError

    project = load(stack, "network_mode: service:a")
    with pytest.raises(InputError, match="no network of its own"):
        one_off(project, b(project), Changes("/", ports=("80:80",)))


def on_docker_s_own(stack: Stack, name: str, attributes: str, more: str = "") -> str:
    """Service b, on the external network n that is called `name`."""
    networks = f"networks: {{n: {{external: true, name: {name}}}, other: {{}}}}\n{more}"
    return f"services:\n  a: {{image: host}}\n  b: {{image: host, {attributes}}}\n{networks}"


@pytest.mark.parametrize(("name", "expected"), [("host", HOST), ("none", NONE), ("bridge", PRIVATE)])
def test_an_external_network_of_docker_s_own_is_that_network_mode(stack: Stack, name: str, expected: Namespace) -> None:
    loaded = stack.load(on_docker_s_own(stack, name, "networks: {n: {aliases: [x]}}, pre_start: [{command: ls}]"))
    service = b(loaded.project)
    assert service.namespaces.network == service.pre_start[0].definition.namespaces.network == expected
    assert set(service.networks) == ({"default"} if name == "bridge" else set())
    assert set(loaded.project.networks) == {"default", "other"}
    assert not any(network.external for network in loaded.project.networks.values())
    assert loaded.canonical["services"]["b"]["networks"] == {"n": {"aliases": ["x"]}}  # As Docker Compose shows it.


@pytest.mark.parametrize(("name", "expected"), [("host", HOST), ("none", NONE), ("bridge", PRIVATE)])
def test_the_default_network_may_be_one_of_docker_s_own(stack: Stack, name: str, expected: Namespace) -> None:
    text = f"services:\n  b: {{image: host}}\nnetworks: {{default: {{external: true, name: {name}}}}}\n"
    project = stack.load(text).project
    assert b(project).namespaces.network == expected
    assert [item.full_name for item in project.networks.values()] == (["shop_default"] if name == "bridge" else [])


@pytest.mark.parametrize("name", ["host", "none"])
def test_beside_the_machine_s_network_or_none_there_is_no_other(stack: Stack, name: str) -> None:
    (told,) = stack.messages(on_docker_s_own(stack, name, "pre_start: [{command: ls}], networks: [other, n]"))
    assert f'compose.yaml:3:66: services.b.networks.n: "{name}" is' in told
    assert "no other network beside it" in told
    (told,) = stack.messages(on_docker_s_own(stack, name, "networks: {n: {ipv4_address: 10.1.0.9}}"))
    assert f'services.b.networks.n.ipv4_address: there is no ipv4_address to be chosen on "{name}"' in told


def test_bridge_and_another_network_are_two_networks(stack: Stack) -> None:
    project = stack.load(on_docker_s_own(stack, "bridge", "networks: [other, n]")).project
    assert list(b(project).networks) == ["other", "default"]
