"""What the monitor does with output that it cannot write, or is not to."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import trio

from orchestrator.contracts.runtime import LogPolicy
from orchestrator.errors import HostError
from orchestrator.model.names import ContainerId
from orchestrator.runtime.logs import UNWRITTEN, Follower, entries_of, read_blocks, read_entries
from tests.kernel.place import Place, place, place_with_small_logs

pytestmark = pytest.mark.kernel
BOX = ContainerId("rt-a-1")


@pytest.fixture
async def here(leaves_nothing_behind: None, busybox_rootfs: Path) -> AsyncGenerator[Place, None]:
    async with place(busybox_rootfs) as opened:
        yield opened


async def test_a_full_disk_is_told_stops_no_container_and_logging_goes_on_when_there_is_room(
    leaves_nothing_behind: None, busybox_rootfs: Path
) -> None:
    script = (
        "echo first; head -c 2000000 /dev/zero | tr '\\0' x; touch /done; until [ -e /room ]; do sleep 0.02; done;"
        "echo; echo back; exit 3"
    )
    async with place_with_small_logs(busybox_rootfs, "256k") as here:
        told: list[tuple[ContainerId, int, str]] = []
        here.runtime.on_unlogged(lambda *words: told.append(words))
        run = await here.begin(["sh", "-c", script])
        upper, logs = Path(here.site.data_dir, "containers", BOX, "upper"), f"{here.site.data_dir}/logs"
        with trio.fail_after(30):
            while not (upper / "done").exists():
                await trio.sleep(0.01)
            while not told:  # While it happens.
                await trio.sleep(0.01)
        subprocess.run(["mount", "-o", "remount,size=8m", logs], check=True)
        await here.runtime.probe(BOX, ["touch", "/room"], 10)  # Killed, if the container has ended before it has.
        with trio.fail_after(30):
            assert (await here.runtime.wait(run)).code == 3
        lost: list[tuple[int, str]] = []
        blocks = read_blocks(f"{logs}/{BOX}", on_lost=lambda count, why: lost.append((count, why)))
        lines = [entry.line for entry in entries_of(blocks)]
    assert lines[0] == b"first"
    assert lines[-1] == b"back"
    missing = sum(count for count, _ in lost)
    assert missing > 1_000_000
    assert {why for _, why in lost} == {UNWRITTEN}
    assert sum(map(len, lines[1:-1])) + missing == 2_000_000
    assert sum(count for _, count, _ in told) == missing
    assert {(name, why) for name, _, why in told} == {(BOX, os.strerror(28))}


async def test_a_full_disk_takes_what_is_held_for_readers_first(leaves_nothing_behind: None, busybox_rootfs: Path) -> None:
    async with place_with_small_logs(busybox_rootfs, "1m") as here:
        told: list[int] = []
        here.runtime.on_unlogged(lambda name, count, why: told.append(count))
        lost: list[tuple[int, str]] = []
        prefix = f"{here.site.data_dir}/logs/{BOX}"
        reader = Follower(prefix, on_lost=lambda count, why: lost.append((count, why)), complete=True)
        policy = LogPolicy(max_bytes=100_000, max_files=2)
        await here.shell("seq 1 400000", log=policy)
        got = b"".join(data for _, _, data in reader.pieces())
        reader.close()
        wrote = b"".join(b"%d\n" % number for number in range(1, 400_001))
        assert told == [], "there was room for what is kept"
        assert wrote.endswith(got)
        assert len(got) + sum(count for count, _ in lost) == len(wrote)
        assert lost


async def test_no_log_is_kept_where_none_is_to_be(here: Place) -> None:
    exit_, _ = await here.shell("seq 1 200000; echo error >&2; exit 4", log=LogPolicy(kept=False))
    assert exit_.code == 4
    assert os.listdir(f"{here.site.data_dir}/logs") == []


@pytest.mark.parametrize("kind", ["log", "idx"])
async def test_a_fifo_where_the_log_is_to_be_is_one_clear_error(here: Place, kind: str) -> None:
    await here.runtime.create(here.spec(["echo", "hello"]))
    path = Path(here.site.data_dir, "logs", f"{BOX}.{kind}")
    os.mkfifo(path)
    with pytest.raises(HostError, match=r"cannot write the log .*: it is not a file of ours"):
        await here.runtime.start(BOX)
    path.unlink()
    assert (await here.runtime.wait(await here.runtime.start(BOX))).ok


async def test_runs_are_told_apart_even_without_a_newline(here: Place) -> None:
    await here.shell("printf run")
    for _ in range(2):
        await here.runtime.wait(await here.runtime.start(BOX))
    assert here.log(BOX) == b"runrunrun"
    assert [entry.line for entry in read_entries(f"{here.site.data_dir}/logs/{BOX}")] == [b"run"] * 3


async def test_what_is_rotated_waits_for_a_reader_that_was_there_before_the_container(here: Place) -> None:
    prefix = f"{here.site.data_dir}/logs/{BOX}"
    lost: list[int] = []
    reader = Follower(prefix, on_lost=lambda count, why: lost.append(count), complete=True)
    await here.shell("seq 1 1000000", log=LogPolicy(max_bytes=50_000, max_files=2))
    got = b"".join(data for _, _, data in reader.pieces())
    reader.close()
    assert got == b"".join(b"%d\n" % number for number in range(1, 1_000_001))
    assert lost == []
    await here.runtime.wait(await here.runtime.start(BOX))
    names = [name for name in os.listdir(f"{here.site.data_dir}/logs") if name.startswith(f"{BOX}.log")]
    assert sorted(names) == [f"{BOX}.log", f"{BOX}.log.1"], "and not longer than it needs"
