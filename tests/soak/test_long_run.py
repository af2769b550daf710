"""Fifty containers that log, crash, get exec'ed, probed, followed and restarted for minutes (SOAK_MINUTES, 10): supervisor
and monitor hold no more in the end than after the first minute.

It is measured while everything is paused: no probe is under way then and nobody is between two runs, so that what is
counted can be compared exactly. Only memory has a tolerance.
"""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from orchestrator.model.keys import ProjectName, project_key
from tests.machine import Pystack, Stack, eventually
from tests.scenarios.talk import monitor_pid, running, supervisor_pid
from tests.world import hierarchies

pytestmark = [pytest.mark.kernel, pytest.mark.soak]

MINUTES = float(os.environ.get("SOAK_MINUTES", "10"))
TALKERS, CRASHERS, IDLE = 20, 15, 15
CONTAINERS = TALKERS + CRASHERS + IDLE

# A run of ten seconds sets the back-off back, so a crasher ends about every eleven seconds for as long as this lasts.
STACK = f"""
x-service: &service
  image: rootfs:{{rootfs}}
  stop_grace_period: 1s
  restart: always
  logging: {{{{options: {{{{max-size: 64k, max-file: "3"}}}}}}}}
services:
  talk:
    <<: *service
    scale: {TALKERS}
    command: [sh, -c, "i=0; while :; do i=$$((i+1)); echo line $$i of somebody who has much to say; usleep 50000; done"]
    healthcheck: {{{{test: "true", interval: 1s}}}}
  crash:
    <<: *service
    scale: {CRASHERS}
    command: [sh, -c, "echo up; sleep 11; echo down >&2; exit 3"]
    healthcheck: {{{{test: [CMD, "true"], interval: 1500ms}}}}
  idle:
    <<: *service
    scale: {IDLE}
    init: true
    command: [sleep, "100000"]
    healthcheck: {{{{test: "sleep 10 & test $$((RANDOM % 4)) -gt 0", interval: 2s, retries: 100}}}}
"""


def number_after(text: str, words: str) -> int:
    found = re.search(rf"^{words}:\s+(\d+)", text, re.MULTILINE)
    assert found, text
    return int(found.group(1))


def of_process(pid: int) -> dict[str, int]:
    place = Path(f"/proc/{pid}")
    return {
        "descriptors": len(os.listdir(place / "fd")),
        "threads": number_after((place / "status").read_text(), "Threads"),
        "mounts": len((place / "mountinfo").read_text().splitlines()),
        "memory_kb": number_after((place / "status").read_text(), "RssAnon"),
    }


def network_namespaces(pids: tuple[int, ...]) -> set[str]:
    """Those that are kept open."""
    links = [os.readlink(f"/proc/{pid}/fd/{fd}") for pid in pids for fd in os.listdir(f"/proc/{pid}/fd")]
    return {link for link in links if link.startswith("net:[")}


def project_processes(key: str) -> list[Path]:
    """All that are in the project's cgroups."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"/{key}" in (entry / "cgroup").read_text():
                found.append(entry)
        except OSError:
            continue
    return found


def state_of(process: Path) -> str:
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def zombies_of(parents: tuple[int, ...]) -> int:
    """Of supervisor and monitor, whose children are all containers' processes, too."""
    children = [
        Path("/proc", child)
        for pid in parents
        for task in os.listdir(f"/proc/{pid}/task")
        for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()
    ]
    return sum(state_of(process) == "Z" for process in children)


def idle_zombies(stack: Stack) -> set[Path]:
    """In all containers, now. One is there for a moment whenever a shell's child has ended."""
    key = project_key(str(stack.pystack.data_dir), ProjectName(stack.name))
    return {process for process in project_processes(key) if state_of(process) == "Z"}


def cgroups(key: str) -> int:
    return sum(
        key in directory
        for hierarchy in hierarchies()
        for directory, _, _ in os.walk(hierarchy.mount)
    )


def tree(directory: Path) -> tuple[int, int]:
    """Files below `directory`, and their bytes."""
    paths = [path for path in directory.rglob("*") if path.is_file() and not path.is_symlink()]
    return len(paths), sum(path.stat().st_size for path in paths)


def held(stack: Stack, both: tuple[int, int]) -> dict[str, int]:
    """What there is now, by name; `both`: supervisor and monitor. `pystack pause` has stopped everything."""
    key = project_key(str(stack.pystack.data_dir), ProjectName(stack.name))
    project = stack.pystack.data_dir / "projects" / stack.name
    found = {
        f"{name} {what}": value
        for name, pid in zip(("supervisor", "monitor"), both)
        for what, value in of_process(pid).items()
    }
    found |= {"zombies": zombies_of(both), "cgroups": cgroups(key), "processes": len(project_processes(key))}
    found |= {"network namespaces": len(network_namespaces(both))}
    found |= {"run files": len(list(stack.pystack.run_dir.rglob("*")))}
    for name in ("logs", "containers"):
        found[f"{name} files"], found[f"{name} bytes"] = tree(project / name)
    found |= {f"{path.name} bytes": path.stat().st_size for path in project.iterdir() if path.is_file()}
    return found


def execs_under_way() -> bool:
    """A probe is one, too."""
    return any(
        "populated 1" in Path(directory, "cgroup.events").read_text()
        for hierarchy in hierarchies()
        if hierarchy.kind == "cgroup2"
        for directory, _, _ in os.walk(hierarchy.mount)
        if "/exec-" in directory or directory.endswith("/probe")
    )


def measured(stack: Stack, both: tuple[int, int]) -> dict[str, int]:
    """As `held`, at a moment when all containers run."""
    answer: dict[str, int] = {}

    def look() -> bool:
        """All containers are paused, none was between two runs, and nobody execs or probes"""
        stack.run("pause")
        states = [row["State"] for row in stack.rows()]
        if states == ["paused"] * CONTAINERS and not execs_under_way():
            answer.update(held(stack, both))
        stack.run("unpause")
        return bool(answer)

    eventually(look)
    seen = idle_zombies(stack)
    eventually(lambda: not seen & idle_zombies(stack))
    return answer


def on_a_terminal(stack: Stack, *args: str) -> int:
    """The exit code of a command whose standard streams are a terminal, which is read to its end."""
    leader, follower = pty.openpty()
    argv = stack.pystack.command("-p", stack.name, *args)
    process = subprocess.Popen(
        argv, cwd=stack.directory, env=stack.pystack.child_environment(), stdin=follower, stdout=follower, stderr=follower
    )
    os.close(follower)
    try:
        while os.read(leader, 65536):
            pass
    except OSError:
        pass  # The last holder of the other side has gone (pty(7): EIO).
    finally:
        os.close(leader)
    return process.wait(timeout=60)


def execute(stack: Stack, turn: int) -> None:
    talk = ("--index", str(1 + turn % TALKERS), "talk")
    assert stack.must("exec", "-T", *talk, "sh", "-c", "cat; echo here").stdout == "here\n"
    assert on_a_terminal(stack, "exec", *talk, "sh", "-c", "tty && exit 7") == 7
    # One that leaves something behind, and some whose containers end under them, perhaps.
    stack.must("exec", "-d", *talk, "sleep", "3")
    stack.run("exec", "-T", "--index", str(1 + turn % CRASHERS), "crash", "sleep", "0.1")
    stack.run("exec", "-T", "--index", str(1 + turn % IDLE), "idle", "sh", "-c", "sleep 5 & echo here")


def follow(stack: Stack, turn: int) -> None:
    with running(stack, "logs", "-f", "-n", "1", "talk") as process:
        assert process.stdout is not None
        for _ in range(1500):
            assert "much to say" in process.stdout.readline()
        process.send_signal(signal.SIGINT if turn % 2 else signal.SIGKILL)
        process.wait(timeout=30)


def restart(stack: Stack, turn: int) -> None:
    stack.must("restart", "-t", "0", ("idle", "crash")[turn % 2])
    stack.must("ps", "--all")
    stack.must("stats", "--no-stream")


@contextmanager
def kept_busy(stack: Stack) -> Iterator[Callable[[], None]]:
    """Drivers, each in a thread, until the end of the block. What it gives raises what one of them has failed with."""
    over, failures = Event(), list[BaseException]()

    def drive(deed: Callable[[Stack, int], None]) -> None:
        turn = 0
        try:
            while not over.is_set():
                deed(stack, turn)
                turn += 1
        except BaseException as exc:
            failures.append(exc)

    def check() -> None:
        if failures:
            raise failures[0]

    threads = [Thread(target=drive, args=(deed,)) for deed in (execute, follow, restart)]
    for thread in threads:
        thread.start()
    try:
        yield check
    finally:
        over.set()
        for thread in threads:
            thread.join()
    check()


def live(stack: Stack, seconds: float) -> None:
    end = time.monotonic() + seconds
    with kept_busy(stack) as check:

        def look() -> bool:
            """The time is over"""
            check()
            return time.monotonic() > end

        eventually(look, deadline_s=seconds + 60)


MOST = {
    "supervisor threads": 43,
    "logs files": CONTAINERS * 3 * 2,
    "logs bytes": CONTAINERS * 3 * 2 * (64 << 10) * 2,
    "events.jsonl bytes": 5 << 20,
    "events.jsonl.1 bytes": 5 << 20,
    "exits.journal bytes": 3 << 19,
    "records.journal bytes": 3 << 19,
}
"""What each may come to, whatever it was. Threads: trio's limit, and our three; idle ones end. Logs: three files of 64 KiB
(or a line more), an index each, as large for short lines. The rest: where each is begun anew, and half of that."""
MORE = {
    "supervisor memory_kb": 1024,
    "monitor memory_kb": 1024,
    "processes": TALKERS,
    "cgroups": TALKERS + IDLE,
    "supervisor descriptors": TALKERS + IDLE,
    "wanted.json bytes": 1024,
    "wanted.json.copy bytes": 1024,
}
"""How much more than after a minute there may be. Memory: where the same objects lie, and the stacks of threads that happen
to be there; one object of 500 bytes for each probe would be 9 MB in ten minutes. Processes: a shell may have a child or
not. Control groups: one a container, of its last exec, what that left running having ended since; and a descriptor of each.
`wanted.json`: numbers of runs get digits."""


def grown(first: dict[str, int], last: dict[str, int]) -> dict[str, tuple[int, int]]:
    """What is more than it may be: (then, now)."""
    most = {name: MOST.get(name, first.get(name, 0) + MORE.get(name, 0)) for name in last}
    return {name: (first.get(name, 0), value) for name, value in last.items() if value > most[name]}


def test_nothing_grows_while_fifty_containers_live_hard(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(STACK.format(rootfs=busybox_rootfs))
    stack.must("up", "-d", timeout_s=300)
    pids = supervisor_pid(stack), monitor_pid(stack)
    live(stack, 60)
    taken = [measured(stack, pids)]
    print(json.dumps(taken[0]), flush=True)
    for _ in range(max(1, round(MINUTES - 1))):
        live(stack, 60)
        taken.append(measured(stack, pids))
        print(json.dumps({name: value for name, value in taken[-1].items() if value != taken[0].get(name)}), flush=True)
    stack.must("down", "-t", "0", "-v")
    assert grown(taken[0], taken[-1]) == {}
