"""busybox: one static program, a link for each of its applets, and the few files that a system has."""

from __future__ import annotations

import os
import subprocess

import trio

from orchestrator.errors import HostError
from orchestrator.images.bases.apt import Apt
from orchestrator.images.bases.tree import Tree

PROGRAM = "/bin/busybox"
_PT_INTERP = 3

_DIRECTORIES: tuple[tuple[str, int], ...] = (
    *((name, 0o755) for name in ("/bin", "/dev", "/etc", "/home", "/proc", "/run", "/sys", "/usr", "/usr/bin", "/usr/sbin")),
    *((name, 0o755) for name in ("/sbin", "/var", "/var/spool", "/var/spool/mail", "/var/www")),
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
    order = "little" if head[5] == 1 else "big"
    offset = int.from_bytes(head[32:40], order)  # type: ignore[arg-type]
    size, count = (int.from_bytes(head[at : at + 2], order) for at in (54, 56))  # type: ignore[arg-type]
    kinds = [int.from_bytes(head[at : at + 4], order) for at in range(offset, offset + size * count, size or 1)]  # type: ignore[arg-type]
    return bool(kinds) and _PT_INTERP not in kinds


def applet_names(program: str) -> list[str]:
    """What `program` answers to, but for its own name. It is run: give a busybox of this machine's packages."""
    done = subprocess.run([program, "--list"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    names = done.stdout.decode(errors="replace").split()
    if done.returncode != 0 or "sh" not in names:
        raise HostError(f"{program} does not tell what it can do", hint="it should be Debian's busybox-static")
    return [name for name in names if name != "busybox" and "/" not in name]


def fill(tree: Tree, content: bytes, applets: list[str], modified_s: int) -> None:
    """Blocks. `modified_s`: when the program was made, the time of everything here."""
    tree.newest_s = modified_s
    for path, mode in _DIRECTORIES:
        tree.directory(path, mode)
    tree.file("/bin/busybox", content, 0o755)
    for name in applets:
        tree.link(f"/bin/{name}", "busybox")
    tree.link("/usr/bin/env", "../../bin/busybox")
    tree.link("/etc/mtab", "../proc/self/mounts")
    tree.link("/var/run", "/run")
    texts = {"passwd": _PASSWD, "group": _GROUP, "nsswitch.conf": "hosts: files dns\n", "hostname": "", "hosts": "", "resolv.conf": ""}
    for name, text in texts.items():
        tree.file(f"/etc/{name}", text.encode())
    tree.file("/etc/shadow", "".join(f"{line.split(':')[0]}:*:::::::\n" for line in _PASSWD.splitlines()).encode(), 0o640)
    tree.file("/etc/profile", b"export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n")
