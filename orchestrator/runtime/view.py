"""A container's files as its processes see them, whether there are any: for who copies to or from it.

Of one that runs, the root of its mount namespace; what a process of it does (chroot(2)) changes nothing of that. Of one
that does not, its layers, its writable layer, its binds, volumes and mounted images, put together in a mount namespace that
nobody is in: it ends with the last descriptor, however we end. Either way a descriptor of the root is all that there is,
nothing of the container is executed, and ids are the host's for the container's.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any, cast

from orchestrator.contracts.runtime import SandboxSpec
from orchestrator.contracts.site import IdMap, Site
from orchestrator.errors import OperationError
from orchestrator.kernel import constants as c
from orchestrator.kernel import fdpass, mounts, process
from orchestrator.kernel.pidfd import is_over, start_time
from orchestrator.kernel.rooted import BELOW, open_in
from orchestrator.kernel.syscalls import filesystem_type, openat2
from orchestrator.oci.namespaces import ids_of, own_namespaces
from orchestrator.runtime.bundle import bundle_path
from orchestrator.runtime.errands import Made, from_child
from orchestrator.runtime.history import running_pid
from orchestrator.runtime.monitor.final import FinalChild
from orchestrator.runtime.monitor.parts import Part
from orchestrator.runtime.monitor.store import make_user_namespace
from orchestrator.runtime.owners import asked_owners
from orchestrator.runtime.programs import Context, compile_view, layer_paths
from orchestrator.values import frozen

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@frozen
class View:
    """`path`: of the container's root, for this process alone. `ids`: the host's ids of the container's. `run`: a pidfd of
    the run that is looked at, None at rest. `missing`: mounts that are not there, as a sentence each."""

    path: str
    ids: IdMap
    run: int | None
    missing: tuple[str, ...] = ()

    def is_over(self) -> bool:
        """Whether its run has ended. The next one mounts the same layers again, and may not see what is done in this view
        from then on (Documentation/filesystems/overlayfs.rst, "Sharing and copying layers")."""
        return self.run is not None and is_over(self.run)


@contextlib.contextmanager
def opened_view(
    site: Site, spec: SandboxSpec, prepare: Callable[[], None] = lambda: None, *, at_rest: bool = True
) -> Iterator[View]:
    """`prepare`: done before the mounts of one that does not run. `at_rest` False: such a one is not looked at, because it
    may be about to start: a writable layer can be mounted but once. Blocking. Raises OperationError when it was started
    meanwhile, or may not be at rest; HostError; InputError for a config that cannot be carried out."""
    ids = ids_of(spec.config, site.ids)
    running = _running(site, spec)
    if running is None and not at_rest:
        raise OperationError(f"container {spec.container} does not run")
    if running is None:
        prepare()
    failure = f"cannot see the files of container {spec.container}"
    fds, missing = from_child(failure, lambda: _namespace(running[1]) if running else _Stopped(site, spec).make())
    try:
        if running is not None and (
            start_time(running[0]) is None or filesystem_type(fds[0]) != c.OVERLAYFS_SUPER_MAGIC
        ):
            raise OperationError(f"container {spec.container} is just starting or ending", hint="do it again")
        yield View(f"/proc/self/fd/{fds[0]}/.", ids, running[1] if running else None, missing)
        if running is None and (begun := _running(site, spec)) is not None:
            os.close(begun[1])
            hint = "it may not see all of what was copied: do it again"
            raise OperationError(f"container {spec.container} was started meanwhile", hint=hint)
    finally:
        fdpass.close_all(fds if running is None else [*fds, running[1]])


def is_running(site: Site, spec: SandboxSpec) -> bool:
    if (found := _running(site, spec)) is None:
        return False
    os.close(found[1])
    return True


def _running(site: Site, spec: SandboxSpec) -> tuple[int, int] | None:
    """Pid and pidfd of its run."""
    found = running_pid(f"{site.data_dir}/exits.journal", spec.container)
    if found is None:
        return None
    pid, ticks = found
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    if start_time(pid) == ticks:
        return pid, pidfd
    os.close(pidfd)
    return None


def _namespace(pidfd: int) -> Made:
    """The root of a process's mount namespace: setns(2) makes it ours."""
    process.setns(pidfd, c.CLONE_NEWNS)
    return [os.open("/", _DIRECTORY)], ()


class _Stopped(FinalChild):
    """Makes a container's mounts by the steps of its runs, in the host's mount namespace or rather a copy of it."""

    def __init__(self, site: Site, spec: SandboxSpec) -> None:
        super().__init__(-1, {}, [], cast(Any, None), cast(Any, None))
        self.site, self.spec = site, spec
        self.bundle = bundle_path(site, spec.container)
        self.layers = layer_paths(spec)
        self.warnings: list[str] = []

    def make(self) -> Made:
        ids = ids_of(self.spec.config, self.site.ids)
        if "user" in own_namespaces(self.spec.config):
            lines = [list(extent) for extent in ids.extents()]
            self.fds["user"] = make_user_namespace(lines, lines)
        process.unshare(c.CLONE_NEWNS)
        mounts.set_attributes(c.AT_FDCWD, propagation=c.MS_PRIVATE, recursive=True, path=b"/")
        own = [(name, os.open(f"{self.bundle}/{part}", _DIRECTORY)) for name, part in _WRITABLE]
        writable = [(name, b"/proc/self/fd/%d" % fd) for name, fd in own]
        mounts.attach(self._overlay(self.spec.lowers, writable), c.AT_FDCWD, os.fsencode(self.bundle))
        self.root = os.open(self.bundle, _DIRECTORY)
        with process.making_files_as(ids.outside(0)):  # Of missing mount points.
            self._mounted(ids)
        if (self.spec.config.get("root") or {}).get("readonly"):
            mounts.set_attributes(self.root, c.MOUNT_ATTR_RDONLY)
        return [self.root, os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)], tuple(self.warnings)

    def _mounted(self, ids: IdMap) -> None:
        layers = tuple(range(len(self.layers)))
        context = Context(self.bundle, ids.host_base, layers, False, (), 0, lambda _: b"", owners=self._owners())
        without: set[int] = set()
        for step in compile_view(self.spec, context):
            slot = step.arguments[0] if step.arguments else -1
            if slot in without:
                continue
            try:
                getattr(self, step.name)(*step.arguments)
            except FileNotFoundError as exc:
                without.add(slot)
                self.warnings.append(f"cannot {step.describe()}: {exc.strerror}")

    def _owners(self) -> dict[str, str]:
        """As a start has them; their user namespaces are made."""
        asked = asked_owners(self.spec.config)
        if not asked:
            return {}
        from orchestrator.runtime.sources import owner_maps  # With trio, which nobody else here needs.

        maps = owner_maps(self.spec, self.site, asked)
        for wanted in maps.values():
            if wanted.name not in self.fds:
                uids, gids = ([list(line) for line in lines] for lines in (wanted.uids, wanted.gids))
                self.fds[wanted.name] = make_user_namespace(uids, gids)
        return {target: wanted.name for target, wanted in maps.items()}

    def warn(self, text: bytes) -> None:
        """As a start warns."""
        self.warnings.append(f"owners of files cannot be mapped in {os.fsdecode(text)}")

    def _joined(self, top: int, parts: list[Part]) -> int:
        place = os.fsencode(os.path.dirname(self.bundle))
        mounts.attach(top, c.AT_FDCWD, place)
        for part in parts:
            where = openat2(top, part.path, os.O_PATH | os.O_NOFOLLOW, BELOW)
            mounts.attach(part.tree, where)
            os.close(where)
        return mounts.open_tree(c.AT_FDCWD, place, recursive=True)

    def to_host(self) -> None:
        """We are there."""

    def to_home(self) -> None:
        """There is none."""

    def propagate(self, slot: int, propagation: int, recursive: bool) -> None:
        """What is mounted here is nobody else's business."""

    def image(self, slot: int, lowers: list[int], folder: str, attributes: int) -> None:
        tree = self._overlay([self.layers[number] for number in lowers], [], c.MOUNT_ATTR_RDONLY)
        if folder:  # The kernel copies parts only of a mount that has a place.
            place = os.path.dirname(self.bundle)
            mounts.attach(tree, c.AT_FDCWD, os.fsencode(place))
            top = os.open(place, _DIRECTORY)
            tree = mounts.open_tree(open_in(top, os.fsencode(folder)), b"")
        mounts.set_attributes(tree, attributes, propagation=c.MS_PRIVATE)
        self.slots[slot] = tree

    def _overlay(
        self, lowers: tuple[str, ...] | list[str], writable: list[tuple[bytes, bytes]], attributes: int = 0
    ) -> int:
        """Detached. Of one layer, and nothing to write into, that layer."""
        trees = []
        for path in lowers:
            tree = mounts.open_tree(c.AT_FDCWD, os.fsencode(path))
            mounts.set_attributes(tree, propagation=c.MS_PRIVATE, userns=self.fds.get("user"))
            trees.append(tree)
        if len(trees) == 1 and not writable:
            return trees[0]
        names = [b"/proc/self/fd/%d" % tree for tree in trees]
        joined = b":".join(names)
        below: list[tuple[bytes, bytes | None]] = [(b"lowerdir", joined)]
        if len(joined) >= _MOST_VALUE_BYTES:
            below = [(b"lowerdir+", name) for name in names]
        return mounts.new_filesystem(b"overlay", [*below, *writable], c.MOUNT_ATTR_NODEV | attributes)


_WRITABLE = ((b"upperdir", "upper"), (b"workdir", "work"))
_MOST_VALUE_BYTES = 250
"""fsconfig's strings end at 256 bytes; lowerdir+ exists since Linux 6.8."""
