"""A project's place for runtime tests: directories, an OCI config as the planner would make it, and a clean end."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from orchestrator.contracts.runtime import Exit, GeneratedFile, LogPolicy, OciConfig, Run, SandboxSpec
from orchestrator.contracts.site import IdMap, Site
from orchestrator.kernel.cgroup import detect
from orchestrator.model.names import ContainerId, ProjectName, project_key
from orchestrator.oci.confinement import DEFAULT_CAPABILITIES, READONLY_PATHS, masked_paths, sysctls
from orchestrator.oci.mounts import _BASE_MOUNTS
from orchestrator.oci.seccomp_profile import default_profile
from orchestrator.oci.terms import NAMESPACES
from orchestrator.runtime.cgroups import remove_project
from orchestrator.runtime.client import MonitorRuntime, open_runtime
from orchestrator.runtime.host_check import find_host
from orchestrator.values import replace

HOST_BASE = 1 << 20
PROJECT = ProjectName("rt")


def site_at(root: Path) -> Site:
    return Site(PROJECT, project_key(str(root), PROJECT), f"{root}/data", f"{root}/run", IdMap(HOST_BASE))


def config_of(
    argv: Sequence[str],
    *,
    uid: int = 0,
    mounts: Sequence[Mapping[str, Any]] = (),
    env: Sequence[str] = (),
    cwd: str = "/",
    confined: bool = True,
    annotations: Mapping[str, str] | None = None,
    resources: Mapping[str, Any] | None = None,
    readonly: bool = False,
    no_new_privileges: bool = False,
    hosts: Sequence[str] = (),
) -> OciConfig:
    """`hosts`: the types of namespaces that are the host's."""
    held = list(DEFAULT_CAPABILITIES)
    effective = held if uid == 0 else []
    process: dict[str, Any] = {
        "user": {"uid": uid, "gid": uid},
        "args": list(argv),
        "env": ["PATH=/bin", *env],
        "cwd": cwd,
        "noNewPrivileges": no_new_privileges,
        "capabilities": {
            "bounding": held, "effective": effective, "permitted": effective, "inheritable": [], "ambient": []
        },
    }  # fmt: skip
    base = [{"destination": at, "type": kind, "source": source, "options": list(o)} for at, kind, source, o in _BASE_MOUNTS]
    own = [{"type": kind} for kind in NAMESPACES if kind not in hosts]
    linux: dict[str, Any] = {"namespaces": own, "resources": dict(resources or {"pids": {"limit": 200}})}
    if confined:
        linux |= {
            **({} if "network" in hosts else {"sysctl": sysctls(65536)}),
            "seccomp": default_profile("x86_64"),
            "maskedPaths": list(masked_paths(2)),
            "readonlyPaths": list(READONLY_PATHS),
        }
    return OciConfig({
        "ociVersion": "1.2.0",
        "process": process,
        "root": {"path": "rootfs", "readonly": readonly},
        "hostname": "box",
        "mounts": [*base, *map(dict, mounts)],
        "annotations": dict(annotations or {}),
        "linux": linux,
    })


@dataclass
class Place:
    site: Site
    rootfs: Path
    runtime: MonitorRuntime

    def spec(self, argv: Sequence[str], name: str = "rt-a-1", **options: Any) -> SandboxSpec:
        files: tuple[GeneratedFile, ...] = options.pop("files", ())
        lowers: tuple[str, ...] = options.pop("lowers", (str(self.rootfs),))
        log: LogPolicy = options.pop("log", LogPolicy())
        return SandboxSpec(ContainerId(name), lowers, config_of(argv, **options), files=files, log=log)

    async def begin(self, argv: Sequence[str], name: str = "rt-a-1", **options: Any) -> Run:
        spec = self.spec(argv, name, **options)
        await self.runtime.create(spec)
        return await self.runtime.start(spec.container)

    async def shell(self, script: str, **options: Any) -> tuple[Exit, str]:
        """Run a script to its end: its exit and everything that it wrote since the log began."""
        run = await self.begin(["sh", "-c", script], **options)
        exit_ = await self.runtime.wait(run)
        return exit_, self.log(run.container).decode()

    def log(self, container: str) -> bytes:
        path = Path(f"{self.site.data_dir}/logs/{container}.log")
        return path.read_bytes() if path.exists() else b""  # It is made with its first byte.


@contextlib.asynccontextmanager
async def place(rootfs: Path) -> AsyncGenerator[Place, None]:
    """A project with a running monitor. In the end all its containers are removed, and the directories are."""
    root = Path(tempfile.mkdtemp(prefix="rt-"))
    try:
        async with _opened(site_at(root), rootfs) as opened:
            yield opened
    finally:
        shutil.rmtree(root)


@contextlib.asynccontextmanager
async def place_with_small_logs(rootfs: Path, size: str) -> AsyncGenerator[Place, None]:
    """As `place`, with the logs on a file system of their own that has only so much room. `Place.site.data_dir` has it."""
    root = Path(tempfile.mkdtemp(prefix="rt-"))
    logs = root / "data" / "logs"
    logs.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", logs], check=True)
    try:
        async with _opened(site_at(root), rootfs) as opened:
            yield opened
    finally:
        subprocess.run(["umount", logs], check=True)
        shutil.rmtree(root)


@contextlib.asynccontextmanager
async def two_places(rootfs: Path) -> AsyncGenerator[tuple[Place, Place], None]:
    """Two projects in one data directory, as `model.names` has them, whose containers may have the same ids."""
    root = Path(tempfile.mkdtemp(prefix="rt-"))
    try:
        async with _opened(site_of(root, "one"), rootfs) as one, _opened(site_of(root, "other"), rootfs) as other:
            yield one, other
    finally:
        shutil.rmtree(root)


def site_of(root: Path, name: str) -> Site:
    project = ProjectName(name)
    key = project_key(str(root), project)
    return Site(project, key, f"{root}/projects/{name}", f"{root}/run/{key}", IdMap(HOST_BASE))


@contextlib.asynccontextmanager
async def _opened(site: Site, rootfs: Path) -> AsyncGenerator[Place, None]:
    try:
        async with open_runtime(site, find_host()) as runtime:
            try:
                yield Place(site, rootfs, runtime)
            finally:
                with trio.CancelScope(shield=True):  # Each step of it has a deadline of its own.
                    for state in await runtime.containers():
                        await runtime.remove(state.container)
    finally:
        remove_project(detect(), site.key)


def with_lowers(spec: SandboxSpec, *lowers: Path) -> SandboxSpec:
    return replace(spec, lowers=tuple(map(str, lowers)))
