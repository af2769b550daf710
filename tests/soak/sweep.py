"""A small stack whose supervisor or monitor is tampered with at one system call, and what has to hold after it."""

from __future__ import annotations

import contextlib
import os
import random
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tests import leaks
from tests.machine import Pystack, Result, Stack, eventually_gone
from tests.scenarios.talk import free_port, monitor_pid, supervisor_pid
from tests.soak import injection
from tests.soak.injection import Point, Traced

T = TypeVar("T")

STACK = """
x-service: &service
  image: rootfs:{rootfs}
  stop_grace_period: 0s
  command: [sleep, "3600"]
services:
  old: {{<<: *service, init: true}}
  new:
    <<: *service
    volumes: ["data:/data"]
    ports: ["127.0.0.1:{port}:8000"]
    healthcheck: {{test: [CMD, "true"], interval: 50ms}}
    depends_on: [old]
volumes:
  data:
"""
LIFE = (("up", "-d", "--wait"), ("exec", "-T", "old", "true"), ("restart", "old"), ("stop", "new"), ("down", "-v"))
"""Create, start, probe, exec, stop and delete."""
BIRTH = (("up", "-d", "old"),)
COMMAND_S = 20.0
"""How long a command may take that heals what was cut short: five seconds on a machine that has nothing else to do."""
SLOW_S = 30.0
"""A point that takes longer is shown: somebody has waited for what did not come."""
VICTIMS = ("birth", "supervisor", "monitor")


@dataclass(slots=True)
class Sweep:
    """Of many points: what was wrong, and the longest that a command took to heal."""

    pystack: Pystack
    rootfs: Path
    scratch: Path
    wrong: list[str] = field(default_factory=list)
    healed_s: list[float] = field(default_factory=list)
    hits: int = 0

    def __str__(self) -> str:
        return f"{self.hits} hit, healed in at most {max(self.healed_s, default=0):.1f} s"

    def stack(self) -> Stack:
        return self.pystack.stack(STACK.format(rootfs=self.rootfs, port=free_port()))

    def points(self, victim: str) -> list[tuple[str, int]]:
        """Every call and number of an undisturbed life."""
        stack = self.stack()
        with self.over(stack, victim, None) as (environment, traced):
            for args in BIRTH if victim == "birth" else LIFE:
                stack.must(*args, env=environment)
            found = traced.points()
        stack.must("down", "-v")
        return found

    @contextlib.contextmanager
    def over(self, stack: Stack, victim: str, point: Point | None) -> Iterator[tuple[dict[str, str], Traced]]:
        """strace over the victim of a stack; of all but a birth the first container runs already."""
        if victim == "birth":
            with injection.at_birth(point, self.pystack.code) as (environment, traced):
                yield dict(environment), traced
            return
        stack.must("up", "-d", "old")
        pid = supervisor_pid(stack) if victim == "supervisor" else monitor_pid(stack)
        with injection.at(pid, point, children=victim == "monitor") as traced:
            yield {}, traced

    def check(self, victim: str, point: Point, healed_by: str) -> None:
        """Go through a life with that point, and then heal it by the verb `healed_by`."""
        before, begin = leaks.take([self.scratch]), time.monotonic()
        stack = self.stack()
        label = f"{victim} {point}, then {healed_by}"
        try:
            with self.over(stack, victim, point) as (environment, traced):
                for args in BIRTH if victim == "birth" else LIFE:
                    done = stack.run(*args, env=environment, timeout_s=90)
                    self.complain(label, complaints(done))
                    if traced.hit():
                        break
                hit = traced.hit()
            self.hits += hit
            if hit:
                self.heal(stack, label, healed_by)
            done = stack.run("down", "-v", "-t", "0", timeout_s=60)
            self.complain(label, complaints(done))
            if done.code != 0 or not all(eventually_gone(pid) for pid in self.pystack.processes()):
                self.complain(label, [f"{done}\n{self.pystack.processes()}"])
        except AssertionError as exc:
            self.complain(label, [str(exc)[:2000]])
        said = self.pystack.close()
        if said:  # What comes after must not meet it: by now all of it was killed.
            self.pystack.close()
        self.complain(label, said)
        left = [*leaks.settle(before, [self.scratch]), *leaks.files(self.pystack.run_dir)]
        if (place := self.pystack.data_dir / "projects" / stack.name).exists():
            left.append(str(place))
        self.complain(label, [f"left behind: {text}" for text in left])
        self.pystack.projects.clear()
        if (took := time.monotonic() - begin) > SLOW_S:
            print(f"{label}: {took:.0f} s", flush=True)

    def complain(self, label: str, texts: Iterable[str]) -> None:
        for text in texts:
            self.wrong.append(f"{label}: {text}")
            print(self.wrong[-1], flush=True)

    def heal(self, stack: Stack, label: str, verb: str) -> None:
        begin = time.monotonic()
        args = ("up", "-d", "--wait") if verb == "up" else ("down", "-v")
        done = stack.run(*args, timeout_s=90)
        took = time.monotonic() - begin
        self.healed_s.append(took)
        if done.code != 0 or took > COMMAND_S:
            self.complain(label, [f"healed in {took:.1f} s: {done}"])
        self.complain(label, complaints(done))
        if verb == "up" and done.code == 0:
            rows = stack.ps()
            if {name: row["State"] for name, row in rows.items()} != {"old": "running", "new": "running"}:
                self.complain(label, [str(rows)])
            supervisor_pid(stack), monitor_pid(stack)
            if len(programs := containers_of(stack)) != len(set(programs)) or len(programs) != 2:
                self.complain(label, [str(programs)])


def containers_of(stack: Stack) -> list[str]:
    """The control groups of the containers' programs: one each, or something old is left."""
    found: list[str] = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cmdline").read_bytes() == b"sleep\x003600\x00":
                groups = (entry / "cgroup").read_text()
                found += set(re.findall(rf"{stack.name}-\w+-\d", groups))
    return found


def complaints(done: Result) -> Iterator[str]:
    """What a command says that it must not say, whatever has happened to it."""
    if "Traceback" in done.stderr or "bug in pystack" in done.stderr:
        yield f"a traceback: {done}"
    elif done.code != 0 and done.stderr.count("error: ") != 1 and done.argv[2:3] != ("exec",):
        yield f"{done.stderr.count('error: ')} errors: {done}"


def thinned(points: Sequence[T], most: int) -> list[T]:
    """At most so many of them (0: all), evenly, and others in each run. A finding names its point."""
    if most <= 0 or len(points) <= most:
        return list(points)
    step = len(points) / most
    first = random.random() * step
    return [points[int(first + index * step)] for index in range(most)]


MOST = int(os.environ.get("SOAK_POINTS", "100"))
"""How many points of each sweep; 0 means all of them: hours."""
