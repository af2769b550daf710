"""The starter in trouble: what it starts goes wrong in the way that the monitor's own forks do."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from orchestrator.contracts.runtime import GeneratedFile, OciConfig, Run, SandboxSpec
from orchestrator.errors import CommandError, HostError
from orchestrator.model.names import ContainerId
from orchestrator.runtime.link import Answer, Link
from orchestrator.runtime.monitor.starter import NAME, PROGRAMS
from orchestrator.values import replace
from tests.kernel.place import Place, place
from tests.kernel.test_runtime_exec import execute
from tests.kernel.test_runtime_shortage import limit
from tests.kernel.test_runtime_starter import children_of, comm, starter_of
from tests.machine import eventually

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.uname().machine not in PROGRAMS, reason="no starter for this machine"),
]

BOX = ContainerId("rt-a-1")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def here(leaves_nothing_behind: None, busybox_rootfs: Path) -> AsyncGenerator[Place, None]:
    async with place(busybox_rootfs) as opened:
        yield opened
        assert starter_of(opened) is not None, "this was no test of it"


def changed(spec: SandboxSpec, change: Callable[[dict[str, Any]], None]) -> SandboxSpec:
    config = json.loads(json.dumps(dict(spec.config)))
    change(config)
    return replace(spec, config=OciConfig(config))


def filtered(spec: SandboxSpec, call: str, action: str) -> SandboxSpec:
    """With all system calls but that one."""
    rules = [{"names": [call], "action": action}]
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules}
    return changed(spec, lambda config: config["linux"].update(seccomp=profile))


@pytest.mark.parametrize("prepared", [False, True])
async def test_a_filter_that_kills_meets_no_call_that_only_the_starter_would_need(here: Place, prepared: bool) -> None:
    await here.runtime.create(filtered(here.spec(["/bin/busybox", "sh", "-c", "exit 3"]), "dup3", "SCMP_ACT_KILL_PROCESS"))
    if prepared:
        await here.runtime.prepare(BOX)
    assert (await here.runtime.wait(await here.runtime.start(BOX))).code == 3


async def test_who_may_not_even_exit_ends(here: Place) -> None:
    await here.runtime.create(filtered(here.spec(["no-such-program"]), "exit_group", "SCMP_ACT_ERRNO"))
    with trio.fail_after(20), pytest.raises(CommandError, match="command not found"):
        await here.runtime.start(BOX)


async def test_a_file_that_may_not_be_so_large_is_an_error_also_where_a_signal_would_count(here: Place) -> None:
    """SIGXFSZ, which PID 1 of a namespace would not get."""
    spec = here.spec(["true"], files=(GeneratedFile("/etc/hosts", b"127.0.0.1 localhost\n"),), hosts=("user", "pid"))
    limits = [{"type": "RLIMIT_FSIZE", "soft": 0, "hard": 0}]
    await here.runtime.create(changed(spec, lambda config: config["process"].update(rlimits=limits)))
    with pytest.raises(HostError, match="cannot make /etc/hosts: File too large"):
        await here.runtime.start(BOX)


async def test_a_command_whose_interpreter_is_missing_is_not_looked_for_further_on(here: Place, tmp_path: Path) -> None:
    for name, interpreter in (("one", "/no/such"), ("other", "/bin/sh")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "command").write_text(f"#!{interpreter}\nexit 3\n")
        (tmp_path / name / "command").chmod(0o755)
    tmp_path.chmod(0o755)
    mounts = [{"destination": "/opt", "type": "bind", "source": str(tmp_path), "options": ["rbind", "idmap"]}]
    spec = here.spec(["command"], mounts=mounts)
    for path, found in (("/opt/no:/etc/passwd:/opt/other:/opt/one", 3), ("/opt/no:/opt/one:/opt/other", 127)):
        wanted = [f"PATH={path}"]
        await here.runtime.create(changed(spec, lambda config, wanted=wanted: config["process"].update(env=wanted)))  # type: ignore[misc]
        if found == 127:
            with pytest.raises(CommandError, match='its interpreter "/no/such" does not exist'):
                await here.runtime.start(BOX)
        else:
            assert (await here.runtime.wait(await here.runtime.start(BOX))).code == found
        await here.runtime.remove(BOX)


@pytest.mark.parametrize(("argv", "environment"), [(["env", "A\0B"], {}), (["env"], {"": "1"}), (["env"], {"A": "1\0B=2"})])
async def test_what_is_no_argument_or_variable_is_passed_on_by_neither_way(
    here: Place, argv: list[str], environment: dict[str, str]
) -> None:
    await here.begin(["sleep", "1000"])
    with pytest.raises(HostError):
        await execute(here, *argv, environment=environment)


async def test_what_cannot_even_be_said_is_left_to_those_who_can_say_what_is_wrong(here: Place) -> None:
    limits = [{"type": "RLIMIT_STACK", "soft": 1 << 63, "hard": 1 << 63}]
    spec = here.spec(["true"])
    await here.runtime.create(changed(spec, lambda config: config["process"].update(rlimits=limits)))
    with pytest.raises(HostError, match="cannot start a process in rt-a-1"):
        await here.runtime.start(BOX)
    await here.runtime.remove(BOX)
    assert (await here.shell("exit 3"))[0].code == 3


@pytest.mark.parametrize("count", [1, 30], ids=["one", "more than fit into its socket"])
async def test_what_a_stopped_starter_does_not_make_is_made_without_it(here: Place, count: int) -> None:
    """Not after the 45 s that a monitor is waited for, which is killed then."""
    await here.shell("exit 0")
    stopped, monitor = starter_of(here), here.runtime.monitor_pid
    assert stopped is not None
    os.kill(stopped, signal.SIGSTOP)
    runs: list[Run] = []

    async def begin(name: str) -> None:
        runs.append(await here.begin(["sh", "-c", "exit 3"], name))

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for number in range(count):
                nursery.start_soon(begin, f"rt-n-{number}")
        assert [(await here.runtime.wait(run)).code for run in runs] == [3] * count
    assert here.runtime.monitor_pid == monitor
    assert (await here.shell("exit 4", name="rt-b-1"))[0].code == 4
    assert starter_of(here) not in (None, stopped)


async def test_what_fails_behind_the_gate_is_told_of_the_start_that_was_prepared(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    request = Link.request

    async def counted(self: Link, op: str, *arguments: Any, **fields: Any) -> Answer:
        asked.append(op)
        return await request(self, op, *arguments, **fields)

    await here.runtime.create(here.spec(["no-such-program"]))
    await here.runtime.prepare(BOX)
    monkeypatch.setattr(Link, "request", counted)
    with pytest.raises(CommandError, match="command not found"):
        await here.runtime.start(BOX)
    assert asked == ["go"], "it is not started again"


async def test_a_shortage_at_the_first_start_leaves_no_monitor_without_a_starter(here: Place) -> None:
    await here.runtime.create(here.spec(["sh", "-c", "exit 3"]))
    refused = 0
    for spare in range(40):  # At some point there are enough for the request, and none for anything else.
        limit(here.runtime.monitor_pid, spare)
        try:
            run = await here.runtime.start(BOX)
        except HostError:
            refused += 1
        else:
            assert (await here.runtime.wait(run)).code == 3
            break
    assert refused > 5
    limit(here.runtime.monitor_pid, 1000)
    assert (await here.runtime.wait(await here.runtime.start(BOX))).code == 3


async def test_a_container_of_the_hosts_root_sees_all_that_the_starter_has_made_and_looks_into_none(here: Place) -> None:
    """Who is root there too, in the host's process and user namespace, has fewer capabilities than they."""
    for name in ("rt-held-1", "rt-next-1"):
        await here.runtime.create(here.spec(["sleep", "1000"], name))
    await here.runtime.prepare(ContainerId("rt-held-1"))
    await here.runtime.start(ContainerId("rt-next-1"))
    await here.runtime.prepare(ContainerId("rt-next-1"))
    eventually(lambda: len(waiting(here)) == 2)
    pids = [starter_of(here), *waiting(here)]
    script = """
        for pid in $PIDS; do
            cat /proc/$pid/comm
            for file in exe cwd root ns/mnt fd/3; do readlink /proc/$pid/$file; done
            for file in environ maps mem auxv stack; do cat /proc/$pid/$file && echo $file; done
        done 2>&1 | grep -v denied; id -u
    """
    _, log = await here.shell(script, hosts=("user", "pid"), env=[f"PIDS={' '.join(map(str, pids))}"])
    assert log.splitlines() == [*[NAME.decode()] * 3, "0"]


def waiting(here: Place) -> list[int]:
    """Those it has made that wait: for their execve, or for the end of the run before them."""
    made = [pid for pid in children_of(here) if comm(pid) == NAME and pid != starter_of(here)]
    return [pid for pid in made if os.listdir(f"/proc/{pid}/fd")]  # No zombie.
