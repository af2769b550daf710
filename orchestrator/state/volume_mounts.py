"""Volumes with ``driver_opts``: what mount(8) puts over their directory.

A bound directory (``o: bind``) is used where it lies, and nothing is mounted. Everything else is mounted in the mount
namespace of whoever runs pystack, when the volume is first used, and stays until nothing uses it.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Mapping
from shutil import which

from orchestrator.errors import HostError, OperationError
from orchestrator.kernel import mounts
from orchestrator.model.volume import bound_directory, flags_of

MOUNT_TIMEOUT_S = 60.0
"""A server that does not answer makes mount(8) wait for minutes."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def provide(name: str, options: Mapping[str, str], data: str) -> str:
    """The directory with the content of the volume `name`, mounted at `data` if that is needed and not done.
    Raises OperationError, HostError. Blocking."""
    bound = bound_directory(options)
    if bound is not None:
        if not os.path.isdir(bound):
            raise OperationError(
                f'volume "{name}" is the directory {bound}, which does not exist', hint=f"make it: mkdir -p {bound}"
            )
        return bound
    if options and not os.path.ismount(data):
        _mount(name, options, data)
    return data


def release(name: str, data: str) -> None:
    """Unmount whatever is mounted at `data`. Raises OperationError."""
    try:
        while os.path.ismount(data):
            mounts.unmount(os.fsencode(data))
    except OSError as exc:
        hint = "a process has a file of it open" if exc.errno == errno.EBUSY else None
        raise OperationError(f'cannot unmount volume "{name}" at {data}: {exc.strerror}', hint=hint) from exc


def _mount(name: str, options: Mapping[str, str], data: str) -> None:
    kind = options["type"]
    device, flags = _addressed(options["device"], flags_of(options)) if kind.startswith("nfs") else (
        options["device"],
        flags_of(options),
    )
    words = ["mount", "-t", kind, *(["-o", ",".join(flags)] if flags else []), device, data]
    what = f'cannot mount volume "{name}" ({kind} {device})'
    try:
        ran = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=MOUNT_TIMEOUT_S,
            env={"PATH": _PATH, "LC_ALL": "C"},
            check=False,
        )
    except FileNotFoundError as exc:
        raise HostError(f"{what}: there is no mount(8)", hint="install it: apt install mount") from exc
    except subprocess.TimeoutExpired as exc:
        message = f"{what}: no answer for {MOUNT_TIMEOUT_S:.0f} s"
        raise OperationError(message, hint="is the server reachable?") from exc
    if ran.returncode != 0:
        said = [line.strip() for line in ran.stderr.decode("utf-8", "backslashreplace").split("\n") if line.strip()]
        raise OperationError(f"{what}: {said[0] if said else f'mount ended with {ran.returncode}'}", hint=_hint(kind))


def _addressed(device: str, flags: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Docker writes ``device: ":/path"`` with ``o: addr=HOST``; mount.nfs(8) wants ``HOST:/path``."""
    host = next((flag.removeprefix("addr=") for flag in flags if flag.startswith("addr=")), "")
    if not device.startswith(":") or not host:
        return device, flags
    shown = f"[{host}]" if ":" in host else host
    return shown + device, tuple(flag for flag in flags if not flag.startswith("addr="))


def _hint(kind: str) -> str | None:
    if kind.startswith("nfs") and which("mount.nfs", path=_PATH) is None:
        return "NFS needs mount.nfs: apt install nfs-common"
    if kind == "cifs" and which("mount.cifs", path=_PATH) is None:
        return "CIFS needs mount.cifs: apt install cifs-utils"
    return None
