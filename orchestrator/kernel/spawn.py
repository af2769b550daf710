"""Programs of ours that outlive who starts them: the supervisor and the monitor.

posix_spawn(3) and not `subprocess`, whose import takes a command as long as all that it has to do before a supervisor is
on its way. What posix_spawn cannot do, closing the descriptors of the shell that happened to start us, the program does
itself (`born`).
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as signals
    from collections.abc import Iterable, Sequence
else:
    import _signal as signals  # `signal` makes enumerations of all of them


def spawn(argv: Sequence[str], *, output: int, keep: Iterable[int] = (), program: str = "") -> int:
    """Start ``argv[0]`` (or `program`, under that name) in a session of its own: stdin is /dev/null, stdout and stderr are
    `output`, and the descriptors `keep` stay open. Signals are as at birth, the environment is ours. Returns its pid.
    Raises OSError."""
    kept = tuple(keep)
    for fd in kept:
        os.set_inheritable(fd, True)
    try:
        return os.posix_spawn(
            program or argv[0],
            list(argv),
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=(signals.SIGPIPE, signals.SIGXFSZ, signals.SIGINT, signals.SIGQUIT, signals.SIGHUP, signals.SIGTERM),
        )
    finally:
        for fd in kept:
            os.set_inheritable(fd, False)


def born(keep: Iterable[int]) -> None:
    """The first thing a program that was started by `spawn` does: what it inherited and `keep` does not name is closed, and
    it holds no directory of its starter's."""
    kept = set(keep)
    for fd in kept:
        os.set_inheritable(fd, False)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in kept:
            try:  # noqa: SIM105
                os.close(int(name))
            except OSError:
                pass  # The directory itself, which was being listed.
    os.chdir("/")
