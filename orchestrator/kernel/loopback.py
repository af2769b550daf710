"""The loopback device of a new network namespace (netdevice(7))."""

from __future__ import annotations

import fcntl
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
else:  # It would make enumerations of all that it has
    import _socket as socket

_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_IFF_UP = 1
_REQUEST = struct.Struct("=16sH22x")
"""struct ifreq with flags."""


def raise_loopback() -> None:
    """``lo`` is down where the namespace is new: 127.0.0.1 answers from here on. Raises OSError."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        _, flags = _REQUEST.unpack(fcntl.ioctl(sock.fileno(), _SIOCGIFFLAGS, _REQUEST.pack(b"lo", 0)))
        fcntl.ioctl(sock.fileno(), _SIOCSIFFLAGS, _REQUEST.pack(b"lo", flags | _IFF_UP))
    finally:
        sock.close()
