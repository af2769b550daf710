"""Whose process has a port: by its command line, when it is one of ours."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from orchestrator.launch import supervisor_argv
from orchestrator.network import port_owner
from orchestrator.network.port_owner import Owner, project_of


def words(*argv: str) -> list[bytes]:
    return [os.fsencode(word) for word in argv]


def test_a_supervisor_and_a_monitor_say_whose_they_are() -> None:
    assert project_of(words(*supervisor_argv("/data", "/run", "shop"))) == ("/data", "shop")
    monitor = ("python3", "-I", "-S", "/x/orchestrator/runtime/monitor/__main__.py", "5", "/data/projects/shop")
    assert project_of(words(*monitor)) == ("/data", "shop")


@pytest.mark.parametrize("argv", [(), ("nginx",), ("python3", "/x/orchestrator/supervisor/__main__.py", "--project")])
def test_others_are_nobodys(argv: tuple[str, ...]) -> None:
    assert project_of(words(*argv)) is None


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_port_of_a_project_is_told_with_service_and_container(
    monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    asked: list[tuple[str, str, str, int]] = []

    def publisher(data_root: str, project: str, protocol: str, port: int) -> tuple[str, str] | None:
        asked.append((data_root, project, protocol, port))
        return ("web", "shop-web-1") if len(asked) == 1 else None

    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        if protocol == "tcp":
            sock.listen()
        port = sock.getsockname()[1]
        comm = Path("/proc/self/comm").read_text().strip()
        assert port_owner.port_owner(protocol, port) == Owner(f'"{comm}" (pid {os.getpid()})')
        monkeypatch.setattr(port_owner, "project_of", lambda words: ("/data", "shop"))
        found = port_owner.port_owner(protocol, port, publisher)
        assert found == Owner("service web of pystack project shop (container shop-web-1)", "shop")
        assert port_owner.port_owner(protocol, port, publisher) == Owner("pystack project shop", "shop")
    assert asked[0] == ("/data", "shop", protocol, port)
    assert port_owner.port_owner(protocol, port) is None
