"""Where services are reached: `port`, `env`, the URLs of `ps`, and `up --isolated`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.commands.env import name_of
from orchestrator.cli.isolation import isolated, moved
from orchestrator.cli.render.published import links_text, ports_text, reachable, url_of
from orchestrator.cli.render.statuses import as_table
from orchestrator.cli.settings import Settings
from orchestrator.model.names import ProjectName, ServiceName
from orchestrator.model.network import PortMapping
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.state import loopback
from orchestrator.state.loopback import address_of, give_back, take_address
from tests.unit.cli.conftest import Bench
from tests.unit.cli.supervisor import ok


def port(host_ip: str, host_port: int, target: int, protocol: str = "tcp") -> dict[str, Any]:
    """As the supervisor sends it: what is the default is left out."""
    more = {} if protocol == "tcp" else {"protocol": protocol}
    return {"host_ip": host_ip, "host_port": host_port, "target": target} | more


def row(service: str, number: int = 1, *published: dict[str, Any], addresses: tuple[str, ...] = ()) -> dict[str, Any]:
    made: dict[str, Any] = {
        "service": service, "container": f"demo-{service}-{number}", "image": "host", "phase": "running", "health": "none",
        "published": list(published),
    }  # fmt: skip
    if number != 1:
        made["number"] = number
    if addresses:
        endpoint = {"network": "default", "addresses": [{"ip": ip} for ip in addresses], "mac": "", "interface": "eth0"}
        made["endpoints"] = [endpoint]
    return made


WEB = row(
    "web", 1, port("0.0.0.0", 5353, 53, "udp"), port("127.0.0.1", 8080, 80), port("::1", 9443, 443),
    addresses=("10.201.0.2", "fd00::2"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("published", "url"),
    [
        (port("0.0.0.0", 8080, 80), "http://127.0.0.1:8080"),
        (port("::", 8080, 3000), "http://[::1]:8080"),
        (port("192.0.2.1", 8443, 8443), "https://192.0.2.1:8443"),
        (port("127.0.0.1", 5432, 5432), "postgresql://127.0.0.1:5432"),
        (port("127.0.0.1", 53, 53, "udp"), ""),
        (port("127.0.0.1", 9092, 9092), ""),
    ],
)
def test_the_url_of_a_port(published: dict[str, Any], url: str) -> None:
    assert url_of(published) == url


def test_what_a_browser_does_not_open_is_no_link_and_three_are_enough() -> None:
    assert links_text([port("::", 1, 5432), port("0.0.0.0", 2, 80), port("0.0.0.0", 3, 53, "udp")]) == "http://127.0.0.1:2"
    many = [port("127.0.0.1", number, number) for number in range(8000, 8009)]
    assert links_text(many) == "http://127.0.0.1:8000 http://127.0.0.1:8001 http://127.0.0.1:8002 ..."
    assert (links_text([]), reachable("192.0.2.1")) == ("", "192.0.2.1")


def test_ports_that_follow_each_other_are_shown_as_a_range() -> None:
    ports = [port("0.0.0.0", number, number - 1000, "udp") for number in range(10000, 12001)]
    ports += [port("::", 80, 80), port("::", 81, 81), port("::", 83, 83), port("0.0.0.0", 84, 84)]
    assert ports_text(ports) == [
        "0.0.0.0:10000-12000->9000-11000/udp", "[::]:80-81->80-81/tcp", "[::]:83->83/tcp", "0.0.0.0:84->84/tcp"
    ]  # fmt: skip


def test_ps_has_urls_on_a_terminal_only() -> None:
    assert "http" not in as_table([WEB], 0.0)
    shown = as_table([WEB], 0.0, links=True).splitlines()
    assert shown[0].split() == ["SERVICE", "STATE", "ADDRESS", "URL", "PORTS"]
    assert "http://127.0.0.1:8080 https://[::1]:9443   0.0.0.0:5353->53/udp" in shown[1]


@pytest.mark.parametrize(
    ("words", "out"),
    [
        (("web", "80"), "127.0.0.1:8080\n"),
        (("--url", "web", "80"), "http://127.0.0.1:8080\n"),
        (("web", "443"), "[::1]:9443\n"),
        (("--protocol", "udp", "web", "53"), "0.0.0.0:5353\n"),
        (("--protocol", "udp", "--url", "web", "53"), "0.0.0.0:5353\n"),
        (("--index", "2", "web", "80"), "127.0.0.1:8081\n"),
        (("web",), "0.0.0.0:5353->53/udp\n127.0.0.1:8080->80/tcp\n[::1]:9443->443/tcp\n"),
        (("web", "--url"), "http://127.0.0.1:8080\nhttps://[::1]:9443\n"),
        (("db",), ""),
    ],
)
def test_port_prints_where_a_port_is_published(bench: Bench, words: tuple[str, ...], out: str) -> None:
    bench.serve(ps=ok([WEB, row("web", 2, port("127.0.0.1", 8081, 80)), row("db")]))
    outcome = bench.run("port", *words)
    assert (outcome.code, outcome.out, outcome.err) == (0, out, "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("web", "0"), '"0" is not a port'),
        (("web", "81"), "port 81/tcp of demo-web-1 is not published"),
        (("web", "--index", "3"), 'project demo has no container 3 of service "web"'),
    ],
)
def test_port_says_what_is_not_there(bench: Bench, words: tuple[str, ...], message: str) -> None:
    bench.serve(ps=ok([WEB]))
    outcome = bench.run("port", *words)
    assert outcome.code != 0
    assert message in outcome.err


def test_env_has_of_each_port_what_is_reached_by_the_services_host_and_says_where_it_is_not(bench: Bench) -> None:
    ports = [port("127.0.0.1", 8080, 80), port("::1", 9000, 443), port("0.0.0.0", 9001, 443), port("127.0.0.2", 7000, 70)]
    bench.serve(ps=ok([row("web", 1, *ports)]))
    assert bench.run("env").out.splitlines()[4:] == [
        "WEB_PORT_80=8080",
        "WEB_PORT_443=9001",
        "WEB_PORT_70=7000",
        "WEB_HOST_70=127.0.0.2",
    ]


def test_env_prints_variables_that_a_shell_reads(bench: Bench) -> None:
    bench.serve(ps=ok([row("my-db", 3, port("0.0.0.0", 5432, 5432)), WEB, row("web", 2, port("127.0.0.1", 8081, 80))]))
    outcome = bench.run("env")
    assert outcome.out.splitlines() == [
        "COMPOSE_PROJECT_NAME=demo",
        "WEB_HOST=127.0.0.1",
        "WEB_PORT=8080",
        "WEB_URL=http://127.0.0.1:8080",
        "WEB_PORT_80=8080",
        "WEB_PORT_443=9443",
        "WEB_HOST_443=::1",
        "WEB_PORT_53_UDP=5353",
        "WEB_ADDRESS=10.201.0.2",
        "WEB_ADDRESS_6=fd00::2",
        "WEB_2_HOST=127.0.0.1",
        "WEB_2_PORT=8081",
        "WEB_2_URL=http://127.0.0.1:8081",
        "WEB_2_PORT_80=8081",
        "MY_DB_HOST=127.0.0.1",
        "MY_DB_PORT=5432",
        "MY_DB_URL=postgresql://127.0.0.1:5432",
        "MY_DB_PORT_5432=5432",
    ]
    assert bench.run("env", "--export", "my-db").out.splitlines()[1] == "export MY_DB_HOST=127.0.0.1"
    assert json.loads(bench.run("env", "--format", "json", "web").out)["WEB_PORT_53_UDP"] == "5353"
    assert "nope" in bench.run("env", "nope").err
    assert (name_of("2nd.x"), name_of("wéb")) == ("_2ND_X", "W_B")


def test_an_isolated_project_has_its_ports_on_its_own_address() -> None:
    hosts = (None, "0.0.0.0", "::", "127.0.0.1", "::1", "192.0.2.7")
    service = Service(ServiceName("web"), image="host", ports=tuple(PortMapping(80, (1, 9), host) for host in hosts))
    project = Project(ProjectName("demo"), "/", {service.name: service})
    (made,) = moved(project, "127.5.6.7").services.values()
    assert [port.host_ip for port in made.ports] == ["127.5.6.7"] * 5 + ["192.0.2.7"]


def test_every_project_has_another_address_and_keeps_it_until_it_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(tmp_path)
    settings, project = Settings(data_root=root), Project(ProjectName("a"), "/", {})
    assert (address_of(root, "a"), isolated(settings, project)) == (None, project)
    give_back(root, "a")
    isolated(settings, project, begin=True)
    first = address_of(root, "a")
    assert first is not None
    numbers = [int(part) for part in first.split(".")]
    assert (numbers[0], 1 <= numbers[1] <= 254, 1 <= numbers[3] <= 254) == (127, True, True)
    assert take_address(root, "a") == first
    (tmp_path / "projects" / "a").mkdir(parents=True)
    monkeypatch.setattr(loopback, "_candidates", lambda project: iter([first, "127.9.9.9"]))
    assert take_address(root, "b") == "127.9.9.9"
    give_back(root, "a")
    assert (address_of(root, "a"), take_address(root, "c")) == (None, first)
    (tmp_path / "loopback.json").write_text("[")
    assert address_of(root, "c") is None
