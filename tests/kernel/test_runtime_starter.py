"""The starter: what it starts is what the monitor's own forks start, and whatever happens to it, nothing is lost."""

from __future__ import annotations

import difflib
import os
import random
import re
import signal
import struct
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path
from typing import Any

import pytest
import trio

from orchestrator.contracts.runtime import GeneratedFile
from orchestrator.errors import PystackError
from orchestrator.model.names import ContainerId
from orchestrator.runtime.monitor import starter as starters
from orchestrator.runtime.monitor.starter import NAME, PROGRAMS
from tests.kernel.place import Place, place
from tests.machine import eventually

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.uname().machine not in PROGRAMS, reason="no starter for this machine"),
]

BOX = ContainerId("rt-a-1")
LOOK = r"""exec 2>&1
cat /proc/self/status /proc/self/limits /proc/self/cgroup /proc/self/mountinfo /proc/self/oom_score_adj /proc/sys/net/ipv4/ping_group_range
readlink /proc/self/ns/user /proc/self/ns/net
for kind in cgroup ipc mnt pid uts; do [ "$(readlink /proc/self/ns/$kind)" = "$(readlink /proc/1/ns/$kind)" ] && echo own $kind; done
id; umask; pwd; env; hostname; tty; ls -ln /proc/self/fd /dev /dev/pts /etc/hosts /var; cat /etc/hosts; stat -c '%n %a %u %g' /etc/hosts /dev/shm /
cut -d' ' -f7,8,9 /proc/self/stat; cat /proc/self/sessionid; readlink /proc/self/exe
"""  # noqa: E501
VARIES = (
    (r"(?m)^(Pid|Tgid|PPid|NStgid|NSpid|NSpgid|NSsid|Vm\w+|Rss\w+|\w*ctxt_switches|SigQ):.*$", ""),
    (r"\b\d+ \d+ \d+:\d+", "NUMBERS"),  # Of mounts and devices.
    (r"(master|shared):\d+", r"\1"),
    (r"(?m)\b0:\d+:(?=\d+$)", "DEVICE:"),
    (r"(upperdir|workdir)=[^,\n]*", r"\1"),
    (r"rt-[ab]-1", "NAME"),
    (r"\w+ \d+ \d\d:\d\d", "WHEN"),
    (r"pipe:\[\d+\]", "PIPE"),
    (r"/proc/\d+/fd", "/proc/PID/fd"),
    (r"\bnet:\[\d+\]", "NET"),
)  # fmt: skip


@pytest.fixture
async def here(leaves_nothing_behind: None, busybox_rootfs: Path) -> AsyncGenerator[Place, None]:
    async with place(busybox_rootfs) as opened:
        yield opened


def starter_of(here: Place) -> int | None:
    """Its pid, if there is one."""
    return alone(pid for pid in children_of(here) if comm(pid) == NAME and is_maker(pid))


def children_of(here: Place) -> list[int]:
    monitor = here.runtime.monitor_pid
    return list(map(int, Path(f"/proc/{monitor}/task/{monitor}/children").read_text().split()))


def alone(pids: Iterable[int]) -> int | None:
    found = list(pids)
    return found[0] if len(found) == 1 else None


def comm(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/comm").read_bytes().strip()
    except OSError:
        return b""


def is_maker(pid: int) -> bool:
    """And no start that is on its way: those have closed the socket."""
    try:
        return os.readlink(f"/proc/{pid}/fd/3").startswith("socket:")
    except OSError:
        return False


async def without_starter(here: Place) -> None:
    """From now on the monitor does without: it was killed too often."""
    for _ in range(starters._MOST_DEATHS):
        assert (await here.shell("exit 0", name="rt-k-1"))[0].code == 0
        pid = starter_of(here)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: starter_of(here) is None)
    assert (await here.shell("exit 0", name="rt-k-1"))[0].code == 0
    assert starter_of(here) is None


def comparable(text: str) -> list[str]:
    for pattern, instead in VARIES:
        text = re.sub(pattern, instead, text)
    return text.splitlines()


OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"uid": 70_000 % 65_536, "cwd": "/var", "env": ["A=1", "B=two words", "A=3"], "no_new_privileges": True},
    {"confined": False, "readonly": True},
    {"hosts": ("user", "network"), "confined": False},
)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "plain")
async def test_what_it_starts_is_what_the_monitor_itself_would_start(
    here: Place, tmp_path: Path, options: dict[str, Any]
) -> None:
    (tmp_path / "data").write_text("mounted\n")
    tmp_path.chmod(0o755)
    mounts = [
        {"destination": "/var", "type": "bind", "source": str(tmp_path), "options": ["rbind", "idmap", "rprivate"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=1777", "size=64k"]},
    ]
    files = (GeneratedFile("/etc/hosts", b"127.0.0.1 localhost\n"),)
    looks = []
    for name in ("rt-a-1", "rt-b-1"):
        if name == "rt-b-1":
            await without_starter(here)
        _, text = await here.shell(LOOK, name=name, mounts=mounts, files=files, **options)
        looks.append(comparable(text))
        assert (starter_of(here) is not None) == (name == "rt-a-1"), "the comparison would be of one way with itself"
        assert "Seccomp:" in text
    assert "\n".join(difflib.unified_diff(looks[0], looks[1], lineterm="", n=0)) == ""


async def test_an_exec_of_its_is_what_the_monitors_is(here: Place) -> None:
    from tests.kernel.test_runtime_exec import execute

    looks = []
    await here.begin(["sleep", "1000"], env=["A=1"])
    for by_starter in (True, False):
        if not by_starter:
            await without_starter(here)
        _, text = await execute(here, "sh", "-c", LOOK)
        looks.append(comparable(text))
        assert "Seccomp:" in text
        assert (starter_of(here) is not None) == by_starter
    assert "\n".join(difflib.unified_diff(looks[0], looks[1], lineterm="", n=0)) == ""


async def test_who_waits_for_its_execve_is_of_a_few_kilobytes(here: Place) -> None:
    run = await here.begin(["sh", "-c", "exit 3"])
    await here.runtime.wait(run)
    await here.runtime.prepare(BOX)
    others = (pid for pid in children_of(here) if pid != starter_of(here))
    held = alone(pid for pid in others if os.listdir(f"/proc/{pid}/fd"))  # No zombie.
    assert held is not None
    assert comm(held) == NAME
    status = Path(f"/proc/{held}/status").read_text()
    assert int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) < 200  # type: ignore[index]
    assert Path(f"/proc/{held}/environ").read_bytes() == b""
    assert (await here.runtime.wait(await here.runtime.start(BOX))).code == 3


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_starts_go_on_whatever_happens_to_it(here: Place, number: signal.Signals) -> None:
    """One that is killed is replaced; one that takes nothing any more is done without until it goes on."""
    names = [f"rt-n-{count}" for count in range(12)]
    for name in names:
        await here.runtime.create(here.spec(["sleep", "1000"], name))
    seen: list[int] = []

    async def trouble() -> None:
        pick = random.Random(7)
        while len(seen) < 4:
            if (pid := starter_of(here)) is not None:
                await trio.sleep(pick.random() * 0.01)
                os.kill(pid, number)
                seen.append(pid)
                if number == signal.SIGSTOP:
                    await trio.sleep(0.05)
                    os.kill(pid, signal.SIGCONT)
            await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trouble)
        for _ in range(4):
            async with trio.open_nursery() as starts:
                for name in names:
                    starts.start_soon(here.runtime.start, ContainerId(name))
            for name in names:
                assert (await here.runtime.probe(ContainerId(name), ("true",), 10)).ok
                await here.runtime.kill(ContainerId(name))
            for state in await here.runtime.containers():
                if state.run is not None:
                    await here.runtime.wait(state.run)
    eventually(lambda: all(comm(pid) != NAME or pid == starter_of(here) for pid in children_of(here)))


async def test_what_it_cannot_do_is_done_by_the_monitor_or_told_in_its_words(here: Place, tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_text("here\n")
    mounts = [
        {"destination": "/no/such/place", "type": "bind", "source": str(source), "options": ["bind", "idmap"]}
    ]
    exit_, text = await here.shell("cat /no/such/place", mounts=mounts)
    assert (exit_.code, text) == (0, "here\n"), "the place is made"
    await here.runtime.remove(BOX)
    for argv, words in (
        (["/no/such/program"], "/no/such/program"),
        (["no-such-program"], "no-such-program"),
        (["/etc"], "/etc"),
    ):
        with pytest.raises(PystackError, match=words):
            await here.begin(argv)
    with pytest.raises(PystackError, match="working directory /bin/sh"):
        await here.begin(["sh"], cwd="/bin/sh")
    assert starter_of(here) is not None


async def test_it_ends_with_the_monitor_however_that_ends(here: Place) -> None:
    assert (await here.shell("exit 0"))[0].code == 0
    pid, monitor = starter_of(here), here.runtime.monitor_pid
    assert pid is not None
    os.kill(monitor, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{pid}/exe").exists())
    with trio.fail_after(30):
        while here.runtime.monitor_pid == monitor:
            await trio.sleep(0.01)
    assert (await here.shell("exit 5"))[0].code == 5
    assert starter_of(here) not in (None, pid)


async def test_nobody_of_a_container_may_look_into_it(here: Place) -> None:
    """Not even who sees it, and has every right in the user namespace that its processes enter."""
    run = await here.begin(["sleep", "1000"])
    pid = starter_of(here)
    assert pid is not None
    look = f"id -u; kill -0 {pid} && echo reached; cat /proc/{pid}/environ; cat /proc/{pid}/maps; readlink /proc/{pid}/exe"
    inside = ["nsenter", f"--user=/proc/{run.pid}/ns/user", "--setuid=0", "--setgid=0", "sh", "-c", look]
    done = await trio.run_process(inside, capture_stdout=True, capture_stderr=True, check=False)
    assert done.stdout == b"0\n"
    assert done.stderr.count(b"ermission denied") + done.stderr.count(b"not permitted") >= 2


def test_the_page_has_room_for_as_many_starts_as_there_are_numbers() -> None:
    assert starters._MOST * struct.calcsize("=ii") == os.sysconf("SC_PAGESIZE")
