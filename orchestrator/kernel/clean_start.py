"""A process of ours starts clean: nothing of the shell that happened to start it goes on to containers.

Limits, nice value, scheduling policy, I/O priority, processors, memory policy, OOM score, ignored and blocked signals,
umask, session keyring and personality all pass through fork(2) and execve(2). A container that had them would depend on who
typed `up`: under `nice`, in a terminal with `ulimit -v`, from a cron job, in the background of a script (which ignores
SIGINT). So the supervisor and the monitor put each back to what the first process of a machine has. What a child sets
itself in any case (session, working directory, capabilities, environment, descriptors) is not here.
"""

from __future__ import annotations

import os
import resource

from orchestrator.kernel import constants as c
from orchestrator.kernel import limits, process
from orchestrator.kernel.syscalls import call, number_of

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would cost the monitor a megabyte
    import signal
    from collections.abc import Callable
else:  # `signal` makes enumerations of all of them
    import _signal as signal

UMASK = 0o022
_TIMER_SLACK_NS = 50_000
"""What process 1 begins with (prctl(2)); 0 would mean: what our parent had."""
_POSSIBLE = "/sys/devices/system/cpu/possible"
_OWN_LIMITS = ("RLIMIT_STACK", "RLIMIT_CORE")
"""Where our own soft limit is the default too: more stack would go to every thread, and a core dump of ours has secrets."""


def start_clean() -> tuple[str, ...]:
    """Put back everything of `_PROPERTIES`; a sentence for each that the machine does not allow to be put back.
    Before any thread is started: most of it belongs to one thread."""
    refused = []
    for name, put_back in _PROPERTIES:
        try:
            put_back()
        except OSError as exc:
            refused.append(f"{name} of whoever started this cannot be put back: {exc.strerror}")
    return tuple(refused)


def _signals() -> None:
    """Python itself ignores SIGPIPE and SIGXFSZ; a child resets both."""
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    process.default_internal_signals()


def _limits() -> None:
    """Hard limits at least the defaults', or as they are; our own soft limits as high as they go."""
    for name, number, soft, hard in limits.DEFAULTS:
        limits.attainable(number, soft, hard)
        own = resource.getrlimit(number)[1]
        low = soft if not limits.above(soft, own) else own
        limits.set_limit(number, low if name in _OWN_LIMITS else own, own)


def _processors() -> None:
    """All that there are; the kernel leaves out those that our cpuset does not have."""
    with open(_POSSIBLE, encoding="ascii") as file:
        last = int(file.read().replace("-", ",").rpartition(",")[2])  # 0-3, or 0,2-3
    os.sched_setaffinity(0, range(last + 1))


def _oom_score() -> None:
    fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, b"0")
    finally:
        os.close(fd)


def _core_filter() -> None:
    """What of memory goes into a core dump (core(5)). A kernel without core dumps has no such file."""
    try:
        fd = os.open("/proc/self/coredump_filter", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.write(fd, b"0x33")
    finally:
        os.close(fd)


def _io_priority() -> None:
    """Class none: it follows the nice value (ioprio_set(2))."""
    call(number_of("ioprio_set"), 1, 0, 0)


def _memory_policy() -> None:
    """Of `numactl`; a kernel without NUMA has none."""
    try:
        call(number_of("set_mempolicy"), 0, 0, 0)
    except OSError as exc:
        if exc.errno != 38:
            raise


def _keyring() -> None:
    """A new session keyring: a login's has keys in it. Where keyrings are not to be had, containers have none either."""
    try:
        process.join_new_session_keyring()
    except OSError as exc:
        if exc.errno not in (1, 38):
            raise


_PROPERTIES: tuple[tuple[str, Callable[[], object]], ...] = (
    ("the umask", lambda: os.umask(UMASK)),
    ("the signal settings", _signals),
    ("the limits", _limits),
    ("the scheduling policy", lambda: os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))),
    ("the nice value", lambda: os.setpriority(os.PRIO_PROCESS, 0, 0)),
    ("the I/O priority", _io_priority),
    ("the choice of processors", _processors),
    ("the memory policy", _memory_policy),
    ("the OOM score", _oom_score),
    ("the core dump filter", _core_filter),
    ("the personality", lambda: call(number_of("personality"), 0)),
    ("the timer slack", lambda: process.prctl(c.PR_SET_TIMERSLACK, _TIMER_SLACK_NS)),
    ("the use of huge pages", lambda: process.prctl(c.PR_SET_THP_DISABLE, 0)),
    ("the session keyring", _keyring),
)
