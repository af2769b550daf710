"""`pystack chaos`: faults on purpose in real containers, and that they end."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.leaks import nft_tables
from tests.machine import Pystack, Result, Stack, eventually
from tests.scenarios.talk import kill_hard, running, supervisor_pid

pytestmark = pytest.mark.kernel

STACK = """
services:
  api:
    image: rootfs:{rootfs}
    command: [sleep, "3600"]
    stop_grace_period: 0s
    restart: always
  db:
    image: rootfs:{rootfs}
    command: [sh, -c, "mkdir -p /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www"]
    stop_grace_period: 0s
x-pystack:
  chaos:
    - {{at: 0s, do: cut api db, for: 1s}}
    - {{at: 100ms, do: dns-fail api db --for 1s}}
    - {{at: 200ms, do: kill api}}
"""


@pytest.fixture
def stack(pystack: Pystack, busybox_rootfs: Path) -> Stack:
    made = pystack.stack(STACK.format(rootfs=busybox_rootfs))
    made.must("up", "-d")
    eventually(lambda: reaches(made))
    return made


def page(stack: Stack, path: str = "/index.html", wait_s: int = 1) -> Result:
    """What api gets from db. (Static programs cannot look names up.)"""
    request = f"printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' | nc -w {wait_s} {stack.ps()['db']['Addresses']['default']} 80"
    return stack.run("exec", "-T", "api", "sh", "-c", request)


def reaches(stack: Stack) -> bool:
    return "hello\n" in page(stack).stdout


def resolves(stack: Stack) -> bool:
    return "NXDOMAIN" not in (found := stack.run("exec", "-T", "api", "nslookup", "db").stdout) and "SERVFAIL" not in found


def events(stack: Stack) -> str:
    return (stack.pystack.data_dir / "projects" / stack.name / "events.jsonl").read_text()


def standing(stack: Stack) -> list[str]:
    lines = stack.must("chaos", "list", "--format", "json").stdout.splitlines()
    return [json.loads(line)["ID"] for line in lines]


def test_a_cut_is_seen_by_ps_and_list_and_ends_by_itself(stack: Stack) -> None:
    told = stack.must("chaos", "cut", "api", "db", "--for", "5s").stdout
    assert told == "cut-1: cut api from db, for 5s\n"
    assert not reaches(stack)
    assert "running (cut from db)" in stack.must("ps").stdout
    assert stack.ps()["db"]["Faults"] == ["cut from api"]
    assert "cut-1" in stack.must("chaos", "list").stdout
    eventually(lambda: reaches(stack))
    assert standing(stack) == []
    assert stack.ps()["db"]["Faults"] == []
    assert not any("chaos" in name for name in nft_tables())


def test_what_is_restarted_is_still_cut_and_undo_mends_it(stack: Stack) -> None:
    stack.must("chaos", "cut", "api", "db", "--for", "0")
    stack.must("chaos", "dns-fail", "api", "db", "--for", "0")
    stack.must("restart", "api")
    assert not reaches(stack)
    assert standing(stack) == ["cut-1", "dns-fail-2"]
    refused = stack.run("chaos", "undo", "cut-7")
    assert (refused.code, "cut-1" in refused.stderr) == (2, True)
    stack.must("chaos", "undo", "cut-1")
    assert reaches(stack)
    assert not resolves(stack)
    stack.must("chaos", "undo", "--all")
    assert resolves(stack)


def test_a_rate_makes_a_download_slow(stack: Stack) -> None:
    stack.must("exec", "-T", "db", "dd", "if=/dev/zero", "of=/www/big", "bs=1k", "count=250")
    assert page(stack, "/big", 20).seconds < 2
    stack.must("chaos", "rate", "api", "db", "1mbit", "--for", "0")
    assert stack.ps()["api"]["Faults"] == ["1mbit to db"]
    slow = page(stack, "/big", 20)
    assert (len(slow.stdout) > 250_000, 1.2 < slow.seconds < 15) == (True, True), slow.seconds
    stack.must("chaos", "undo", "-a")


def test_a_kill_is_a_crash_and_the_policy_restarts(stack: Stack) -> None:
    before = stack.ps()["api"]["Pid"]
    assert stack.must("chaos", "kill", "api").stdout == "kill-1: send SIGKILL to api\n"
    eventually(lambda: stack.ps()["api"]["Restarts"] == 1 and stack.ps()["api"]["Pid"] not in (None, before))
    stack.must("chaos", "kill", "db", "-s", "KILL")
    eventually(lambda: stack.ps()["db"]["State"] == "exited")


def test_who_runs_out_of_memory_is_told_so_and_the_policy_restarts(stack: Stack) -> None:
    before = stack.ps()["api"]["Pid"]
    assert stack.must("chaos", "oom", "api").stdout == "oom-1: let api run out of memory\n"
    eventually(lambda: stack.ps()["api"]["Restarts"] == 1 and stack.ps()["api"]["Pid"] not in (None, before))
    assert "ran out of memory and was killed" in stack.must("why", "api").stdout
    stack.must("chaos", "oom", "db")
    eventually(lambda: stack.ps()["db"]["State"] == "exited")
    assert "137, out of memory" in stack.must("ps", "-a").stdout
    assert stack.ps()["db"]["OOMKilled"]
    assert stack.ps()["db"]["OOMKills"] >= 1  # Whoever filled it may be one, too.
    assert '"oom": true' in events(stack)


def test_a_pause_goes_on_by_itself(stack: Stack) -> None:
    stack.must("chaos", "pause", "db", "--for", "1s")
    assert stack.ps()["db"]["State"] == "paused"
    eventually(lambda: stack.ps()["db"]["State"] == "running")
    assert reaches(stack)


def test_nothing_stays_broken_when_the_supervisor_is_killed(stack: Stack) -> None:
    stack.must("chaos", "cut", "api", "db", "--for", "0")
    stack.must("chaos", "rate", "api", "1mbit", "--for", "0")
    stack.must("chaos", "pause", "db", "--for", "0")
    kill_hard(supervisor_pid(stack))
    eventually(lambda: stack.ps()["db"]["State"] == "running")
    assert reaches(stack)
    assert standing(stack) == []
    assert stack.ps()["api"]["Faults"] == []
    assert not any("chaos" in name for name in nft_tables())
    assert "undid faults on purpose" in events(stack)


def test_down_takes_what_is_broken_with_it(stack: Stack) -> None:
    stack.must("chaos", "cut", "api", "outside", "--for", "0")
    stack.must("chaos", "pause", "db", "--for", "0")
    stack.must("down")
    assert nft_tables() == []


def test_the_stacks_script_runs_when_it_is_asked_for_and_ends_with_its_last_fault(stack: Stack) -> None:
    ran = stack.must("chaos", "run")
    assert [line.split()[1] for line in ran.stdout.splitlines()] == ["cut-1:", "dns-fail-2:", "kill-3:"]
    assert standing(stack) == []
    eventually(lambda: stack.ps()["api"]["Restarts"] == 1)
    kinds = [json.loads(line) for line in events(stack).splitlines()]
    told = [event["detail"]["action"] for event in kinds if event["kind"] == "chaos"]
    assert (told.count("begin"), told.count("end")) == (3, 3)


def test_ctrl_c_undoes_what_the_script_has_done(pystack: Pystack, busybox_rootfs: Path) -> None:
    text = STACK.format(rootfs=busybox_rootfs).replace("for: 1s", "for: 1h")
    stack = pystack.stack(text)
    stack.must("up", "-d")
    with running(stack, "chaos", "run") as process:
        eventually(lambda: "cut-1" in standing(stack))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 130
    assert standing(stack) == []


def test_bad_input_is_told_with_what_there_is(stack: Stack) -> None:
    for words, code, part in (
        (("cut", "api", "nobody"), 2, 'no service or container "nobody"'),
        (("cut", "outside", "api"), 2, "can only be the other end"),
        (("loss", "api", "db", "0%"), 2, "out of range"),
        (("lag", "api", "db", "fast"), 2, "not a duration"),
        (("rate", "api", "db", "1MB"), 2, "not a rate"),
        (("undo",), 2, "--all"),
    ):
        ran = stack.run("chaos", *words)
        assert (ran.code, part in ran.stderr) == (code, True), ran
    assert standing(stack) == []
