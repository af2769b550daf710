"""Published ports, as their users meet them: two copies of a stack, ranges, who has a port."""

from __future__ import annotations

import json
import os
import resource
import signal
from functools import partial
from pathlib import Path

import pytest

from tests.machine import Pystack, Stack, eventually
from tests.scenarios.talk import free_port, http, supervisor_pid

pytestmark = pytest.mark.kernel

WEB = """
services:
  web:
    image: rootfs:{rootfs}
    command: [sh, -c, "echo {text} > /index.html; exec httpd -f -p 80 -h /"]
    ports: ["{port}:80"]
    init: true
"""


def web(pystack: Pystack, rootfs: Path, port: int | str, text: str) -> Stack:
    return pystack.stack(WEB.format(rootfs=rootfs, port=port, text=text))


def answers(url: str, text: str) -> bool:
    return http(url) == (200, f"{text}\n")


def test_a_subnet_that_another_project_has_names_that_project(pystack: Pystack, busybox_rootfs: Path) -> None:
    text = "networks: {default: {ipam: {config: [{subnet: 10.212.77.0/28}]}}}\n"
    first, second = (
        pystack.stack(WEB.format(rootfs=busybox_rootfs, port=free_port(), text="x") + text) for _ in range(2)
    )
    first.must("up", "-d")
    done = second.run("up", "-d")
    assert done.code == 1
    owner = f"10.212.77.0/28 overlaps 10.212.77.0/28, a network of pystack project {first.name}\n"
    assert f"networks.default.ipam.config[0].subnet: {owner}" in done.stderr
    assert f"hint: `pystack -p {first.name} down`, choose another subnet, or leave it out" in done.stderr


def test_a_port_that_another_project_has_names_its_service_whoever_of_the_project_is_left(
    pystack: Pystack, busybox_rootfs: Path
) -> None:
    port = free_port()
    first = web(pystack, busybox_rootfs, port, "first")
    second = web(pystack, busybox_rootfs, port, "second")
    third = web(pystack, busybox_rootfs, f"{port}-{port}", "third")
    first.must("up", "-d")
    who = f"service web of pystack project {first.name} (container {first.name}-web-1)"
    for other in (second, third):
        refused = other.run("up", "-d")
        assert refused.code == 1
        assert f"compose.yaml:6:13: services.web.ports[0]: port {port}/tcp on 0.0.0.0 is in use by {who}" in refused.stderr
        assert f"`pystack -p {first.name} down`" in refused.stderr
    # Nobody is left but the monitor, which starts a supervisor anew: either is asked.
    # (Supervisors of those that were refused may be on their way out still.)
    (supervisor,) = (
        pid for pid, words in pystack.processes().items() if "/supervisor/" in words and f"--project {first.name}" in words
    )
    os.kill(supervisor, signal.SIGKILL)
    assert who in second.run("up", "-d").stderr
    first.must("down")
    second.must("up", "-d")
    second.must("down")


def test_two_isolated_copies_publish_the_same_port(pystack: Pystack, busybox_rootfs: Path) -> None:
    port = free_port()
    stacks = {text: web(pystack, busybox_rootfs, port, text) for text in ("one", "two")}
    for stack in stacks.values():
        stack.must("up", "-d", "--isolated")
    urls = {text: stack.must("port", "web", "80", "--url").stdout.strip() for text, stack in stacks.items()}
    assert len(set(urls.values())) == 2
    for text, url in urls.items():
        assert url.startswith("http://127.")
        eventually(partial(answers, url, text))
        told = json.loads(stacks[text].must("env", "--format", "json").stdout)
        assert (told["WEB_URL"], told["WEB_PORT_80"]) == (url, str(port))
    assert http(f"http://127.0.0.1:{port}")[0] == 0
    one = stacks["one"]
    # The copy stays on its address whatever is said to it, until it is taken down.
    assert "nothing had to change" in one.must("up", "-d").stdout + one.must("up", "-d").stderr
    one.must("scale", "web=1")
    one.must("restart", "-t", "0")
    assert one.must("port", "web", "80", "--url").stdout.strip() == urls["one"]
    eventually(partial(answers, urls["two"], "two"))
    for stack in stacks.values():
        stack.must("down", "-t", "0")
    one.must("up", "-d")
    assert one.must("port", "web", "80").stdout == f"0.0.0.0:{port}\n"
    eventually(partial(answers, f"http://127.0.0.1:{port}", "one"))
    one.must("down", "-t", "0")


def test_a_range_of_two_thousand_udp_ports_comes_up_and_programs_start(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = web(pystack, busybox_rootfs, "40080", "x")
    text = Path(stack.directory, "compose.yaml").read_text()
    Path(stack.directory, "compose.yaml").write_text(text.replace('"40080:80"', '"30000-32000:30000-32000/udp"'))
    stack.must("up", "-d")
    assert stack.must("exec", "web", "echo", "started").stdout == "started\n"
    assert stack.must("port", "web").stdout.splitlines() == [
        "0.0.0.0:30000-32000->30000-32000/udp"
    ]
    assert stack.must("port", "--protocol", "udp", "web", "32000").stdout == "0.0.0.0:32000\n"
    stack.must("down", "-t", "0")


def test_a_range_that_there_are_no_descriptors_for_names_their_limit_and_leaves_nothing(
    pystack: Pystack, busybox_rootfs: Path
) -> None:
    port = free_port()
    stack = web(pystack, busybox_rootfs, port, "x")
    stack.must("up", "-d")
    resource.prlimit(supervisor_pid(stack), resource.RLIMIT_NOFILE, (300, 300))
    file = Path(stack.directory, "compose.yaml")
    text = file.read_text()
    media = text.partition("services:")[2].replace("web:", "media:").replace(f"{port}:80", "40000-40199:100-299/udp")
    file.write_text(text + media)
    refused = stack.run("up", "-d")
    assert refused.code == 1
    assert "services.media.ports[" in refused.stderr
    assert "the supervisor is out of file descriptors (its limit is 300)" in refused.stderr
    assert "a published port needs 6 (udp: 4)" in refused.stderr
    assert answers(f"http://127.0.0.1:{port}", "x")
    file.write_text(text)
    stack.must("up", "-d", "--remove-orphans")
    assert list(stack.ps()) == ["web"]
    stack.must("down", "-t", "0")
