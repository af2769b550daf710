"""A project that an older version brought up is taken over by this one: nothing that runs is touched, nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.leaks import files
from tests.machine import Pystack, Stack, eventually
from tests.scenarios.talk import free_port, http, kill_hard, monitor_pid, supervisor_pid

pytestmark = pytest.mark.kernel

OLDER = ["0.1"]
STACK = """
x-service: &service
  image: rootfs:{rootfs}
  stop_grace_period: 1s
  init: true
services:
  job:
    <<: *service
    command: [sh, -c, "echo once >> /data/job"]
    volumes: ["data:/data"]
  web:
    <<: *service
    command: [sh, -c, "echo serving; cd /data && exec httpd -f -p 8000"]
    depends_on: {{job: {{condition: service_completed_successfully}}}}
    ports: ["127.0.0.1:{port}:8000"]
    volumes: ["data:/data", "/scratch"]
    healthcheck: {{test: wget -qO- http://127.0.0.1:8000/job, interval: 200ms, timeout: 5s}}
  client:
    <<: *service
    command: [sh, -c, "wget -qO- http://web:8000/job && exec sleep 3600"]
    depends_on: {{web: {{condition: service_healthy}}}}
    restart: always
  idle:
    <<: *service
    command: [sleep, "3600"]
volumes:
  data:
"""
RUNNING = ("web", "client")

Event = Callable[[Stack], None]


def nothing_more(stack: Stack) -> None:
    """The older supervisor and monitor are there and answer."""


def a_killed_supervisor(stack: Stack) -> None:
    kill_hard(supervisor_pid(stack))
    eventually(lambda: len(stack.pystack.processes()) == 2)


def a_killed_monitor(stack: Stack) -> None:
    kill_hard(monitor_pid(stack))
    eventually(lambda: len(stack.pystack.processes()) == 2)
    # Asked to leave before all is in the new monitor's hands, the supervisor of 0.1 ended by an error.
    stack.must("exec", "client", "true")


def is_of_older_code(stack: Stack, pid: int) -> bool:
    """Whether the process was started to run code of `Pystack.of_version`."""
    return f"PYTHONPATH={stack.pystack.root}/code-".encode() in Path(f"/proc/{pid}/environ").read_bytes()


def pids_of(stack: Stack) -> dict[str, int]:
    rows = stack.ps()
    return {name: rows[name]["Pid"] for name in RUNNING}


@pytest.mark.parametrize("older", OLDER)
@pytest.mark.parametrize("event", [nothing_more, a_killed_supervisor, a_killed_monitor], ids=lambda event: event.__name__)
def test_a_project_of_an_older_version_is_taken_over_as_it_runs(
    pystack: Pystack, busybox_rootfs: Path, older: str, event: Event
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/job"
    old = pystack.of_version(older).stack(STACK.format(rootfs=busybox_rootfs, port=port))
    old.must("up", "-d", "--wait")
    assert is_of_older_code(old, supervisor_pid(old)), "the test does what it says"
    old.must("stop", "idle")
    old.must("exec", "web", "sh", "-c", "echo mine > /scratch/file")
    before = pids_of(old)
    event(old)

    new = Stack(pystack, old.name, old.directory)
    rows = new.ps()
    assert {name: row["State"] for name, row in rows.items()} == {
        "job": "exited",
        "web": "running",
        "client": "running",
        "idle": "exited",
    }
    assert rows["job"]["ExitCode"] == 0
    assert pids_of(new) == before
    assert http(url) == (200, "once\n")
    assert "serving" in new.must("logs", "web").stdout
    assert "once" in new.must("logs", "client").stdout
    assert new.must("exec", "web", "cat", "/scratch/file", "/data/job").stdout == "mine\nonce\n"

    new.must("up", "-d", "--wait")
    rows = new.ps()
    assert pids_of(new) == before, "nothing of the stack changed, so nothing is made anew"
    assert rows["idle"]["State"] == "running"
    assert http(url) == (200, "once\n"), "the job that was done is not done again"
    assert new.must("exec", "web", "cat", "/scratch/file").stdout == "mine\n"
    # The older monitor may stay, as long as what it is the parent of.
    assert not is_of_older_code(new, supervisor_pid(new))

    new.must("exec", "client", "wget", "-qO-", "http://web:8000/job")
    new.must("down", "-v")
    assert pystack.processes() == {}
    assert files(pystack.run_dir) == []
    assert not (pystack.data_dir / "projects" / new.name).exists()
    assert http(url)[0] == 0


@pytest.mark.parametrize("older", OLDER)
def test_down_alone_takes_a_project_of_an_older_version_away(pystack: Pystack, busybox_rootfs: Path, older: str) -> None:
    old = pystack.of_version(older).stack(STACK.format(rootfs=busybox_rootfs, port=free_port()))
    old.must("up", "-d", "--wait")
    new = Stack(pystack, old.name, old.directory)
    new.must("down", "-v")
    assert pystack.processes() == {}
    assert not (pystack.data_dir / "projects" / new.name).exists()
