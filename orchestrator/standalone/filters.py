"""``linux.seccomp`` compiled for a process, with its listener (config-linux.md, "Seccomp")."""

from __future__ import annotations

import os

from orchestrator.errors import HostError, InputError
from orchestrator.kernel.jsontext import dumps
from orchestrator.standalone.identities import Identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from typing import Any
else:  # Both would make enumerations of all that they have
    import _socket as socket

_NOTIFY = "SCMP_ACT_NOTIFY"
_WAIT_KILLABLE = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"
_WAIT_KILLABLE_BIT = 1 << 5
_PID = -1
"""Stands for what is not known yet."""


def add_filter(identity: Identity, profile: Mapping[str, Any] | None, state: Mapping[str, Any]) -> None:
    """`state`: of the container, as its listener is told. Raises InputError, HostError."""
    if not profile:
        return
    from orchestrator.kernel import seccomp

    flags = [flag for flag in profile.get("flags") or () if flag != _WAIT_KILLABLE]
    notifies = any(item.get("action") == _NOTIFY for item in profile.get("syscalls") or ())
    try:
        identity.filter = seccomp.compile_filter(dict(profile), os.uname().machine)
        identity.filter_flags = seccomp.flags_of({"flags": flags})
    except ValueError as exc:
        raise InputError(str(exc), place="linux.seccomp") from exc
    except KeyError as exc:
        raise HostError(str(exc.args[0]), place="linux.seccomp") from exc
    path = profile.get("listenerPath")
    if profile.get("defaultAction") == _NOTIFY:
        raise InputError(f"{_NOTIFY} cannot be the default: the listener itself could not be told", place="linux.seccomp")
    if profile.get("listenerMetadata") and not path:
        raise InputError("listenerMetadata needs listenerPath", place="linux.seccomp")
    if notifies and not path:
        raise InputError(f"{_NOTIFY} needs listenerPath: nobody would answer", place="linux.seccomp")
    if not path:
        return
    if _WAIT_KILLABLE in (profile.get("flags") or ()):
        identity.filter_flags |= _WAIT_KILLABLE_BIT
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.connect(path)
    except OSError as exc:
        raise HostError(f"cannot connect to {path}: {exc.strerror}", place="linux.seccomp.listenerPath") from exc
    identity.listener = sock
    told = {
        "ociVersion": state["ociVersion"],
        "fds": ["seccompFd"],
        "pid": _PID,
        "metadata": profile.get("listenerMetadata") or "",
        "state": {**state, "pid": _PID},
    }
    identity.listener_state = dumps(told).replace("%", "%%").replace(f'"pid": {_PID}', '"pid": %d').encode()
