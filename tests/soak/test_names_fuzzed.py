"""A container that sends the name server all that it can for minutes (SOAK_MINUTES, 10), and a resolver outside that is as
bad: another container gets its answers in time, and the supervisor stays the same process, and as large."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.machine import ROOT, Pystack, eventually
from tests.scenarios.talk import supervisor_pid
from tests.soak.test_fuzzers import fresh_seed

pytestmark = [pytest.mark.kernel, pytest.mark.soak]

MINUTES = float(os.environ.get("SOAK_MINUTES", "10"))
ROUND_S = 30.0
SETTLED = 2
"""Rounds: a minute."""
KEPT = 2048
"""Answers of others that the supervisor keeps (docs/networking.md). They are there before the first minute is over: else
they would come one after the other for ten minutes, and be told from something that grows for ever by patience only."""
GROWN_KB, LATELY_KB = 1024, 512
"""What it may have grown by since the first minute, and in the last quarter. What is used stays the same, and so does
malloc's memory; but the answers that are kept are of other sizes by and by, and the interpreter's pools are for one size
each (sys._debugmallocstats: 1 MB more at most). One byte kept of each message would be as much as the second figure."""
LATE_SHARE, LATE_FOR_EACH_OVERSLEPT = 1 / 500, 6
"""A client is to wait 5 ms at most, and three programs take turns for one answer: it may take longer as often as each of
them is kept waiting by the machine itself."""
STACK = """
x-service: &service
  image: rootfs:{rootfs}
  command: [sleep, "3600"]
  stop_signal: SIGKILL
services:
  web: *service
  bad: {{<<: *service, cap_add: [NET_RAW]}}
"""


@contextmanager
def resolver_of_the_host(text: str, directory: Path) -> Iterator[None]:
    """In the tests' own mount namespace (tests/world.py) /etc/resolv.conf says `text`."""
    file = directory / "resolv.conf"
    file.write_text(text)
    subprocess.run(["mount", "--bind", file, "/etc/resolv.conf"], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "/etc/resolv.conf"], check=True)


@contextmanager
def program(*arguments: object, fd: int | None = None) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-m", "tests.fuzz.names", *map(str, arguments)]
    fds = [] if fd is None else [fd]
    with subprocess.Popen(argv, cwd=ROOT, pass_fds=fds, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def held(pid: int) -> dict[str, int]:
    status = Path(f"/proc/{pid}/status").read_text()
    found = {name: int(value) for name, value in re.findall(r"^(RssAnon|Threads):\s+(\d+)", status, re.MULTILINE)}
    return {"memory_kb": found["RssAnon"], "threads": found["Threads"], "files": len(os.listdir(f"/proc/{pid}/fd"))}


def test_no_packet_of_a_container_keeps_others_from_names(
    pystack: Pystack, busybox_rootfs: Path, tmp_path: Path
) -> None:
    seed = fresh_seed() % (1 << 31)
    print(f"seed {seed}")
    stack = pystack.stack(STACK.format(rootfs=busybox_rootfs))
    with ExitStack() as exits:
        exits.enter_context(resolver_of_the_host("nameserver 127.0.0.1\n", tmp_path))
        exits.enter_context(program("--resolve", 53, seed))
        stack.must("up", "-d")
        pid, rows = supervisor_pid(stack), stack.ps()
        fds = {name: os.open(f"/proc/{row['Pid']}/ns/net", os.O_RDONLY) for name, row in rows.items()}
        for fd in fds.values():
            exits.callback(os.close, fd)
        (own,) = rows["bad"]["Addresses"].values()
        lines = stack.must("exec", "-T", "web", "cat", "/etc/resolv.conf").stdout.splitlines()
        server = next(line.split()[1] for line in lines if line.startswith("nameserver"))
        before, rounds, taken = held(pid), max(SETTLED + 1, round(MINUTES * 60 / ROUND_S)), list[dict[str, int]]()
        total = Counter[str]()
        with program("--fill", fds["web"], server, KEPT, fd=fds["web"]) as filling:
            assert filling.wait() == 0
        with program("--attack", fds["bad"], own, server, rounds * ROUND_S, seed, fd=fds["bad"]) as attacking:
            for number in range(rounds):
                with program("--ask", fds["web"], server, ROUND_S, 1, fd=fds["web"]) as asking:
                    assert asking.stdout is not None
                    said = json.loads(asking.stdout.read())
                assert supervisor_pid(stack) == pid
                taken.append(held(pid))
                print(number, taken[-1], said, flush=True)
                assert said["lost"] == 0, said
                total.update({name: said[name] for name in ("asked", "late", "overslept")})
            assert attacking.stdout is not None
            print("sent", attacking.stdout.read())
        assert total["late"] <= total["asked"] * LATE_SHARE + LATE_FOR_EACH_OVERSLEPT * total["overslept"], total
        # Streams that idle are closed.
        eventually(lambda: held(pid)["files"] <= before["files"])
        assert supervisor_pid(stack) == pid
        memory_kb = [each["memory_kb"] for each in taken]
        assert memory_kb[-1] <= memory_kb[SETTLED - 1] + GROWN_KB, memory_kb
        assert memory_kb[-1] <= memory_kb[-1 - rounds // 4] + LATELY_KB, memory_kb
        assert taken[-1]["threads"] <= before["threads"], taken
        stack.must("down")
