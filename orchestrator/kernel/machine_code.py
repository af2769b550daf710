"""Programs of ours that are machine code: an ELF file in memory, for execveat(2) (`process.execute_descriptor`)."""

from __future__ import annotations

import fcntl
import os
from binascii import a2b_base64

from orchestrator.kernel.constants import MACHINE

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would cost the monitor a megabyte
    from collections.abc import Mapping

_MFD_EXEC = 0x10
"""Since Linux 6.3, where a machine may want to be told; before, every memfd can be executed (memfd_create(2))."""
_F_SEAL_EXEC = 0x20
"""Since Linux 6.3: whether it may be executed cannot be changed any more. Root of a container in the host's user namespace
owns what it was executed by (``#!/proc/self/exe``)."""


def open_program(name: str, programs: Mapping[str, bytes]) -> int:
    """A descriptor of the program, which nobody can change any more; -1 if there is none for this machine, or it is not
    allowed. `programs`: architecture (uname -m) -> the file in base64."""
    if (text := programs.get(MACHINE)) is None:
        return -1
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    fd = -1
    for more in (_MFD_EXEC, 0):
        try:
            fd = os.memfd_create(name, flags | more)
            break
        except OSError:
            continue
    if fd >= 0:
        os.write(fd, a2b_base64(text))
        os.fchmod(fd, 0o555)
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        try:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals | _F_SEAL_EXEC)
        except OSError:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd
