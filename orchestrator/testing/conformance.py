"""What every implementation of a contract must do, as checks that the fakes and the real ones both pass.

A check is an async function of a *lab*, which makes the implementation under test and the little programs that run in its
containers. A Workload says what such a program does; a real lab maps it onto ``/bin/sh`` (`Workload.argv`), the fake one
onto a FakeService (`fake_lab`). Times are short and real, so that checks hold under a virtual clock and the real one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from signal import SIGKILL, SIGTERM
from typing import Protocol

import trio

from orchestrator.contracts.runtime import ContainerState, ExecSpec, Exit, Run, Runtime, SandboxSpec
from orchestrator.errors import CommandError, OperationError, PystackError
from orchestrator.model.names import ContainerId
from orchestrator.values import frozen, replace

DEADLINE_S = 20.0
"""No check takes longer; a hang is a failure."""


@frozen
class Workload:
    """A program: writes `output` to its stdout, runs for `seconds`, then exits with `exit_code`. On SIGTERM it ends at
    once with status 143, unless it `ignores_sigterm`. `missing`: there is no such program; `forbidden`: it may not be
    executed. `reads_stdin`: it runs until its stdin is at its end, instead of for `seconds`. `listens_after_s`: it
    listens on port 8080 from then on."""

    seconds: float = math.inf
    exit_code: int = 0
    output: str = ""
    ignores_sigterm: bool = False
    missing: bool = False
    forbidden: bool = False
    reads_stdin: bool = False
    listens_after_s: float | None = None

    def argv(self) -> tuple[str, ...]:
        """As a program for a container that has a shell. PID 1 gets only the signals that it has handlers for."""
        if self.missing:
            return ("/nonexistent/program",)
        if self.forbidden:
            return ("/etc/passwd",)
        seconds = "1000000" if math.isinf(self.seconds) else f"{self.seconds:g}"
        on_term = "trap '' TERM" if self.ignores_sigterm else "trap 'exit 143' TERM"
        nap = f"sleep {seconds} & wait $!" if self.seconds > 0 else ":"
        if self.reads_stdin:
            nap = "while read line; do :; done"
        if self.listens_after_s is not None:
            nap = f"sleep {self.listens_after_s:g}; nc -l -p 8080 & {nap}"
        say = f"printf %s {_quoted(self.output)}; " if self.output else ""
        return ("/bin/sh", "-c", f"{on_term}; {say}{nap}; exit {self.exit_code}")


class Lab(Protocol):
    """Makes what the checks need. One lab is one project; every check gets a fresh one."""

    @property
    def runtime(self) -> Runtime: ...

    async def make(self, name: str, workload: Workload) -> SandboxSpec:
        """The spec of a container that runs `workload`, ready for ``runtime.create``. The same name again: another workload
        in the same container."""
        ...

    def command(
        self, *, exit_code: int = 0, output: str = "", hangs: bool = False, missing: bool = False
    ) -> tuple[str, ...]:
        """A command for probes and exec that does this (for one with a shell: `shell_command`)."""
        ...

    async def log(self, container: ContainerId) -> bytes:
        """All that the container's runs wrote."""
        ...


Check = Callable[[Lab], Awaitable[None]]
STDIO = (0, 1, 2)


@contextmanager
def refused(kind: type[PystackError], exit_code: int | None = None) -> Iterator[None]:
    """The block has to raise this."""
    try:
        yield
    except kind as error:
        if exit_code is not None and error.exit_code != exit_code:
            raise AssertionError(f"exit code {error.exit_code}, not {exit_code}: {error}") from error
        return
    raise AssertionError(f"no {kind.__name__}")


async def begin(lab: Lab, workload: Workload, name: str = "one") -> Run:
    spec = await lab.make(name, workload)
    await lab.runtime.create(spec)
    return await lab.runtime.start(spec.container)


async def state_of(lab: Lab, container: ContainerId) -> ContainerState:
    return next(state for state in await lab.runtime.containers() if state.container == container)


async def a_run_ends_with_its_code_and_says_so_to_everybody(lab: Lab) -> None:
    run = await begin(lab, Workload(seconds=0.2, exit_code=7))
    exits: list[Exit] = []

    async def watch() -> None:
        exits.append(await lab.runtime.wait(run))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        nursery.start_soon(watch)
    exits.append(await lab.runtime.wait(run))
    assert [exit.code for exit in exits] == [7, 7, 7]
    assert len(set(exits)) == 1
    assert exits[0].finished_at > 0


async def a_restart_is_a_new_run_in_the_same_sandbox(lab: Lab) -> None:
    first = await begin(lab, Workload(seconds=0, exit_code=3))
    assert first.number == 1
    await lab.runtime.wait(first)
    second = await lab.runtime.start(first.container)
    assert second.number == 2
    assert second.pid != first.pid
    assert (await lab.runtime.wait(first)).code == 3
    assert (await lab.runtime.wait(second)).code == 3


async def what_exists_is_listed_with_its_run_or_its_last_exit(lab: Lab) -> None:
    run = await begin(lab, Workload())
    state = await state_of(lab, run.container)
    assert (state.run, state.last_run, state.last_exit) == (run, 1, None)
    await lab.runtime.kill(run.container)
    exit = await lab.runtime.wait(run)
    state = await state_of(lab, run.container)
    assert (state.run, state.last_run, state.last_exit) == (None, 1, exit)


async def a_sandbox_that_never_ran_is_listed_too(lab: Lab) -> None:
    spec = await lab.make("one", Workload())
    assert await lab.runtime.create(spec) >= 0
    assert await lab.runtime.containers() == (ContainerState(spec.container),)


async def the_stop_signal_ends_a_program_that_heeds_it(lab: Lab) -> None:
    run = await begin(lab, Workload())
    while True:
        # The program may not have set its trap yet, and PID 1 is then deaf to the signal.
        await lab.runtime.signal(run.container, int(SIGTERM))
        with trio.move_on_after(0.3):
            exit = await lab.runtime.wait(run)
            break
    assert exit.status == 128 + SIGTERM


async def a_program_that_ignores_the_stop_signal_is_killed(lab: Lab) -> None:
    run = await begin(lab, Workload(ignores_sigterm=True))
    await lab.runtime.signal(run.container, int(SIGTERM))
    with trio.move_on_after(0.3):
        await lab.runtime.wait(run)
        raise AssertionError("it ended by a signal that it ignores")
    await lab.runtime.kill(run.container)
    exit = await lab.runtime.wait(run)
    assert (exit.code, exit.signal, exit.oom_killed) == (None, SIGKILL, False)


async def heeds(lab: Lab, run: Run) -> None:
    """Wait until the program has set its trap: before, a SIGTERM is lost on it."""
    while (first := await lab.runtime.first_process(run.container)) is not None and first.ignores(int(SIGTERM)):  # noqa: ASYNC110
        await trio.sleep(0.01)
    assert first is not None


async def a_run_s_first_process_tells_which_signals_it_ignores(lab: Lab) -> None:
    deaf = await begin(lab, Workload(ignores_sigterm=True))
    first = await lab.runtime.first_process(deaf.container)
    assert first is not None
    assert (first.name, first.pid, first.ignores(int(SIGTERM))) == ("sh", 1, True)
    heedful = await begin(lab, Workload(), "two")
    await heeds(lab, heedful)
    await lab.runtime.kill(deaf.container)
    await lab.runtime.wait(deaf)
    assert await lab.runtime.first_process(deaf.container) is None


async def signals_to_what_does_not_run_do_nothing(lab: Lab) -> None:
    spec = await lab.make("one", Workload())
    await lab.runtime.create(spec)
    await lab.runtime.signal(spec.container, int(SIGTERM))
    await lab.runtime.kill(spec.container)
    run = await lab.runtime.start(spec.container)
    assert (await state_of(lab, spec.container)).run == run


async def a_second_start_is_refused_and_harms_nothing(lab: Lab) -> None:
    run = await begin(lab, Workload())
    with refused(OperationError):
        await lab.runtime.start(run.container)
    assert (await state_of(lab, run.container)).run == run


async def create_again_finds_the_same_sandbox_and_leaves_its_run_alone(lab: Lab) -> None:
    """What a supervisor does that takes over a running container."""
    spec = await lab.make("one", Workload())
    await lab.runtime.create(spec)
    run = await lab.runtime.start(spec.container)
    assert await lab.runtime.create(spec) >= 0
    with trio.move_on_after(0.2):
        await lab.runtime.wait(run)
        raise AssertionError("create ended the run")
    assert (await state_of(lab, spec.container)).run == run


async def a_command_that_does_not_exist_is_127(lab: Lab) -> None:
    await _not_started(lab, Workload(missing=True), 127)


async def a_command_that_may_not_be_executed_is_126(lab: Lab) -> None:
    await _not_started(lab, Workload(forbidden=True), 126)


async def _not_started(lab: Lab, workload: Workload, exit_code: int) -> None:
    spec = await lab.make("one", workload)
    await lab.runtime.create(spec)
    with refused(CommandError, exit_code):
        await lab.runtime.start(spec.container)
    assert (await state_of(lab, spec.container)).run is None
    await lab.runtime.remove(spec.container)
    assert await lab.runtime.containers() == ()


async def remove_ends_and_removes_everything_and_may_come_twice(lab: Lab) -> None:
    run = await begin(lab, Workload(ignores_sigterm=True))
    await begin(lab, Workload(), "two")
    await lab.runtime.remove(run.container)
    assert [state.container for state in await lab.runtime.containers()] != [run.container]
    assert len(await lab.runtime.containers()) == 1
    await lab.runtime.remove(run.container)


async def the_log_is_complete_when_the_end_is_reported(lab: Lab) -> None:
    text = "".join(f"line {number}\n" for number in range(500)) + "the last line has no newline"
    run = await begin(lab, Workload(seconds=0, output=text))
    await lab.runtime.wait(run)
    assert await lab.log(run.container) == text.encode()


async def a_probe_reports_its_code_and_output(lab: Lab) -> None:
    run = await begin(lab, Workload())
    good = await lab.runtime.probe(run.container, lab.command(output="fine"), 10.0)
    assert (good.ok, good.exit_code, good.output.strip()) == (True, 0, "fine")
    bad = await lab.runtime.probe(run.container, lab.command(exit_code=4, output="sick"), 10.0)
    assert (bad.ok, bad.exit_code, bad.output.strip()) == (False, 4, "sick")


async def a_probe_that_hangs_is_killed_at_its_time_out(lab: Lab) -> None:
    run = await begin(lab, Workload())
    result = await lab.runtime.probe(run.container, lab.command(hangs=True), 0.3)
    assert result.exit_code is None
    assert 0.3 <= result.duration_s < 5
    assert (await state_of(lab, run.container)).run == run


async def a_probe_that_does_not_exist_fails_and_does_not_raise(lab: Lab) -> None:
    run = await begin(lab, Workload())
    result = await lab.runtime.probe(run.container, lab.command(missing=True), 10.0)
    assert result.exit_code == 127
    assert result.output


async def exec_runs_beside_the_program_and_gives_its_exit(lab: Lab) -> None:
    run = await begin(lab, Workload())
    exit = await lab.runtime.exec(run.container, ExecSpec(lab.command(exit_code=5), STDIO))
    assert exit.code == 5
    with refused(CommandError, 127):
        await lab.runtime.exec(run.container, ExecSpec(lab.command(missing=True), STDIO))
    assert (await state_of(lab, run.container)).run == run


async def what_is_executed_writes_to_its_pipes_and_ends_with_the_container(lab: Lab) -> None:
    run = await begin(lab, Workload(seconds=1.0))
    reader, writer = os.pipe()
    spec = ExecSpec(lab.command(output="said"), (0, writer, writer), name="one")
    assert (await lab.runtime.exec(run.container, spec)).ok
    assert os.read(reader, 100) == b"said"
    for fd in (reader, writer):
        os.close(fd)
    with refused(OperationError, 137):
        await lab.runtime.exec(run.container, ExecSpec(lab.command(hangs=True), STDIO, name="one"))


async def exec_in_what_does_not_run_is_refused(lab: Lab) -> None:
    run = await begin(lab, Workload(seconds=0))
    await lab.runtime.wait(run)
    with refused(OperationError):
        await lab.runtime.exec(run.container, ExecSpec(lab.command(), STDIO))


async def a_run_reads_its_stdin_to_the_end(lab: Lab) -> None:
    spec = await lab.make("one", Workload(reads_stdin=True, exit_code=6))
    await lab.runtime.create(spec)
    reader, writer = os.pipe()
    try:
        run = await lab.runtime.start(spec.container, stdin=reader)
        with trio.move_on_after(0.2):
            await lab.runtime.wait(run)
            raise AssertionError("it ended before its stdin did")
        await lab.runtime.kill(spec.container)
        await lab.runtime.wait(run)
        os.close(writer)
        writer = -1
        run = await lab.runtime.start(spec.container, stdin=reader)
        assert (await lab.runtime.wait(run)).code == 6
        os.fstat(reader)  # It stays the caller's.
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)


async def a_run_without_a_stdin_has_none_to_read(lab: Lab) -> None:
    run = await begin(lab, Workload(reads_stdin=True, exit_code=6))
    assert (await lab.runtime.wait(run)).code == 6


async def a_stdin_that_is_kept_open_has_no_end_and_can_be_written_to(lab: Lab) -> None:
    spec = replace(await lab.make("one", Workload(reads_stdin=True)), stdin_open=True)
    await lab.runtime.create(spec)
    run = await lab.runtime.start(spec.container)
    attached = await lab.runtime.attach(spec.container)
    assert (attached.run, attached.tty, attached.stdin) == (run, False, True)
    os.write(attached.fd, b"text\n")
    os.close(attached.fd)  # Its own: the stdin stays open.
    with trio.move_on_after(0.2):
        await lab.runtime.wait(run)
        raise AssertionError("it ended before its stdin did")
    await lab.runtime.kill(spec.container)
    await lab.runtime.wait(run)
    with refused(OperationError):
        await lab.runtime.attach(spec.container)


async def a_run_with_a_terminal_hands_out_its_master_and_logs_nothing(lab: Lab) -> None:
    spec = await lab.make("one", Workload(seconds=0.2, exit_code=2))
    await lab.runtime.create(spec)
    masters: list[int] = []
    run = await lab.runtime.start(spec.container, on_tty=masters.append)
    (master,) = masters
    try:
        assert os.isatty(master)
        assert (await lab.runtime.wait(run)).code == 2
        assert await lab.log(spec.container) == b""
    finally:
        os.close(master)


async def a_run_that_cannot_be_started_hands_out_no_terminal(lab: Lab) -> None:
    spec = await lab.make("one", Workload(missing=True))
    await lab.runtime.create(spec)
    masters: list[int] = []
    with refused(CommandError, 127):
        await lab.runtime.start(spec.container, on_tty=masters.append)
    assert masters == []


RUNTIME_CHECKS: tuple[Check, ...] = (
    a_run_ends_with_its_code_and_says_so_to_everybody,
    a_restart_is_a_new_run_in_the_same_sandbox,
    what_exists_is_listed_with_its_run_or_its_last_exit,
    a_sandbox_that_never_ran_is_listed_too,
    the_stop_signal_ends_a_program_that_heeds_it,
    a_program_that_ignores_the_stop_signal_is_killed,
    a_run_s_first_process_tells_which_signals_it_ignores,
    signals_to_what_does_not_run_do_nothing,
    a_second_start_is_refused_and_harms_nothing,
    create_again_finds_the_same_sandbox_and_leaves_its_run_alone,
    a_command_that_does_not_exist_is_127,
    a_command_that_may_not_be_executed_is_126,
    remove_ends_and_removes_everything_and_may_come_twice,
    the_log_is_complete_when_the_end_is_reported,
    a_probe_reports_its_code_and_output,
    a_probe_that_hangs_is_killed_at_its_time_out,
    a_probe_that_does_not_exist_fails_and_does_not_raise,
    exec_runs_beside_the_program_and_gives_its_exit,
    what_is_executed_writes_to_its_pipes_and_ends_with_the_container,
    exec_in_what_does_not_run_is_refused,
    a_run_reads_its_stdin_to_the_end,
    a_run_without_a_stdin_has_none_to_read,
    a_stdin_that_is_kept_open_has_no_end_and_can_be_written_to,
    a_run_with_a_terminal_hands_out_its_master_and_logs_nothing,
    a_run_that_cannot_be_started_hands_out_no_terminal,
)


async def run_check(check: Check, lab: Lab) -> None:
    """Run one check, with a deadline: what hangs has failed."""
    with trio.fail_after(DEADLINE_S):
        await check(lab)


def shell_command(*, exit_code: int = 0, output: str = "", hangs: bool = False, missing: bool = False) -> tuple[str, ...]:
    """`Lab.command` for containers that have /bin/sh."""
    if missing:
        return ("/nonexistent/program",)
    nap = "sleep 1000000; " if hangs else ""
    return ("/bin/sh", "-c", f"printf %s {_quoted(output)}; {nap}exit {exit_code}")


def _quoted(text: str) -> str:
    """For /bin/sh, as one word."""
    return "'" + text.replace("'", "'\\''") + "'"
