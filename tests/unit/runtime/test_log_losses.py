"""What readers and writer of a log owe each other: nothing is lost, glued or misread, and what is lost is told."""

from __future__ import annotations

import errno
import os
import pty
import resource
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import HostError
from orchestrator.runtime.logs import ROTATED, UNWRITTEN, Follower, Leases, entries_of, read_blocks, read_entries
from orchestrator.runtime.monitor import logformat as form
from tests.machine import eventually
from tests.unit.runtime.logwriter import Writer

Lost = list[tuple[int, str]]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Writer]]:
    made: list[Writer] = []

    def writer(*args: int, **policy: int) -> Writer:
        made.append(Writer(tmp_path, *args, **policy))
        return made[-1]

    yield writer
    for each in made:
        each.close()


def told(lost: Lost) -> Callable[[int, str], None]:
    return lambda count, why: lost.append((count, why))


def text(follower: Follower) -> bytes:
    return b"".join(data for _, _, data in follower.pieces())


def files(tmp_path: Path) -> list[str]:
    return sorted(name for name in os.listdir(tmp_path) if ".log" in name)


# Rotation and readers


def test_a_reader_that_was_there_first_gets_every_byte_however_often_the_log_is_rotated(
    make: Callable[..., Writer], tmp_path: Path
) -> None:
    lost: Lost = []
    follower = Follower(str(tmp_path / "box"), on_lost=told(lost), complete=True)
    writer = make(10, 2)
    for number in range(50):
        writer.write(b"line %02d\n" % number)
    assert len(files(tmp_path)) > 20
    assert text(follower) == b"".join(b"line %02d\n" % number for number in range(50))
    writer.log.trim()
    assert files(tmp_path) == ["box.log", "box.log.1"]
    assert lost == []
    follower.close()


def test_one_file_is_enough_for_a_reader_that_keeps_up(make: Callable[..., Writer], tmp_path: Path) -> None:
    writer, follower = make(10, 1), Follower(str(tmp_path / "box"))
    for number in range(20):
        writer.write(b"line %02d.\n" % number)
        assert text(follower) == b"line %02d.\n" % number
        assert len(files(tmp_path)) <= 3
    writer.log.trim()
    assert files(tmp_path) == ["box.log"]
    follower.close()


def test_what_is_held_for_a_reader_that_never_reads_has_a_bound_and_its_loss_is_told(
    make: Callable[..., Writer], tmp_path: Path
) -> None:
    lost: Lost = []
    follower = Follower(str(tmp_path / "box"), on_lost=told(lost), complete=True)
    writer = make(10, 1, held_bytes=50)
    for number in range(30):
        writer.write(b"line %02d..\n" % number)
    assert sum((tmp_path / name).stat().st_size for name in files(tmp_path)) <= 50 + 2 * 10
    kept = text(follower)
    assert kept.endswith(b"line 29..\n")
    assert lost == [(300 - len(kept), ROTATED)]
    follower.close()


def test_without_a_bound_all_is_held(make: Callable[..., Writer], tmp_path: Path) -> None:
    follower = Follower(str(tmp_path / "box"))
    writer = make(10, 1, held_bytes=0)
    for number in range(200):
        writer.write(b"line %03d.\n" % number)
    assert text(follower) == b"".join(b"line %03d.\n" % number for number in range(200))
    follower.close()


def test_a_reader_that_is_gone_holds_nothing(make: Callable[..., Writer], tmp_path: Path) -> None:
    follower, writer = Follower(str(tmp_path / "box")), make(10, 2)
    for _ in range(5):
        writer.write(b"0123456789\n")
    assert len(files(tmp_path)) == 5
    follower.close()
    writer.write(b"0123456789\n")
    assert files(tmp_path) == ["box.log", "box.log.1"]


def test_who_waits_for_new_containers_holds_what_the_first_ones_write(make: Callable[..., Writer], tmp_path: Path) -> None:
    leases = Leases(str(tmp_path))
    leases.hold_new()
    writer = make(10, 1)
    for number in range(9):
        writer.write(b"line %d...\n" % number)
    follower = Follower(str(tmp_path / "box"), leases=leases, complete=True)
    assert text(follower) == b"".join(b"line %d...\n" % number for number in range(9))
    follower.close()
    leases.close()


def test_a_reader_of_one_container_holds_nothing_of_another(make: Callable[..., Writer], tmp_path: Path) -> None:
    follower, writer = Follower(str(tmp_path / "other")), make(10, 1)
    for _ in range(5):
        writer.write(b"0123456789\n")
    assert files(tmp_path) == ["box.log"]
    follower.close()


def test_a_follower_goes_on_with_another_container_of_the_same_name(make: Callable[..., Writer], tmp_path: Path) -> None:
    lost: Lost = []
    writer, follower = make(10, 1), Follower(str(tmp_path / "box"), on_lost=told(lost))
    writer.write(b"old\n")
    assert text(follower) == b"old\n"
    for name in os.listdir(tmp_path):
        os.unlink(tmp_path / name)
    other = make(10, 1)
    for number in range(5):
        other.write(b"new %d.....\n" % number)
    assert text(follower) == b"".join(b"new %d.....\n" % number for number in range(5))
    assert lost == []
    follower.close()


# Runs


def test_a_last_line_without_newline_is_not_glued_to_the_next_runs_first(
    make: Callable[..., Writer], tmp_path: Path
) -> None:
    writer = make()
    writer.write(b"out")
    writer.write(b"err", 2)
    writer.next_run()
    writer.write(b"again\n")
    assert [(entry.stream, entry.line, entry.ended) for entry in read_entries(str(tmp_path / "box"))] == [
        ("stdout", b"out", False),
        ("stderr", b"err", False),
        ("stdout", b"again", True),
    ]
    follower = Follower(str(tmp_path / "box"))
    assert text(follower) == b"outerragain\n"
    follower.close()


def test_another_monitor_of_the_same_run_goes_on_in_the_middle_of_a_line(
    make: Callable[..., Writer], tmp_path: Path
) -> None:
    writer = make()
    writer.write(b"one ")
    writer.reopen()
    writer.write(b"line\n")
    assert [entry.line for entry in read_entries(str(tmp_path / "box"))] == [b"one line"]


def test_a_follower_sees_the_last_line_when_its_run_has_ended(make: Callable[..., Writer], tmp_path: Path) -> None:
    writer, follower = make(), Follower(str(tmp_path / "box"))
    writer.write(b"no newline")
    assert list(follower.read()) == []
    writer.next_run()
    assert [(entry.line, entry.ended) for entry in entries_of(follower.read())] == [(b"no newline", False)]
    follower.close()


# Trouble


def limited(limit: int, action: Callable[[], None]) -> None:
    """A file-size limit stands for a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        action()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_a_full_disk_swallowed_is_told_to_writer_and_reader_and_logging_goes_on(
    make: Callable[..., Writer], tmp_path: Path
) -> None:
    lost: Lost = []
    writer = make()
    writer.write(b"a" * 99 + b"\n")
    limited(150, lambda: writer.write(b"b" * 99 + b"\n"))
    assert [count for _, count in writer.losses] == [50]
    assert writer.losses[0][0] == errno.EFBIG
    writer.write(b"\nback\n")
    found = [entry.line for entry in entries_of(read_blocks(str(tmp_path / "box"), on_lost=told(lost)))]
    assert found == [b"a" * 99, b"b" * 50, b"back"]
    assert lost == [(50, UNWRITTEN)]


def test_an_index_record_that_did_not_fit_is_written_over(make: Callable[..., Writer], tmp_path: Path) -> None:
    writer = make()
    writer.write(b"one\n")

    def in_need() -> None:
        writer.write(b"two\n")
        writer.write(b"err\n", 2)

    limited(7 * form.RECORD.size // 2, in_need)
    writer.write(b"err\n", 2)
    writer.write(b"three\n")
    assert (tmp_path / "box.idx").stat().st_size % form.RECORD.size == 0
    found = [(entry.stream, entry.line) for entry in read_entries(str(tmp_path / "box"))]
    assert found[0] == ("stdout", b"one")
    assert found[-2:] == [("stderr", b"err"), ("stdout", b"three")]


def test_a_shortage_of_descriptors_leaves_the_output_where_it_is(make: Callable[..., Writer], tmp_path: Path) -> None:
    writer = make()
    reader, end = os.pipe()
    os.write(end, b"kept\n")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    hogs = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hogs[-1] + 1, used + 3), before[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            writer.log.pull(reader, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for fd in hogs:
            os.close(fd)
    assert writer.log.pull(reader, 1)
    os.close(end)
    os.close(reader)
    assert writer.losses == []
    assert [entry.line for entry in read_entries(str(tmp_path / "box"))] == [b"kept"]


@pytest.mark.parametrize("kind", ["log", "idx"])
@pytest.mark.parametrize("what", ["fifo", "link", "directory", "device"])
def test_what_is_no_file_of_ours_is_one_clear_error_and_hangs_nothing(
    make: Callable[..., Writer], tmp_path: Path, kind: str, what: str
) -> None:
    path = tmp_path / f"box.{kind}"
    (tmp_path / "box.log").touch()
    (tmp_path / f"box.{kind}").unlink(missing_ok=True)
    match what:
        case "fifo":
            os.mkfifo(path)
        case "link":
            path.symlink_to("/etc/hostname")
        case "directory":
            path.mkdir()
        case "device":
            if os.geteuid() != 0:
                pytest.skip("not root")
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    writer = make()
    writer.write(b"nowhere to go\n")
    assert writer.losses == [(errno.EEXIST, 14)]
    with pytest.raises(HostError, match=f"cannot read the log .*box.{kind}: not a file of ours"):
        list(read_entries(str(tmp_path / "box")))


def test_a_log_that_somebody_cuts_or_deletes_goes_on_in_a_new_file(make: Callable[..., Writer], tmp_path: Path) -> None:
    writer, follower = make(0, 1), Follower(str(tmp_path / "box"))
    writer.write(b"before\n")
    assert text(follower) == b"before\n"
    os.truncate(tmp_path / "box.log", 0)
    writer.write(b"after\n")
    assert text(follower) == b"after\n"
    assert [entry.line for entry in read_entries(str(tmp_path / "box"))] == [b"after"]
    os.unlink(tmp_path / "box.log")

    def is_written_again() -> bool:
        writer.write(b"new\n")
        return (tmp_path / "box.log").exists()

    eventually(is_written_again)
    assert set(text(follower).splitlines()) == {b"new"}
    follower.close()


def test_a_log_that_was_cut_while_nobody_wrote_is_left_alone(make: Callable[..., Writer], tmp_path: Path) -> None:
    writer = make(0, 1)
    writer.write(b"before\nmore\n")
    writer.log.end()
    os.truncate(tmp_path / "box.log", 7)
    make(0, 1).write(b"after\n")
    assert [entry.line for entry in read_entries(str(tmp_path / "box"))] == [b"before", b"after"]


def test_a_terminals_master_is_logged_too(make: Callable[..., Writer], tmp_path: Path) -> None:
    writer = make()
    master, slave = pty.openpty()
    os.set_blocking(master, False)
    os.write(slave, b"from a terminal\n")
    assert writer.log.pull(master, 1)
    assert writer.log.pull(master, 1) is None
    os.close(slave)
    assert writer.log.pull(master, 1) is False
    os.close(master)
    assert [entry.line for entry in read_entries(str(tmp_path / "box"))] == [b"from a terminal\r"]


def test_no_log_is_made_where_none_is_kept(make: Callable[..., Writer], tmp_path: Path) -> None:
    writer = make(0, 1, kept=False)
    writer.write(b"gone\n")
    writer.log.end()
    assert os.listdir(tmp_path) == []
    assert writer.losses == []


# Damage

PIECES = st.lists(st.tuples(st.binary(min_size=1, max_size=90), st.sampled_from([1, 1, 2])), min_size=1, max_size=25)


@settings(deadline=None)
@given(PIECES, st.data())
def test_no_damage_of_an_index_costs_a_byte_of_the_log(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[bytes, int]], data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("logs")
    writer = Writer(directory)
    for written, stream in pieces:
        writer.write(written, stream)
    writer.close()
    os.utime(directory / "box.log", (0, 0))  # Long ago: nobody is about to write the rest of the index.
    index = directory / "box.idx"
    content = bytearray(index.read_bytes())
    match data.draw(st.sampled_from(["missing", "cut", "scribbled", "torn", "garbage"])):
        case "missing":
            index.unlink()
        case "cut":
            index.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        case "scribbled":
            for _ in range(data.draw(st.integers(1, 9))):
                content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
            index.write_bytes(content)
        case "torn":
            at = data.draw(st.integers(0, len(content) - 1))
            index.write_bytes(content[:at] + content[at + data.draw(st.integers(1, 40)) :])
        case "garbage":
            index.write_bytes(data.draw(st.binary(max_size=200)))
    everything = b"".join(written for written, _ in pieces)
    for timed in (True, False):
        follower = Follower(str(directory / "box"), timed=timed)
        spans = [(offset, length) for _, (kind, _, offset, length) in follower.spans() if kind < form.MARKS]
        follower.close()
        covered = 0
        for offset, length in spans:
            assert offset == covered
            covered += length
        assert covered == len(everything)
    for tail in (0, 1, 5):
        assert len(list(read_entries(str(directory / "box"), tail))) <= tail


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 60), st.sampled_from([1, 2])),
        st.tuples(st.just("read"), st.just(0), st.just(0)),
        st.tuples(st.just("run"), st.just(0), st.just(0)),
        st.tuples(st.just("killed"), st.just(0), st.just(0)),
        st.tuples(st.just("trim"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(STEPS, st.integers(1, 80), st.integers(1, 4))
def test_a_follower_gets_every_byte_whatever_happens_in_between(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]], max_bytes: int, max_files: int
) -> None:
    """Writes, rotations, restarts, killed monitors and reads, in any order."""
    directory = tmp_path_factory.mktemp("logs")
    lost: Lost = []
    writer = Writer(directory, max_bytes, max_files)
    follower = Follower(str(directory / "box"), on_lost=told(lost), complete=True)
    wrote: dict[str, bytes] = {"stdout": b"", "stderr": b""}
    got: dict[str, bytes] = {"stdout": b"", "stderr": b""}
    letters = iter(range(10**6))

    def read() -> None:
        for stream, _, data in follower.pieces():
            got[stream] += data

    for what, size, stream in steps:
        match what:
            case "write":
                data = b"".join(b"%d," % next(letters) for _ in range(size))
                writer.write(data, stream)
                wrote["stderr" if stream == 2 else "stdout"] += data
            case "read":
                read()
            case "run":
                writer.next_run()
            case "killed":
                writer.reopen()
            case "trim":
                writer.log.trim()
    read()
    follower.close()
    writer.close()
    assert got == wrote
    assert lost == []


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from([1, 2])), min_size=1, max_size=400), st.integers(0, 30))
def test_the_last_lines_are_the_same_whether_all_is_read_or_not(
    tmp_path_factory: pytest.TempPathFactory, counts: list[tuple[int, int]], tail: int
) -> None:
    directory = tmp_path_factory.mktemp("logs")
    log = Writer(directory)
    for number, (count, stream) in enumerate(counts):
        log.write(b"".join(b"%d.%d\n" % (number, each) for each in range(count)), stream)
    log.close()
    prefix = str(directory / "box")
    everything = [(entry.stream, entry.line) for entry in read_entries(prefix)]
    last = everything[max(0, len(everything) - tail) :]
    assert [(entry.stream, entry.line) for entry in read_entries(prefix, tail)] == last
    since = next(iter(read_entries(prefix, 1))).time
    assert [entry.line for entry in read_entries(prefix, since=since)] == [
        entry.line for entry in read_entries(prefix) if entry.time >= since
    ]


def test_the_end_of_a_long_log_is_found_without_reading_it(make: Callable[..., Writer], tmp_path: Path) -> None:
    writer = make()
    for number in range(2000):
        writer.write(b"line %d\n" % number)
    follower = Follower(str(tmp_path / "box"), tail=3)
    first = next(iter(follower._spans(3)))[1]
    assert first[2] > (tmp_path / "box.log").stat().st_size // 2
    follower.close()
    assert [entry.line for entry in read_entries(str(tmp_path / "box"), 2)] == [b"line 1998", b"line 1999"]


