"""The project's supervisor: the one that runs, or a new one.

A new one is a process of its own session with the project's ``supervisor.log`` as its output; one line on a pipe says that
it is ready, or why it cannot be. One of an older version hands over first (`handover`).
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time

from orchestrator.client.connection import Client, readable
from orchestrator.client.messages import OtherProtocol, SupervisorGone, error_from
from orchestrator.contracts.protocol import VERSION
from orchestrator.contracts.site import Site
from orchestrator.errors import BusyError, HostError

READY_TIMEOUT_S = 60.0
"""For a new supervisor: adopting a hundred containers takes a second or two."""
_RACE_PAUSE_S = 0.05
_LOG_LIMIT_BYTES = 1 << 20


def connect(site: Site) -> Client | None:
    """A connection to the supervisor that runs, which has answered on it; None if none does, or it was about to end.

    One of an older version has handed over, and is none. Raises Unanswered, or OtherProtocol for one of a newer version.
    """
    client = Client.connect(site)
    if client is None:
        return None
    try:
        client.request("hello")
        return client
    except SupervisorGone:
        client.close()
        return None
    except OtherProtocol as other:
        client.close()
        if other.version > VERSION:
            raise
        from orchestrator.client.handover import hand_over

        hand_over(site, other.version)
        return None
    except BaseException:
        client.close()
        raise


def ensure_supervisor(site: Site, *, timeout_s: float = READY_TIMEOUT_S) -> tuple[Client, bool]:
    """A connection to the project's supervisor, started if none runs; True when this call started it.

    Two commands may race: the supervisor's lock decides, the loser exits with a BusyError and we connect to the winner.
    Raises what the supervisor reports (no root, no overlayfs), or HostError when it does not come up in `timeout_s`.
    """
    from orchestrator.state.directory import make_private

    deadline = time.monotonic() + timeout_s
    started = False
    lost: BusyError | None = None
    while (client := connect(site)) is None:
        if time.monotonic() > deadline:
            message = f"the supervisor of project {site.project} does not stay"
            raise lost or HostError(message, hint=_log_hint(site))
        make_private(site.data_dir)
        try:
            _start(site, timeout_s)
            started = True
        except BusyError as error:
            # The winner is not listening yet, or a supervisor that ends (`down`) still holds the lock. Nothing tells
            # when that is over, so look again: rare, short, and with a deadline.
            lost = error
            time.sleep(_RACE_PAUSE_S)
    return client, started


def _start(site: Site, timeout_s: float) -> None:
    """Start a supervisor and wait for its `ready` line. Raises its error object's error, or HostError."""
    import subprocess

    data_root = os.path.dirname(os.path.dirname(site.data_dir))
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, writer)
            log = _open_log(site)
            stack.callback(os.close, log)
            # -P: the user's directory must not be searched for modules (python(1)).
            command = [sys.executable, "-P", "-m", "orchestrator.supervisor"]
            command += ["--data-dir", data_root, "--run-dir", os.path.dirname(site.run_dir)]
            command += ["--project", site.project, "--ready-fd", str(writer)]
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                pass_fds=(writer,),
            )
        line = _read_line(reader, time.monotonic() + timeout_s)
        if line is None:
            process.kill()
            process.wait()
            raise HostError(f"the supervisor of project {site.project} was not ready in time", hint=_log_hint(site))
        if line == b"ready":
            # It outlives this command by design: nothing here waits for it, and Popen must not warn about that.
            process.returncode = 0
            return
        status = process.wait()
    finally:
        os.close(reader)
    try:
        error = json.loads(line)
        error = error.get("error", error)
    except (ValueError, AttributeError):
        ended = f"with code {status}" if status >= 0 else f"by signal {-status}"
        raise HostError(
            f"the supervisor of project {site.project} ended {ended} before it was ready", hint=_log_hint(site)
        ) from None
    _forget_empty(site)
    raise error_from(error)


def _forget_empty(site: Site) -> None:
    """A supervisor that said why it could not begin leaves nothing of a project that has nothing else."""
    with contextlib.suppress(OSError):
        log = os.path.join(site.data_dir, "supervisor.log")
        if os.listdir(site.data_dir) == ["supervisor.log"] and os.path.getsize(log) == 0:
            os.unlink(log)
            os.rmdir(site.data_dir)
            os.rmdir(site.run_dir)


def _open_log(site: Site) -> int:
    path = os.path.join(site.data_dir, "supervisor.log")
    try:
        with contextlib.suppress(FileNotFoundError):
            if os.lstat(path).st_size > _LOG_LIMIT_BYTES:
                os.replace(path, path + ".1")
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise HostError(f"cannot write {path}: {exc.strerror}") from exc


def _log_hint(site: Site) -> str:
    """Where its log is, and the last line of it."""
    path = os.path.join(site.data_dir, "supervisor.log")
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            lines = [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    return f"its log is {path}" + (f"; the last line: {lines[-1].strip()}" if lines else "")


def _read_line(fd: int, deadline: float) -> bytes | None:
    """The first line, or what came before the end; None when the deadline passes."""
    data = bytearray()
    while b"\n" not in data:
        if not readable(fd, max(0.0, deadline - time.monotonic())):
            return None
        chunk = os.read(fd, 65536)
        if not chunk:
            break
        data += chunk
    return bytes(data).partition(b"\n")[0].strip()
