"""A container's directory on disk: ``DATA_DIR/containers/ID/{spec.json, upper/, work/}``."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator

from orchestrator.contracts.runtime import OciConfig, SandboxSpec
from orchestrator.contracts.site import Site
from orchestrator.errors import HostError, InputError, OperationError
from orchestrator.kernel.identity import own_uid
from orchestrator.kernel.plain import open_plain, opener
from orchestrator.kernel.trees import remove_tree
from orchestrator.model.codec import from_json, to_json
from orchestrator.model.names import ContainerId, cgroup_path
from orchestrator.oci.namespaces import ids_of
from orchestrator.oci.terms import ANNOTATION_MAKE_SOURCES, ANNOTATION_STORAGE
from orchestrator.runtime.monitor.logformat import NOT_OURS
from orchestrator.runtime.quota import limit_tree
from orchestrator.runtime.versions import VERSION_KEY, Stored, Upgrades, upgrade
from orchestrator.values import replace

_MISSING_LOGS = 3
"""Numbers that may be missing between two files of a log: a rotation was cut off."""
SPEC_VERSION = 3
"""Of spec.json. 2: it says its version. 3: options of a mount are of that mount alone, unless they begin with r."""


def _for_the_tree(data: Stored) -> Stored:
    """Our bind mounts had ``nodev`` and ``rw`` for all that is below them."""
    config = data["config"]
    mounts = [
        entry | {"options": [_IN_VERSION_3.get(option, option) for option in entry["options"] if option != "rw"]}
        if "rbind" in (entry.get("options") or ())
        else entry
        for entry in config.get("mounts") or ()
    ]
    return data | {"config": config | {"mounts": mounts}}


_IN_VERSION_3 = {"nodev": "rnodev", "nosuid": "rnosuid"}
_UPGRADES: Upgrades = {1: dict, 2: _for_the_tree}


def bundle_path(site: Site, container: ContainerId) -> str:
    return f"{site.data_dir}/containers/{container}"


def open_bundle(site: Site, container: ContainerId) -> int:
    """Its directory; the caller's. Raises OperationError."""
    path = bundle_path(site, container)
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise OperationError(f"container {container} does not exist: {path}: {exc.strerror}") from exc


def log_prefix(site: Site, container: ContainerId) -> str:
    """Of the log's files, without ``.log``: what `runtime.logs` takes."""
    return f"{site.data_dir}/logs/{container}"


def prepare_site(site: Site) -> None:
    """The directories that the monitor wants to find. Raises HostError."""
    try:
        for path in (site.data_dir, site.run_dir, f"{site.data_dir}/containers", f"{site.data_dir}/logs"):
            os.makedirs(path, 0o700, exist_ok=True)
    except OSError as exc:
        raise HostError(f"cannot make {exc.filename}: {exc.strerror}") from exc


def write_bundle(site: Site, spec: SandboxSpec) -> bool:
    """Make or renew everything but the writable layer, which is kept. True if there was a bundle before.
    Raises HostError."""
    path = bundle_path(site, spec.container)
    root = ids_of(spec.config, site.ids).host_base
    try:
        existed = not _mkdir(path)
        # The file is written last: without it, who was making the others was killed, at any point of it.
        whole = existed and os.path.lexists(f"{path}/spec.json")
        for folder in (f"{path}/upper", f"{path}/work"):
            if _mkdir(folder) or not whole:
                os.chown(folder, root, root)
        # The config is most of it, and is JSON already.
        data = {VERSION_KEY: SPEC_VERSION} | to_json(replace(spec, config=OciConfig({}))) | {"config": spec.config}
        _write(f"{path}/spec.json", json.dumps(data).encode(), replacing=existed)
    except OSError as exc:
        raise HostError(f"cannot write the bundle {path}: {exc.strerror}") from exc
    return existed


def read_bundle(site: Site, container: ContainerId) -> SandboxSpec:
    """Raises OperationError when there is no such container."""
    path = bundle_path(site, container)
    try:
        with open(f"{path}/spec.json", "rb", opener=opener) as file:
            data = upgrade(json.load(file), SPEC_VERSION, _UPGRADES, f"{path}/spec.json")
        return replace(from_json(SandboxSpec, data | {"config": {}}), config=OciConfig(data["config"]))
    except FileNotFoundError:
        raise OperationError(f"container {container} does not exist") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise OperationError(f"container {container} cannot be read: {path}: {exc}") from exc


def group_of(site: Site, spec: SandboxSpec) -> str:
    """The container's cgroup, relative to each hierarchy's root."""
    path: str = (spec.config.get("linux") or {}).get("cgroupsPath") or ""
    return path.strip("/") or cgroup_path(site.key, spec.container)


def group_path(site: Site, container: ContainerId) -> str:
    """As `group_of`, also of a container of which there is nothing left but that."""
    with contextlib.suppress(OperationError):
        return group_of(site, read_bundle(site, container))
    return cgroup_path(site.key, container)


def with_kept_files(site: Site, spec: SandboxSpec) -> SandboxSpec:
    """`spec` with the contents that it leaves to what there is. Raises OperationError for one that there is not."""
    if all(file.content is not None for file in spec.files):
        return spec
    kept = {}
    with contextlib.suppress(OperationError):
        kept = {file.path: file.content for file in read_bundle(site, spec.container).files}
    files = tuple(file if file.content is not None else replace(file, content=kept.get(file.path)) for file in spec.files)
    for file in files:
        if file.content is None:
            message = f"the content of {file.path} in {spec.container} is not known any more"
            raise OperationError(message, hint="`pystack up` takes it from the environment again")
    return replace(spec, files=files)


def existing_bundles(site: Site) -> list[ContainerId]:
    with contextlib.suppress(FileNotFoundError):
        return sorted(ContainerId(name) for name in os.listdir(f"{site.data_dir}/containers"))
    return []


def make_bind_sources(spec: SandboxSpec) -> None:
    """The missing host directories of short-form bind mounts (an annotation names them); each belongs to whom the folder
    belongs that it is made in. Raises OperationError."""
    text = (spec.config.get("annotations") or {}).get(ANNOTATION_MAKE_SOURCES)
    for source in json.loads(text) if text else ():
        try:
            if not os.path.lexists(source):
                _make_folders(source)
        except OSError as exc:
            raise OperationError(f"cannot make the directory {source} for a bind mount: {exc.strerror}") from exc


def _make_folders(path: str) -> None:
    above, name = os.path.split(path.rstrip("/"))
    if not os.path.lexists(above):
        _make_folders(above)
    parent = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=parent)
            made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            try:
                owner = os.fstat(parent)
                if not os.listdir(made):  # The owner of the folder may have put another one in its place.
                    os.fchown(made, owner.st_uid, owner.st_gid)
            finally:
                os.close(made)
    finally:
        os.close(parent)


def limit_storage(site: Site, spec: SandboxSpec) -> None:
    """The size of the writable layer (an annotation has it). Raises InputError, HostError."""
    text = (spec.config.get("annotations") or {}).get(ANNOTATION_STORAGE)
    if not text:
        return
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise InputError(f"{text!r} is not a number of bytes", place=f"annotations.{ANNOTATION_STORAGE}")
    path = bundle_path(site, spec.container)
    limit_tree((f"{path}/upper", f"{path}/work"), int(text))


def remove_bundle(site: Site, container: ContainerId) -> None:
    """The bundle with the writable layer, and the log. Safe against a hostile tree (`kernel.trees`). Raises HostError.
    Blocking: call it in a thread."""
    path = bundle_path(site, container)
    try:
        remove_tree(path)
        for name in _log_files(site, container):
            with contextlib.suppress(FileNotFoundError):  # Somebody else removes it too.
                os.unlink(name)
    except OSError as exc:
        raise HostError(f"cannot remove {exc.filename or path}: {exc.strerror}") from exc


def check_log(site: Site, container: ContainerId) -> None:
    """Raises HostError when something that is no file of ours is where its log is to be."""
    for kind in ("log", "idx"):
        path = f"{log_prefix(site, container)}.{kind}"
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise HostError(f"cannot write the log {path}: {exc.strerror}") from exc
        if not stat.S_ISREG(found.st_mode) or found.st_uid != own_uid():
            raise HostError(f"cannot write the log {path}: it is {NOT_OURS}", hint="move it away")


def _log_files(site: Site, container: ContainerId) -> Iterator[str]:
    prefix = log_prefix(site, container)
    for kind in ("log", "idx"):
        number = missing = 0
        while missing < _MISSING_LOGS:
            path = f"{prefix}.{kind}.{number}" if number else f"{prefix}.{kind}"
            missing = 0 if (there := os.path.lexists(path)) else missing + 1
            number += 1
            if there:
                yield path


def _mkdir(path: str) -> bool:
    """True if it is new."""
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return False
    return True


def _write(path: str, content: bytes, *, replacing: bool) -> None:
    """`replacing`: the old content stays until the new one is whole."""
    temporary = f"{path}.new" if replacing else path
    fd = open_plain(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
    finally:
        os.close(fd)
    if replacing:
        os.rename(temporary, path)
