"""Logs: complete to the byte, indexed, rotated, and read by the command line's own reader."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import trio

from orchestrator.contracts.runtime import LogPolicy
from orchestrator.model.names import ContainerId
from orchestrator.runtime.logs import LogEntry, follow, read_entries
from tests.kernel.place import Place, place

pytestmark = pytest.mark.kernel
BOX = ContainerId("rt-a-1")


@pytest.fixture
async def here(leaves_nothing_behind: None, busybox_rootfs: Path) -> AsyncGenerator[Place, None]:
    async with place(busybox_rootfs) as opened:
        yield opened


def prefix(here: Place) -> str:
    return f"{here.site.data_dir}/logs/{BOX}"


async def test_binary_output_is_kept_to_the_byte(here: Place) -> None:
    script = "head -c 3000000 /dev/urandom > /data; cat /data"
    exit_ = await here.runtime.wait(await here.begin(["sh", "-c", script]))
    assert exit_.ok
    data = Path(here.site.data_dir, "containers", BOX, "upper", "data").read_bytes()
    assert here.log(BOX) == data
    assert b"\n".join(entry.line for entry in read_entries(prefix(here))) in (data, data[:-1])


async def test_the_streams_and_times_are_told_apart(here: Place) -> None:
    before = time.time()
    await here.shell("echo out; sleep 0.05; echo err >&2; sleep 0.05; printf 'no newline'")
    entries = list(read_entries(prefix(here)))
    assert [(entry.stream, entry.line, entry.ended) for entry in entries] == [
        ("stdout", b"out", True),
        ("stderr", b"err", True),
        ("stdout", b"no newline", False),
    ]
    times = [entry.time for entry in entries]
    assert before <= times[0] < times[1] < times[2] <= time.time()
    assert [entry.line for entry in read_entries(prefix(here), tail=1)] == [b"no newline"]
    assert [entry.line for entry in read_entries(prefix(here), since=times[1])] == [b"err", b"no newline"]


async def test_a_log_is_rotated_and_the_newest_files_are_whole(here: Place) -> None:
    log = LogPolicy(max_bytes=100_000, max_files=3)
    await here.shell("i=0; while [ $i -lt 100000 ]; do echo line $i; i=$((i+1)); done", log=log)
    names = sorted(name for name in os.listdir(f"{here.site.data_dir}/logs") if name.startswith(BOX))
    assert names == [f"{BOX}.{kind}{suffix}" for kind in ("idx", "log") for suffix in ("", ".1", ".2")]
    assert all(Path(f"{prefix(here)}.log.{number}").stat().st_size < 100_000 + 65_536 for number in (1, 2))
    lines = [entry.line for entry in read_entries(prefix(here))]
    first = int(lines[1].split()[1])
    assert first > 50_000
    assert lines[1:] == [b"line %d" % number for number in range(first, 100_000)]
    assert [entry.line for entry in read_entries(prefix(here), tail=3)] == lines[-3:]


async def test_following_survives_rotation_and_gets_the_last_line(here: Place) -> None:
    log = LogPolicy(max_bytes=50_000, max_files=20)
    await here.runtime.create(here.spec(["sh", "-c", "sleep 0.2; seq 1 60000; printf last"], log=log))
    Path(f"{prefix(here)}.log").touch()
    Path(f"{prefix(here)}.idx").touch()
    found: list[LogEntry] = []
    reader, writer = os.pipe()
    thread = threading.Thread(target=lambda: found.extend(follow(prefix(here), stop_fd=reader)))
    thread.start()
    run = await here.runtime.start(BOX)
    assert (await here.runtime.wait(run)).ok
    os.close(writer)
    await trio.to_thread.run_sync(thread.join)
    os.close(reader)
    assert [entry.line for entry in found] == [b"%d" % number for number in range(1, 60_001)] + [b"last"]


async def test_a_full_disk_stops_no_container(here: Place) -> None:
    """A limit on the size of files stands for it: what does not fit is dropped, and the container runs on."""
    logs = Path(here.site.data_dir, "logs")
    await here.runtime.create(here.spec(["sh", "-c", "seq 1 100000; exit 3"]))
    limit = 1 << 16
    before = resource.prlimit(here.runtime.monitor_pid, resource.RLIMIT_FSIZE)
    resource.prlimit(here.runtime.monitor_pid, resource.RLIMIT_FSIZE, (limit, before[1]))
    run = await here.runtime.start(BOX)
    with trio.fail_after(20):
        exit_ = await here.runtime.wait(run)
    resource.prlimit(here.runtime.monitor_pid, resource.RLIMIT_FSIZE, before)
    assert exit_.code == 3
    assert (logs / f"{BOX}.log").stat().st_size == limit


async def test_a_container_cannot_reach_its_log_file(here: Place) -> None:
    await here.shell("echo first; echo second > /dev/stdout; : > /dev/stderr; echo third")
    assert here.log(BOX) == b"first\nsecond\nthird\n"


async def test_the_log_goes_on_over_restarts(here: Place) -> None:
    await here.shell("echo run")
    for _ in range(3):
        await here.runtime.wait(await here.runtime.start(BOX))
    assert [entry.line for entry in read_entries(prefix(here))] == [b"run"] * 4


async def test_output_of_a_background_process_is_read_before_the_exit_is_told(here: Place) -> None:
    exit_, log = await here.shell("(head -c 200000 /dev/zero | tr '\\0' y) & wait; exit 2")
    assert (exit_.code, len(log)) == (2, 200_000)
