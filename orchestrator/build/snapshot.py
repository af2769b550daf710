"""A container as it is now becomes an image: its writable layer on top of the layers that it was made from, with the
configuration that it was made with.

The container goes on: its layer is copied, while its processes stand still (`runtime.freezing`). What is mounted in it
belongs to somebody else, and is not in the image. A container of ``host`` or ``rootfs:DIR`` has no layers below it: the
directories become some, as when a Dockerfile starts from them (`bases`).
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from orchestrator.build.bases import Ground, diff_id_of, ground_of_directories, ground_of_stored
from orchestrator.build.cache import StepCache
from orchestrator.build.changes import changed_config
from orchestrator.build.commit import settle
from orchestrator.build.configuration import Config
from orchestrator.build.exchange import Exchange
from orchestrator.build.frontend.words import exposed
from orchestrator.contracts.images import Image, ImageMount
from orchestrator.contracts.runtime import SandboxSpec
from orchestrator.contracts.site import IdMap, Site
from orchestrator.contracts.state import Definition
from orchestrator.errors import HostError, InputError, OperationError
from orchestrator.images.reference import HostReference, RootfsReference, parse_reference
from orchestrator.images.spec.config import History, make_config
from orchestrator.images.spec.digest import digest
from orchestrator.images.spec.platform import host_platform
from orchestrator.images.store.leases import Lease
from orchestrator.images.store.store import Store
from orchestrator.images.store.values import Layer, StoredImage
from orchestrator.images.unpack.merged import Merged
from orchestrator.kernel.trees import copy_tree
from orchestrator.model.health import HealthCheck
from orchestrator.model.names import ContainerId
from orchestrator.model.service import Service
from orchestrator.oci.mounts import clean_path
from orchestrator.oci.namespaces import ids_of
from orchestrator.plan.hashing import identities_in
from orchestrator.runtime.bundle import bundle_path, read_bundle
from orchestrator.units import NS_PER_SECOND
from orchestrator.values import frozen

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHANGED = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EEXIST, errno.ENXIO, errno.ESTALE})
"""What the kernel says when a name means something else than a moment ago."""
_NO_MARKS = "user.overlay."
"""What is not copied: marks of an overlayfs without rights, which ours does not write."""


@frozen
class Wish:
    """`changes`: Dockerfile instructions. `name`: `Named.full`, or "" for an image without a name."""

    changes: tuple[str, ...] = ()
    author: str = ""
    message: str = ""
    name: str = ""


@frozen
class Origin:
    """A container that exists: what it was made from."""

    site: Site
    spec: SandboxSpec
    definition: Definition

    @classmethod
    def of(cls, site: Site, container: ContainerId, definition: Definition) -> Origin:
        """Raises OperationError when there is no such container."""
        return cls(site, read_bundle(site, container), definition)

    @property
    def ids(self) -> IdMap:
        """The host's ids of the container's ids."""
        return ids_of(self.spec.config, self.site.ids)

    @property
    def upper(self) -> str:
        return os.path.join(bundle_path(self.site, self.spec.container), "upper")

    @property
    def targets(self) -> tuple[str, ...]:
        """Where something is mounted in it."""
        mounts = self.spec.config.get("mounts") or ()
        return (*(mount["destination"] for mount in mounts), *(file.path for file in self.spec.files))


Pause = Callable[[], AbstractContextManager[None]]


def commit_container(origin: Origin, store: Store, wish: Wish, pause: Pause) -> StoredImage:
    """The image, put and named. `pause`: while its block runs, nobody writes into the container. Blocking. Raises
    InputError for a change that is none, OperationError, HostError; the container and the store are as before then."""
    changed_config({}, wish.changes)  # Whether they are right, before anything is begun.
    with store.lease() as lease:
        ground = _ground(origin, store, lease)
        config = changed_config(config_as_made(ground.config, origin.definition.service), wish.changes)
        place = store.tmp()
        try:
            tree = os.path.join(place, "fs")
            with pause():
                _copy(origin, tree)
            with Merged(ground.lowers) as below:
                stubs = [below.resolve(target) for target in origin.targets]
                settle(tree, below, origin.ids, stubs, None)
            layer = _adopted(store, lease, tree, ground)
        finally:
            store.discard(place)
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        step = History(created, _created_by(config), wish.author, wish.message, empty_layer=layer is None)
        image = store.put(
            make_config(
                ground.platform or host_platform(),
                config,
                (*ground.diff_ids, layer.diff_id) if layer is not None else ground.diff_ids,
                (*ground.history, step),
                created=created,
                author=wish.author,
            )
        )
        if wish.name:
            store.name(wish.name, image.id)
        return image


def config_as_made(config: Config, service: Service) -> Config:
    """The image's configuration with what the stack says of the service, as Docker gives it to a container. Raises
    InputError."""
    made = dict(config)
    if service.entrypoint is not None:
        made["Entrypoint"] = list(service.entrypoint) or None
        if service.entrypoint:  # A command that was made for another entrypoint means nothing to this one.
            made["Cmd"] = None
    if service.command is not None:
        made["Cmd"] = list(service.command) or None
    if service.environment:
        known = dict(entry.partition("=")[::2] for entry in config.get("Env") or ())
        made["Env"] = [f"{name}={value}" for name, value in {**known, **service.environment}.items()]
    own = {"User": service.user, "WorkingDir": service.working_dir, "StopSignal": service.stop_signal}
    made |= {key: value for key, value in own.items() if value}
    if service.labels:
        made["Labels"] = {**(config.get("Labels") or {}), **service.labels}
    ports = exposed([*service.expose, *(f"{port.target}/{port.protocol}" for port in service.ports)])
    if ports:
        made["ExposedPorts"] = {**(config.get("ExposedPorts") or {}), **{port: {} for port in ports}}
    if service.healthcheck is not None:
        made["Healthcheck"] = _healthcheck(config.get("Healthcheck") or {}, service.healthcheck)
    return made


def _healthcheck(inherited: Mapping[str, Any], check: HealthCheck) -> Mapping[str, Any]:
    """The stack's over the image's, number by number; of a check that the image has switched off nothing."""
    if check.disabled:
        return {"Test": ["NONE"]}
    if inherited.get("Test") == ["NONE"]:
        inherited = {}
    seconds = {
        "Interval": check.interval_s,
        "Timeout": check.timeout_s,
        "StartPeriod": check.start_period_s,
        "StartInterval": check.start_interval_s,
    }
    own: dict[str, Any] = {name: round(value * NS_PER_SECOND) for name, value in seconds.items() if value}
    if check.retries:
        own["Retries"] = check.retries
    if check.test:
        own["Test"] = ["CMD-SHELL", check.test[-1]] if check.shell else ["CMD", *check.test]
    return {**inherited, **own}


def _created_by(config: Config) -> str:
    """As Docker has it: the command."""
    return " ".join(config.get("Cmd") or config.get("Entrypoint") or ())


def _ground(origin: Origin, store: Store, lease: Lease) -> Ground:
    """What it lies upon. Raises OperationError when that is gone."""
    service, identity = origin.definition.service, identities_in(origin.definition.image)[0]
    if isinstance(_reference(service), (HostReference, RootfsReference)):
        image = Image(service.image, identity, origin.spec.lowers, mounts=_image_mounts(origin))
        return ground_of_directories(image, store, StepCache(store, lease, Exchange()))
    try:
        image_id = digest(identity)
    except ValueError as exc:
        raise OperationError(f"nobody knows what container {origin.spec.container} was made from") from exc
    lease.hold(image_id)
    stored = store.get(image_id)
    if stored is None:
        raise OperationError(
            f'the image "{service.image}" that container {origin.spec.container} was made from is not here any more',
            hint="`pystack export` writes what the container has",
        )
    return ground_of_stored(stored)


def _reference(service: Service) -> object:
    """None for a service whose record is lost."""
    try:
        return parse_reference(service.image)
    except InputError:
        return None


def _image_mounts(origin: Origin) -> tuple[ImageMount, ...]:
    """The directories of this machine that the host image is made of: bound at their own place, and by no stack."""
    if not isinstance(_reference(origin.definition.service), HostReference):
        return ()
    own = {clean_path(mount.target) for mount in origin.definition.service.volumes}
    return tuple(
        ImageMount(mount["source"], mount["destination"])
        for mount in origin.spec.config.get("mounts") or ()
        if mount["type"] == "bind" and mount["destination"] not in own
    )


def _copy(origin: Origin, tree: str) -> None:
    container = origin.spec.container
    try:
        source = os.open(origin.upper, _DIRECTORY)
        try:
            os.mkdir(tree, 0o755)
            target = os.open(tree, _DIRECTORY)
            try:
                copy_tree(source, target, skip_xattrs=_NO_MARKS, whiteouts=True)
            finally:
                os.close(target)
            if not os.path.samestat(os.fstat(source), os.stat(origin.upper)):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), origin.upper)
        finally:
            os.close(source)
    except OSError as exc:
        if exc.errno not in _CHANGED:
            raise HostError(f"cannot copy what container {container} has written: {exc.strerror}") from exc
        if not os.path.isdir(origin.upper):
            raise OperationError(f"container {container} was removed while it was being copied") from exc
        hint = "without --pause=false its processes stand still meanwhile"
        raise OperationError(f"container {container} has changed while it was being copied", hint=hint) from exc


def _adopted(store: Store, lease: Lease, tree: str, ground: Ground) -> Layer | None:
    """None for a container that has written nothing."""
    if not os.listdir(tree):
        return None
    diff_id = diff_id_of(tree)
    lease.hold(diff_id)
    return store.adopt(tree, diff_id, ground.diff_ids)

