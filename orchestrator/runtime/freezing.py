"""A container whose processes stand still for a while, whatever becomes of who wanted that.

Frozen processes cannot thaw themselves, and whoever froze them may be killed. So it is never he who thaws them but a guard,
started before: a shell that waits until the other end of a pipe is closed, which it is when its holder closes it or ends in
any way. It is in a session of its own, where no Ctrl-C reaches it. (What a user pauses has no guard: it stays so, whoever
lives.)

One at a time: a second one waits for the lock of the bundle's directory (flock(2)), which the guard holds too.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from orchestrator.contracts.site import Site
from orchestrator.errors import HostError, OperationError
from orchestrator.kernel import cgroup
from orchestrator.kernel.cgroup import Layout
from orchestrator.kernel.spawn import spawn
from orchestrator.model.names import ContainerId
from orchestrator.runtime.bundle import group_path, open_bundle
from orchestrator.values import frozen

FREEZE_S = 10.0
_GUARD = 'read -r _ < "/proc/self/fd/$1"; [ ! -e "$2" ] || echo "$3" > "$2"'
_LET_RUN = "--pause=false lets its processes run meanwhile"


@frozen
class _Freezer:
    """Of one group. `file`: what is written to thaw it is `thawed`."""

    group: str
    file: str
    thawed: str

    def is_set(self) -> bool:
        """Whether it stands still, or is about to."""
        try:
            return cgroup.read(self.file) != self.thawed
        except FileNotFoundError:
            return False

    def freeze(self) -> bool:
        ways = cgroup.freeze_v1 if self.thawed == "THAWED" else cgroup.freeze
        return ways(self.group, FREEZE_S)


def pause(site: Site, container: ContainerId, layout: Layout) -> None:
    """Until `resume`. Blocking. Raises OperationError when they cannot be stopped; they go on then."""
    freezer = _needed_freezer(layout, site, container)
    with _locked(site, container):
        if not _frozen(freezer, container):
            _thaw(freezer)
            raise _unstoppable(container)


def resume(site: Site, container: ContainerId, layout: Layout) -> None:
    """After `pause`; whoever has the container stand still meanwhile is waited for. Blocking. Raises HostError."""
    freezer = _freezer(layout, group_path(site, container))
    if freezer is not None:
        with _locked(site, container):
            _thaw(freezer)


@contextlib.contextmanager
def _locked(site: Site, container: ContainerId) -> Iterator[int]:
    bundle = open_bundle(site, container)
    try:
        fcntl.flock(bundle, fcntl.LOCK_EX)
        yield bundle
    finally:
        os.close(bundle)


def _needed_freezer(layout: Layout, site: Site, container: ContainerId) -> _Freezer:
    freezer = _freezer(layout, group_path(site, container))
    if freezer is None:
        raise OperationError(f"this machine cannot pause container {container}: it has no freezer")
    return freezer


def _unstoppable(container: ContainerId, hint: str | None = None) -> OperationError:
    return OperationError(
        f"container {container} could not be paused within {FREEZE_S:g} s: a process of it is in uninterruptible sleep",
        hint=hint,
    )


@contextlib.contextmanager
def frozen_container(site: Site, container: ContainerId, layout: Layout) -> Iterator[None]:
    """No process of the container runs while the block does, not even one that is started meanwhile: it waits. Blocking.
    Raises OperationError when they cannot be stopped, HostError."""
    freezer = _freezer(layout, group_path(site, container))
    if freezer is None:
        raise OperationError(f"this machine cannot pause container {container}: it has no freezer", hint=_LET_RUN)
    if not os.path.isdir(freezer.group):
        yield  # It has not run since the last boot.
        return
    with _locked(site, container) as bundle:
        if freezer.is_set():
            yield  # Paused by request, and stays so.
            return
        with _guarded(freezer, bundle):
            if not _frozen(freezer, container):
                raise _unstoppable(container, _LET_RUN)
            yield


def _frozen(freezer: _Freezer, container: ContainerId) -> bool:
    try:
        return freezer.freeze()
    except FileNotFoundError:
        return True  # Its last process has ended, and the group is gone.
    except OSError as exc:
        raise HostError(f"cannot pause container {container}: {freezer.group}: {exc.strerror}") from exc


@contextlib.contextmanager
def _guarded(freezer: _Freezer, lock: int) -> Iterator[None]:
    """Afterwards the group is thawed."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        with open(os.devnull, "wb") as nothing:
            script = ["/bin/sh", "-c", _GUARD, "guard", str(reader), freezer.file, freezer.thawed]
            guard = spawn(script, output=nothing.fileno(), keep=(reader, lock))
    except OSError as exc:
        os.close(writer)
        raise HostError(f"cannot start /bin/sh: {exc.strerror}") from exc
    finally:
        os.close(reader)
    try:
        yield
    finally:
        os.close(writer)
        if os.waitpid(guard, 0)[1] != 0:
            _thaw(freezer)  # The guard was killed.


def _thaw(freezer: _Freezer) -> None:
    try:
        cgroup.write(freezer.file, freezer.thawed)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise HostError(f"cannot let the processes of {freezer.group} go on: {exc.strerror}") from exc


def _freezer(layout: Layout, relative_path: str) -> _Freezer | None:
    if layout.unified is not None:
        group = f"{layout.unified}/{relative_path}"
        return _Freezer(group, f"{group}/cgroup.freeze", "0")
    if "freezer" in layout.controllers:
        group = f"{layout.controllers['freezer']}/{relative_path}"
        return _Freezer(group, f"{group}/freezer.state", "THAWED")
    return None
