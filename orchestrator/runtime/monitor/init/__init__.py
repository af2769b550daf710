"""The init of a container, as a program: an ELF file of some 450 bytes, whose assembler source is beside this file.

It is executed, so that nothing of the monitor is in its memory, and a container may look at it (/proc/1/fd/1 is its log).
"""

from __future__ import annotations

import fcntl
import os
from binascii import a2b_base64

from orchestrator.kernel.constants import MACHINE

NAME = b"pystack-init"
PROGRAMS = {
    "x86_64": (
        b"f0VMRgIBAQAAAAAAAAAAAAIAPgABAAAAvQBAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAAAAEAAOAACAAAAAAAAAAEAAAAFAAAAAAAAAAAA"
        b"AAAAAEAAAAAAAAAAQAAAAAAAvAEAAAAAAAC8AQAAAAAAAAAAAQAAAAAAUeV0ZAYAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        b"AAAAAAAAAAAAAAAAEAAAAAAAAABweXN0YWNrLWluaXQASItcJBBFMeQPtgOEwHQRRWvkCkWNZATQxgMASP/D6+hIgeygAAAAuJ0AAAC/"
        b"DwAAAEiNNbv///8PBUjHhCSAAAAA/////7gOAAAAMf9IjbQkgAAAADHSQboIAAAADwW4gAAAAEiNvCSAAAAASInmMdJBuggAAAAPBUiD"
        b"+Px04EiFwHhvg/gRdCqBfCQIgAAAAHUSicG6AQAAAEjT4vfCDAAQEHW6icZEiee4PgAAAA8F66y//////0iNtCSIAAAAugEAAABFMdK4"
        b"PQAAAA8FhcB+jEQ54HXbi4QkiAAAAInHg+d/dAiBx4AAAADrCg+2/OsFv38AAAC45wAAAA8F"
    ),
    "aarch64": (
        b"f0VMRgIBAQAAAAAAAAAAAAIAtwABAAAAwABAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAAAAEAAOAACAAAAAAAAAAEAAAAFAAAAAAAAAAAA"
        b"AAAAAEAAAAAAAAAAQAAAAAAAzAEAAAAAAADMAQAAAAAAAAAAAQAAAAAAUeV0ZAYAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        b"AAAAAAAAAAAAAAAAEAAAAAAAAABweXN0YWNrLWluaXQAAAAA9AtA+RMAgFJVAYBSgAJAOaAAADRzAhUbc8IAUZ8WADj7//8X/4MC0egU"
        b"gNLgAYDSAf7/EAEAANQAAICS4EMA+egQgNIAAIDS4QMCkQIAgNIDAYDSAQAA1CgRgNLgAwKR4QMAkQIAgNIDAYDSAQAA1B8QALEg//9U"
        b"IAT4tx9EAHHAAQBU4QtAuT8AAnHBAABUIQCAUiEgwJqCAwAYPwAC6sH9/1ThAwAq4AMTKigQgNIBAADU6f//FwAAgBLhIwKRIgCA0gMA"
        b"gNKIIIDSAQAA1B8AAHEt/P9UHwATa+H+/1Thi0C5IBgAcmAAAFQAAAIRBAAAFCA8CFMCAAAU4A+AUsgLgNIBAADUDAAQEA=="
    ),
}
"""What the sources' first lines make, in base64."""
_MFD_EXEC = 0x10
"""Since Linux 6.3, where a machine may want to be told; before, every memfd can be executed (memfd_create(2))."""


def open_program() -> int:
    """A descriptor of the program, which nobody can change any more; -1 if there is none for this machine, or it is not
    allowed."""
    if (text := PROGRAMS.get(MACHINE)) is None:
        return -1
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    fd = -1
    for more in (_MFD_EXEC, 0):
        try:
            fd = os.memfd_create(NAME.decode(), flags | more)
            break
        except OSError:
            continue
    if fd >= 0:
        os.write(fd, a2b_base64(text))
        os.fchmod(fd, 0o555)
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd
