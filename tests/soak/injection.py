"""strace(1) at a supervisor or a monitor: what calls it makes, and one of them that kills it or fails.

A point is the n-th call of a name that one process makes while `at` is over it. ``inject=``'s ``when=`` counts each process
for itself, so that a point of a monitor may hit a child that it makes too, and that of a birth each process in turn.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.machine import eventually

STATE_CHANGING = (
    "mkdir,mkdirat,unlink,unlinkat,rmdir,rename,renameat,renameat2,symlink,symlinkat,link,linkat,mknod,mknodat,ftruncate,"
    "fallocate,chmod,fchmod,fchmodat,chown,fchown,fchownat,setxattr,fsetxattr,flock,fsync,fdatasync,write,pwrite64,writev,"
    "splice,sendfile,copy_file_range,fork,vfork,clone,clone3,execve,execveat,setns,unshare,mount,mount_setattr,move_mount,"
    "open_tree,fsopen,fsconfig,fsmount,pivot_root,umount2,socket,socketpair,bind,listen,connect,accept4,sendto,sendmsg,"
    "setsockopt,pipe2,memfd_create,pidfd_open,pidfd_send_signal,pidfd_getfd,kill,waitid,wait4,chdir,fchdir,setsid,keyctl,"
    "sethostname,setresuid,setresgid,setgroups,capset,seccomp,prctl,prlimit64,ioctl,openat,openat2,epoll_ctl"
)
_CALL = re.compile(r"^(\d+) +(\w+)\((.*)", re.MULTILINE)
_OF_NO_STATE = {
    "openat": ("O_CREAT", "O_TMPFILE"),
    "openat2": ("O_CREAT", "O_TMPFILE"),
    "ioctl": ("SIOC", "TIOC", "NS_"),
    "prctl": ("PR_SET", "PR_CAP"),
}
"""Calls that change something only with one of these words."""


@dataclass(frozen=True, slots=True)
class Point:
    """`effect`: what strace is to do, as ``signal=KILL`` or ``error=ENOSPC``."""

    call: str
    number: int
    effect: str = "signal=KILL"

    def __str__(self) -> str:
        return f"{self.call}:{self.effect}:when={self.number}"


class Traced:
    """What was seen so far."""

    def __init__(self, output: Path) -> None:
        self.output = output

    def text(self) -> str:
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def hit(self) -> bool:
        """Whether a call was tampered with."""
        text = self.text()
        return "INJECTED" in text or "+++ killed by SIGKILL" in text

    def points(self, changing: bool = True) -> list[tuple[str, int]]:
        """Each call and the first, second, ... of them that one process has made, in the order in which they were seen."""
        made: Counter[tuple[str, str]] = Counter()
        found: dict[tuple[str, int], None] = {}
        for pid, call, rest in _CALL.findall(self.text()):
            made[pid, call] += 1
            words = _OF_NO_STATE.get(call, ()) if changing else ()
            if not words or any(word in rest for word in words):
                found.setdefault((call, made[pid, call]))
        return list(found)


def options(point: Point | None, output: Path) -> list[str]:
    if point is None:
        return ["-qq", "-s", "0", "-e", f"trace={STATE_CHANGING}", "-o", str(output)]
    told = ["-s", "0", "-e", f"trace={point.call}", "-e", f"inject={point}"]
    return ["-q", *told, "-o", str(output)]


@contextmanager
def at(pid: int, point: Point | None, *, children: bool) -> Iterator[Traced]:
    """strace over a process that lives, and `children` over what it makes too. None: it only looks."""
    with tempfile.TemporaryDirectory() as place:
        output = Path(place, "trace")
        argv = ["strace", *(["-f"] if children else []), *options(point, output), "-p", str(pid)]
        if not children:
            argv[1:1] = ["-f"] if point is None else []
        tracer = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            eventually(lambda: tracer.poll() is not None or is_traced(pid))
            yield Traced(output)
        finally:
            tracer.terminate()
            tracer.wait(timeout=30)


def is_traced(pid: int) -> bool:
    try:
        return "\nTracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


_CUSTOMIZE = """
import sys
if "orchestrator.cli" in sys.orig_argv:
    sys.executable = {wrapper!r}
"""
_WRAPPER = """#!{python}
import os, sys, time
me = os.getpid()
if os.fork() == 0:
    if os.fork() == 0:
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.closerange(3, 4096)
        os.setsid()
        open({pid_file!r}, "w").write(str(os.getpid()))
        os.execvp("strace", ["strace", "-f", *{options!r}, "-p", str(me)])
    os._exit(0)
os.wait()
while "\\nTracerPid:\\t0\\n" in open("/proc/self/status").read():
    time.sleep(0.001)
os.execv({python!r}, [{python!r}, *sys.argv[1:]])
"""


@contextmanager
def at_birth(point: Point | None, code: Path) -> Iterator[tuple[Mapping[str, str], Traced]]:
    """The environment of a command whose supervisor strace is over from its first moment on, with all that it makes.
    `code`: the directory of the command's `orchestrator`. At the end of the block strace lets go."""
    with tempfile.TemporaryDirectory() as place:
        wrapper, output, pid_file = Path(place, "python"), Path(place, "trace"), Path(place, "pid")
        words = {"python": sys.executable, "pid_file": str(pid_file), "options": options(point, output)}
        wrapper.write_text(_WRAPPER.format(**words))
        wrapper.chmod(0o755)
        Path(place, "sitecustomize.py").write_text(_CUSTOMIZE.format(wrapper=str(wrapper)))
        try:
            yield {"PYTHONPATH": f"{place}:{code}"}, Traced(output)
        finally:
            if pid_file.exists():
                let_go(int(pid_file.read_text()))


def let_go(tracer: int) -> None:
    """End a strace that is nobody's child; it leaves what it traced to itself."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(tracer, signal.SIGTERM)
    eventually(lambda: not Path(f"/proc/{tracer}").exists())
