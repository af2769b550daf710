"""Generated files that are written anew in a run: here in this very process's root."""

from __future__ import annotations

import fcntl
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.contracts.runtime import GeneratedFile, OciConfig, Run, SandboxSpec
from orchestrator.errors import HostError
from orchestrator.model.names import ContainerId
from orchestrator.runtime.live_files import with_contents, write_anew
from orchestrator.runtime.sandbox import ActiveRun

NAME = ContainerId("shop-web-1")
OWNER = os.getuid()


@pytest.fixture
def memory() -> Iterator[Path]:
    """On a tmpfs."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


@pytest.fixture
def run() -> Iterator[ActiveRun]:
    active = ActiveRun(Run(NAME, 1, os.getpid(), 0.0), os.pidfd_open(os.getpid()), {}, {}, {})
    yield active
    active.release()


def test_contents_are_written_in_place_whatever_their_lengths(memory: Path, run: ActiveRun) -> None:
    hosts = memory / "hosts"
    hosts.write_bytes(b"10.1.0.2\tweb\n")
    inode = hosts.stat().st_ino
    for content in (b"10.1.0.2\tweb\n10.2.0.2\tweb\n", b"short\n", b""):
        write_anew(run, [GeneratedFile(str(memory / "gone"), b"x"), GeneratedFile(str(hosts), content)], OWNER)
        assert (hosts.read_bytes(), hosts.stat().st_ino) == (content, inode)
    assert sorted(path.name for path in memory.iterdir()) == ["hosts"]


def test_what_is_no_such_file_any_more_is_left_alone(memory: Path, run: ActiveRun, tmp_path: Path) -> None:
    on_disk = tmp_path / "hosts"
    on_disk.write_bytes(b"mine")
    if os.statvfs(on_disk).f_fsid == os.statvfs(memory).f_fsid:
        pytest.skip("the directory of tests is on a tmpfs")
    (memory / "link").symlink_to(on_disk)
    (memory / "loop").symlink_to("loop")
    (memory / "folder").mkdir()
    os.mkfifo(memory / "pipe")
    (memory / "others").write_bytes(b"theirs")
    places = [memory / name for name in ("link", "loop", "folder", "pipe")]
    write_anew(run, [GeneratedFile(str(place), b"new") for place in places], OWNER)
    write_anew(run, [GeneratedFile(str(memory / "others"), b"new", uid=1)], OWNER)
    assert (on_disk.read_bytes(), (memory / "others").read_bytes()) == (b"mine", b"theirs")


def test_who_keeps_a_lease_does_not_keep_us_waiting(memory: Path, run: ActiveRun) -> None:
    hosts = memory / "hosts"
    hosts.write_bytes(b"old")
    held = os.open(hosts, os.O_RDONLY)
    try:
        fcntl.fcntl(held, fcntl.F_SETSIG, signal.SIGURG)  # That is ignored.
        fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        begin_s = time.monotonic()
        with pytest.raises(HostError, match=f"cannot write {hosts} in shop-web-1: Resource temporarily unavailable"):
            write_anew(run, [GeneratedFile(str(hosts), b"new")], OWNER)
        assert time.monotonic() - begin_s < 5
    finally:
        os.close(held)
    write_anew(run, [GeneratedFile(str(hosts), b"new")], OWNER)
    assert hosts.read_bytes() == b"new"


def test_only_files_that_a_container_has_get_contents() -> None:
    kept = GeneratedFile("/etc/hostname", b"web\n", 0o600)
    spec = SandboxSpec(NAME, (), OciConfig({}), (GeneratedFile("/etc/hosts", b"old", 0o640, 7, 8), kept))
    changed = with_contents(spec, [GeneratedFile("/etc/hosts", b"new"), GeneratedFile("/etc/motd", b"new")])
    assert changed.files == (GeneratedFile("/etc/hosts", b"new", 0o640, 7, 8), kept)
