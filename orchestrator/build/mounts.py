"""``RUN --mount``: each becomes something that a container can have mounted, and a part of the step's key.

| type | what is mounted | in the key |
|---|---|---|
| bind | a copy of a part of the context; of a stage or an image, the layer itself where one layer has it all | its content
|
| cache | ``DATA/cache/mounts/HASH/data-N``: it outlives the build | its id |
| secret | a file below the site's run directory, or a variable | whether it was given |
| tmpfs | a tmpfs | |
| ssh | the agent's socket | its id |
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from orchestrator.build.cache import StepCache
from orchestrator.build.configuration import Scope, clean
from orchestrator.build.copying import Copier, Placing, Taken
from orchestrator.build.instructions import RunMount
from orchestrator.build.job import SecretFile
from orchestrator.build.trees import Tree
from orchestrator.errors import HostError, InputError, OperationError
from orchestrator.images.store.store import Store
from orchestrator.kernel.trees import remove_tree
from orchestrator.model.build import BuildSecret, BuildSpec
from orchestrator.model.volume import Mount, MountKind, Owner
from orchestrator.state.preparation import make_private
from orchestrator.values import field, frozen

MOST_SECRET_BYTES = 500 * 1024
"""As BuildKit has it."""
_MOST_PRIVATE = 256
_WAIT_S = 0.05


@frozen
class Mounted:
    """What the mounts of a RUN come to."""

    mounts: tuple[Mount, ...] = ()
    secrets: tuple[SecretFile, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@frozen
class Asked:
    """A mount with what it takes from (bind and cache), its target absolute."""

    mount: RunMount
    target: str
    tree: Tree | None = None


class Provider:
    """The mounts of one build."""

    def __init__(self, spec: BuildSpec, store: Store, data_root: str) -> None:
        self._spec = spec
        self._store = store
        self._caches = os.path.join(data_root, "cache", "mounts")
        self._copies: dict[str, str] = {}
        self._copying = trio.Lock()

    def close(self) -> None:
        """Blocking."""
        for place in self._copies.values():
            self._store.discard(place)
        self._copies.clear()

    def key(self, asked: Asked, cache: StepCache) -> object:
        """What of it the step depends on; JSON-ready. Blocking. Raises OperationError."""
        mount = asked.mount
        head = [mount.kind, asked.target, mount.read_only, sorted(mount.options.items())]
        match mount.kind:
            case "bind":
                return [*head, cache.content(self._taken(asked))]
            case "secret":
                name = _secret_id(mount)
                return [*head, name, self._secret(name) is not None]
            case "cache" if asked.tree is not None:
                return [*head, mount.id, cache.content(self._taken(asked))]
            case _:
                return [*head, mount.id]

    @asynccontextmanager
    async def mounted(self, asked: Sequence[Asked], scope: Scope, cache: StepCache) -> AsyncIterator[Mounted]:
        """What can be given to a container, while the block runs. Raises OperationError, InputError."""
        mounts: list[Mount] = []
        secrets: list[SecretFile] = []
        environment: dict[str, str] = {}
        agents = 0
        async with AsyncExitStack() as stack:
            for each in asked:
                mount = each.mount
                match mount.kind:
                    case "bind":
                        mounts.append(await self._bind(each, cache))
                    case "cache":
                        source = await stack.enter_async_context(self._cache(each, cache))
                        read_only = mount.read_only
                        mounts.append(Mount(MountKind.BIND, each.target, source, read_only, owner=Owner.ROOT))
                    case "tmpfs":
                        size = int(mount.options["size"]) if "size" in mount.options else None
                        mounts.append(Mount(MountKind.TMPFS, each.target, tmpfs_size_bytes=size))
                    case "secret":
                        self._add_secret(each, secrets, environment)
                    case _:
                        socket = self._agent(mount)
                        if socket is not None:
                            target = each.target or f"/run/buildkit/ssh_agent.{agents}"
                            agents += 1
                            mounts.append(Mount(MountKind.BIND, target, socket, owner=Owner.ROOT))
                            environment.setdefault("SSH_AUTH_SOCK", target)
            yield Mounted(tuple(mounts), tuple(secrets), environment)

    # bind

    def _taken(self, asked: Asked) -> list[Taken]:
        assert asked.tree is not None, "a bind mount takes from a tree"
        source = asked.mount.source or "/"
        matches = asked.tree.matches(_literal(source))
        if not matches:
            raise OperationError(f'"{source}" does not exist in {asked.tree.label}')
        return [Taken(asked.tree, match) for match in matches]

    async def _bind(self, asked: Asked, cache: StepCache) -> Mount:
        mount = asked.mount
        source = await trio.to_thread.run_sync(self._layer_path, asked) if mount.read_only else None
        if source is None:
            async with self._copying:
                source = await trio.to_thread.run_sync(self._copy, asked, cache)
        return Mount(MountKind.BIND, asked.target, source, read_only=mount.read_only, owner=Owner.ROOT)

    def _layer_path(self, asked: Asked) -> str | None:
        """Where a stage or an image has it, if it is all in one layer."""
        tree = asked.tree
        if tree is None or tree.local:
            return None
        real = tree.merged.resolve(asked.mount.source or "/")
        found = tree.merged.stat(real)
        if found is None:
            return None
        if not stat.S_ISDIR(found.st_mode):
            return tree.merged.real(real)
        paths = [os.path.join(lower, real.strip("/")) for lower in tree.lowers]
        there = [path for path in paths if os.path.isdir(path) and not os.path.islink(path)]
        return there[0] if len(there) == 1 and there[0] == tree.merged.real(real) else None

    def _copy(self, asked: Asked, cache: StepCache) -> str:
        """A copy of what is asked for; one of those that may be written to is nobody else's."""
        taken = self._taken(asked)
        name = cache.content(taken) if asked.mount.read_only else os.urandom(8).hex()
        if name not in self._copies:
            place = self._copies[name] = self._store.tmp()
            os.mkdir(os.path.join(place, "fs"), 0o755)
            with Copier(os.path.join(place, "fs"), (), Placing("/part")) as copier:
                copier.copy(taken[0], many=False)
                copier.finish()
        return os.path.join(self._copies[name], "fs", "part")

    # cache

    @asynccontextmanager
    async def _cache(self, asked: Asked, cache: StepCache) -> AsyncIterator[str]:
        mount = asked.mount
        name = hashlib.sha256((mount.id or asked.target).encode()).hexdigest()[:32]
        directory = os.path.join(self._caches, name)
        await trio.to_thread.run_sync(make_private, directory)
        lock, number = await _lock(directory, mount.options.get("sharing", "shared"))
        try:
            path = os.path.join(directory, f"data-{number}")
            await trio.to_thread.run_sync(self._begin_cache, asked, path)
            yield path
        finally:
            os.close(lock)

    def _begin_cache(self, asked: Asked, path: str) -> None:
        """Empty, or with what it is to begin with; whole or not at all."""
        if os.path.isdir(path):
            return
        options = asked.mount.options
        beside = f"{path}.{os.urandom(4).hex()}"
        try:
            os.mkdir(beside, 0o755)
            if asked.tree is not None:
                with Copier(beside, (), Placing("/")) as copier:
                    for taken in self._taken(asked):
                        copier.copy(taken, many=False)
                    copier.finish()
            os.chown(beside, int(options.get("uid", 0)), int(options.get("gid", 0)))
            os.chmod(beside, int(options.get("mode", "0755"), 8))
            with contextlib.suppress(FileExistsError):  # Another build was faster.
                os.rename(beside, path)
        except OSError as exc:
            if not os.path.isdir(path):
                raise HostError(f"cannot make the cache {path}: {exc.strerror}") from exc
        finally:
            remove_tree(beside)

    # secret and ssh

    def _add_secret(self, asked: Asked, secrets: list[SecretFile], environment: dict[str, str]) -> None:
        mount, name = asked.mount, _secret_id(asked.mount)
        content = self._secret(name)
        if content is None:
            if mount.required:
                raise OperationError(f'the build has no secret "{name}"', hint="list it under build.secrets")
            return
        variable = mount.options.get("env")
        if variable:
            try:
                environment[variable] = content.decode()
            except UnicodeDecodeError:
                raise InputError(f'the secret "{name}" is no text, so no variable can hold it') from None
        given = self._given(name)
        if not variable or mount.target:
            target = asked.target or f"/run/secrets/{name}"
            numbers = [
                int(mount.options.get("uid", (given.uid if given else None) or 0)),
                int(mount.options.get("gid", (given.gid if given else None) or 0)),
            ]
            mode = int(mount.options["mode"], 8) if "mode" in mount.options else (given.mode if given else None)
            secrets.append(SecretFile(clean(target), content, numbers[0], numbers[1], 0o400 if mode is None else mode))

    def _given(self, name: str) -> BuildSecret | None:
        return next((secret for secret in self._spec.secrets if secret.id == name), None)

    def _secret(self, name: str) -> bytes | None:
        given = self._given(name)
        if given is None:
            return None
        if given.environment is not None:
            return None if given.value is None else given.value.encode("utf-8", "surrogateescape")
        try:
            with open(given.file or "", "rb") as file:
                data = file.read(MOST_SECRET_BYTES + 1)
        except OSError as exc:
            raise OperationError(f'cannot read the secret "{name}": {given.file}: {exc.strerror}') from exc
        if len(data) > MOST_SECRET_BYTES:
            raise OperationError(f'the secret "{name}" is larger than {MOST_SECRET_BYTES // 1024} KiB: {given.file}')
        return data

    def _agent(self, mount: RunMount) -> str | None:
        """The socket's path; None if there is none and it need not be there."""
        name = mount.id or "default"
        path = dict(self._spec.ssh).get(name)
        if not path:
            if mount.required:
                raise OperationError(f'the build has no SSH agent "{name}"', hint="list it under build.ssh")
            return None
        try:
            is_socket = stat.S_ISSOCK(os.stat(path).st_mode)
        except OSError as exc:
            raise OperationError(f'cannot use the SSH agent "{name}": {path}: {exc.strerror}') from exc
        if not is_socket:
            hint = "add the key to an agent (ssh-add) and give its socket"
            raise InputError(f'build.ssh: "{path}" is no agent\'s socket, and keys are not read', hint=hint)
        return path


def _secret_id(mount: RunMount) -> str:
    return mount.id or mount.source or os.path.basename(mount.target)


def _literal(path: str) -> str:
    """As a pattern that means the path alone."""
    return "".join(f"\\{character}" if character in "*?[\\" else character for character in path)


async def _lock(directory: str, sharing: str) -> tuple[int, int]:
    """The lock of a cache's directory, and which one it is. ``shared``: the first, with whoever else has it; ``locked``:
    the first, alone; ``private``: one that nobody else has."""
    kind = fcntl.LOCK_SH if sharing == "shared" else fcntl.LOCK_EX
    number = 0
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(os.path.join(directory, f"lock-{number}"), flags, 0o600)
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
            return fd, number
        except BlockingIOError:
            os.close(fd)
        if sharing == "private" and number < _MOST_PRIVATE:
            number += 1
        else:
            await trio.sleep(_WAIT_S)  # Nothing tells when another process lets go of a lock.
