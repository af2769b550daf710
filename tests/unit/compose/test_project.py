"""What the runtime gets: `Project`, from every form of the attributes it implements."""

from __future__ import annotations

import re

import pytest

from orchestrator.compose.text.diagnostics import ComposeError
from orchestrator.model.codec import from_json, to_json
from orchestrator.model.health import HealthCheck, OnUnhealthy
from orchestrator.model.limits import Limits
from orchestrator.model.names import NetworkName, ServiceName, VolumeName
from orchestrator.model.network import Attachment, Network, PortMapping, Subnet
from orchestrator.model.project import Place, Project
from orchestrator.model.restart import RestartKind, RestartPolicy
from orchestrator.model.service import Condition, Dependency, Service
from orchestrator.model.volume import Mount, MountKind, Volume
from tests.unit.compose.stacks import Stack


def service(stack: Stack, text: str, extra: str = "", **environment: str) -> Service:
    """The service ``a`` whose attributes are `text`; `extra` is put after the services."""
    body = "".join(f"    {line}\n" for line in text.strip("\n").split("\n"))
    loaded = stack.load(f"services:\n  a:\n    image: host\n{body}{extra}", environment)
    assert loaded.warnings == ()
    return loaded.project.services[ServiceName("a")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("command: a 'b c'", ("a", "b c")),
        ("command: [a, 'b c', '']", ("a", "b c", "")),
        ("command: []", ()),
        ("command: ''", ()),
        ("command:", None),
        ("hostname: x", None),
    ],
)
def test_a_command_is_words_or_the_images(stack: Stack, text: str, words: tuple[str, ...] | None) -> None:
    assert service(stack, text).command == words


def test_environment_comes_from_map_list_and_files_and_the_process_fills_bare_keys(stack: Stack) -> None:
    stack.write("one.env", "A=file\nB=file\nC=${D}\n")
    found = service(stack, "env_file: one.env\nenvironment: [A=own, D, E, F=]", D="outer")
    assert dict(found.environment) == {"A": "own", "B": "file", "C": "outer", "D": "outer", "F": ""}
    found = service(stack, "environment: {A: 1, B: true, C: null, D: 1.50}")
    assert dict(found.environment) == {"A": "1", "B": "true", "D": "1.5"}


def test_a_missing_env_file_is_an_error_unless_it_is_not_required(stack: Stack) -> None:
    found = service(stack, "env_file: [{path: no.env, required: false}]")
    assert dict(found.environment) == {}
    (message,) = stack.messages("services: {a: {image: host, env_file: no.env}}")
    assert message == "compose.yaml:1:39: services.a.env_file[0]: the file no.env does not exist"


def test_the_env_file_of_the_project_fills_variables_and_the_process_wins(stack: Stack) -> None:
    stack.write(".env", "X=file\nY=file\n")
    assert service(stack, "hostname: $X-$Y", Y="process").hostname == "file-process"


def test_dependencies_have_conditions(stack: Stack) -> None:
    stack.write(
        "compose.yaml",
        """\
        services:
          a:
            image: host
            depends_on:
              b: {condition: service_healthy, required: false, restart: true}
              c: {condition: service_completed_successfully}
          b: {image: host, depends_on: [c]}
          c: {image: host}
        """,
    )
    services = stack.load((stack.folder / "compose.yaml").read_text()).project.services
    assert services[ServiceName("a")].depends_on == {
        "b": Dependency(ServiceName("b"), Condition.HEALTHY, required=False, restart=True),
        "c": Dependency(ServiceName("c"), Condition.COMPLETED),
    }
    assert services[ServiceName("b")].depends_on == {"c": Dependency(ServiceName("c"))}
    assert list(services) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ("test: curl x", HealthCheck(("/bin/sh", "-c", "curl x"), shell=True)),
        ("test: [CMD-SHELL, curl x]", HealthCheck(("/bin/sh", "-c", "curl x"), shell=True)),
        ("test: [CMD, curl, x]", HealthCheck(("curl", "x"))),
        ("test: [NONE]", HealthCheck(None, disabled=True)),
        ("disable: true", HealthCheck(None, disabled=True)),
        ("interval: 2s", HealthCheck(None, interval_s=2.0)),
        (
            "{test: x, interval: 1m30s, timeout: 500ms, retries: 5, start_period: 1d, start_interval: 1s}",
            HealthCheck(("/bin/sh", "-c", "x"), 90.0, 0.5, 5, 86_400.0, 1.0, shell=True),
        ),
    ],
)
def test_a_health_check_has_defaults_and_every_form_of_test(stack: Stack, text: str, check: HealthCheck) -> None:
    body = text if text.startswith("{") else "{" + text + "}"
    assert service(stack, f"healthcheck: {body}").healthcheck == check


def test_what_an_unhealthy_service_means_is_said_on_the_service_or_on_the_stack(stack: Stack) -> None:
    assert service(stack, "hostname: x").on_unhealthy is OnUnhealthy.RESTART
    assert service(stack, "x-pystack: {on_unhealthy: stop}").on_unhealthy is OnUnhealthy.STOP
    top = "x-pystack: {on_unhealthy: ignore}\n"
    assert service(stack, "hostname: x", top).on_unhealthy is OnUnhealthy.IGNORE
    assert service(stack, "x-pystack: {on_unhealthy: restart}", top).on_unhealthy is OnUnhealthy.RESTART


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("no", RestartPolicy(RestartKind.NO)),
        ("always", RestartPolicy(RestartKind.ALWAYS)),
        ("unless-stopped", RestartPolicy(RestartKind.UNLESS_STOPPED)),
        ("on-failure", RestartPolicy(RestartKind.ON_FAILURE)),
        ("on-failure:3", RestartPolicy(RestartKind.ON_FAILURE, 3)),
        ('""', RestartPolicy(RestartKind.NO)),
    ],
)
def test_restart_has_all_of_dockers_forms(stack: Stack, text: str, policy: RestartPolicy) -> None:
    assert service(stack, f"restart: {text}").restart == policy


@pytest.mark.parametrize(
    ("text", "mappings"),
    [
        ("80", [(80, None, None, "tcp")]),
        ('"80/udp"', [(80, None, None, "udp")]),
        ('"8080:80"', [(80, (8080, 8080), None, "tcp")]),
        ('"8080-8090:80"', [(80, (8080, 8090), None, "tcp")]),
        ('"8080-8081:80-81"', [(80, (8080, 8080), None, "tcp"), (81, (8081, 8081), None, "tcp")]),
        ('"127.0.0.1:8080:80"', [(80, (8080, 8080), "127.0.0.1", "tcp")]),
        ('"127.0.0.1::80"', [(80, None, "127.0.0.1", "tcp")]),
        ("{target: 80, published: 8080, protocol: udp}", [(80, (8080, 8080), None, "udp")]),
        ('{target: "80", published: "8080-8090"}', [(80, (8080, 8090), None, "tcp")]),
        ('"[::1]:8080:80/udp"', [(80, (8080, 8080), "::1", "udp")]),
        ('"fd00::5::80"', [(80, None, "fd00::5", "tcp")]),
    ],
)
def test_ports_have_short_and_long_forms_and_ranges(
    stack: Stack, text: str, mappings: list[tuple[int, tuple[int, int] | None, str | None, str]]
) -> None:
    expected = tuple(
        PortMapping(target, published, host, protocol, f"services.a.ports[{number}]")
        for number, (target, published, host, protocol) in enumerate(mappings)
    )
    assert service(stack, f"ports: [{text}]").ports == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"80/sctp"', "services.a.ports[0]: an sctp port cannot be published"),
        ("{target: 80, protocol: icmp}", 'services.a.ports[0]: "icmp" is not a protocol'),
        ("{target: 80, host_ip: localhost}", 'services.a.ports[0]: host_ip: "localhost" is not an IP address'),
        ('{target: 80, host_ip: "fe80::1%eth0"}', 'host_ip: "fe80::1%eth0": leave out the %interface'),
        ('{target: 80, host_ip: "::ffff:127.0.0.1"}', "write an IPv4 address as such"),
        ("{target: 80, host_ip: 224.0.0.1}", "is the address of a group"),
    ],
)
def test_a_port_that_cannot_be_published_is_refused_at_its_place(stack: Stack, text: str, message: str) -> None:
    with pytest.raises(ComposeError, match=re.escape(message)) as caught:
        service(stack, f"ports: [{text}]")
    assert re.match(r"compose\.yaml:\d+:\d+: ", str(caught.value))


def test_mounts_have_all_their_forms(stack: Stack) -> None:
    found = service(
        stack,
        """\
volumes:
  - ./src:/src:ro
  - /abs:/abs/
  - ~/x:/home
  - data:/data
  - /anonymous
  - {type: bind, source: b, target: /b}
  - {type: bind, source: ./c, target: /c, read_only: true, bind: {create_host_path: false}}
  - {type: volume, source: data, target: /copy, volume: {nocopy: true}}
  - {type: tmpfs, target: /t, tmpfs: {size: 1m, mode: 0755}}
tmpfs: [/run, "/tmp:size=64m,mode=1777"]
""",
        "volumes: {data: }\n",
        HOME="/home/dev",
    )
    folder = stack.folder
    place = "services.a.volumes"
    assert found.volumes == (
        Mount(MountKind.BIND, "/src", f"{folder}/src", True, True, place=f"{place}[0]"),
        Mount(MountKind.BIND, "/abs", "/abs", False, True, place=f"{place}[1]"),
        Mount(MountKind.BIND, "/home", "/home/dev/x", False, True, place=f"{place}[2]"),
        Mount(MountKind.VOLUME, "/data", "data", place=f"{place}[3]"),
        Mount(MountKind.VOLUME, "/anonymous", None, place=f"{place}[4]"),
        Mount(MountKind.BIND, "/b", f"{folder}/b", False, True, place=f"{place}[5]"),
        Mount(MountKind.BIND, "/c", f"{folder}/c", True, False, place=f"{place}[6]"),
        Mount(MountKind.VOLUME, "/copy", "data", nocopy=True, place=f"{place}[7]"),
        Mount(MountKind.TMPFS, "/t", tmpfs_size_bytes=2**20, tmpfs_mode=0o755, place=f"{place}[8]"),
        Mount(MountKind.TMPFS, "/run", place="services.a.tmpfs[0]"),
        Mount(MountKind.TMPFS, "/tmp", tmpfs_size_bytes=64 * 2**20, tmpfs_mode=0o1777, place="services.a.tmpfs[1]"),
    )


def test_networks_are_attached_with_aliases_and_addresses(stack: Stack) -> None:
    text = """\
        services:
          a: {image: host, networks: {front: {aliases: [x, y], ipv4_address: 10.1.0.9}, back: }}
          b: {image: host}
        networks:
          front: {ipam: {config: [{subnet: 10.1.0.0/24, gateway: 10.1.0.254}]}, labels: [k=v]}
          back: {internal: true, name: mine}
          unused: {}
        """
    project = stack.load(text).project
    assert project.services[ServiceName("a")].networks == {
        "front": Attachment(NetworkName("front"), ("x", "y"), "10.1.0.9"),
        "back": Attachment(NetworkName("back")),
    }
    assert project.services[ServiceName("b")].networks == {"default": Attachment(NetworkName("default"))}
    assert project.networks == {
        "front": Network(NetworkName("front"), "shop_front", False, (Subnet("10.1.0.0/24", "10.1.0.254"),), (("k", "v"),)),
        "back": Network(NetworkName("back"), "mine", True),
        "unused": Network(NetworkName("unused"), "shop_unused"),
        "default": Network(NetworkName("default"), "shop_default"),
    }


def test_named_volumes_have_full_names(stack: Stack) -> None:
    text = """\
        services: {a: {image: host, volumes: ["d:/d", "dd:/dd", "ext:/e", "named:/n"]}}
        volumes: {d: , dd: {labels: {k: v}}, ext: {external: true}, named: {name: mine}}
        """
    text = text.replace('"d:/d", ', "").replace("d: , ", "")
    assert stack.load(text).project.volumes == {
        "dd": Volume(VolumeName("dd"), "shop_dd", labels=(("k", "v"),)),
        "ext": Volume(VolumeName("ext"), "ext", external=True),
        "named": Volume(VolumeName("named"), "mine"),
    }


def test_the_small_attributes_arrive(stack: Stack) -> None:
    found = service(
        stack,
        """\
working_dir: /w
user: "1000:1000"
hostname: h
stop_signal: USR1
stop_grace_period: 1m30s
cpus: 0.5
mem_limit: 64m
pids_limit: 100
read_only: true
init: true
labels: [a=b, c]
expose: [80, "90/udp"]
""",
    )
    assert (found.working_dir, found.user, found.hostname) == ("/w", "1000:1000", "h")
    assert (found.stop_signal, found.stop_grace_s) == ("SIGUSR1", 90.0)
    assert found.limits == Limits(0.5, 64 * 2**20, 100)
    assert (found.read_only, found.init) == (True, True)
    assert dict(found.labels) == {"a": "b", "c": ""}
    assert found.expose == ("80", "90/udp")


def test_the_places_of_what_the_runtime_may_complain_about_are_known(stack: Stack) -> None:
    project = stack.load("""\
        services:
          a:
            image: host
            ports:
              - 80:80
            depends_on: [b]
            healthcheck:
              test: x
            networks: [n]
          b: {image: host}
        networks:
          n:
        """).project
    places = {path: (place.line, place.column) for path, place in project.places.items()}
    expected = {
        "services.a": (2, 3),
        "services.a.image": (3, 12),
        "services.a.ports[0]": (5, 9),
        "services.a.depends_on.b": (6, 18),
        "services.a.healthcheck.test": (8, 13),
        "services.a.networks.n": (9, 16),
        "networks.n": (12, 3),
    }
    assert {path: places[path] for path in expected} == expected
    assert project.where("services.a.ports[0].published") == "compose.yaml:5:9: services.a.ports[0].published"
    assert project.places["services.a"] == Place("compose.yaml", 2, 3)


def test_a_project_survives_the_journey_over_the_control_socket(stack: Stack) -> None:
    text = "services: {a: {image: host, ports: [80], healthcheck: {test: x}, restart: always, volumes: [/d]}}"
    project = stack.load(text).project
    assert from_json(Project, to_json(project)) == project


def test_a_gateway_without_a_subnet_is_refused_where_it_is_written(stack: Stack) -> None:
    match = r"networks\.default\.ipam\.config\[0\]\.gateway: the gateway 10\.1\.0\.9 needs a subnet"
    with pytest.raises(ComposeError, match=match):
        stack.load("services: {a: {image: host}}\nnetworks: {default: {ipam: {config: [{gateway: 10.1.0.9}]}}}\n")
