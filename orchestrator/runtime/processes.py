"""A further process in a running container: asked for, executed, waited for, and ended with all that it started."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from orchestrator.contracts.runtime import ExecSpec
from orchestrator.errors import EXIT_CANNOT_EXECUTE, EXIT_NOT_FOUND, CommandError, HostError, OperationError
from orchestrator.kernel import pidfd as pidfds
from orchestrator.model.names import ContainerId
from orchestrator.runtime.cgroups import ContainerCgroup
from orchestrator.runtime.link import Answer, Ending, MonitorLost, StepFailed
from orchestrator.runtime.monitor.stage1 import BROKEN
from orchestrator.runtime.program import Program, Step
from orchestrator.runtime.reaping import wait_process
from orchestrator.runtime.sandbox import ActiveRun, Sandbox
from orchestrator.runtime.session import Session
from orchestrator.runtime.stdio import give_pipe

END_S = 10.0
"""How long killed processes may take to end: they do at once, unless the kernel is stuck in a device or a network disk."""
_MINDER_S = 1.0
_KILLED_TOGETHER_S = 0.1
_STATUS_BYTES = 4
MINDED_SINCE = 5
"""The version of the monitor's protocol."""
_HINTS: Mapping[str, str] = {
    "overlay": "the data directory's file system may not do for overlayfs: `pystack doctor` tries it; put --data-dir on "
    "ext4, xfs or btrfs",
    "oom_score": "only CAP_SYS_RESOURCE of the machine can go below our own",
    "rlimit": "only CAP_SYS_RESOURCE of the machine can raise a hard limit above our own (`pystack doctor` shows it), and "
    "that of files never above fs.nr_open",
}
"""By the name of the step that failed."""
_PLACES = {
    "rlimit": "process.rlimits",
    "oom_score": "process.oomScoreAdj",
    "sysctl": "linux.sysctl",
    "working_directory": "process.cwd",
    "hostname": "hostname",
}
"""In the config, of what a step does."""
_MISMATCHES: Mapping[int, tuple[str, str]] = {
    errno.ENOTDIR: (
        "what is mounted is a folder, and {} in the container is a file",
        "mount a file there. A source that does not exist is made, as a folder: is its name right?",
    ),
    errno.EISDIR: (
        "what is mounted is a file, and {} in the container is a folder",
        "name the file's place in that folder as the target, or mount a folder",
    ),
}
"""By errno, when the text is the place (`monitor.final`)."""

_FULL_HINT = (
    "there may be no further process: pids_limit counts those of this container, ulimits.nproc those of its user in all "
    "containers of the project"
)
_CAPABILITY_HINT = (
    "its file may demand a capability that this container does not have (getcap shows it; Debian's ping has NET_RAW): "
    "cap_add gives it"
)
_INTERPRETER_HINT = (
    "the first line of a script names its interpreter (without a carriage return at its end), a program has a loader: both "
    "must be in the image"
)


class Process:
    """A process of an exec (`contracts.runtime.Execution`). `wait` gives its wait status, or None when that was lost.
    `released`: it goes on when nobody waits for it any more. `verdict`: where a process that is minded has its status told
    (the step `mind`); ours to close."""

    def __init__(self, pid: int, pidfd: int, ending: Ending, verdict: int = -1) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.verdict = verdict
        self.ended = False
        self.released = False
        self._ending = ending

    def signal(self, number: int) -> None:
        if not self.ended:
            # A shell that waits for a command heeds an interrupt only when that has ended by it.
            tell = pidfds.send_as_key if number in (signal.SIGINT, signal.SIGQUIT) else pidfds.send
            tell(self.pidfd, number)

    def release(self) -> None:
        self.released = True

    async def wait(self) -> int | None:
        if self.verdict >= 0:
            await trio.lowlevel.wait_readable(self.verdict)
            if len(told := os.read(self.verdict, _STATUS_BYTES)) == _STATUS_BYTES:
                self.ended = True
                return int.from_bytes(told, sys.byteorder)
        return await self.gone()

    async def gone(self) -> int | None:
        """As `wait`, also for who minds it."""
        await self._ending.done.wait()
        status = await wait_process(self.pidfd) if self._ending.lost else self._ending.status
        self.ended = True
        return status


class _Verdict:
    """A pipe for what the step `mind` tells, if it is `wanted`. `reader`: -1 without one."""

    def __init__(self, wanted: bool) -> None:
        self.reader, self._writer = os.pipe2(os.O_CLOEXEC) if wanted else (-1, -1)

    @property
    def named(self) -> dict[str, int]:
        return {"verdict": self._writer} if self._writer >= 0 else {}

    def hand_over(self) -> None:
        """The other end is the process's alone: its end is the pipe's."""
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1

    def __enter__(self) -> _Verdict:
        return self

    def __exit__(self, *_: object) -> None:
        self.hand_over()
        if self.reader >= 0:
            os.close(self.reader)


@asynccontextmanager
async def run_process(
    session: Session,
    sandbox: Sandbox,
    group: ContainerCgroup,
    spec: ExecSpec,
    stdio: Mapping[str, int],
    *,
    probing: bool = False,
) -> AsyncIterator[Process]:
    """A process in the container, executed. Whatever is left of its group in the end is killed: all of it when we are
    cancelled, unless it was released, what a probe left in the background otherwise. Raises CommandError, OperationError,
    HostError."""
    container = sandbox.container
    version = (await session.link()).version
    active = session.active.get(container)
    if active is None:  # It has ended while we waited; nothing waits between here and the use of its pid.
        raise OperationError(f"container {container} is not running")
    minded = probing and not sandbox.has_init and version >= MINDED_SINCE
    program, encoded, owner = sandbox.exec_program(spec, active.run.pid, version, minded=minded)
    with _Verdict(minded) as verdict:
        try:
            for fd in () if spec.tty else stdio.values():
                give_pipe(fd, owner)
            answer, ending = await _request_exec(session, sandbox, group, encoded, {**stdio, **verdict.named})
        except (StepFailed, HostError) as exc:
            told = failure(container, program, exc) if isinstance(exc, StepFailed) else exc
            if isinstance(told, HostError) and await is_ending(active):
                raise OperationError(f"container {container} ended before the command ran in it") from exc
            if told is exc:
                raise
            raise told from exc
        except MonitorLost:
            _kill_quietly(sandbox, group)
            raise OperationError(f"the monitor was killed while a process was started in {container}") from None
        except OSError as exc:
            raise HostError(f"cannot run a process in {container}: {exc.strerror}") from exc
        except BaseException:
            # Cancelled before the answer: it may have been started already.
            _kill_quietly(sandbox, group)
            raise
        verdict.hand_over()
        process = Process(answer.header["pid"], answer.fds[0], ending, verdict.reader)
        try:
            yield process
        finally:
            if process.released and not process.ended:
                process.ended = True  # For us: its descriptor is closed.
            elif minded:
                await _end_minded(sandbox, group, process)
            elif not process.ended:
                await _end_all(sandbox, group, process)
            elif probing and group.populated():
                _kill_quietly(sandbox, group)
            os.close(process.pidfd)


async def _end_all(sandbox: Sandbox, group: ContainerCgroup, process: Process) -> None:
    _kill_quietly(sandbox, group)
    pidfds.send(process.pidfd, signal.SIGKILL)
    with trio.move_on_after(END_S) as scope:
        scope.shield = True  # Killed: it ends at once.
        await process.gone()


async def _end_minded(sandbox: Sandbox, group: ContainerCgroup, process: Process) -> None:
    """What is left is killed, and reaped by the process that minds it, which ends then; the container's PID 1 may reap
    nobody. If it does not (new ones keep appearing, or somebody has stopped it), all are killed."""
    with trio.move_on_after(_MINDER_S) as scope, contextlib.suppress(HostError):
        scope.shield = True
        group.kill_but(process.pid)
        await process.gone()
        return
    await _end_all(sandbox, group, process)


async def _request_exec(
    session: Session, sandbox: Sandbox, group: ContainerCgroup, encoded: bytes, stdio: Mapping[str, int]
) -> tuple[Answer, Ending]:
    """Asked a second time when the process was killed at birth. Raises as `Link.request_exec`."""
    while True:
        names, fds = sandbox.placement(group)
        link = await session.link()
        try:
            return await link.request_exec(
                encoded, [*stdio.values(), *fds], container=sandbox.container, names=[*stdio, *names]
            )
        except StepFailed as exc:
            if not killed_at_birth(exc) or not sandbox.spoil(group):
                raise


def _kill_quietly(sandbox: Sandbox, group: ContainerCgroup) -> None:
    with contextlib.suppress(HostError):  # The group is gone with the container.
        sandbox.kill(group)


async def is_ending(active: ActiveRun | None) -> bool:
    """Whether a run has ended or is about to: a moment is waited for that, as the kernel kills the processes of a group one
    after the other."""
    if active is None or active.ended.is_set() or pidfds.is_ending(active.run.pid):
        return True
    with trio.move_on_after(_KILLED_TOGETHER_S):
        await active.ended.wait()
    return active.ended.is_set()


def killed_at_birth(failed: StepFailed) -> bool:
    return failed.step == BROKEN and failed.number == errno.EOWNERDEAD


def failure(container: ContainerId, program: Program, failed: StepFailed) -> CommandError | HostError:
    """What a failed step means to the user."""
    reason = os.strerror(failed.number) if failed.number else "for an unknown reason"
    if failed.step == BROKEN or failed.step >= len(program.steps):
        why = "" if failed.number in (0, errno.EOWNERDEAD) else f": {reason}"
        return HostError(f"cannot start a process in {container}: its first process was killed or is broken{why}")
    step = program.steps[failed.step]
    if step.name == "change_directory":
        code = EXIT_NOT_FOUND if failed.number == errno.ENOENT else EXIT_CANNOT_EXECUTE
        message = f"container {container}: cannot {step.describe()}: {reason}"
        return CommandError(message, hint="it is made for a container, not for a further process", exit_code=code)
    if program.is_command(failed.step):
        command = step.arguments[0][0]
        if failed.number == errno.ELIBACC:
            named = f' "{failed.text}"' if failed.text else ""
            message = f'container {container}: cannot execute "{command}": its interpreter{named} does not exist'
            return CommandError(message, hint=_INTERPRETER_HINT, exit_code=EXIT_NOT_FOUND)
        if failed.number in (errno.ENOENT, errno.ENOTDIR):
            return CommandError(f'container {container}: command not found: "{command}"', exit_code=EXIT_NOT_FOUND)
        message = f'container {container}: cannot execute "{command}": {reason}'
        hint = {errno.EPERM: _CAPABILITY_HINT, errno.EAGAIN: _FULL_HINT}.get(failed.number)
        return CommandError(message, hint=hint, exit_code=EXIT_CANNOT_EXECUTE)
    if failed.text and failed.number in _MISMATCHES:
        mismatch, hint = _MISMATCHES[failed.number]
        return HostError(f"container {container}: cannot {step.describe()}: {mismatch.format(failed.text)}", hint=hint)
    message = f"container {container}: cannot {step.describe()}: {reason}"
    hint = _HINTS.get(step.name) or (_FULL_HINT if failed.number == errno.EAGAIN else None)
    return HostError(message, hint=hint, place=_PLACES.get(step.name, ""))


def warnings_of(program: Program, said: Iterable[Sequence[Any]]) -> tuple[str, ...]:
    """`said`: pairs of the number of a step and the mounts in it whose ids could not be mapped."""
    return tuple(_unmapped(program.steps[number], mounts) for number, mounts in said if 0 <= number < len(program.steps))


def _unmapped(step: Step, mounts: str) -> str:
    return (
        f"{step.describe()}: the owners of files cannot be mapped on {mounts}: all there belongs to nobody in the "
        "container, whose root may do no more there than others may"
    )
