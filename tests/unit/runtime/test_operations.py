"""Steps as operations for the starter: which programs can be said so, and that they lie where they may be put anywhere."""

from __future__ import annotations

import json
import os
import struct
from typing import Any

import pytest

from orchestrator.contracts.runtime import SandboxSpec
from orchestrator.runtime.monitor.operations import language, translator
from orchestrator.runtime.monitor.operations.language import NotSaid, Operations
from orchestrator.runtime.monitor.operations.translator import Translator
from orchestrator.runtime.monitor.steps import STEPS
from orchestrator.runtime.programs import compile_exec, compile_start
from orchestrator.values import replace
from tests.unit.runtime.test_programs import CONTEXT, PROCESS, spec

pytestmark = pytest.mark.skipif(not language.NUMBERS, reason="no starter for this machine")

STREAMS = {"user": 9, "net": 10, "cgroup": 11, "stdout": 12, "stderr": 13, "out": 14, "err": 15}


def steps_of(made: SandboxSpec, **options: Any) -> list[list[Any]]:
    listed: list[list[Any]] = json.loads(compile_start(made, CONTEXT, **options).encode())
    return listed


def everything() -> SandboxSpec:
    linux = {
        "seccomp": {"x": 1}, "sysctl": {"net.ipv4.x": "1"}, "maskedPaths": ["/proc/m"], "readonlyPaths": ["/r"],
        "resources": {"devices": []},
    }  # fmt: skip
    process = {**PROCESS, "oomScoreAdj": 100, "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]}
    return spec(linux, process, root={"readonly": True})


def listed(packet: bytes) -> list[tuple[int, int, int]]:
    """Number, kinds of arguments and size of each operation."""
    found, at = [], language.HEAD.size
    while at < len(packet):
        size, kinds, *_, number, _ = struct.unpack_from("<HHBBBBiI", packet, at)
        found.append((number, kinds, size))
        at += size
    assert at == len(packet)
    return found


def test_what_most_containers_ask_for_is_said() -> None:
    for made, filtered in ((spec(), False), (everything(), True)):
        packet, fds = Translator().packet(3, steps_of(made), 8, STREAMS, [20, 21])
        assert fds == [8, 9, 10, 11, 12, 13, 20, 21], "none of the monitor's own"
        number, count = struct.unpack_from("<II", packet)
        assert (number, count) == (3, len(fds))
        calls = [number for number, _, _ in listed(packet)]
        assert calls[-1] == language.NUMBERS["execve"]
        assert (language.NUMBERS["seccomp"] in calls) == filtered


def test_an_exec_is_said() -> None:
    program = compile_exec(PROCESS, spec().config, CONTEXT, terminal=False)
    named = {"user": 9, "stdout": 12, "stderr": 13, "target": 14}
    packet, fds = Translator().packet(0, json.loads(program.encode()), 8, named, [20])
    assert fds == [8, 9, 14, 12, 13, 20]
    assert language.NUMBERS["setns"] in [number for number, _, _ in listed(packet)]


@pytest.mark.parametrize(
    "made",
    [
        lambda: steps_of(spec(), terminal=True),
        lambda: steps_of(spec(annotations={"pystack.init": "true"})),
        lambda: steps_of(spec(process={**PROCESS, "args": [""]})),
        lambda: steps_of(spec(process={**PROCESS, "env": ["A=" + "x" * 65_000]})),
        lambda: steps_of(spec(process={**PROCESS, "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 9, "hard": 9}]})),
    ],
    ids=["terminal", "init", "no command", "a long environment", "descriptors"],
)
def test_what_it_cannot_do_is_not_said(made: Any) -> None:
    with pytest.raises(NotSaid):
        Translator().packet(0, made(), 8, STREAMS, [])


def test_every_step_that_is_said_is_a_step() -> None:
    assert translator._STEPS.keys() <= STEPS.keys()


def test_equal_steps_are_said_once_and_what_differs_is_said_each_time() -> None:
    kept_by = Translator()
    one = kept_by.packet(1, steps_of(everything()), 8, STREAMS, [20])[0]
    kept = dict(kept_by._kept)
    other = kept_by.packet(2, steps_of(replace(everything(), files=())), 8, STREAMS, [20])[0]
    assert kept_by._kept == kept
    assert b"hosts" in one
    assert b"hosts" not in other
    kept_by.packet(2, steps_of(everything()), 8, STREAMS, [20, 21])
    assert len(kept_by._kept) > len(kept), "with one hierarchy more, they are others"


def test_what_is_kept_has_an_end() -> None:
    kept_by = Translator()
    for number in range(2 * translator._MOST_KEPT):
        kept_by.packet(0, [["sysctl", f"net.x{number}", "1"]], 8, STREAMS, [])
    assert len(kept_by._kept) <= translator._MOST_KEPT


def test_a_place_is_told_from_where_its_operation_is() -> None:
    do = Operations()
    do.call("setsid")
    place = do.call("openat", -100, b"/a/path", os.O_RDONLY, 0)
    do.call("write", 1, place, 7)
    at = 64
    assert do.data[place : place + 8] == b"/a/path\0"
    assert struct.unpack_from("<6q", do.data, at + 16)[1] == place - at
    last = len(do.data) - 64
    assert struct.unpack_from("<6q", do.data, last + 16)[1] == place - last
