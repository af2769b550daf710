"""Hooks (config.md, "POSIX-platform Hooks"): programs that are told of a container's state on their stdin.

Run by whoever is in the right namespaces. Nothing is imported or looked up here once it has been imported. What they write
to stdout is nobody's: ours is the container's.
"""

from __future__ import annotations

import errno
import os
import select

from orchestrator.values import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping, Sequence
    from typing import Any
else:  # Both would make enumerations of all that they have
    import _signal as signal


@frozen
class Hook:
    """`environment` None: that of the runtime. `timeout_s` 0: none."""

    path: bytes
    arguments: tuple[bytes, ...]
    environment: dict[bytes, bytes] | None
    timeout_s: int


def failure_of(kind: str, failed: OSError) -> str:
    """What is told of a hook that failed."""
    path, said = os.fsdecode(failed.filename or b""), failed.strerror or os.strerror(failed.errno or 0)
    return f"the {kind} hook {path} failed: {said}"


def hooks_of(config: Mapping[str, Any], *kinds: str) -> list[Hook]:
    return [_hook(item) for kind in kinds for item in (config.get("hooks") or {}).get(kind) or ()]


def _hook(item: Mapping[str, Any]) -> Hook:
    environment = None
    if item.get("env") is not None:
        environment = dict(os.fsencode(text).partition(b"=")[::2] for text in item["env"])
    arguments = tuple(os.fsencode(text) for text in item.get("args") or (item["path"],))
    return Hook(os.fsencode(item["path"]), arguments, environment, item.get("timeout") or 0)


def run_hooks(hooks: Sequence[Hook], state: bytes, bundle: str = "", null: int = -1) -> None:
    """In order. Raises OSError at the first that does not end with 0: ECANCELED, or ETIMEDOUT when it was killed. `bundle`:
    where they run, if one can be there. `null`: of /dev/null, where there may be another one by now."""
    before = _go_to(bundle) if bundle else -1
    try:
        _run_all(hooks, state, null)
    finally:
        if before >= 0:
            os.fchdir(before)
            os.close(before)


def _go_to(bundle: str) -> int:
    """The working directory that was; -1: it stays."""
    before = -1
    try:
        before = os.open(b".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        os.chdir(bundle)
    except OSError:  # It is removed by now, or not for who is root in this user namespace.
        if before >= 0:
            os.close(before)
        return -1
    return before


def _run_all(hooks: Sequence[Hook], state: bytes, null: int) -> None:
    for hook in hooks:
        own = os.open(b"/dev/null", os.O_WRONLY | os.O_CLOEXEC) if null < 0 else -1
        try:
            _run(hook, state, null if own < 0 else own)
        finally:
            if own >= 0:
                os.close(own)


def _run(hook: Hook, state: bytes, null: int) -> None:
    out, into = os.pipe()
    try:
        pid = os.posix_spawn(
            hook.path,
            hook.arguments,
            os.environb if hook.environment is None else hook.environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, out, 0), (os.POSIX_SPAWN_DUP2, null, 1)],
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
            setsigmask=(),
        )
    finally:
        os.close(out)
    fd = os.pidfd_open(pid)
    try:
        os.set_blocking(into, False)
        # More than a pipe holds does not come: a config of 16 MiB is not part of the state.
        os.write(into, state)
    except OSError as exc:
        if exc.errno not in (errno.EPIPE, errno.EAGAIN):
            raise
    finally:
        os.close(into)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    ended = poll.poll(hook.timeout_s * 1000 if hook.timeout_s else None)
    if not ended:
        signal.pidfd_send_signal(fd, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(fd)
    if not ended:
        raise OSError(errno.ETIMEDOUT, f"it timed out after {hook.timeout_s} s", hook.path)
    if status != 0:
        raise OSError(errno.ECANCELED, f"it ended with {os.waitstatus_to_exitcode(status)}", hook.path)
