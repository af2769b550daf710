"""An errand: what a child of ours does because it enters namespaces, which change for the whole of a process."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

from orchestrator.errors import HostError, PystackError
from orchestrator.kernel import fdpass

Made = tuple[list[int], tuple[str, ...]]
"""What it brings back: at most `fdpass.MOST_FDS` descriptors, and texts."""
_MOST_TEXT = 1 << 16


def from_child(failure: str, make: Callable[[], Made]) -> Made:
    """What `make` gives in a child. The descriptors are the caller's. Blocking. Raises HostError, which begins with
    `failure`."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, its:
        pid = os.fork()
        if pid == 0:
            try:
                fds, texts = make()
                fdpass.send(its, json.dumps({"ok": texts}).encode()[:_MOST_TEXT], fds)
            except (OSError, PystackError) as exc:
                fdpass.send(its, json.dumps({"error": _told(exc)}).encode()[:_MOST_TEXT])
            finally:
                os._exit(0)
        its.close()
        try:
            data, fds, cut = fdpass.receive(ours, _MOST_TEXT)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    try:
        answer: dict[str, Any] = json.loads(data)
    except ValueError:
        answer = {"error": "the process that was to do it has failed"}
    if cut:
        answer = {"error": "there are too few descriptors"}
    if "error" in answer:
        fdpass.close_all(fds)
        raise HostError(f"{failure}: {answer['error']}")
    return fds, tuple(answer["ok"])


def _told(exc: OSError | PystackError) -> str:
    if isinstance(exc, PystackError):
        return str(exc)
    return f"{os.fsdecode(exc.filename)}: {exc.strerror}" if exc.filename else exc.strerror or str(exc)
