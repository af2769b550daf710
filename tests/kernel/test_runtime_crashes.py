"""``kill -9`` of the monitor, of the supervisor, of both: no container, no log byte, no exit status is lost."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from orchestrator.contracts.runtime import ExecSpec, Exit, Run, SandboxSpec
from orchestrator.contracts.site import Site
from orchestrator.errors import HostError, OperationError, only_error
from orchestrator.kernel.cgroup import detect, members
from orchestrator.kernel.process import set_child_subreaper
from orchestrator.kernel.syscalls import call
from orchestrator.model.names import ContainerId, cgroup_path
from orchestrator.runtime import cradle, reaping, session
from orchestrator.runtime.cgroups import remove_project
from orchestrator.runtime.client import MonitorRuntime, open_runtime
from orchestrator.runtime.host_check import find_host
from orchestrator.runtime.logs import read_entries
from orchestrator.values import replace
from tests.kernel.place import Place, config_of, place, site_at, site_of
from tests.machine import ROOT, eventually

pytestmark = pytest.mark.kernel
BOX = ContainerId("rt-a-1")
NR_PIDFD_GETFD = 438
COUNTING = "i=0; while [ $i -lt {n} ]; do echo line $i; i=$((i+1)); done; exit 5"


def counted(n: int) -> bytes:
    return b"".join(b"line %d\n" % i for i in range(n))


@pytest.fixture
async def here(leaves_nothing_behind: None, busybox_rootfs: Path) -> AsyncGenerator[Place, None]:
    async with place(busybox_rootfs) as opened:
        yield opened


async def new_monitor(runtime: MonitorRuntime, old: int) -> None:
    with trio.fail_after(30):
        while runtime.monitor_pid == old:
            await trio.sleep(0.002)


async def test_a_killed_monitor_loses_no_container_and_no_exit_status(here: Place) -> None:
    run = await here.begin(["sh", "-c", "mkfifo /go; read line < /go; exit 17"])
    old = here.runtime.monitor_pid
    os.kill(old, signal.SIGKILL)
    await new_monitor(here.runtime, old)
    probed = await here.runtime.probe(BOX, ("sh", "-c", "until test -p /go; do :; done; echo x > /go"), 5)
    # It works under the new monitor; and it may be killed by the end of the container, which it causes.
    assert probed.exit_code in (0, 128 + signal.SIGKILL)
    exit_ = await here.runtime.wait(run)
    assert (exit_.code, exit_.lost) == (17, False)
    assert (await here.runtime.containers())[0].last_exit == exit_


async def test_logs_are_complete_to_the_byte_over_many_kills_of_the_monitor(here: Place) -> None:
    lines = 60_000
    run = await here.begin(["sh", "-c", COUNTING.format(n=lines)])
    ended: list[Exit] = []

    async def wait() -> None:
        ended.append(await here.runtime.wait(run))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        kills = 0
        while not ended and kills < 6:
            old = here.runtime.monitor_pid
            os.kill(old, signal.SIGKILL)
            kills += 1
            await new_monitor(here.runtime, old)
            await trio.sleep(0.02)
    assert kills > 1
    assert ended[0].code == 5
    assert here.log(BOX) == counted(lines)
    entries = list(read_entries(f"{here.site.data_dir}/logs/{BOX}"))
    assert b"".join(entry.line + b"\n" for entry in entries) == counted(lines)


async def test_starts_probes_and_execs_survive_a_killed_monitor(here: Place) -> None:
    """Each either works or says that the monitor was killed; afterwards everything works, and nothing is left over."""
    await here.begin(["sleep", "1000"], "rt-long-1")

    async def starts() -> None:
        for number in range(8):
            exit_, log = await here.shell("echo hi; exit 3", name=f"rt-s-{number}")
            assert (exit_.code, log) == (3, "hi\n")

    complaints: list[str] = []

    async def probes() -> None:
        for _ in range(20):
            try:
                result = await here.runtime.probe(ContainerId("rt-long-1"), ("true",), 5)
                complaints.extend([] if result.ok else [repr(result)])
            except OperationError as exc:
                complaints.extend([] if "the monitor was killed" in exc.message else [exc.message])

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(starts)
            nursery.start_soon(probes)
            for _ in range(3):
                old = here.runtime.monitor_pid
                os.kill(old, signal.SIGKILL)
                await new_monitor(here.runtime, old)
                await trio.sleep(0.03)
    assert complaints == []
    assert (await here.runtime.probe(ContainerId("rt-long-1"), ("true",), 5)).ok


async def test_an_exec_outlives_the_monitor_and_its_status_is_known(here: Place) -> None:
    await here.begin(["sleep", "1000"])
    null = os.open("/dev/null", os.O_RDWR)
    reader, writer = os.pipe()
    result: list[Exit] = []

    async def execute() -> None:
        argv = ("sh", "-c", "echo up; read line; exit 9")
        result.append(await here.runtime.exec(BOX, ExecSpec(argv, (input_reader, writer, null))))

    input_reader, input_writer = os.pipe()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(execute)
        await trio.lowlevel.wait_readable(reader)
        # It may write before the monitor has told us that it is there. What is asked for later is answered later.
        assert (await here.runtime.probe(BOX, ("true",), 30)).ok
        old = here.runtime.monitor_pid
        os.kill(old, signal.SIGKILL)
        await new_monitor(here.runtime, old)
        os.write(input_writer, b"go\n")
    assert result[0].code == 9
    for fd in (null, reader, writer, input_reader, input_writer):
        os.close(fd)


async def test_a_killed_monitor_is_missed_also_when_somebody_holds_its_end_of_the_connection(here: Place) -> None:
    """A child that it was just making, which does not end, say."""
    old = here.runtime.monitor_pid
    pidfd = os.pidfd_open(old)
    numbers = [int(link.name) for link in Path(f"/proc/{old}/fd").iterdir() if os.readlink(link).startswith("socket:")]
    held = [call(NR_PIDFD_GETFD, pidfd, number) for number in numbers]
    assert held
    os.kill(old, signal.SIGKILL)
    await new_monitor(here.runtime, old)
    exit_, _ = await here.shell("exit 3")
    assert exit_.code == 3
    for fd in (pidfd, *held):
        os.close(fd)


async def test_what_is_kept_survives_the_monitor(here: Place) -> None:
    reader, writer = os.pipe()
    await here.runtime.keep("pipe:x", [reader, writer])
    os.close(reader)
    os.close(writer)
    old = here.runtime.monitor_pid
    os.kill(old, signal.SIGKILL)
    await new_monitor(here.runtime, old)
    kept = await here.runtime.fetch("pipe:x")
    os.write(kept[1], b"still")
    assert os.read(kept[0], 10) == b"still"
    await here.runtime.drop("pipe:x")
    assert await here.runtime.fetch("pipe:x") == ()


async def test_more_is_kept_than_fits_a_message_and_less_later(here: Place) -> None:
    names = [f"kept {number}" for number in range(600)]
    files = [os.memfd_create(name) for name in names]

    async def kept() -> list[str]:
        fds = await here.runtime.fetch("ports/web")
        return [os.readlink(f"/proc/self/fd/{fd}").removeprefix("/memfd:").removesuffix(" (deleted)") for fd in fds]

    await here.runtime.keep("ports/web", files)
    assert await kept() == names
    old = here.runtime.monitor_pid
    os.kill(old, signal.SIGKILL)
    await new_monitor(here.runtime, old)
    assert await kept() == names
    await here.runtime.keep("ports/web", files[:300])
    assert await kept() == names[:300]
    await here.runtime.drop("ports/web")
    assert await kept() == []
    for fd in files:
        os.close(fd)


async def test_a_program_starts_while_more_is_kept_than_it_may_have_open_itself(here: Place) -> None:
    """Found with 2,000 published ports: the search of the PATH failed for want of a descriptor."""
    file = os.memfd_create("kept")
    await here.runtime.keep("ports/web", [file] * 1100)
    os.close(file)
    spec = here.spec(["busybox", "true"])
    limits = [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024}]
    process = {**spec.config["process"], "rlimits": limits, "env": ["PATH=/not-there:/bin"]}
    await here.runtime.create(replace(spec, config={**spec.config, "process": process}))
    assert (await here.runtime.wait(await here.runtime.start(BOX))).code == 0


class Stage:
    """A place whose supervisor is another process, for killing it."""

    def __init__(self, root: Path, rootfs: Path) -> None:
        self.root, self.rootfs = root, rootfs
        self.site = site_at(root)
        self.children: list[subprocess.Popen[bytes]] = []

    def supervise(self, script: str, *, respawn: bool = False) -> tuple[int, int]:
        """Start a supervisor; its pid and its monitor's, once the container runs."""
        argv = [sys.executable, "-m", "tests.kernel.stand_in", str(self.root), str(self.rootfs)]
        argv += ["yes" if respawn else "no", BOX, script]
        before = len(self.known())
        self.children.append(subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL))
        eventually(lambda: len(self.known()) > before)
        return self.known()[-1]

    def known(self) -> list[tuple[int, int]]:
        try:
            lines = (self.root / "supervisors").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [(int(line.split()[0]), int(line.split()[1])) for line in lines]

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        for child in self.children:
            if child.pid == pid:
                child.wait()

    def container_pid(self) -> int:
        first = Path(self.site.data_dir, "exits.journal").read_text().splitlines()[0]
        return int(json.loads(first)["pid"])

    def log(self) -> bytes:
        return Path(self.site.data_dir, "logs", f"{BOX}.log").read_bytes()


@pytest.fixture
def stage(leaves_nothing_behind: None, busybox_rootfs: Path) -> Iterator[Stage]:
    root = Path(tempfile.mkdtemp(prefix="rt-"))
    made = Stage(root, busybox_rootfs)
    set_child_subreaper()
    yield made
    for child in made.children:
        child.kill()
        child.wait()
    orphans = {pid for pair in made.known() for pid in pair} | {made.container_pid()}
    # We are their subreaper: what nobody else waited for ends as our child.
    for pid in orphans:
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
    sessions = {monitor for _, monitor in made.known()}
    for pid, of in reaping._orphans():
        if of in sessions:  # Its starter, which ended with it.
            os.waitpid(pid, 0)
    set_child_subreaper(False)
    remove_project(detect(), made.site.key)
    shutil.rmtree(root)


async def run_of(runtime: MonitorRuntime) -> Run:
    (state,) = await runtime.containers()
    assert state.run is not None
    return state.run


async def test_a_killed_supervisor_loses_nothing_and_the_next_adopts(stage: Stage) -> None:
    supervisor, monitor = stage.supervise(f"sleep 0.3; {COUNTING.format(n=20000)}")
    stage.kill(supervisor)
    async with open_runtime(stage.site, find_host()) as runtime:
        assert runtime.monitor_pid == monitor
        run = await run_of(runtime)
        assert len(await runtime.fetch("socket:dns")) == 1
        assert len(await runtime.fetch(f"net:{BOX}")) == 1
        assert (await runtime.probe(BOX, ("true",), 5)).ok
        exit_ = await runtime.wait(run)
        assert (run.number, exit_.code) == (1, 5)
        assert stage.log() == counted(20000)
        again = await runtime.start(BOX)
        assert again.number == 2
        await runtime.remove(BOX)


async def test_an_exit_while_no_supervisor_lives_is_known_to_the_next(stage: Stage) -> None:
    supervisor, _ = stage.supervise("sleep 0.2; echo end; exit 23")
    stage.kill(supervisor)
    eventually(lambda: b'"e": "exit"' in Path(stage.site.data_dir, "exits.journal").read_bytes())
    async with open_runtime(stage.site, find_host()) as runtime:
        (state,) = await runtime.containers()
        assert state.run is None
        assert state.last_exit is not None
        assert state.last_exit.code == 23
        assert (await runtime.wait(Run(BOX, 1, 0, 0.0))).code == 23
        assert stage.log() == b"end\n"
        await runtime.remove(BOX)


async def test_the_monitor_starts_a_killed_supervisor_again(stage: Stage) -> None:
    supervisor, monitor = stage.supervise("mkfifo /go; read line < /go; exit 31", respawn=True)
    stage.kill(supervisor)
    eventually(lambda: len(stage.known()) == 2)
    second, second_monitor = stage.known()[1]
    assert second != supervisor
    assert second_monitor == monitor
    # The second is not its monitor's ancestor: the container becomes our child, and we are slow to reap it. It heals, and
    # learns the status all the same.
    pid = stage.container_pid()
    stage.kill(monitor)
    os.waitpid(monitor, 0)
    go = Path(f"/proc/{pid}/root/go")  # Not by the upper directory: overlayfs has a FIFO of its own for it.
    eventually(go.exists)
    go.write_text("x\n")
    exits = stage.root / "exits"
    eventually(lambda: exits.exists() and exits.read_text() == "31")
    assert os.waitpid(pid, 0)[1] == 31 << 8


async def test_both_killed_is_told_as_lost_and_can_be_made_anew(stage: Stage) -> None:
    supervisor, monitor = stage.supervise("sleep 1000")
    stage.kill(supervisor)
    os.kill(monitor, signal.SIGKILL)
    async with open_runtime(stage.site, find_host()) as runtime:
        assert runtime.monitor_pid != monitor
        (state,) = await runtime.containers()
        assert (state.run, state.last_run, state.last_exit) == (None, 1, None)
        assert (await runtime.wait(Run(BOX, 1, 0, 0.0))).lost
        run = await runtime.start(BOX)
        assert run.number == 2
        assert (await runtime.probe(BOX, ("sh", "-c", "ps -o comm | grep -c sleep"), 5)).output == "1\n"
        await runtime.remove(BOX)


async def test_a_monitor_left_alone_without_containers_ends(stage: Stage) -> None:
    supervisor, monitor = stage.supervise("exit 0")
    pidfd = os.pidfd_open(monitor)
    stage.kill(supervisor)
    with trio.fail_after(20):
        await trio.lowlevel.wait_readable(pidfd)
    os.close(pidfd)
    async with open_runtime(stage.site, find_host()) as runtime:
        await runtime.remove(BOX)


async def test_a_monitor_whose_data_directory_is_gone_is_not_taken_over(stage: Stage) -> None:
    """The supervisor was killed by the end of a `down`, when nothing was left but that monitor, for some seconds."""
    supervisor, monitor = stage.supervise("exit 0")
    eventually(lambda: b'"e": "exit"' in Path(stage.site.data_dir, "exits.journal").read_bytes())
    stage.kill(supervisor)
    os.rename(stage.site.data_dir, stage.root / "gone")
    async with open_runtime(stage.site, find_host()) as runtime:
        assert runtime.monitor_pid != monitor
        await runtime.create(SandboxSpec(BOX, (str(stage.rootfs),), config_of(["sh", "-c", "exit 3"])))
        assert (await runtime.wait(await runtime.start(BOX))).code == 3
        await runtime.remove(BOX)


async def test_without_hope_of_a_monitor_nobody_waits_for_one(
    leaves_nothing_behind: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even who cannot be cancelled: the supervisor would never end, and each command would wait for it."""
    monkeypatch.setattr(session, "_MOST_RECOVERIES", 1)
    root = Path(tempfile.mkdtemp(prefix="rt-"))
    told: list[str] = []

    async def ask_on(runtime: MonitorRuntime) -> None:
        with trio.CancelScope(shield=True):
            try:
                while True:
                    await runtime._session.ask("fetch", name="nothing")
            except HostError as error:
                told.append(error.message)

    async def lose(runtime: MonitorRuntime) -> None:
        old = runtime.monitor_pid
        os.kill(old, signal.SIGKILL)
        await new_monitor(runtime, old)
        os.kill(runtime.monitor_pid, signal.SIGKILL)
        await trio.sleep_forever()

    async def live() -> None:
        async with open_runtime(site_at(root), find_host()) as runtime, trio.open_nursery() as nursery:
            nursery.start_soon(ask_on, runtime)
            nursery.start_soon(lose, runtime)

    with trio.fail_after(30), pytest.raises(ExceptionGroup) as caught:
        await live()
    assert only_error(caught.value) is not None
    assert told == ["the monitor ended 1 times within 10 seconds"]
    remove_project(detect(), site_at(root).key)
    shutil.rmtree(root)


def leaving(here: Place) -> Site:
    """A second project, in the test's own directory, whose supervisor may leave; `here` keeps the suite's own."""
    return site_of(Path(here.site.data_dir).parent, "leaves")


async def test_a_supervisor_that_leaves_when_its_monitor_was_just_killed_hands_all_over(
    here: Place, busybox_rootfs: Path
) -> None:
    """The runtime of a second project stands for the supervisor that leaves."""
    site = leaving(here)
    names = [ContainerId(f"rt-{number}-1") for number in range(4)]
    async with open_runtime(site, find_host()) as runtime:
        other = Place(site, busybox_rootfs, runtime)
        runs = [await other.begin(["sleep", "1000"], name) for name in names]
        os.kill(runtime.monitor_pid, signal.SIGKILL)
    async with open_runtime(site, find_host()) as runtime:
        assert {state.run for state in await runtime.containers()} == set(runs)
        for name in names:
            assert (await runtime.probe(name, ("true",), 5)).ok
            await runtime.remove(name)
    for run in runs:  # Ours since the monitor was killed; a supervisor would not have lived on.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(run.pid, 0)
    remove_project(detect(), site.key)


async def test_a_monitor_that_was_killed_in_its_cradle_is_replaced(here: Place, busybox_rootfs: Path) -> None:
    """A supervisor begins its monitor before it has anything to tell it."""
    site = leaving(here)
    cradle.begin_ahead(site.data_dir)
    begun = cradle.take(site.data_dir)
    os.kill(begun.pid, signal.SIGKILL)
    os.waitid(os.P_PID, begun.pid, os.WEXITED | os.WNOWAIT)
    cradle._ahead[site.data_dir] = begun
    async with open_runtime(site, find_host()) as runtime:
        assert runtime.monitor_pid != begun.pid
        exit_, told = await Place(site, busybox_rootfs, runtime).shell("echo here")
        assert (exit_.code, told) == (0, "here\n")
        await runtime.remove(BOX)
    remove_project(detect(), site.key)


def processes_in(here: Place) -> list[int]:
    """Those of the container, by its group."""
    return members(f"{detect().unified or next(iter(detect().controllers.values()))}/{cgroup_path(here.site.key, BOX)}")


def pids_of(pid: int) -> str:
    """The pid namespace that it is in."""
    return os.readlink(f"/proc/{pid}/ns/pid")


async def prepared(here: Place) -> int:
    """The process of a run that is prepared."""
    run = await here.begin(["sh", "-c", "exit 3"])
    await here.runtime.wait(run)
    assert processes_in(here) == []
    await here.runtime.prepare(BOX)
    return eventually(lambda: next(iter(pids), 0) if len(pids := processes_in(here)) == 1 else 0)  # Its maker is ending.


async def test_what_was_prepared_holds_nothing_of_the_monitor_but_two_pipes(here: Place) -> None:
    pid = await prepared(here)
    held = sorted(os.listdir(f"/proc/{pid}/fd"), key=int)[3:]
    assert [os.readlink(f"/proc/{pid}/fd/{fd}").partition(":")[0] for fd in held] == ["pipe", "pipe"]
    assert (await here.runtime.wait(await here.runtime.start(BOX))).code == 3


@pytest.mark.parametrize("victim", ["prepared", "monitor"])
async def test_a_start_whose_preparation_was_killed_is_a_start(here: Place, victim: str) -> None:
    pid = await prepared(here)
    os.kill(pid if victim == "prepared" else here.runtime.monitor_pid, signal.SIGKILL)
    run = await here.runtime.start(BOX)
    assert run.pid != pid
    assert (await here.runtime.wait(run)).code == 3


def unmade(here: Place) -> list[int]:
    """Those in the container's group that are in no namespace of its own."""
    return [pid for pid in processes_in(here) if pids_of(pid) == pids_of(os.getpid())]


async def test_what_is_prepared_during_a_run_is_made_at_its_end_and_not_before(here: Place) -> None:
    first = await here.begin(["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.01; done"])
    await here.runtime.prepare(BOX)
    (waiting,) = eventually(lambda: unmade(here))
    eventually(lambda: Path(f"/proc/{waiting}/syscall").read_text().startswith("0 "))  # It reads from a pipe.
    mounts = {os.readlink(f"/proc/{pid}/ns/mnt") for pid in (waiting, here.runtime.monitor_pid)}
    assert len(mounts) == 1
    held = [os.readlink(f"/proc/{waiting}/fd/{fd}").partition(":")[0] for fd in os.listdir(f"/proc/{waiting}/fd")]
    assert held.count("pipe") == 5, "its words, its two gates and what it will write to"
    assert "socket" not in held
    await here.runtime.signal(BOX, signal.SIGTERM)
    assert (await here.runtime.wait(first)).code == 3
    (pid,) = eventually(lambda: [pid for pid in processes_in(here) if pids_of(pid) != pids_of(os.getpid())])
    second = await here.runtime.start(BOX)
    assert (second.pid, second.number) == (pid, 2), "it was made without our doing"
    await here.runtime.kill(BOX)
    await here.runtime.wait(second)


@pytest.mark.parametrize("victim", ["waiting", "next", "monitor", "both runs"])
async def test_a_start_that_was_prepared_during_a_run_and_killed_is_a_start(here: Place, victim: str) -> None:
    first = await here.begin(["sleep", "1000"])
    await here.runtime.prepare(BOX)
    old = here.runtime.monitor_pid
    if victim == "monitor":
        os.kill(old, signal.SIGKILL)
        await new_monitor(here.runtime, old)
        await here.runtime.kill(BOX)
    elif victim == "both runs":
        await here.runtime.kill(BOX)
    elif victim == "waiting":
        os.kill(eventually(lambda: unmade(here))[0], signal.SIGKILL)
        await here.runtime.signal(BOX, signal.SIGKILL)
    else:
        await here.runtime.signal(BOX, signal.SIGKILL)
    await here.runtime.wait(first)
    if victim == "next":
        os.kill(eventually(lambda: processes_in(here))[0], signal.SIGKILL)
    second = await here.runtime.start(BOX)
    assert second.number == 2
    assert processes_in(here) == [second.pid]
    assert victim == "monitor" or here.runtime.monitor_pid == old
    await here.runtime.kill(BOX)
    await here.runtime.wait(second)


async def test_a_gate_whose_reader_was_killed_does_not_kill_the_monitor(here: Place) -> None:
    pid, monitor = await prepared(here), here.runtime.monitor_pid
    codes: list[int | None] = []

    async def start() -> None:
        codes.append((await here.runtime.wait(await here.runtime.start(BOX))).code)

    os.kill(monitor, signal.SIGSTOP)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(start)
        await trio.testing.wait_all_tasks_blocked()  # The word to let it go is on its way.
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: ended(pid))
        os.kill(monitor, signal.SIGCONT)
    assert codes == [3]
    assert here.runtime.monitor_pid == monitor


async def test_what_is_prepared_during_a_run_is_forgotten_when_the_supervisor_leaves(
    here: Place, busybox_rootfs: Path
) -> None:
    site = leaving(here)
    async with open_runtime(site, find_host()) as runtime:
        run = await Place(site, busybox_rootfs, runtime).begin(["sleep", "1000"])
        await runtime.prepare(BOX)
    os.kill(run.pid, signal.SIGKILL)
    eventually(lambda: not processes_in(Place(site, busybox_rootfs, runtime)))
    async with open_runtime(site, find_host()) as runtime:
        assert (await runtime.wait(run)).signal == signal.SIGKILL
        await runtime.remove(BOX)
    remove_project(detect(), site.key)


async def test_a_monitor_that_is_told_to_end_ends_with_what_is_on_its_way(here: Place, busybox_rootfs: Path) -> None:
    """A supervisor that leaves waits for no start that it has asked for, and a monitor without one is for nobody."""
    site = leaving(here)
    async with open_runtime(site, find_host()) as runtime:
        pid, monitor = await prepared(Place(site, busybox_rootfs, runtime)), runtime.monitor_pid
        os.kill(pid, signal.SIGSTOP)  # It will not end by itself.
        await (await runtime._session.link()).request("shutdown")
        eventually(lambda: ended(pid) and ended(monitor))
        await runtime.remove(BOX)
    for _ in range(2):  # It and its stage 1 came to us, who are no supervisor that ends.
        os.waitpid(-1, os.WNOHANG)
    remove_project(detect(), site.key)


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


async def test_what_was_prepared_ends_with_the_supervisor(here: Place, busybox_rootfs: Path) -> None:
    site = leaving(here)
    async with open_runtime(site, find_host()) as runtime:
        pid = await prepared(Place(site, busybox_rootfs, runtime))
        runtime._session._link._sock.close()  # type: ignore[union-attr]  # As if it was killed.
        eventually(lambda: not os.path.exists(f"/proc/{pid}"))
    async with open_runtime(site, find_host()) as runtime:
        assert (await runtime.wait(await runtime.start(BOX))).code == 3
        await runtime.remove(BOX)
    remove_project(detect(), site.key)
