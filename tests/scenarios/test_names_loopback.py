"""Names at 127.0.0.11, which configurations that were made for Docker ask."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.machine import Pystack, Stack, eventually
from tests.scenarios.talk import free_port, http, kill_hard, supervisor_pid

pytestmark = pytest.mark.kernel

STACK = """
x-service: &service
  image: rootfs:{rootfs}
  stop_signal: SIGKILL
services:
  web: {{<<: *service, command: [sleep, "98751"], networks: {{front: {{ipv4_address: 10.77.95.50}}}}}}
  beside: {{<<: *service, command: [sleep, "98752"], network_mode: "service:web"}}
  db: {{<<: *service, command: [sleep, "98753"], networks: {{inner: {{ipv4_address: 10.77.96.50}}}}}}
  far: {{<<: *service, command: [sleep, "98754"], networks: [lan]}}
  machine: {{<<: *service, command: [sleep, "98755"], network_mode: host}}
  alone: {{<<: *service, command: [sleep, "98756"], network_mode: none}}
networks:
  front: {{ipam: {{config: [{{subnet: 10.77.95.0/24}}]}}}}
  inner: {{internal: true, ipam: {{config: [{{subnet: 10.77.96.0/24}}]}}}}
  lan:
    driver: macvlan
    driver_opts: {{parent: cable2}}
    ipam: {{config: [{{subnet: 192.0.2.0/24, gateway: 192.0.2.1, ip_range: 192.0.2.96/27}}]}}
"""

PROXY = """
services:
  front:
    image: host
    command: [nginx, -c, /nginx.conf, -g, "daemon off;"]
    configs: [{{source: nginx, target: /nginx.conf}}]
    tmpfs: [/var/lib/nginx, /var/log/nginx]
    ports: ["127.0.0.1:{port}:80"]
  web:
    image: host
    command: [python3, -m, http.server, "80"]
    working_dir: /usr/share/{content}
    networks: {{default: {{ipv4_address: {address}}}}}
    stop_signal: SIGKILL
networks:
  default: {{ipam: {{config: [{{subnet: 10.77.94.0/24}}]}}}}
configs:
  nginx:
    content: |
      events {{}}
      error_log stderr;
      pid /run/nginx.pid;
      http {{
        access_log /dev/stdout;
        server {{
          listen 80;
          resolver 127.0.0.11 valid=1s;
          set $$up http://web:80;
          location / {{ proxy_pass $$up; }}
        }}
      }}
"""


@pytest.fixture
def stack(pystack: Pystack, busybox_rootfs: str) -> Iterator[Stack]:
    subprocess.run(["ip", "link", "add", "cable2", "up", "type", "veth", "peer", "name", "cable3"], check=True)
    subprocess.run(["ip", "link", "set", "cable3", "up"], check=True)
    made = pystack.stack(STACK.format(rootfs=busybox_rootfs))
    made.must("up", "-d")
    yield made
    made.must("down", "-t", "0")
    subprocess.run(["ip", "link", "del", "cable2"], check=True)


def found(stack: Stack, asking: str, name: str) -> str:
    """The address of `name` that 127.0.0.11 says; "" for none."""
    text = stack.run("exec", "-T", asking, "nslookup", "-type=a", name, "127.0.0.11").stdout
    _, _, answer = text.partition("Name:")
    return answer.split()[-1] if answer else ""


def test_every_container_on_a_network_of_ours_is_answered_for_its_own_networks(stack: Stack) -> None:
    own = {"web": "10.77.95.50", "db": "10.77.96.50", "far": "192.0.2.96"}
    for service, address in own.items():
        for name in own:
            assert found(stack, service, name) == (address if name == service else ""), (service, name)
    assert found(stack, "beside", "web") == "10.77.95.50"
    assert found(stack, "machine", "web") == found(stack, "alone", "web") == ""


def test_it_goes_on_when_the_supervisor_is_killed_and_when_the_container_runs_again(stack: Stack) -> None:
    pid = supervisor_pid(stack)
    kill_hard(pid)
    # busybox waits for five seconds.
    assert found(stack, "web", "web") == found(stack, "beside", "web") == "10.77.95.50"
    assert supervisor_pid(stack) != pid
    stack.must("restart", "-t", "0", "web")
    stack.must("up", "-d", "--force-recreate", "db")
    assert found(stack, "web", "web") == "10.77.95.50"
    assert found(stack, "db", "db") == "10.77.96.50"


def test_it_follows_the_container_to_networks_and_away_from_them(stack: Stack) -> None:
    web, inner, front = f"{stack.name}-web-1", "inner", "front"
    stack.must("network", "connect", inner, web)
    assert found(stack, "web", "db") == found(stack, "beside", "db") == "10.77.96.50"
    stack.must("network", "disconnect", front, web)
    assert found(stack, "web", "db") == "10.77.96.50"
    stack.must("network", "disconnect", inner, web)
    assert found(stack, "web", "db") == found(stack, "web", "web") == ""
    stack.must("network", "connect", front, web)
    assert found(stack, "web", "web") != ""


def test_nginx_made_for_docker_follows_a_service_to_another_address(pystack: Pystack) -> None:
    port = free_port()
    values = {"port": port, "address": "10.77.94.50", "content": "doc"}
    stack = pystack.stack(PROXY.format(**values))
    stack.must("up", "-d")
    url = f"http://127.0.0.1:{port}/"

    def shows(title: str) -> bool:
        status, page = http(url)
        return status == 200 and title in page

    eventually(lambda: shows("bash"))
    text = PROXY.format(**{**values, "address": "10.77.94.60", "content": "zoneinfo"})
    (stack.directory / "compose.yaml").write_text(text)
    stack.must("up", "-d")
    assert list(stack.ps()["web"]["Addresses"].values()) == ["10.77.94.60"]
    eventually(lambda: shows("Europe"))
