"""What this machine can do: the table behind ``pystack doctor``, and the quick look that every supervisor takes first.

A check is a function that returns what it found and raises when it found nothing good. Those that change something (mounts,
namespaces, links, nf_tables) run in a forked child with namespaces of its own, so that nothing of them can stay; what they
need on disk and in cgroups is made and removed here.
"""

from __future__ import annotations

import json
import os
import re
import resource
import select
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from orchestrator.contracts.host import Host
from orchestrator.errors import HostError
from orchestrator.kernel import cgroup, limits
from orchestrator.kernel import constants as c
from orchestrator.kernel.caps import mask_of, names_of
from orchestrator.kernel.cgroup import Layout
from orchestrator.kernel.identity import own_uid
from orchestrator.kernel.process import last_capability
from orchestrator.kernel.seccomp import compile_filter
from orchestrator.kernel.syscalls import call
from orchestrator.kernel.trees import remove_tree
from orchestrator.model.names import CGROUP_ROOT, ProjectKey
from orchestrator.runtime import host_probes as probes
from orchestrator.runtime.cgroups import ContainerCgroup, remove_project
from orchestrator.values import frozen

OLDEST_KERNEL = (5, 19)
"""id-mapped lower layers of overlayfs; clone3, openat2, pidfds and the mount calls are older."""
NEEDED_CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_KILL",
    "CAP_NET_ADMIN",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
)
NAMESPACES = (
    ("user", c.CLONE_NEWUSER),
    ("mount", c.CLONE_NEWNS),
    ("pid", c.CLONE_NEWPID),
    ("network", c.CLONE_NEWNET),
    ("uts", c.CLONE_NEWUTS),
    ("ipc", c.CLONE_NEWIPC),
    ("cgroup", c.CLONE_NEWCGROUP),
)
ENOUGH_DISK_BYTES = 1 << 30
ENOUGH_FILES = 4096
ENOUGH_WATCHES = 128
PROBE_TIMEOUT_S = 10.0

_ROOT_HINT = "run it as root (sudo pystack ...); rootless operation is not supported yet"


@frozen
class Check:
    """One line of ``pystack doctor``. `needed`: without it no container runs; else only something is slower or absent."""

    name: str
    ok: bool
    needed: bool
    detail: str
    hint: str = ""


@frozen
class _Probe:
    name: str
    needed: bool
    run: Callable[[probes.Bench], str]
    hint: str = ""
    forked: bool = False


def find_host() -> Host:
    """What this machine is. Cheap: no process, no mount. Raises HostError when it has no cgroups at all."""
    try:
        layout = cgroup.detect()
    except OSError as exc:
        raise HostError(f"no usable cgroups: {exc.strerror}", hint="mount cgroup2 at /sys/fs/cgroup") from exc
    return Host(
        own_uid(),
        _lacking(),
        os.uname().machine,
        os.cpu_count() or 1,
        layout,
        last_capability(),
        limits.lowered(),
        int(_status_field("CapPrm"), 16),
    )


def require_host() -> Host:
    """What this machine is. Raises HostError for what makes every container impossible. Cheap (about a millisecond): no
    process, no mount."""
    _root()
    _kernel()
    _machine()
    try:
        os.close(call(c.NR_FSOPEN, b"overlay", c.FSOPEN_CLOEXEC))
    except OSError as exc:
        raise HostError(f"the kernel offers no overlayfs: {exc.strerror}", hint="modprobe overlay") from exc
    host = find_host()
    _controllers(host.cgroups)
    return host


def check_host(data_dir: str) -> tuple[Check, ...]:
    """Everything, in the order in which things build on each other. Never raises; takes some tens of milliseconds.
    For a process with one thread: probes are forked."""
    with _bench(data_dir) as bench:
        return tuple(_checked(probe, bench) for probe in _PROBES)


def _checked(probe: _Probe, bench: probes.Bench) -> Check:
    try:
        detail = _in_child(probe, bench) if probe.forked else probe.run(bench)
    except HostError as exc:
        return Check(probe.name, False, probe.needed, exc.message, exc.hint or probe.hint)
    except OSError as exc:
        return Check(probe.name, False, probe.needed, _sentence(exc), probe.hint)
    return Check(probe.name, True, probe.needed, detail)


def _sentence(exc: OSError) -> str:
    about = exc.filename.decode("utf-8", "replace") if isinstance(exc.filename, bytes) else exc.filename
    return f"{about}: {exc.strerror}" if about else str(exc.strerror or exc)


@contextmanager
def _bench(data_dir: str) -> Iterator[probes.Bench]:
    scratch = group = None
    group_error = ""
    key = ProjectKey(f"doctor{os.getpid()}")
    with suppress(OSError):
        scratch = tempfile.mkdtemp(prefix=".pystack-doctor-", dir=probes.existing(data_dir))
    try:
        layout = cgroup.detect()
        group = ContainerCgroup.create(layout, f"{CGROUP_ROOT}/{key}/check", {"pids": {"limit": 100}})
    except HostError as exc:
        group_error = exc.message
    except OSError as exc:
        group_error = _sentence(exc)
    try:
        yield probes.Bench(data_dir, scratch, group, group_error)
    finally:
        if group is not None:
            group.close()
            with suppress(HostError):
                remove_project(layout, key)
        if scratch is not None:
            with suppress(OSError):
                remove_tree(scratch)


def _in_child(probe: _Probe, bench: probes.Bench) -> str:
    """Run a probe in a child of its own. Raises HostError with the child's sentence."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            try:
                answer = [True, probe.run(bench)]
            except HostError as exc:
                answer = [False, exc.message]
            except OSError as exc:
                answer = [False, _sentence(exc)]
            os.write(writer, json.dumps(answer).encode()[:4096])
        finally:
            os._exit(0)
    os.close(writer)
    try:
        ready, _, _ = select.select([reader], [], [], PROBE_TIMEOUT_S)
        if not ready:
            os.kill(pid, signal.SIGKILL)
        told = os.read(reader, 4096) if ready else b""
    finally:
        os.close(reader)
        os.waitpid(pid, 0)
    if not told:
        raise HostError(f"the probe gave no answer within {PROBE_TIMEOUT_S:g} s" if not ready else "the probe crashed")
    ok, text = json.loads(told)
    if not ok:
        raise HostError(text)
    return str(text)


# ---- the process and the kernel ---------------------------------------------------------------------------------------


def _root(_: probes.Bench | None = None) -> str:
    if (uid := own_uid()) != 0:
        raise HostError(f"pystack needs root, and this is user {uid}", hint=_ROOT_HINT)
    if missing := _lacking():
        raise HostError(
            f"root without {', '.join(missing)}", hint="in a container: run it with these capabilities, or --privileged"
        )
    return "user 0 with the capabilities that are needed"


def _lacking() -> tuple[str, ...]:
    return tuple(names_of(mask_of(NEEDED_CAPABILITIES) & ~int(_status_field("CapEff"), 16)))


def _status_field(name: str) -> str:
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        return next(line.split()[1] for line in file if line.startswith(f"{name}:"))


def _kernel(_: probes.Bench | None = None) -> str:
    release = os.uname().release
    found = re.match(r"(\d+)\.(\d+)", release)
    if found is not None and (int(found[1]), int(found[2])) < OLDEST_KERNEL:
        oldest = ".".join(map(str, OLDEST_KERNEL))
        raise HostError(f"Linux {release} is older than {oldest}", hint="a distribution of 2023 or later has a newer one")
    return f"Linux {release}"


def _machine(_: probes.Bench | None = None) -> str:
    machine = os.uname().machine
    try:
        compile_filter({"defaultAction": "SCMP_ACT_ALLOW"}, machine)
    except KeyError:
        raise HostError(f"the machine type {machine} is not supported", hint="x86_64 and aarch64 are") from None
    return machine


# ---- the machine ------------------------------------------------------------------------------------------------------


def _disk(bench: probes.Bench) -> str:
    where = probes.existing(bench.data_dir)
    found = os.statvfs(where)
    free = found.f_bavail * found.f_frsize
    if free < ENOUGH_DISK_BYTES:
        hint = "containers' files and logs are below --data-dir; logging.options.max-size limits what is kept of a log"
        raise HostError(f"{free >> 20} MiB free on {where}", hint=hint)
    if found.f_files and found.f_favail < 10_000:
        raise HostError(f"{found.f_favail} inodes free on {where}")
    return f"{free / (1 << 30):.1f} GiB free on {where}"


# ---- cgroups ----------------------------------------------------------------------------------------------------------


def _controllers(layout: Layout) -> str:
    """Raises HostError when memory or the number of processes cannot be limited."""
    found = set(layout.controllers)
    if layout.unified is not None:
        found |= cgroup.available(layout.unified)
    missing = sorted({"memory", "pids"} - found)
    if missing:
        raise HostError(
            f"no cgroup controller {' and '.join(missing)} ({layout.mode})",
            hint="boot with cgroup_enable=memory, and let nothing hold the controllers",
        )
    return f"{layout.mode}: {', '.join(sorted(found & {'cpu', 'cpuset', 'memory', 'pids', 'io', 'blkio', 'freezer'}))}"


def _cgroups(bench: probes.Bench) -> str:
    text = _controllers(cgroup.detect())
    if bench.group is None:
        raise HostError(bench.group_error)
    if bench.group.unenforced:
        raise HostError(f"{text}; but no limit on {', '.join(bench.group.unenforced)} can be set")
    return text


def _forwarding(_: probes.Bench) -> str:
    path = "/proc/sys/net/ipv4/ip_forward"
    with open(path, encoding="ascii") as file:
        if file.read().strip() == "1":
            return "on"
    if not os.access(path, os.W_OK):
        raise HostError("off, and it cannot be turned on", hint="sysctl net.ipv4.ip_forward=1 on the host")
    return "off; pystack turns it on with the first network"


# ---- limits -----------------------------------------------------------------------------------------------------------


def _limits(_: probes.Bench) -> str:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with open("/proc/sys/fs/inotify/max_user_instances", encoding="ascii") as file:
        watches = int(file.read())
    with open("/proc/sys/kernel/pid_max", encoding="ascii") as file:
        pids = int(file.read())
    unlimited = files == resource.RLIM_INFINITY
    text = f"{'unlimited' if unlimited else files} open files, {watches} inotify instances, {pids} process ids"
    if (not unlimited and files < ENOUGH_FILES) or watches < ENOUGH_WATCHES:
        raise HostError(text, hint=f"ulimit -Hn {ENOUGH_FILES}; sysctl fs.inotify.max_user_instances={ENOUGH_WATCHES}")
    if lowered := limits.lowered():
        raise HostError(
            "; ".join(lowered), hint="containers get what is left of it: run pystack from a shell without this `ulimit`"
        )
    return text


_NO_GUARD = "a container with CAP_NET_RAW can claim the address of another one of its network (CONFIG_NF_TABLES_BRIDGE)"

_PROBES: tuple[_Probe, ...] = (
    _Probe("root", True, _root, _ROOT_HINT),
    _Probe("kernel", True, _kernel),
    _Probe("machine", True, _machine),
    *(
        _Probe(
            f"{name} namespace",
            True,
            probes.namespace(kind),
            f"sysctl user.max_{name if name != 'network' else 'net'}_namespaces may be 0, or the kernel lacks them",
            forked=True,
        )
        for name, kind in NAMESPACES
    ),
    _Probe("seccomp", True, probes.seccomp, "the kernel was built without CONFIG_SECCOMP_FILTER", forked=True),
    _Probe("overlayfs", True, probes.overlay, "put --data-dir on ext4, xfs or btrfs", forked=True),
    _Probe("id-mapped layers", True, probes.idmapped, "put --data-dir on ext4, xfs or btrfs", forked=True),
    _Probe("many layers", False, probes.lowerdir_plus, "Linux 6.8 has lowerdir+", forked=True),
    _Probe("cgroups", True, _cgroups),
    _Probe("clone into cgroup", False, probes.clone_into_cgroup, "mount cgroup2 at /sys/fs/cgroup/unified", forked=True),
    _Probe("exit status by pidfd", False, probes.pidfd_info, "Linux 6.15 has PIDFD_GET_INFO", forked=True),
    _Probe("bridge and veth", True, probes.bridge, "modprobe bridge veth", forked=True),
    _Probe("nf_tables", True, probes.nf_tables, "modprobe nf_tables nft_chain_nat", forked=True),
    _Probe("nf_tables on bridges", False, probes.bridge_tables, _NO_GUARD, forked=True),
    _Probe("ip forwarding", False, _forwarding),
    _Probe("disk space", False, _disk),
    _Probe("limits", False, _limits),
)
