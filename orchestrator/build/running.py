"""RUN: from the instruction to a command in a container, and from what it wrote to a layer's tree."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

import trio

from orchestrator.build import instructions as i
from orchestrator.build.bases import Ground, accounts
from orchestrator.build.cache import StepCache, key_of
from orchestrator.build.configuration import Scope
from orchestrator.build.failure import MOST_LINES, RunFailed, exit_error
from orchestrator.build.frontend import expand_mount
from orchestrator.build.job import Job
from orchestrator.build.mounts import Asked, Mounted, Provider
from orchestrator.build.sources import Taking
from orchestrator.contracts.images import Image
from orchestrator.contracts.runtime import GeneratedFile
from orchestrator.errors import InputError, PystackError
from orchestrator.kernel.limits import NUMBERS, UNLIMITED
from orchestrator.model.build import BuildSpec
from orchestrator.values import frozen

if TYPE_CHECKING:
    from orchestrator.build.workshop import BuildContainer

_LONGEST_SHOWN = 200
ContainerFor = Callable[[Job], "AbstractAsyncContextManager[BuildContainer]"]
"""`workshop.Workshop.container`."""


@frozen
class Prepared:
    """A RUN, expanded."""

    instruction: i.Run
    ground: Ground
    scope: Scope
    command: tuple[str, ...]
    script: str
    asked: tuple[Asked, ...]
    network: bool
    latest_s: int | None

    @property
    def shown(self) -> str:
        """The command for people, on one line."""
        text = self.instruction.command
        text = " ".join((text if isinstance(text, str) else " ".join(text)).split())
        return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."

    @property
    def created_by(self) -> str:
        arguments = "".join(f"{name}={value} " for name, value in self.scope.arguments.items())
        count = f"|{len(self.scope.arguments)} {arguments}" if arguments else ""
        return f"RUN {count}{' '.join(self.command)}"


class Runner:
    """All RUNs of a build."""

    def __init__(self, spec: BuildSpec, cache: StepCache, provider: Provider, container: ContainerFor) -> None:
        self._spec = spec
        self._cache = cache
        self._provider = provider
        self._container = container
        self._limits = limits_of(spec)

    async def prepare(
        self, instruction: i.Run, ground: Ground, scope: Scope, taking: Taking, latest_s: int | None
    ) -> Prepared:
        """Raises InputError, OperationError."""
        if instruction.security == "insecure":
            raise InputError(
                "RUN --security=insecure is refused: a build has no more rights than any container",
                hint="leave it out; what needs more rights is done when the container runs",
            )
        asked = [await self._asked(mount, scope, taking) for mount in instruction.mounts]
        script = instruction.executable
        command = (f"/dev/pipes/{instruction.documents[0].name}",) if script else tuple(scope.command(instruction.command))
        wanted = instruction.network if instruction.network != "default" else self._spec.network or "default"
        return Prepared(instruction, ground, scope, command, script, tuple(asked), wanted != "none", latest_s)

    async def _asked(self, mount: i.RunMount, scope: Scope, taking: Taking) -> Asked:
        mount = expand_mount(mount, scope.variables, scope.escape)
        takes = mount.kind == "bind" or (mount.kind == "cache" and mount.from_)
        tree = await taking.tree(mount.from_) if takes else None
        return Asked(mount, scope.absolute(mount.target) if mount.target else "", tree)

    def key(self, prepared: Prepared) -> str:
        """Blocking. Raises OperationError."""
        scope = prepared.scope
        return key_of(
            "run",
            prepared.ground.identity,
            prepared.command,
            prepared.script,
            scope.arguments,
            scope.environment,
            scope.config.get("User") or "",
            scope.working_dir,
            [self._provider.key(asked, self._cache) for asked in prepared.asked],
            prepared.network,
            self._spec.extra_hosts,
            self._spec.shm_size_bytes,
            sorted(self._limits.items()),
            prepared.latest_s,
        )

    async def run(self, prepared: Prepared, tree: str, output: Callable[[bytes], None]) -> None:
        """Run it; what it wrote becomes `tree`, which does not exist yet. Raises RunFailed with the last of its output."""
        last: deque[bytes] = deque(maxlen=MOST_LINES)

        def told(line: bytes) -> None:
            last.append(line)
            output(line)

        async with self._provider.mounted(prepared.asked, prepared.scope, self._cache) as mounted:
            job = await trio.to_thread.run_sync(self._job, prepared, mounted)
            try:
                async with self._container(job) as container:
                    exit_ = await container.run(told)
                    if not exit_.ok:
                        raise exit_error(prepared.shown, exit_, full_disk=container.full_disk())
                    await container.take(tree, prepared.ground.lowers, prepared.latest_s)
            except PystackError as exc:
                raise RunFailed(exc, tuple(last)) from exc

    def _job(self, prepared: Prepared, mounted: Mounted) -> Job:
        """Blocking."""
        ground, scope = prepared.ground, prepared.scope
        passwd, group = accounts(ground.lowers)
        image = Image(
            "the stage",
            ground.identity,
            ground.lowers,
            mounts=ground.mounts,
            passwd=passwd,
            group=group,
            no_new_privileges=ground.confined,
        )
        files: tuple[GeneratedFile, ...] = ()
        if prepared.script:
            files = (GeneratedFile(prepared.command[0], prepared.script.encode("utf-8", "surrogateescape"), 0o755),)
        return Job(
            image,
            prepared.command,
            {**scope.variables, **mounted.environment},
            scope.config.get("User") or "",
            scope.working_dir,
            mounted.mounts,
            mounted.secrets,
            files,
            prepared.network,
            self._spec.extra_hosts,
            self._spec.shm_size_bytes,
            self._limits,
        )


def limits_of(spec: BuildSpec) -> Mapping[str, tuple[int, int]]:
    """``build.ulimits`` by the kernel's names. Raises InputError for one that it does not have."""
    found: dict[str, tuple[int, int]] = {}
    for limit in spec.ulimits:
        name = f"RLIMIT_{limit.name.upper()}"
        if name not in NUMBERS:
            raise InputError(f'there is no limit "{limit.name}"', place="build.ulimits")
        found[name] = _limit(limit.soft), _limit(limit.hard)
    return found


def _limit(value: int) -> int:
    """The config's words for "unlimited" (runtime-spec: RLIM_INFINITY is 2^64 - 1)."""
    return (1 << 64) - 1 if value in (-1, UNLIMITED) else value
