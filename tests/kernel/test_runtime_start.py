"""Containers start, end, and say how."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import trio

from orchestrator.contracts.runtime import ContainerState, GeneratedFile
from orchestrator.errors import CommandError, HostError, OperationError
from orchestrator.model.names import ContainerId, cgroup_path
from orchestrator.values import replace
from tests.kernel.place import HOST_BASE, Place, place

pytestmark = pytest.mark.kernel
BOX = ContainerId("rt-a-1")


@pytest.fixture
async def here(leaves_nothing_behind: None, busybox_rootfs: Path) -> AsyncGenerator[Place, None]:
    async with place(busybox_rootfs) as opened:
        yield opened


async def test_the_exit_code_is_the_programs(here: Place) -> None:
    exit_, _ = await here.shell("exit 42")
    assert (exit_.code, exit_.signal, exit_.status) == (42, None, 42)


async def test_a_signal_ends_a_run_and_is_told(here: Place) -> None:
    run = await here.begin(["sleep", "1000"])
    await here.runtime.signal(BOX, signal.SIGKILL)
    exit_ = await here.runtime.wait(run)
    assert (exit_.code, exit_.signal, exit_.status) == (None, signal.SIGKILL, 137)


async def test_a_program_gets_the_signals_sent_to_its_container(here: Place) -> None:
    run = await here.begin(["sh", "-c", "trap 'exit 7' TERM; touch /ready; while :; do sleep 0.01; done"])
    await eventually_probe(here, "test -e /ready")
    await here.runtime.signal(BOX, signal.SIGTERM)
    assert (await here.runtime.wait(run)).code == 7


async def eventually_probe(here: Place, test: str) -> None:
    with trio.fail_after(30):
        while not (await here.runtime.probe(BOX, ("sh", "-c", test), 5)).ok:
            await trio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["no-such-program"], 127),
        (["/no/such/program"], 127),
        (["/bin/busybox/x"], 127),
        (["/etc/passwd"], 126),
        (["/etc"], 126),
        (["/junk"], 126),
    ],
)
async def test_a_command_that_cannot_be_executed(here: Place, argv: list[str], code: int) -> None:
    spec = here.spec(argv)
    await here.runtime.create(spec)
    upper = Path(here.site.data_dir, "containers", BOX, "upper")
    (upper / "junk").write_bytes(b"\x00\x01 no program")
    (upper / "junk").chmod(0o755)
    with pytest.raises(CommandError) as caught:
        await here.runtime.start(BOX)
    assert caught.value.exit_code == code
    assert argv[0] in caught.value.message
    assert (await here.runtime.containers())[0].run is None


async def test_a_failed_step_says_what_it_was(here: Place) -> None:
    mounts = [{"destination": "/data", "type": "bind", "source": "/no/such/source", "options": ["rbind"]}]
    with pytest.raises(HostError, match="cannot mount /no/such/source at /data: No such file or directory"):
        await here.shell("true", mounts=mounts)


async def test_an_out_of_memory_kill_is_told_as_one(here: Place) -> None:
    resources = {"memory": {"limit": 16 << 20}, "pids": {"limit": 50}}
    exit_, _ = await here.shell("exec tail /dev/zero", resources=resources)
    assert exit_.signal == signal.SIGKILL
    assert (exit_.oom_killed, exit_.oom_kills) == (True, 1)
    assert 15 << 20 <= (exit_.peak_bytes or 0) <= 16 << 20


async def test_a_child_that_was_killed_for_memory_does_not_make_the_end_of_its_parent_one(here: Place) -> None:
    resources = {"memory": {"limit": 16 << 20}, "pids": {"limit": 50}}
    exit_, log = await here.shell("tail /dev/zero; echo $?; exit 3", resources=resources)
    assert "137" in log
    assert (exit_.code, exit_.oom_killed, exit_.oom_kills) == (3, False, 1)
    again = await here.runtime.wait(await here.runtime.start(BOX))
    assert (again.code, again.oom_kills) == (3, 1), "each run counts its own"


@pytest.mark.parametrize(("init", "script"), [("false", "tail /dev/zero; exit $?"), ("true", "exec tail /dev/zero")])
async def test_an_init_whose_program_was_killed_for_memory_ends_as_that(here: Place, init: str, script: str) -> None:
    resources = {"memory": {"limit": 16 << 20}, "pids": {"limit": 50}}
    exit_, _ = await here.shell(script, resources=resources, annotations={"pystack.init": init})
    assert (exit_.status, exit_.oom_killed, exit_.oom_kills) == (137, True, 1)


async def test_what_we_kill_after_a_child_was_killed_for_memory_did_not_run_out_of_it(here: Place) -> None:
    resources = {"memory": {"limit": 16 << 20}, "pids": {"limit": 50}}
    run = await here.begin(["sh", "-c", "tail /dev/zero; touch /killed; sleep 1000"], resources=resources)
    await eventually_probe(here, "test -e /killed")
    await here.runtime.kill(BOX)
    killed = await here.runtime.wait(run)
    assert (killed.signal, killed.oom_killed, killed.oom_kills) == (signal.SIGKILL, False, 1)


async def test_what_waited_for_memory_is_told(here: Place) -> None:
    resources = {"memory": {"limit": 16 << 20}, "pids": {"limit": 50}}
    exit_, _ = await here.shell("dd if=/dev/zero of=/big bs=1M count=64; cat /big /big >/dev/null", resources=resources)
    assert exit_.cpu_stalled_s + exit_.memory_stalled_s + exit_.io_stalled_s > 0


async def test_a_plain_kill_is_no_out_of_memory_kill(here: Place) -> None:
    run = await here.begin(["sleep", "1000"], resources={"memory": {"limit": 16 << 20}})
    await here.runtime.kill(BOX)
    exit_ = await here.runtime.wait(run)
    assert (exit_.signal, exit_.oom_killed) == (signal.SIGKILL, False)


async def test_kill_ends_all_processes_of_a_container(here: Place) -> None:
    run = await here.begin(["sh", "-c", "sleep 1000 & sleep 1000 & wait"])
    await here.runtime.kill(BOX)
    await here.runtime.wait(run)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup2 " in line:
            procs = Path(line.split()[4], cgroup_path(here.site.key, BOX), "cgroup.procs")
            assert procs.read_text() == ""


async def test_a_second_start_of_a_running_container_is_refused(here: Place) -> None:
    await here.begin(["sleep", "1000"])
    with pytest.raises(OperationError, match="running already"):
        await here.runtime.start(BOX)


async def test_a_restart_keeps_the_writable_layer_and_the_network(here: Place) -> None:
    script = "readlink /proc/self/ns/net; cat /count 2>/dev/null; echo again >> /count"
    first, _ = await here.shell(script)
    assert first.ok
    for _ in range(2):
        again = await here.runtime.start(BOX)
        assert (await here.runtime.wait(again)).ok
    lines = here.log(BOX).decode().split()
    assert lines.count("again") == 0 + 1 + 2
    assert len({line for line in lines if line.startswith("net:")}) == 1
    assert again.number == 3


async def test_waiting_for_a_run_that_has_ended_long_ago(here: Place) -> None:
    first = await here.begin(["sh", "-c", "exit 3"])
    await here.runtime.wait(first)
    second = await here.runtime.start(BOX)
    await here.runtime.wait(second)
    assert (await here.runtime.wait(first)).code == 3


async def test_containers_tells_what_exists(here: Place) -> None:
    running = await here.begin(["sleep", "1000"], "rt-b-1")
    ended = await here.begin(["sh", "-c", "exit 5"], "rt-a-1")
    exit_ = await here.runtime.wait(ended)
    assert await here.runtime.containers() == (
        ContainerState(ContainerId("rt-a-1"), None, 1, exit_),
        ContainerState(ContainerId("rt-b-1"), running, 1, None),
    )


async def test_create_on_a_running_container_is_for_the_next_run(here: Place) -> None:
    run = await here.begin(["sleep", "1000"])
    netns = os.fstat(await here.runtime.create(here.spec(["sh", "-c", "exit 9"])))
    assert netns.st_ino == os.stat(f"/proc/{run.pid}/ns/net").st_ino
    await here.runtime.kill(BOX)
    assert (await here.runtime.wait(run)).signal == signal.SIGKILL
    assert (await here.runtime.wait(await here.runtime.start(BOX))).code == 9


async def test_remove_ends_a_running_container_and_all_that_was_of_it(here: Place) -> None:
    run = await here.begin(["sh", "-c", "echo hello; sleep 1000"])
    pidfd = os.pidfd_open(run.pid)
    await here.runtime.remove(BOX)
    with trio.fail_after(30):
        await trio.lowlevel.wait_readable(pidfd)
    os.close(pidfd)
    assert await here.runtime.containers() == ()
    assert os.listdir(f"{here.site.data_dir}/containers") == []
    assert os.listdir(f"{here.site.data_dir}/logs") == []
    await here.runtime.remove(BOX)


async def test_many_containers_start_at_once(here: Place) -> None:
    async def one(number: int) -> None:
        exit_, log = await here.shell(f"hostname; exit {number}", name=f"rt-n-{number}")
        assert (exit_.code, log) == (number, "box\n")

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(one, number)


async def test_init_is_pid_1_and_passes_on_signals_and_the_exit_code(here: Place) -> None:
    annotations = {"pystack.init": "true"}
    exit_, log = await here.shell("echo $$; exit 6", annotations=annotations)
    assert (exit_.code, log) == (6, "2\n")
    script = "trap 'exit 8' TERM; touch /up; while :; do sleep 0.01; done"
    run = await here.begin(["sh", "-c", script], annotations=annotations)
    await eventually_probe(here, "test -e /up")
    await here.runtime.signal(BOX, signal.SIGTERM)
    assert (await here.runtime.wait(run)).code == 8
    run = await here.begin(["sh", "-c", "kill -9 $$"], annotations=annotations)
    assert (await here.runtime.wait(run)).code == 137
    await here.runtime.create(here.spec(["no-such-program"], annotations=annotations))
    with pytest.raises(CommandError):
        await here.runtime.start(BOX)


async def test_init_reaps_orphans_and_has_no_privileges_or_descriptors(here: Place) -> None:
    script = """
        (sleep 0.01 &) ; sleep 0.1
        ps -o stat,comm | grep -c '^Z' ; grep -E '^(CapEff|Seccomp|NoNewPrivs|Uid)' /proc/1/status
        ls /proc/1/fd | wc -l
        tr '\\0' ' ' < /proc/1/cmdline; echo; ps -o pid,comm,args | sed -n 's/^ *1 //p'
    """
    _, log = await here.shell(script, annotations={"pystack.init": "true"}, uid=1000, no_new_privileges=True)
    lines = log.split("\n")
    assert lines[0] == "0"
    assert "CapEff:\t0000000000000000" in lines
    assert "NoNewPrivs:\t1" in lines
    assert "Seccomp:\t2" in lines
    assert any(re.match(r"Uid:\s+1000\s+1000", line) for line in lines)
    assert "pystack-init" in [line.strip() for line in lines], "nothing of the monitor's command line"
    assert ["pystack-init", "pystack-init"] in [line.split() for line in lines], log


async def test_generated_files_and_binds_belong_to_root_on_both_sides(here: Place, tmp_path: Path) -> None:
    mounts = [{"destination": "/data/deep", "type": "bind", "source": str(tmp_path), "options": ["rbind", "idmap", "rw"]}]
    files = (GeneratedFile("/etc/hosts", b"127.0.0.1 me\n"), GeneratedFile("/etc/made/by/us", b"x", 0o600))
    script = "stat -c %u /etc/hosts /data/deep; cat /etc/hosts; echo -n new > /data/deep/file; touch /own"
    script += "; stat -c %a /etc/made/by/us"
    exit_, log = await here.shell(script, mounts=mounts, files=files)
    assert (exit_.code, log) == (0, "0\n0\n127.0.0.1 me\n600\n")
    assert (tmp_path / "file").read_text() == "new"
    assert (tmp_path / "file").stat().st_uid == 0
    assert Path(here.site.data_dir, "containers", BOX, "upper", "own").stat().st_uid == HOST_BASE


async def test_files_of_others_and_large_ones_are_made_and_known_to_the_next_supervisor(here: Place) -> None:
    large = b"0123456789abcdef" * 2**16
    files = (GeneratedFile("/run/secrets/key", b"s3cret", 0o400, 1000, 1001), GeneratedFile("/large", large, 0o444))
    script = "stat -c '%a %u %g' /run/secrets/key; cat /run/secrets/key; wc -c < /large"
    expected = f"400 1000 1001\ns3cret{len(large)}\n"
    assert (await here.shell(script, files=files, uid=1000))[1] == expected
    spec_file = Path(here.site.data_dir, "containers", BOX, "spec.json")
    assert spec_file.stat().st_mode & 0o777 == 0o600
    again = tuple(replace(file, content=None) for file in files)
    assert (await here.shell(script, files=again, uid=1000))[1] == expected * 2
    with pytest.raises(OperationError, match="the content of /new in rt-a-1 is not known any more"):
        await here.runtime.create(here.spec(["true"], files=(GeneratedFile("/new"),)))


async def test_read_only_binds_and_a_read_only_root(here: Place, tmp_path: Path) -> None:
    mounts = [{"destination": "/data", "type": "bind", "source": str(tmp_path), "options": ["rbind", "idmap", "ro", "rro"]}]
    script = "touch /data/x; touch /x; touch /tmp/x; touch /dev/shm/x && echo shm; mount -o remount,rw / ; touch /x"
    _, log = await here.shell(script, mounts=mounts, readonly=True)
    assert log.count("Read-only file system") == 4
    assert "shm\n" in log


async def test_the_working_directory_is_made_and_entered(here: Place) -> None:
    exit_, log = await here.shell("pwd", cwd="/srv/app/new")
    assert (exit_.code, log) == (0, "/srv/app/new\n")


async def test_resource_limits(here: Place) -> None:
    spec = here.spec(["sh", "-c", "ulimit -n"])
    spec.config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
    await here.runtime.create(spec)
    run = await here.runtime.start(BOX)
    await here.runtime.wait(run)
    assert here.log(BOX) == b"100\n"
    _, log = await here.shell("ulimit -n", name="rt-b-1")
    assert log == "1024\n"


async def test_the_monitor_keeps_nothing_of_how_a_run_began(here: Place) -> None:
    """It collects no cycles. Each start has a page of its own that its child writes into (kernel/process.py, SharedPid)."""

    def pages() -> int:
        return Path(f"/proc/{here.runtime.monitor_pid}/maps").read_text().count("/dev/zero")

    await here.runtime.wait(await here.begin(["true"]))
    before = pages()
    for _ in range(5):
        await here.runtime.wait(await here.runtime.start(BOX))
    assert pages() <= before
