"""The init of a container, as a program: an ELF file of some 500 bytes, whose assembler source is beside this file.

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
        b"AAAAAEAAAAAAAAAAQAAAAAAA/wEAAAAAAAD/AQAAAAAAAAAAAQAAAAAAUeV0ZAYAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        b"AAAAAAAAAAAAAAAAEAAAAAAAAABweXN0YWNrLWluaXQASItcJBBFMeRFMfYPtgOEwHQZxgMASP/Dg+gweAlFa+QKQQHE6+VB/8br4EiB"
        b"7KAAAAC4nQAAAL8PAAAASI01sP///w8FSMeEJIAAAAD/////uA4AAAAx/0iNtCSAAAAAMdJBuggAAAAPBbiAAAAASI28JIAAAABIieYx"
        b"0kG6CAAAAA8FSIP4/HTgSIXAD4ifAAAAg/gRdC+BfCQIgAAAAHUSicG6AQAAAEjT4vfCDAAQEHW2RYXkdLGJxkSJ57g+AAAADwXro7//"
        b"////SI20JIgAAAC6AQAAAEUx0rg9AAAADwWFwHSDeEREOeB12UUx5IuEJIgAAABBicVBg+V/dAlBgcWAAAAA6wYPtsRBicVFhfZ0I7gB"
        b"AAAAMf9IjbQkiAAAALoEAAAADwXrmkWF5HQGQb1/AAAARInvuOcAAAAPBQ=="
    ),
    "aarch64": (
        b"f0VMRgIBAQAAAAAAAAAAAAIAtwABAAAAwABAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAAAAEAAOAACAAAAAAAAAAEAAAAFAAAAAAAAAAAA"
        b"AAAAAEAAAAAAAAAAQAAAAAAABAIAAAAAAAAEAgAAAAAAAAAAAQAAAAAAUeV0ZAYAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        b"AAAAAAAAAAAAAAAAEAAAAAAAAABweXN0YWNrLWluaXQAAAAA9AtA+RMAgFIWAIBSVQGAUoACQDkAAQA0nxYAOADAAHFkAABUcwIVG/r/"
        b"/xc2AIBS+P//F/+DAtHoFIDS4AGA0oH9/xABAADUAACAkuBDAPnoEIDSAACA0uEDApECAIDSAwGA0gEAANQoEYDS4AMCkeEDAJECAIDS"
        b"AwGA0gEAANQfEACxIP//VEAF+LcfRABx4AEAVOELQLk/AAJxwQAAVCEAgFIhIMCawgQAGD8AAurB/f9Us/3/NOEDACrgAxMqKBCA0gEA"
        b"ANTo//8XAACAEuEjApEiAIDSAwCA0ogggNIBAADUIPz/NCAC+DcfABNr4f7/VBMAgFLhi0C5NxgAcmAAAFT3AgIRAgAAFDc8CFM2AQA0"
        b"AACA0uEjApGCAIDSCAiA0gEAANTp//8XUwAANPcPgFLgAxcqyAuA0gEAANQMABAQ"
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
