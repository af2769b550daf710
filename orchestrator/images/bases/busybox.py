"""busybox: one static program, a link for each of its applets, and the few files that a system has."""

from __future__ import annotations

import os
import struct
import subprocess

import trio

from orchestrator.errors import HostError, OperationError
from orchestrator.images.bases.apt import Apt
from orchestrator.images.bases.archive import Stream
from orchestrator.images.bases.tree import NS_PER_SECOND, Tree
from orchestrator.images.unpack.entries import Kind
from orchestrator.images.unpack.reading import read_entries

PROGRAM = "/bin/busybox"
_PT_INTERP = 3

_DIRECTORIES: tuple[tuple[str, int], ...] = (
    *((name, 0o755) for name in ("/bin", "/dev", "/etc", "/home", "/proc", "/run", "/sbin", "/sys", "/usr", "/usr/bin")),
    *((name, 0o755) for name in ("/usr/sbin", "/var", "/var/spool", "/var/spool/mail", "/var/www")),
    ("/root", 0o700),
    ("/tmp", 0o1777),
    ("/var/tmp", 0o1777),
)
_PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
operator:x:37:37:Operator:/var:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
"""
_GROUP = """\
root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
tty:x:5:
mail:x:8:
www-data:x:33:
operator:x:37:
staff:x:50:
users:x:100:
nogroup:x:65534:
"""


async def find(apt: Apt) -> str:
    """A static busybox: this machine's, else a .deb that holds one. Raises as `Apt.packages`, and HostError if there is no
    apt either."""
    if await trio.to_thread.run_sync(is_static, PROGRAM):
        return PROGRAM
    try:
        archives = await apt.packages(["busybox-static"])
    except HostError as exc:
        raise HostError(f"{PROGRAM} is not a static program, and there is no apt to fetch one", hint=exc.hint) from exc
    return next(path for path in archives if os.path.basename(path).startswith("busybox-static_"))


def is_static(path: str) -> bool:
    """Whether `path` is an ELF program without an interpreter (elf(5))."""
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError:
        return False
    if head[:4] != b"\x7fELF" or head[4] != 2:
        return False
    order = "<" if head[5] == 1 else ">"
    (offset,), (size, count) = struct.unpack_from(f"{order}Q", head, 32), struct.unpack_from(f"{order}HH", head, 54)
    if size < 4 or offset + size * count > len(head):
        return False
    kinds = [struct.unpack_from(f"{order}I", head, offset + size * number)[0] for number in range(count)]
    return bool(kinds) and _PT_INTERP not in kinds


def _program(source: str) -> tuple[bytes, int]:
    """A busybox and when it was made, out of a .deb or as it is."""
    if not source.endswith(".deb"):
        with open(source, "rb") as file:
            return file.read(), int(os.fstat(file.fileno()).st_mtime)
    with Stream(source) as stream:
        for entry, data in read_entries(stream):
            if entry.kind is Kind.FILE and entry.path.endswith(b"bin/busybox"):
                return data.read(), entry.mtime_ns // NS_PER_SECOND
    raise OperationError(f"{source} holds no busybox")


def applet_names(program: str) -> list[str]:
    """What `program` answers to, but for its own name. It is run: give a busybox of this machine's packages."""
    done = subprocess.run([program, "--list"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    names = done.stdout.decode(errors="replace").split()
    if done.returncode != 0 or "sh" not in names:
        raise HostError(f"{program} does not tell what it can do", hint="it should be Debian's busybox-static")
    return [name for name in names if name != "busybox" and "/" not in name]


def fill(tree: Tree, source: str) -> None:
    """Blocks. `source`: as `find` gives it. Everything has the time of the program."""
    content, tree.newest_s = _program(source)
    for path, mode in _DIRECTORIES:
        tree.directory(path, mode)
    tree.file("/bin/busybox", content, 0o755)
    for name in applet_names(os.path.join(tree.directory_path, "bin/busybox")):
        tree.link(f"/bin/{name}", "busybox")
    tree.link("/usr/bin/env", "../../bin/busybox")
    tree.link("/etc/mtab", "../proc/self/mounts")
    tree.link("/var/run", "/run")
    texts = {"passwd": _PASSWD, "group": _GROUP, "nsswitch.conf": "hosts: files dns\n"}
    for name in ("passwd", "group", "nsswitch.conf", "hostname", "hosts", "resolv.conf"):
        tree.file(f"/etc/{name}", texts.get(name, "").encode())
    tree.file("/etc/shadow", "".join(f"{line.split(':')[0]}:*:::::::\n" for line in _PASSWD.splitlines()).encode(), 0o640)
    tree.file("/etc/profile", b"export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n")
