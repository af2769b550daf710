"""Three hundred mixed operations (SOAK_OPERATIONS) while supervisor and monitor are killed at random moments: what a small
model says is wanted is there in the end, and every run has one begin and one end. SOAK_SEED chooses the operations; the
moments of the kills are the machine's own."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.machine import Pystack, Result, Stack, eventually
from tests.scenarios.test_crashes import MONITOR, SUPERVISOR, check_down
from tests.soak.test_fuzzers import fresh_seed

pytestmark = [pytest.mark.kernel, pytest.mark.soak]

SEED = int(os.environ.get("SOAK_SEED") or fresh_seed())
OPERATIONS = int(os.environ.get("SOAK_OPERATIONS", "300"))
BLOCK = 15
LEAST_GAP_S, MEAN_GAP_S = 0.3, 4.0
"""Between kills: most are short, and some long enough for the longest operation on a busy machine."""
MONITORS = 0.1
"""Of those that are killed."""
MOST_CUTS = 3
"""Of one operation."""
HEALS_S = 90.0
"""A back-off of half a minute, that of who was killed several times in a row, is among what is waited for."""

STACK = """
x-service: &service
  image: rootfs:{rootfs}
  command: [sleep, "3600"]
  init: true
  stop_grace_period: 1s
services:
  db:
    <<: *service
    environment: {{VERSION: "{db}"}}
    restart: always
    networks: [front, back]
    healthcheck: {{test: [CMD, "true"], interval: 200ms}}
  migrate:
    <<: *service
    environment: {{VERSION: "{migrate}"}}
    command: [sleep, "0.1"]
    networks: [back]
    depends_on: {{db: {{condition: service_healthy}}}}
  api:
    <<: *service
    environment: {{VERSION: "{api}"}}
    restart: on-failure
    scale: 2
    networks: [front, back]
    depends_on:
      db: {{condition: service_healthy, restart: true, x-pystack: {{cascade: restart}}}}
      migrate: {{condition: service_completed_successfully}}
    post_start: [{{command: [sleep, "0.05"]}}]
    pre_stop: [{{command: [sleep, "0.05"]}}]
    stop_grace_period: 20s
  web:
    <<: *service
    environment: {{VERSION: "{web}"}}
    restart: unless-stopped
    networks: [front]
    depends_on: [api]
    deploy: {{replicas: 2, update_config: {{order: start-first, parallelism: 0, monitor: 0s}}}}
  worker:
    <<: *service
    environment: {{VERSION: "{worker}"}}
    networks: [front, back]
    depends_on: [db]
    deploy: {{restart_policy: {{condition: any, delay: 200ms}}}}
  flaky:
    <<: *service
    environment: {{VERSION: "{flaky}"}}
    command: [sh, -c, "sleep 2; exit 3"]
    restart: always
    networks: [front]
  prepared:
    <<: *service
    environment: {{VERSION: "{prepared}"}}
    restart: always
    networks: [back]
    pre_start: [{{command: [sleep, "0.05"]}}]
  alone:
    <<: *service
    environment: {{VERSION: "{alone}"}}
    restart: always
    network_mode: none
jobs:
  backup:
    <<: *service
    command: [sleep, "0.1"]
    networks: [back]
    depends_on: [db]
    triggers: {{manual: true}}
networks: {{front: {{}}, back: {{}}}}
"""
NEEDS = {
    **dict.fromkeys(("migrate", "worker", "backup"), ("db",)),
    "api": ("db", "migrate"),
    "web": ("api", "db", "migrate"),
}
REPLICAS = {"db": 1, "migrate": 1, "api": 2, "web": 2, "worker": 1, "flaky": 1, "prepared": 1, "alone": 1}
STAYS = ("db", "api", "web", "worker", "prepared", "alone")
LIVE, CRASHES = {"running"}, {"running", "restarting", "exited"}


@dataclass(slots=True)
class Want:
    """Of a service that was made: `on` False: stopped by hand. `joined`: it is on `back`."""

    version: int
    count: int
    on: bool = True
    paused: bool = False
    joined: bool = True


@dataclass(slots=True)
class Model:
    """What is wanted. `versions`: of the services in the file, which the last `up` need not have brought."""

    chance: random.Random
    versions: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REPLICAS, 0))
    wants: dict[str, Want] = field(default_factory=dict)

    def up(self, *names: str, scale: tuple[str, int] = ("", 0)) -> None:
        for name in names or REPLICAS:
            count = scale[1] if name == scale[0] else REPLICAS[name]
            self.wants[name] = Want(self.versions[name], count)

    def having(self, among: Sequence[str], *, on: bool | None = None, needs_on: bool = False) -> list[str]:
        """Those that were made, run or do not, and whose dependencies all run, none of them paused."""
        found = [name for name in among if name in self.wants and on in (None, self.wants[name].on)]
        return [name for name in found if not needs_on or all(map(self.runs, NEEDS.get(name, ())))]

    def runs(self, name: str) -> bool:
        want = self.wants.get(name)
        return want is not None and want.on and not want.paused

    def wrong(self, rows: Sequence[dict[str, Any]]) -> list[str]:
        """How `rows` are not as it is wanted."""
        found = [f"{row['Name']} is left of a run" for row in rows if row["Role"] == "one_off"]
        for name in REPLICAS:
            want = self.wants.get(name)
            own = [row for row in rows if row["Service"] == name and row["Role"] == "replica"]
            if len(own) != (want.count if want is not None else 0):
                found.append(f"{name}: {want} but {[row['Name'] for row in own]}")
            found += [f"{row['Name']}: {want} but {problem}" for row in own if want for problem in judge(name, want, row)]
        return found


def judge(name: str, want: Want, row: dict[str, Any]) -> Iterator[str]:
    if not want.on or name == "migrate":
        states = {"exited"}
    elif want.paused:
        states = {"paused"}
    else:
        states = CRASHES if name == "flaky" else LIVE
    if row["State"] not in states or (name == "migrate" and want.on and row["ExitCode"] != 0):
        yield f"{row['State']} ({row['ExitCode']}): {row['Reason']}"
    if name != "migrate" and row["Wanted"] != ("running" if want.on else "stopped"):  # What has ended is not stopped.
        yield f"{row['Wanted']} is recorded"
    if row["Pid"] and (has := version_of(row["Pid"])) not in (None, want.version):
        yield f"version {has}"
    if name == "worker" and want.on and ("back" in row["Addresses"]) != want.joined:
        yield f"on {list(row['Addresses'])}"


def version_of(pid: int) -> int | None:
    """The VERSION that a process was given; None when it has gone."""
    with contextlib.suppress(OSError):
        for text in Path(f"/proc/{pid}/environ").read_text().split("\0"):
            if text.startswith("VERSION="):
                return int(text.partition("=")[2])
    return None


class Killer:
    """Kills supervisors, now and then a monitor, until the end of the block. Never both at a time: what runs then is lost,
    and nobody knows how it ended (`tests.soak.test_both_killed`)."""

    def __init__(self, stack: Stack, chance: random.Random) -> None:
        self.killed: Counter[str] = Counter()
        self.lenient = threading.Event()
        """Set: nobody is killed, so that an operation which was cut short several times comes to its end."""
        self._stack, self._chance = stack, chance
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Killer:
        self._over.clear()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._over.wait(LEAST_GAP_S + self._chance.expovariate(1 / MEAN_GAP_S)):
            if self.lenient.is_set():
                continue
            if self._chance.random() < MONITORS:
                self._kill(MONITOR)
            else:
                self._kill(SUPERVISOR)

    def _kill(self, victim: str) -> None:
        if victim is MONITOR:
            self._stack.run("ps")  # There is a supervisor that knows all runs before, and one that has a monitor after it.
        found = self._stack.pystack.processes()
        # The oldest: a child that the monitor is making has its command line for a moment.
        for pid in sorted(pid for pid, command in found.items() if victim in command)[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.killed[victim] += 1
        if victim is MONITOR:
            self._stack.run("ps")
            self._stack.run("exec", "-T", "db", "true")  # That takes a monitor.


class Site:
    def __init__(self, pystack: Pystack, rootfs: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.model = Model(self.chance)
        self.done: list[str] = []
        self.interrupted = 0
        self._rootfs = rootfs
        self.stack = pystack.stack("services: {}\n")
        self.killer = Killer(self.stack, random.Random(seed))

    def write(self, *changed: str) -> None:
        for name in changed:
            self.model.versions[name] += 1
        (self.stack.directory / "compose.yaml").write_text(STACK.format(rootfs=self._rootfs, **self.model.versions))

    def do(self, *words: str, timid: bool = False) -> Result:
        """The command, again for as long as it is cut short. `timid`: it is refused while what it is about is not there,
        and that may be so for a moment, or when it was done by the one that was cut short."""
        self.done.append(" ".join(words))
        results: list[Result] = []
        cuts = 0

        def ended() -> bool:
            """The command is carried out"""
            nonlocal cuts
            before = self.killer.killed.total()
            results.append(self.stack.run(*words, timeout_s=120))
            lost = results[-1].code == 125 or "goes on without it" in results[-1].stderr
            cut = lost and self.killer.killed.total() > before
            failed = results[-1].stderr.splitlines()[-2:] if results[-1].code else ()
            print(f"{results[-1].seconds:.1f}", *words, *failed, flush=True)
            self.interrupted += cut
            if (cuts := cuts + cut) >= MOST_CUTS:
                self.killer.lenient.set()
            return not cut and (results[-1].code == 0 or not timid or self.is_so(words[0], words[-1]))

        with contextlib.suppress(AssertionError):
            eventually(ended, 20 if timid else HEALS_S)
        self.killer.lenient.clear()
        if not timid:
            assert results[-1].code == 0, f"{self.story()}\n{results[-1]}"
        return results[-1]

    def is_so(self, verb: str, name: str) -> bool:
        """Whether a command that was cut short has done its work, all the same."""
        rows = [row for row in self.stack.rows() if row["Service"] == name and row["Role"] == "replica"]
        match verb:
            case "pause" | "unpause":
                return all((row["State"] == "paused") == (verb == "pause") for row in rows)
            case "kill":
                return all(row["State"] == "exited" and row["Wanted"] == "stopped" for row in rows)
            case "network":
                return all(("back" in row["Addresses"]) == (self.done[-1].split()[1] == "connect") for row in rows)
        return False

    def story(self) -> str:
        return f"seed {SEED}, after {len(self.done)}: {self.done[-3 * BLOCK :]}\n{self.model.wants}"

    def operate(self) -> None:
        """One, chosen at random among those that can be."""
        model, chance = self.model, self.chance
        model_of: dict[str, Callable[[], list[str]]] = {
            "up": lambda: list(REPLICAS), "up some": lambda: list(REPLICAS),
            "scale": lambda: ["api", "web", "worker", "prepared"],
            "stop": lambda: model.having(list(REPLICAS), on=True), "start": lambda: self._startable(),
            "restart": lambda: model.having(list(REPLICAS), needs_on=True),
            "kill": lambda: [name for name in model.having(STAYS, on=True) if name != "flaky"],
            "pause": lambda: [name for name in ("db", "web", "worker", "alone") if model.runs(name)],
            "unpause": lambda: [name for name in model.wants if model.wants[name].paused],
            "rm": lambda: list(model.wants), "down": lambda: list(model.wants), "run": lambda: list(REPLICAS),
            "exec": lambda: [name for name in STAYS if model.runs(name)], "job": lambda: ["backup"],
            "disconnect": lambda: [name for name in ("worker",) if model.runs(name) and model.wants[name].joined],
            "connect": lambda: [name for name in ("worker",) if model.runs(name) and not model.wants[name].joined],
            "chaos": lambda: [name for name in STAYS if model.runs(name)],
        }
        weights = [6, 3, 3, 3, 6, 3, 2, 3, 6, 1, 1, 3, 3, 3, 2, 3, 4]
        while True:
            (verb,) = chance.choices(list(model_of), weights)
            if among := model_of[verb]():
                break
        self.carry_out(verb, chance.choice(among))

    def _startable(self) -> list[str]:
        """What it needs is started with it, if it was made."""
        wants = self.model.wants
        return [name for name in wants if all(other in wants for other in NEEDS.get(name, ()))]

    def carry_out(self, verb: str, name: str) -> None:
        model, wants = self.model, self.model.wants
        needs = NEEDS.get(name, ())
        match verb:
            case "up":
                self.write(*self.chance.sample(list(REPLICAS), self.chance.randint(0, 3)))
                self.do("up", "-d")
                model.up()
            case "up some":
                self.write(name)
                self.do("up", "-d", name)
                model.up(name, *needs)
            case "scale":
                count = self.chance.randint(1, 3)
                self.do("up", "-d", "--scale", f"{name}={count}")
                model.up(scale=(name, count))
            case "stop":
                self.do("stop", name)
                wants[name].on, wants[name].paused = False, False
            case "start":
                self.do("start", name)
                for other in (name, *needs):
                    wants[other].on, wants[other].paused = True, False
            case "restart":
                self.do("restart", name)
                wants[name].on, wants[name].paused = True, False
            case "kill":
                self.do("kill", name, timid=True)
                wants[name].on, wants[name].paused = False, False
            case "pause" | "unpause":
                self.do(verb, name, timid=True)
                wants[name].paused = verb == "pause"
            case "rm":
                self.do("rm", "-s", "-f", name)
                del wants[name]
            case "down":
                self.do("down", name)
                del wants[name]
            case "run":
                self.do("run", "--rm", "-T", name, "sleep", "0.1")
                if needs:
                    model.up(*needs)
            case "exec":
                assert self.do("exec", "-T", name, "true", timid=True).code == 0, self.story()
            case "job":
                self.do("run", "-T", name)
                model.up(*needs)
            case "disconnect" | "connect":
                self.do("network", verb, "back", name, timid=True)
                wants[name].joined = verb == "connect"
            case "chaos":
                self.do("chaos", "kill", name, timid=True)

    def check_wanted(self) -> None:
        """One command, and after a while all is as the model has it."""
        rows: list[dict[str, Any]] = []

        def wrong() -> list[str]:
            rows[:] = self.stack.rows()
            return self.model.wrong(rows)

        self.stack.rows()
        try:
            eventually(lambda: not wrong(), HEALS_S)
        except AssertionError:
            raise AssertionError(f"{self.story()}\n" + "\n".join(wrong())) from None

    def check_journals(self) -> None:
        """Each run has one begin in the monitor's journal, and one end, there and in the event log, unless it runs."""
        try:
            eventually(lambda: not self.unjournalled(), 10)
        except AssertionError:
            raise AssertionError(f"{self.story()}\n" + "\n".join(self.unjournalled())) from None

    def events(self) -> list[dict[str, Any]]:
        state = self.stack.pystack.data_dir / "projects" / self.stack.name
        return [*read_lines(state / "events.jsonl.1"), *read_lines(state / "events.jsonl")]

    def ends(self) -> list[dict[str, Any]]:
        """Of runs: one that was stopped while it waited for its restart has ended none."""
        return [event for event in self.events() if event["kind"] in ENDS and "run" in event["detail"]]

    def unjournalled(self) -> list[str]:
        """What is told too often, or not at all. A run is told by its container and its number: both come again when the
        container is made anew, so times are compared."""
        state = self.stack.pystack.data_dir / "projects" / self.stack.name
        entries = read_lines(state / "exits.journal")
        begun, ended = (
            Counter((entry["c"], entry["r"]) for entry in entries if entry["e"] == kind) for kind in ("start", "exit")
        )
        last = {entry["c"]: (entry["r"], entry["pid"]) for entry in entries if entry["e"] == "start"}
        running = [(name, run) for name, (run, pid) in last.items() if Path(f"/proc/{pid}").exists()]
        over = begun - Counter(running)
        events = self.events()
        known = {event["container"] for event in events if event["kind"] == "container.created"}
        told_begun = Counter(run_of(event) for event in events if event["kind"] == "container.started" and is_begin(event))
        told_ended = Counter(map(run_of, self.ends()))
        return [
            *(
                f"the end of {run} is journalled {ended[run]} times, of {over[run]}"
                for run in differ(ended, over)
            ),
            *(
                f"the end of {run} is told {told_ended[run]} times, of {over[run]}"
                for run in differ(told_ended, over)
                if run[0] in known
            ),
            *(f"the begin of {run} is told too often" for run in told_begun - begun),
        ]


ENDS = ("container.exited", "container.stopped")


def is_begin(event: dict[str, Any]) -> bool:
    return not event["detail"].get("adopted")


def run_of(event: dict[str, Any]) -> tuple[str, int]:
    detail = event["detail"]
    return event["container"], detail["number"] if "number" in detail else detail["run"]


def differ(one: Counter[tuple[str, int]], other: Counter[tuple[str, int]]) -> set[tuple[str, int]]:
    return {run for run in one.keys() | other.keys() if one[run] != other[run]}


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_the_end_state_is_the_wanted_one_and_every_exit_is_journalled_once(pystack: Pystack, busybox_rootfs: Path) -> None:
    print(f"SOAK_SEED={SEED}", flush=True)
    site = Site(pystack, busybox_rootfs, SEED)
    site.write()
    while len(site.done) < OPERATIONS:
        with site.killer:
            for _ in range(BLOCK):
                site.operate()
        site.check_wanted()
        site.check_journals()
        print(f"{len(site.done)} operations, {site.interrupted} cut short, killed {dict(site.killer.killed)}", flush=True)
        if site.chance.random() < 0.3:
            with site.killer:
                site.do("down")
            site.model.wants.clear()
            eventually(lambda: site.stack.pystack.processes() == {})
            assert not (pystack.data_dir / "projects" / site.stack.name).exists()
    check_down(site.stack)
