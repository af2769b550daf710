"""In one `up` a port, or a written address, goes from one service to another, and two swap theirs."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.machine import Pystack, Stack, eventually
from tests.scenarios.talk import free_port

pytestmark = pytest.mark.kernel

SERVICE = """
  {name}:
    image: rootfs:{rootfs}
    command: [nc, -ll, -p, "7000", -e, echo, {name}]
    environment: {{MARK: "{mark}"}}
    stop_signal: SIGKILL
    networks: {{front: {address}}}
    ports: {ports}
"""
NETWORK = "networks: {front: {ipam: {config: [{subnet: 10.77.96.0/24}]}, enable_ipv6: true}}\n"
FIRST, SECOND = "10.77.96.10", "10.77.96.20"


class Site:
    """Services `web` and `api`, each with an address and a port; in either order of the file, and with `anew` replaced."""

    def __init__(self, pystack: Pystack, rootfs: Path, *, web_first: bool) -> None:
        self._rootfs, self._web_first = rootfs, web_first
        self.stack: Stack = pystack.stack("services: {}\n")

    def write(
        self, web: tuple[str, str] | None, api: tuple[str, str] | None, anew: tuple[str, ...] = ()
    ) -> None:
        """Of each the address and the port ("": none), or nothing."""
        parts = []
        for name, wanted in (("web", web), ("api", api)):
            if wanted is not None:
                address = f"{{ipv4_address: {wanted[0]}}}" if wanted[0] else "{}"
                ports = f'["{wanted[1]}:7000"]' if wanted[1] else "[]"
                mark = "anew" if name in anew else ""
                parts.append(
                    SERVICE.format(name=name, rootfs=self._rootfs, address=address, ports=ports, mark=mark)
                )
        text = "services:" + "".join(parts if self._web_first else reversed(parts)) + NETWORK
        (self.stack.directory / "compose.yaml").write_text(text)

    def up(self, *arguments: str) -> None:
        self.stack.must("up", "-d", *arguments)

    def pids(self) -> tuple[int, int]:
        rows = self.stack.ps()
        return rows["web"]["Pid"], rows["api"]["Pid"]

    def address(self, service: str) -> str:
        text = self.stack.must("exec", "-T", service, "ip", "-4", "-o", "addr", "show", "dev", "eth0").stdout
        return text.partition("inet ")[2].partition("/")[0]


def answers(address: str, port: int | str, name: str) -> bool:
    """Whether it is `name` who answers there, as soon as its program listens."""
    return eventually(lambda: answer(address, port)) == name


def answer(address: str, port: int | str) -> str:
    """Who answers there; "" for nobody."""
    try:
        with socket.create_connection((address, int(port)), timeout=10) as sock:
            return sock.recv(100).decode().strip()
    except OSError:
        return ""


@pytest.fixture(
    params=[pytest.param(True, id="web_first"), pytest.param(False, id="api_first", marks=pytest.mark.soak)]
)
def site(request: pytest.FixtureRequest, pystack: Pystack, busybox_rootfs: Path) -> Site:
    return Site(pystack, busybox_rootfs, web_first=request.param)


def test_a_published_port_moves_to_another_service(site: Site) -> None:
    port, other = str(free_port()), str(free_port())
    site.write(("", port), ("", ""))
    site.up()
    pids = site.pids()
    assert answers("127.0.0.1", port, "web")
    site.write(("", ""), ("", port))
    site.up()
    assert answers("127.0.0.1", port, "api")
    site.write(("", port), ("", other))
    site.up()
    assert answers("127.0.0.1", port, "web")
    assert answers("127.0.0.1", other, "api")
    site.write(("", other), ("", port))
    plan = site.stack.must("plan").stdout
    assert f"disconnect web: port {port} is for api" in plan
    site.up()
    assert answers("127.0.0.1", port, "api")
    assert answers("127.0.0.1", other, "web")
    assert site.pids() == pids
    # From and to one that is replaced, one that is new, one that is stopped, and one that goes.
    site.write(("", port), ("", other), anew=("web",))
    site.up()
    assert answers("127.0.0.1", port, "web")
    assert answers("127.0.0.1", other, "api")
    site.stack.must("stop", "api")
    site.write(("", other), ("", port), anew=("web",))
    site.up()
    assert answers("127.0.0.1", port, "api")
    assert answers("127.0.0.1", other, "web")
    site.write(("", port), None, anew=("web",))
    site.up("--remove-orphans")
    assert answers("127.0.0.1", port, "web")
    assert answer("127.0.0.1", other) == ""
    site.write(("", ""), ("", port), anew=("web",))
    site.up()
    assert answers("127.0.0.1", port, "api")


def test_written_addresses_are_swapped_and_taken_from_who_gives_them_up(site: Site) -> None:
    site.write((FIRST, ""), (SECOND, ""))
    site.up()
    pids = site.pids()
    assert answers(FIRST, 7000, "web")
    assert answers(SECOND, 7000, "api")
    site.write((SECOND, ""), (FIRST, ""))
    site.up()
    assert answers(FIRST, 7000, "api")
    assert answers(SECOND, 7000, "web")
    for service, peer, address in (("web", "api", FIRST), ("api", "web", SECOND)):
        found = site.stack.must("exec", "-T", service, "sh", "-c", f"nslookup {peer}; nc {peer} 7000 </dev/null").stdout
        assert address in found, "names follow, and so do the neighbours"
        assert found.endswith(f"{peer}\n")
    # One takes what the other gives up: for another one, or for any.
    site.write(("10.77.96.30", ""), (SECOND, ""))
    site.up()
    assert answers("10.77.96.30", 7000, "web")
    assert answers(SECOND, 7000, "api")
    assert answer(FIRST, 7000) == ""
    site.write((SECOND, ""), ("", ""))
    site.up()
    assert answers(SECOND, 7000, "web")
    assert answers(site.address("api"), 7000, "api")
    assert site.pids() == pids
    # Beside one that is replaced, and one that is new.
    site.write((FIRST, ""), (SECOND, ""), anew=("api",))
    site.up()
    assert answers(FIRST, 7000, "web")
    assert answers(SECOND, 7000, "api")
    assert site.pids()[0] == pids[0]
    site.write((FIRST, ""), None)
    site.up("--remove-orphans")
    site.write((SECOND, ""), (FIRST, ""))
    site.up()
    assert answers(FIRST, 7000, "api")
    assert answers(SECOND, 7000, "web")
    assert "nothing had to change" in site.stack.must("up", "-d").stderr
