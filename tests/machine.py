"""What this machine can do, and one pystack of the tests' own on it.

`Pystack` runs the real command in a subprocess, with a data and a run directory of its own, and takes down every project
that it was used for.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.model.keys import ProjectName, project_key
from tests.leaks import left_to_init

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent
BUSYBOX = Path("/bin/busybox")
OWN_PROGRAMS = tuple(f"orchestrator{dot}{program}" for dot in "./" for program in ("supervisor", f"runtime{dot}monitor"))
"""Text in the command line of the supervisor and of the monitor."""
STORY_LINES, STORY_DEADLINE_S = 60, 10.0
NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
"""mnt, cgroup, uts, ipc, user, pid and net, as clone(2) numbers them."""


def what_the_kernel_tests_lack() -> str:
    """One reason why kernel tests can't run here, or ""."""
    if os.geteuid() != 0:
        return "not root"
    if platform.machine() not in ("x86_64", "aarch64"):
        return f"not built for {platform.machine()}"
    if "\toverlay\n" not in Path("/proc/filesystems").read_text():
        return "no overlayfs"
    if not any(line.rpartition(" - ")[2].startswith("cgroup") for line in _mounts()):
        return "no cgroup hierarchy is mounted"
    pid = os.fork()
    if pid == 0:
        os._exit(0 if ctypes.CDLL(None).unshare(NAMESPACES) == 0 else 1)
    if os.waitpid(pid, 0)[1] != 0:
        return "unshare(2) of all namespaces is refused"
    return ""


def what_the_server_tests_lack() -> str:
    """One reason why tests with real servers can't run here, or ""."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    programs = ("nginx", "redis-server", "redis-cli", "docker-registry", "skopeo", "umoci", "openssl")
    missing = [name for name in programs if shutil.which(name, path=path) is None]
    if not list(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        missing.append("postgres")
    libraries = Path("/usr/lib/python3/dist-packages")
    missing += [f"python3-{name}" for name in ("redis", "psycopg2") if not (libraries / name).is_dir()]
    if not BUSYBOX.exists():
        missing.append("busybox")
    return f"not installed: {', '.join(missing)} (.ci/servers installs them)" if missing else ""


def make_busybox_rootfs(directory: Path) -> Path:
    """A root file system of one static program and a link for each of its applets, for ``image: rootfs:DIR``."""
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "root", "var/run"):
        (directory / name).mkdir(parents=True)
    (directory / "tmp").chmod(0o1777)
    shutil.copy(BUSYBOX, directory / "bin" / "busybox")
    for applet in subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if applet != "busybox":
            (directory / "bin" / applet).symlink_to("busybox")
    (directory / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
    (directory / "etc" / "group").write_text("root:x:0:\nnogroup:x:65534:\n")
    return directory


def eventually(look: Callable[[], T], deadline_s: float = 30.0) -> T:
    """The first true answer of `look`. The one place where tests wait: for a state, with a deadline, never for a time.

    Raises AssertionError with the last answer when the deadline passes.
    """
    end = time.monotonic() + deadline_s
    while not (answer := look()):
        assert time.monotonic() < end, f"still {answer!r} after {deadline_s:g} s: {getattr(look, '__doc__', '') or look}"
        time.sleep(0.02)
    return answer


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended: its exit code and what it wrote."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str
    seconds: float

    def __str__(self) -> str:
        return f"{' '.join(self.argv)}\nexit code {self.code} after {self.seconds:.2f} s\n{self.stdout}\n{self.stderr}"


@dataclass(slots=True)
class Pystack:
    """The command line, in directories of its own below `root` (a short path: Unix sockets have 107 bytes)."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    projects: dict[str, Path] = field(default_factory=dict)
    """Project name -> directory with its compose.yaml; each is taken down at the end."""
    prefix: Sequence[str] = ()
    """What the command is run by: `tests.world.outside()` makes this a foreign project that shares the machine with us."""

    code: Path = ROOT
    """The directory whose `orchestrator` is run."""

    def of_version(self, version: str) -> Pystack:
        """The same directories and projects, by the code of an older version: one that has an archive in tests/data. What
        it depends on is taken from this environment."""
        code = self.root / f"code-{version}"
        with tarfile.open(ROOT / "tests" / "data" / f"pystack-{version}.tar.bz2") as archive:
            archive.extractall(code, filter="data")
        return replace(self, code=code)

    @property
    def data_dir(self) -> Path:
        return Path(self.environment.get("PYSTACK_DATA_DIR", self.root / "data"))

    @property
    def run_dir(self) -> Path:
        return self.root / "run"

    def stack(self, text: str, name: str | None = None, files: Mapping[str, str] | None = None) -> Stack:
        """A stack in a new directory, with a project name that no other test has."""
        name = name or f"t{os.urandom(4).hex()}"
        directory = self.root / "stacks" / name
        directory.mkdir(parents=True)
        (directory / "compose.yaml").write_text(text)
        for path, content in (files or {}).items():
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / path).write_text(content)
        return self.stack_in(directory, name)

    def stack_in(self, directory: Path, name: str) -> Stack:
        """The stack that lies in `directory` already."""
        self.projects[name] = directory
        return Stack(self, name, directory)

    def command(self, *args: str) -> list[str]:
        return [*self.prefix, sys.executable, "-m", "orchestrator.cli", *args]

    def child_environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PYSTACK_", "COMPOSE_"))}
        own = {"PYSTACK_DATA_DIR": str(self.data_dir), "PYSTACK_RUN_DIR": str(self.run_dir), "PYTHONPATH": str(self.code)}
        return {**inherited, **own, **self.environment, **(extra or {})}

    def run(
        self,
        *args: str,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float = 120.0,
        prefix: Sequence[str] = (),
    ) -> Result:
        """`pystack ARGS`. Never raises for its exit code; AssertionError when it does not end in time."""
        argv = [*prefix, *self.command(*args)]
        begin = time.monotonic()
        try:
            done = subprocess.run(
                argv,
                cwd=cwd,
                env=self.child_environment(env),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired as exc:
            output = f"{exc.stdout!r}\n{exc.stderr!r}"
            raise AssertionError(f"{' '.join(argv)} has not ended after {timeout_s:g} s\n{output}") from None
        return Result(tuple(args), done.returncode, done.stdout, done.stderr, time.monotonic() - begin)

    def story(self) -> Iterator[tuple[str, str]]:
        """(title, text): what a stranger needs to understand a failure. For each project: its containers and the ends of
        its files (the supervisor's log, events, journals); and our processes. Raises for no command that fails."""
        for name, directory in self.projects.items():
            state = self.data_dir / "projects" / name
            if not state.exists():
                continue
            try:
                shown = self.run("-p", name, "ps", "--all", cwd=directory, timeout_s=STORY_DEADLINE_S)
            except AssertionError as exc:
                yield f"{name}: ps", str(exc)
            else:
                yield f"{name}: ps", shown.stdout + shown.stderr
            for path in sorted(path for path in state.iterdir() if path.is_file()):
                yield f"{name}: {path.name}", "\n".join(path.read_text(errors="replace").splitlines()[-STORY_LINES:])
        yield "processes", "\n".join(f"{pid}: {command}" for pid, command in self.processes().items())

    def close(self) -> list[str]:
        """Take every project down, volumes too. What would not go, and was ended by force, is returned as complaints."""
        complaints = []
        for name, directory in self.projects.items():
            # Outside of the tests' world nobody else looks for what stays: there, its directory is no proof that it was.
            if not (self.prefix or (self.data_dir / "projects" / name).exists()):
                continue
            down = self.run("-p", name, "down", "-v", "-t", "0", cwd=directory)
            if down.code != 0:
                complaints.append(str(down))
            if self.prefix:
                complaints += [f"left behind outside: {text}" for text in self.left_outside(name)]
        for pid, command in self.processes().items():
            if eventually_gone(pid):
                continue
            complaints.append(f"still there after down: {command}")
            os.kill(pid, signal.SIGKILL)
        return complaints

    def left_outside(self, name: str) -> list[str]:
        """Interfaces, tables and cgroups of the project `name`, where its commands ran."""
        key = project_key(str(self.data_dir), ProjectName(name))
        ours = f"ps(b{key}|v{key[:6]})"
        look = f"ip -o link | grep -oE '{ours}[^:@]*'; nft list tables | grep {key}; ls -d /sys/fs/cgroup/*/pystack/{key}"
        done = subprocess.run([*self.prefix, "sh", "-c", look], capture_output=True, text=True, timeout=60)
        return done.stdout.splitlines()

    def processes(self) -> dict[int, str]:
        """Our supervisors and monitors that run in these directories, without the children that a monitor is just making:
        those have its command line until they become something else."""
        found, parents = {}, {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if str(self.root) in command and any(text in command for text in OWN_PROGRAMS):
                found[int(entry.name)] = command
                parents[int(entry.name)] = parent
        return {pid: command for pid, command in found.items() if found.get(parents[pid]) != command}


@dataclass(frozen=True, slots=True)
class Stack:
    """One project of a `Pystack`."""

    pystack: Pystack
    name: str
    directory: Path

    def run(self, *args: str, env: Mapping[str, str] | None = None, timeout_s: float = 120.0) -> Result:
        return self.pystack.run("-p", self.name, *args, cwd=self.directory, env=env, timeout_s=timeout_s)

    def must(self, *args: str, env: Mapping[str, str] | None = None, timeout_s: float = 120.0) -> Result:
        """Run it and fail the test unless it ends with 0."""
        result = self.run(*args, env=env, timeout_s=timeout_s)
        assert result.code == 0, str(result)
        return result

    def rows(self) -> list[Any]:
        """The rows of ``ps --all --format json`` (an object a line, with Docker's keys and ours), one a container."""
        return [json.loads(line) for line in self.must("ps", "--all", "--format", "json").stdout.splitlines()]

    def ps(self) -> dict[str, Any]:
        """Service -> its row, for stacks whose services have one container each."""
        return {row["Service"]: row for row in self.rows()}

    def log_file(self, service: str) -> Path:
        return self.pystack.data_dir / "projects" / self.name / "logs" / f"{self.name}-{service}-1.log"


def eventually_gone(pid: int, deadline_s: float = 5.0) -> bool:
    """Whether the process ends by itself. Not our child, so there is nothing to wait for but its pid."""

    def gone() -> bool:
        try:
            return left_to_init(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split())
        except OSError:
            return True

    try:
        eventually(gone, deadline_s)
    except AssertionError:
        return False
    return True


def _mounts() -> list[str]:
    return Path("/proc/self/mountinfo").read_text().splitlines()
