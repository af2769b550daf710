"""What a container gets does not depend on the shell that typed `up`: each property that passes through fork and execve."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.kernel.limits import DEFAULTS, above, attainable
from tests.machine import ROOT, Pystack

pytestmark = pytest.mark.kernel

CAP_SYS_RESOURCE = 1 << 24
LIBC = "import ctypes, os, resource, signal; libc = ctypes.CDLL(None, use_errno=True)"
STATUS = "[line.split()[1] for line in open('/proc/self/status') if line.startswith('{}:')]"

PROPERTIES = {
    "umask": ("os.umask(0o077)", "os.umask(0)"),
    "ignored signals": (
        "[signal.signal(n, signal.SIG_IGN) for n in (1, 2, 3, 10, 15, 34, 64)]",
        STATUS.format("SigIgn"),
    ),
    "blocked signals": ("signal.pthread_sigmask(signal.SIG_BLOCK, [2, 15, 17, 40])", STATUS.format("SigBlk")),
    "nice value": ("os.nice(7)", "os.getpriority(os.PRIO_PROCESS, 0)"),
    "scheduling policy": ("os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))", "os.sched_getscheduler(0)"),
    "reset on fork": (
        "os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))",
        "os.sched_getscheduler(0)",
    ),
    "I/O priority": ("assert libc.syscall({ioprio_set}, 1, 0, 3 << 13) == 0", "libc.syscall({ioprio_get}, 1, 0) >> 13"),
    "processors": ("os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])", "sorted(os.sched_getaffinity(0))"),
    "OOM score": ("open('/proc/self/oom_score_adj', 'w').write('500')", "open('/proc/self/oom_score_adj').read()"),
    "core dump filter": (
        "open('/proc/self/coredump_filter', 'w').write('0x1')",
        "open('/proc/self/coredump_filter').read()",
    ),
    "personality": ("assert libc.personality(0x0040000) >= 0", "libc.personality(0xffffffff)"),
    "timer slack": ("assert libc.prctl(29, 999999, 0, 0, 0) == 0", "libc.prctl(30, 0, 0, 0, 0)"),
    "huge pages": ("assert libc.prctl(41, 1, 0, 0, 0) == 0", "libc.prctl(42, 0, 0, 0, 0)"),
    **{
        f"soft {name}": (
            f"resource.setrlimit({number}, (min(max(resource.getrlimit({number})[0], 0), 1 << 34), "
            f"resource.getrlimit({number})[1]))"
            if name in ("RLIMIT_NICE", "RLIMIT_RTPRIO")
            else f"resource.setrlimit({number}, ({1 << 32 if name in ('RLIMIT_AS', 'RLIMIT_DATA') else 64}, "
            f"resource.getrlimit({number})[1]))",
            f"resource.getrlimit({number})",
        )
        for name, number, _, _ in DEFAULTS
        if name not in ("RLIMIT_NICE", "RLIMIT_RTPRIO", "RLIMIT_STACK")
    },
    "soft RLIMIT_STACK": ("resource.setrlimit(3, (1 << 20, resource.getrlimit(3)[1]))", "resource.getrlimit(3)"),
}
"""Property -> how a shell changes it, and how it is looked at."""

_NUMBERS = {"x86_64": (251, 252), "aarch64": (30, 31)}


def _look(name: str, *, changed: bool, clean: bool) -> str:
    change, look = PROPERTIES[name]
    set_, get = _NUMBERS[__import__("os").uname().machine]
    lines = [LIBC]
    lines += [change.format(ioprio_set=set_)] if changed else []
    lines += ["from orchestrator.kernel.clean_start import start_clean", "assert start_clean() == ()"] if clean else []
    lines.append(f"print({look.format(ioprio_get=get)})")
    argv = [sys.executable, "-c", "\n".join(lines)]
    return subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, timeout=20).stdout


@pytest.mark.parametrize("name", PROPERTIES)
def test_a_process_of_ours_puts_it_back(name: str) -> None:
    expected = _look(name, changed=False, clean=True)
    assert _look(name, changed=True, clean=False) != expected
    assert _look(name, changed=True, clean=True) == expected


STACK = """\
services:
  a:
    image: host
    command: [sleep, "1000000"]
    volumes: ["vol:/v"]
volumes: {vol: {}}
"""
LOOK = """\
look() {
  cat /proc/$1/limits
  grep -E "^(Umask|SigIgn|SigBlk|Cpus_allowed_list|NoNewPrivs|Seccomp):" /proc/$1/status
  cut -d" " -f18,19,40,41 /proc/$1/stat
  cat /proc/$1/oom_score_adj /proc/$1/coredump_filter /proc/$1/personality /proc/$1/timerslack_ns 2>&1
}
echo the program; look 1; echo beside it; look self
env | sort; stat -c "%n %a %u" / /v /tmp /etc/hosts
"""
SOFT = "ulimit -S -c 0 -f 4096 -n 256 -s 1024 -u 5000 -l 16 -t 3600 -i 1000 -q 4096 -v 8000000 -d 8000000"
SHELL = f"""\
umask 077
trap '' HUP INT QUIT USR1 PIPE TERM
{SOFT}
echo 500 > /proc/self/oom_score_adj
echo 1 > /proc/self/coredump_filter
export PYSTACK_LEAKED=yes
exec nice -n 15 taskset -c 0 setarch --addr-no-randomize ionice -c 3 chrt -b 0 "$@"
"""


def test_a_container_is_the_same_from_whatever_shell(pystack: Pystack) -> None:
    plain, odd = pystack.stack(STACK), pystack.stack(STACK)
    plain.must("up", "-d")
    begun = pystack.run("-p", odd.name, "up", "-d", cwd=odd.directory, prefix=["bash", "-c", SHELL, "bash"])
    assert begun.code == 0, begun
    looks = [stack.must("exec", "-T", "a", "sh", "-c", LOOK).stdout for stack in (plain, odd)]
    same = [look.replace(stack.name, "NAME") for look, stack in zip(looks, (plain, odd), strict=True)]
    assert same[0] == same[1]
    assert "LEAKED" not in same[1]


def test_a_container_has_the_default_limits(pystack: Pystack) -> None:
    """Or what is left of them where this process's own hard limit is lower and may not be raised."""
    stack = pystack.stack(STACK)
    stack.must("up", "-d")
    script = "import resource; print([resource.getrlimit(n) for n in range(16)])"
    looked = stack.must("exec", "-T", "a", "python3", "-c", script).stdout
    asked = "from orchestrator.kernel.limits import *; print([attainable(n, s, h) for _, n, s, h in DEFAULTS])"
    expected = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    assert looked == expected.stdout


def test_a_hard_limit_that_was_lowered_is_raised_again_or_told_of(pystack: Pystack) -> None:
    stack = pystack.stack(STACK)
    begun = pystack.run(
        "-p", stack.name, "up", "-d", cwd=stack.directory, prefix=["bash", "-c", 'ulimit -n 300; exec "$@"', "bash"]
    )
    assert begun.code == 0, begun
    hard = stack.must("exec", "-T", "a", "sh", "-c", "ulimit -Hn").stdout.strip()
    told = (pystack.data_dir / "projects" / stack.name / "events.jsonl").read_text()
    held = int(next(line for line in Path("/proc/self/status").read_text().splitlines() if "CapEff" in line).split()[1], 16)
    if held & CAP_SYS_RESOURCE:
        assert (hard, "RLIMIT_NOFILE" in told) == ("524288", False)
    else:
        assert hard == "300"
        assert "the hard limit RLIMIT_NOFILE is 300, and only CAP_SYS_RESOURCE could raise it again" in told


def test_an_unlimited_limit_is_above_every_number_and_not_above_itself() -> None:
    assert above(resource.RLIM_INFINITY, 1 << 62)
    assert not above(1 << 62, resource.RLIM_INFINITY)
    assert not above(resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    assert above(2, 1)
    assert not above(1, 1)


def test_what_may_be_had_is_had_exactly() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert attainable(resource.RLIMIT_NOFILE, 10, hard) == (10, hard)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)
