"""Rolling updates of a web service under load: who asks it meanwhile is answered, each time."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from tests.machine import Pystack, Result, Stack, eventually
from tests.scenarios.talk import http as ask
from tests.scenarios.talk import kill_hard, running, supervisor_pid

pytestmark = pytest.mark.kernel

PORTS = (18491, 18493)
"""Below the ephemeral ports, and nobody else's."""

SERVER = """
import http.server, os, signal, sys, threading

ending = threading.Event()

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = os.environ["VERSION"].encode()
        self.send_response(500 if os.environ.get("SICK") else 200)
        self.send_header("Content-Length", str(len(body)))
        if ending.is_set():
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args):
        pass

class Server(http.server.ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128

server = Server(("0.0.0.0", 80), Handler)

def end(*_args):
    ending.set()
    threading.Thread(target=server.shutdown).start()

signal.signal(signal.SIGTERM, end)
server.serve_forever()
server.socket.close()
"""
"""Ends like a careful one: at SIGTERM it accepts nothing more, answers what is open, and closes that."""

STACK = """
services:
  web:
    image: host
    command: [python3, -S, /server.py]
    environment: {{VERSION: "{version}"{more}}}
    configs: [{{source: server, target: /server.py}}]
    ports: ["127.0.0.1:{first}-{last}:80"]
    stop_grace_period: 6s
    healthcheck:
      test: [CMD, python3, -S, -c, "import urllib.request as r; r.urlopen('http://127.0.0.1/', timeout=2)"]
      interval: 300ms
      retries: 2
    deploy:
      replicas: 3
      update_config: {{{rules}}}
      rollback_config: {{parallelism: 0, monitor: 0s}}
  client:
    image: rootfs:{rootfs}
    stop_signal: SIGKILL
    command: [sh, -c, "while sleep {pause_s}; do wget -q -O - http://web/ && echo || echo FAILED; done"]
    depends_on: {{web: {{condition: service_healthy}}}}
configs:
  server: {{file: ./server.py}}
"""


class Site:
    """The stack, of which `web` is updated with each `up`. `pause_s`: of each who asks, between two requests."""

    def __init__(self, pystack: Pystack, rootfs: Path, pause_s: float) -> None:
        self._rootfs, self.pause_s = rootfs, pause_s
        self.stack: Stack = pystack.stack("services: {}\n", files={"server.py": SERVER})

    def write(self, version: int, rules: str, more: str = "") -> None:
        first, last = PORTS
        values = {"first": first, "last": last, "rootfs": self._rootfs, "pause_s": self.pause_s}
        text = STACK.format(version=version, rules=rules, more=more, **values)
        (self.stack.directory / "compose.yaml").write_text(text)

    def up(self, version: int, rules: str, more: str = "") -> Result:
        self.write(version, rules, more)
        return self.stack.run("up", "-d", timeout_s=300)

    def names(self) -> list[str]:
        return sorted(row["Name"] for row in self.stack.rows() if row["Service"] == "web")

    def answers(self) -> Counter[str]:
        """What the three ports answer."""
        return Counter(ask(f"http://127.0.0.1:{port}/")[1] for port in range(PORTS[0], PORTS[1] + 1))

    def client_got(self) -> set[str]:
        """What the client in the stack, which goes by the service's name, got until now."""
        return set(self.stack.must("logs", "--no-log-prefix", "client").stdout.split())


class Load:
    """Asks all ports, again and again: half of the threads with a connection for each request, half with one that stays.
    `failures`: whatever was not an answer of 200."""

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s
        self.answered: Counter[str] = Counter()
        self.failures: list[str] = []
        self._over = threading.Event()
        ports = range(PORTS[0], PORTS[1] + 1)
        self._threads = [
            threading.Thread(target=self._ask, args=(port, stays)) for port in ports for stays in (False, True)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, port: int, stays: bool) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._over.is_set():
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                connection.request("GET", "/", headers={} if stays else {"Connection": "close"})
                reply = connection.getresponse()
                body = reply.read().decode()
                if reply.status == 200:
                    self.answered[body] += 1
                else:
                    self.failures.append(f"{port}: {reply.status}")
                if reply.getheader("Connection") == "close" or not stays:
                    connection.close()
                    connection = None
                time.sleep(self._pause_s)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{port}: {error!r}")
                if connection is not None:
                    connection.close()
                connection = None
                time.sleep(0.01)
        if connection is not None:
            connection.close()


# Without a pause they take all processors, also from the tests beside this one.
@pytest.fixture(params=[pytest.param(0.005, id="some"), pytest.param(0.0, id="many", marks=pytest.mark.soak)])
def site(request: pytest.FixtureRequest, pystack: Pystack, busybox_rootfs: Path) -> Site:
    return Site(pystack, busybox_rootfs, request.param)


START_FIRST = "order: start-first, monitor: 1s"


def test_an_update_start_first_drops_no_request_and_one_stop_first_does(site: Site) -> None:
    assert site.up(1, START_FIRST).code == 0
    before = site.names()
    with Load(site.pause_s) as load:
        result = site.up(2, START_FIRST)
    assert result.code == 0, str(result)
    assert load.failures == []
    assert load.answered["1"] > 20
    assert load.answered["2"] > 20
    assert site.client_got() == {"1", "2"}
    assert site.names() == [f"{name}-b" for name in before]
    assert site.answers() == {"2": 3}
    with Load(site.pause_s) as load:
        result = site.up(3, "order: stop-first, monitor: 0s")
    assert result.code == 0, str(result)
    assert load.failures
    assert site.names() == before
    assert site.answers() == {"3": 3}


def test_an_update_that_fails_is_rolled_back_and_nobody_notices(site: Site) -> None:
    rules = "order: start-first, monitor: 1s, failure_action: rollback"
    assert site.up(1, rules).code == 0
    before = site.names()
    with Load(site.pause_s) as load:
        result = site.up(2, rules, ', SICK: "yes"')
    assert result.code == 1
    assert "update of web rolled back" in result.stderr
    assert load.failures == []
    assert site.client_got() == {"1"}
    assert site.names() == before
    assert site.answers() == {"1": 3}


def test_a_supervisor_killed_amid_an_update_leaves_one_container_in_each_place(site: Site) -> None:
    assert site.up(1, START_FIRST).code == 0
    for version, moment in ((2, "container.created"), (3, "container.announced")):
        site.write(version, START_FIRST)
        begun_s = time.time()
        with running(site.stack, "up", "-d"):
            eventually(partial(happened, site.stack, moment, begun_s))
            kill_hard(supervisor_pid(site.stack))
        assert len(eventually(lambda: three_run(site))) == 3
        assert sum(site.answers().values()) == 3
        assert "" not in site.answers()
        assert site.up(version, START_FIRST).code == 0
        assert site.answers() == {str(version): 3}
        assert len(site.names()) == 3
    site.stack.must("down", "-t", "0")


def happened(stack: Stack, kind: str, since_s: float) -> bool:
    path = stack.pystack.data_dir / "projects" / stack.name / "events.jsonl"
    events = [json.loads(line) for line in path.read_text().splitlines()]
    return any(event["kind"] == kind and event["at"] >= since_s and event.get("service") == "web" for event in events)


def three_run(site: Site) -> list[str]:
    rows = [row for row in site.stack.rows() if row["Service"] == "web"]
    return site.names() if len(rows) == 3 and {row["State"] for row in rows} == {"running"} else []
