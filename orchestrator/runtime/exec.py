"""A further process in a running container: what it is made of, and the output of a probe."""

from __future__ import annotations

import os
from typing import Any

import trio

from orchestrator.contracts.runtime import ExecSpec, OciConfig
from orchestrator.errors import CommandError
from orchestrator.oci.confinement import privileged_process
from orchestrator.oci.terms import ANNOTATION_GROUPS, ANNOTATION_HOME, DEFAULT_PATH
from orchestrator.oci.users import resolve_user
from orchestrator.runtime.rootfs import read_users

PROBE_OUTPUT_BYTES = 4096
_READ_BYTES = 1 << 16
_READS_AT_ONCE = 16


def exec_process(config: OciConfig, spec: ExecSpec, pid: int) -> dict[str, Any]:
    """The OCI ``process``: the container's own, with what differs. `pid`: of the container, whose passwd names the users.
    Raises CommandError (126) for an unknown user."""
    process: dict[str, Any] = dict(config["process"])
    process["args"] = list(spec.argv)
    annotations = config.get("annotations") or {}
    variables = dict(text.partition("=")[::2] for text in process.get("env") or ())
    if spec.user is not None:
        try:
            found = resolve_user(spec.user, *read_users(pid))
        except ValueError as exc:
            raise CommandError(f"{exc} in the container") from exc
        groups = [*found.groups, *map(int, annotations.get(ANNOTATION_GROUPS, "").split())]
        process["user"] = {"uid": found.uid, "gid": found.gid, "umask": 0o022, "additionalGids": groups}
        if "HOME" not in variables or annotations.get(ANNOTATION_HOME) == "default":
            variables["HOME"] = found.home
        if (capabilities := process.get("capabilities")) is not None:
            held = list(capabilities.get("bounding") or ()) if found.uid == 0 else []
            sets = {"effective": held, "permitted": held, "inheritable": [], "ambient": []}
            process["capabilities"] = {**capabilities, **sets}
    if spec.privileged and process.get("capabilities") is not None:
        process = privileged_process(process)
    variables.setdefault("PATH", DEFAULT_PATH)
    variables.update(spec.environment or {})
    process["env"] = [f"{name}={value}" for name, value in variables.items()]
    if spec.working_dir is not None:
        process["cwd"] = spec.working_dir
    return process


class Output:
    """Reads a pipe to its end, and keeps the first bytes: a probe that writes without end must not block."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._kept = b""

    async def drain(self) -> None:
        """Until the end of the pipe."""
        while True:
            await trio.lowlevel.wait_readable(self._fd)
            if self.read_now():
                return

    def read_now(self) -> bool:
        """What is there, within reason: a fast writer does not hold us up. True at the pipe's end."""
        for _ in range(_READS_AT_ONCE):
            try:
                data = os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                return False
            if not data:
                return True
            self._kept += data[: max(0, PROBE_OUTPUT_BYTES - len(self._kept))]
        return False

    @property
    def text(self) -> str:
        return self._kept.decode("utf-8", "replace")
