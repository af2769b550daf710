"""A pty of the container's own devpts (pts(4)): made inside, its master sent out, its slave kept."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from orchestrator.kernel import constants as c
from orchestrator.kernel import fdpass
from orchestrator.kernel.rooted import open_in
from orchestrator.kernel.syscalls import filesystem_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
else:  # Both would make enumerations of all that they have
    import _socket as socket

_TIOCSWINSZ = 0x5414


def make_terminal(root: int, console: socket.socket, uid: int, size: tuple[int, int] | None) -> int:
    """It becomes our stdin, stdout, stderr and controlling terminal; its number. `size`: rows, columns. Raises OSError."""
    master = open_in(root, b"/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
    if filesystem_type(master) != c.DEVPTS_SUPER_MAGIC:
        raise OSError(errno.ENODEV, "")
    fcntl.ioctl(master, c.TIOCSPTLCK, struct.pack("i", 0))
    slave = fcntl.ioctl(master, c.TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
    if size is not None:
        fcntl.ioctl(master, _TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    try:
        os.fchown(slave, uid, -1)
    except OSError as exc:
        if exc.errno not in (errno.EPERM, errno.EINVAL):
            raise
    number = int(struct.unpack("i", fcntl.ioctl(master, c.TIOCGPTN, bytes(4)))[0])
    fdpass.send(console, b"/dev/pts/%d" % number, [master])
    console.close()
    fcntl.ioctl(slave, c.TIOCSCTTY, 0)
    for fd in range(3):
        os.dup2(slave, fd)
    os.close(slave)
    os.close(master)
    return number
