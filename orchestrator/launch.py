"""Starting a supervisor, early.

A supervisor's interpreter and imports take longer than all it does until a container runs, and so does the loading of a
compose file. So a command that will need one starts it as soon as it knows the project's name, and loads meanwhile:

    command     begin() --- loads the file --- go() --- answer() --- connects
    supervisor     imports ------------------- waits -- takes the lock, makes directories, adopts, "ready"
    monitor           imports ---------------- waits -------- begins when the supervisor hands it its socket

Until `go` the supervisor has touched nothing: no file, no lock, no socket, no container. When the command fails, is killed
or changes its mind, the pipe between them closes, and supervisor and monitor end without a trace. Commands that race each
start one; after `go` the project's lock decides, and the loser says so and ends.

Standard library only, and little of it.
"""

from __future__ import annotations

import os
import select
import sys
import time

from orchestrator.kernel.spawn import spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orchestrator.contracts.site import Site

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "supervisor", "__main__.py")


def supervisor_argv(data_root: str, run_root: str, project: str) -> tuple[str, ...]:
    """The command line of a supervisor that waits for nobody. ``-P``: the user's directory is not searched for modules."""
    return (sys.executable, "-P", PROGRAM, "--data-dir", data_root, "--run-dir", run_root, "--project", project)


class Launch:
    """A supervisor on its way. Exactly one of `go` (and then `answer`) and `abandon` ends it."""

    __slots__ = ("_go", "_reader", "pid", "site")

    def __init__(self, site: Site, pid: int, go: int, reader: int) -> None:
        self.site = site
        self.pid = pid
        self._go = go
        self._reader = reader

    def go(self) -> None:
        """Let it begin: from now on it does not depend on us."""
        try:  # noqa: SIM105
            os.write(self._go, b"g")
        except BrokenPipeError:
            pass  # It has ended: `answer` tells how.
        os.close(self._go)
        self._go = -1

    def answer(self, timeout_s: float) -> tuple[str, int | None]:
        """What it says first, and how it ended if it did: ``ready`` and None; or a JSON error object and its exit status
        (negative: a signal), or what else it wrote before it ended. ``""`` and None: nothing within `timeout_s`, so it has
        been killed."""
        line = _read_line(self._reader, time.monotonic() + timeout_s)
        os.close(self._reader)
        self._reader = -1
        if line is None:
            self._kill()
            return "", None
        text = line.decode("utf-8", "replace").strip()
        if text == "ready":
            return text, None
        return text, os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def abandon(self) -> None:
        """End it; nothing of it is left, not even when it was about to begin. Nothing happens after `answer`."""
        if self._reader < 0:
            return
        if self._go >= 0:
            os.close(self._go)
        os.close(self._reader)
        self._go = self._reader = -1
        self._kill()

    def _kill(self) -> None:
        os.kill(self.pid, 9)  # Our child, and not waited for: the number is still its own.
        os.waitpid(self.pid, 0)


def begin(site: Site) -> Launch:
    """Start a supervisor for the project, which then waits for `Launch.go`. Raises OSError."""
    data_root, run_root = os.path.dirname(os.path.dirname(site.data_dir)), os.path.dirname(site.run_dir)
    heard, go = os.pipe2(os.O_CLOEXEC)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        argv = supervisor_argv(data_root, run_root, site.project)
        argv += ("--go-fd", str(heard), "--ready-fd", str(writer))
        # What it writes before it has a log is what it says first: a broken installation, say.
        pid = spawn(argv, output=writer, keep=(heard, writer))
    except BaseException:
        os.close(go)
        os.close(reader)
        raise
    finally:
        os.close(heard)
        os.close(writer)
    return Launch(site, pid, go, reader)


def _read_line(fd: int, deadline_s: float) -> bytes | None:
    """The first line, or what came before the end (its last line); None when the deadline passes."""
    data = bytearray()
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while not data.startswith((b"ready\n", b"{")) or b"\n" not in data:
        if not poll.poll(max(0.0, deadline_s - time.monotonic()) * 1000):
            return None
        chunk = os.read(fd, 65536)
        if not chunk:
            return bytes(data).strip().rpartition(b"\n")[2]
        data += chunk
    return bytes(data).partition(b"\n")[0]
