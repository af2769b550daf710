"""The leak check sees each kind of leak when one is planted, and sees nothing when it is gone."""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from subprocess import PIPE

import pytest

from tests.leaks import Snapshot, compare, settle, take
from tests.machine import eventually

CLONE_NEWNET = 0x40000000
Plant = Callable[[Path], AbstractContextManager[str]]


@contextmanager
def a_file(directory: Path) -> Iterator[str]:
    path = directory / "left"
    path.write_text("x")
    yield f"files: {path}"
    path.unlink()


@contextmanager
def a_child_process(directory: Path) -> Iterator[str]:
    program = "import sys; print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()  # It has its own command line by now.
        yield f"processes: {sys.executable} -c {program} [pid {child.pid}"


@contextmanager
def a_monitor_of_somebody_else(directory: Path) -> Iterator[str]:
    """Not our child: its parent has gone, as a supervisor's has."""
    read_end, write_end = os.pipe()
    program = "import os, sys; os.fork() and os._exit(0); os.read(int(sys.argv[1]), 1)"
    argv = [sys.executable, "-c", program, str(read_end), "orchestrator/runtime/monitor"]
    subprocess.run(argv, pass_fds=[read_end], check=True)
    os.close(read_end)
    yield "orchestrator/runtime/monitor [pid "
    os.close(write_end)


@contextmanager
def a_zombie(directory: Path) -> Iterator[str]:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    yield f"processes: (no command line) [zombie, pid {pid}, started "
    os.waitpid(pid, 0)


@contextmanager
def a_thread_without_its_leader(directory: Path) -> Iterator[str]:
    """The orphan's first thread has ended, so that it looks like a zombie that is left to init; another runs."""
    read_end, write_end = os.pipe()
    program = """
import ctypes, os, sys, threading
os.fork() and os._exit(0)
threading.Thread(target=lambda: (os.read(int(sys.argv[1]), 1), os._exit(0))).start()
print(os.getpid(), flush=True)
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)  # exit(2), of this thread alone
"""
    argv = [sys.executable, "-c", program, str(read_end)]
    with subprocess.Popen(argv, pass_fds=[read_end], stdout=subprocess.PIPE, text=True) as parent:
        os.close(read_end)
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        eventually(lambda: " (zombie)" in Path(f"/proc/{pid}/status").read_text())
        yield f"processes: (no command line) [zombie, pid {pid}, started "
        os.close(write_end)


@contextmanager
def a_mount(directory: Path) -> Iterator[str]:
    target = directory / "mounted"
    target.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "pystack-test", target], check=True)
    found = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    number = next(words[0] for words in found if words[4] == str(target))
    yield f"mounts: #{number} on #"
    subprocess.run(["umount", target], check=True)


@pytest.mark.kernel
def test_a_mount_whose_place_gets_another_name_is_the_same(tmp_path: Path) -> None:
    place = tmp_path / "above" / "place"
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "pystack-test", place], check=True)
    before = take()
    moved = place.parent.rename(tmp_path / "moved")
    assert compare(before, take()) == []
    subprocess.run(["umount", moved / "place"], check=True)


@contextmanager
def a_network_namespace(directory: Path) -> Iterator[str]:
    """Held by nothing but an open descriptor of this process, as a supervisor holds a sandbox's."""
    ready, hold = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        ctypes.CDLL(None).unshare(CLONE_NEWNET)
        os.write(ready[1], b"x")
        os.read(hold[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    os.write(hold[1], b"x")
    os.waitpid(pid, 0)
    for end in (*ready, *hold):
        os.close(end)
    yield f"network_namespaces: net:[{os.fstat(descriptor).st_ino}]"
    os.close(descriptor)


@contextmanager
def a_bridge(directory: Path) -> Iterator[str]:
    subprocess.run(["ip", "link", "add", "psbleaktest", "type", "bridge"], check=True)
    yield "links: psbleaktest"
    subprocess.run(["ip", "link", "del", "psbleaktest"], check=True)


@contextmanager
def a_table(directory: Path) -> Iterator[str]:
    subprocess.run(["nft", "add", "table", "ip", "pystack_leaktest"], check=True)
    yield "nft_tables: pystack_leaktest"
    subprocess.run(["nft", "delete", "table", "ip", "pystack_leaktest"], check=True)


@contextmanager
def a_cgroup(directory: Path) -> Iterator[str]:
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    hierarchy = next(words[4] for words in mounts if words[words.index("-") + 1] in ("cgroup", "cgroup2"))
    cgroup = Path(hierarchy, "leaktest")
    cgroup.mkdir()
    yield f"cgroups: {cgroup}"
    cgroup.rmdir()


ANYWHERE = [a_file, a_child_process, a_zombie]
WITH_THE_KERNEL = [
    *(a_monitor_of_somebody_else, a_thread_without_its_leader),
    *(a_mount, a_network_namespace, a_bridge, a_table, a_cgroup),
]


def check_that_it_is_seen(planted: Plant, directory: Path) -> None:
    before = take([directory])
    with ExitStack() as stack:
        expected = stack.enter_context(planted(directory))
        found = compare(before, take([directory]))
        assert len(found) >= 1
        assert any(expected in line for line in found), found
    assert settle(before, [directory]) == []


@pytest.mark.parametrize("planted", ANYWHERE, ids=lambda planted: planted.__name__)
def test_a_planted_leak_is_seen(planted: Plant, tmp_path: Path) -> None:
    check_that_it_is_seen(planted, tmp_path)


@pytest.mark.kernel
@pytest.mark.parametrize("planted", WITH_THE_KERNEL, ids=lambda planted: planted.__name__)
def test_a_planted_leak_in_the_kernel_is_seen(planted: Plant, tmp_path: Path) -> None:
    if shutil.which("ip") is None or shutil.which("nft") is None:
        pytest.fail("this test plants leaks with ip and nft: apt-get install iproute2 nftables")
    check_that_it_is_seen(planted, tmp_path)


@pytest.mark.kernel
def test_what_has_ended_is_no_leak_before_init_takes_note() -> None:
    before = take()
    program = "import os, sys; os.fork() and os._exit(0); print(os.getpid(), flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=PIPE, stdout=PIPE, text=True) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        orphan = os.pidfd_open(int(parent.stdout.readline()))
    select.select([orphan], [], [], 30)
    os.close(orphan)
    assert compare(before, take()) == []


def test_what_was_there_before_is_no_leak() -> None:
    snapshot = Snapshot(*(frozenset({"a"}) for _ in range(7)))
    empty = Snapshot(*(frozenset[str]() for _ in range(7)))
    assert compare(snapshot, snapshot) == []
    assert compare(snapshot, empty) == []
    assert len(compare(empty, snapshot)) == 7
