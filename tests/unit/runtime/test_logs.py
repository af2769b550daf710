"""Logs as they are on disk: written by the monitor's code, read by the command line's, whatever was cut off."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.kernel.inotify import Inotify
from orchestrator.runtime.logs import Follower, entries_of, read_blocks, read_entries
from orchestrator.runtime.monitor.logformat import RECORD
from tests.unit.runtime.logwriter import Writer


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    made = Writer(tmp_path)
    yield made
    made.close()


def lines(tmp_path: Path, **options: int) -> list[bytes]:
    return [entry.line for entry in read_entries(str(tmp_path / "box"), **options)]


def test_a_log_that_does_not_exist_has_no_lines(tmp_path: Path) -> None:
    assert lines(tmp_path) == []


def test_pieces_of_two_streams_are_put_together(writer: Writer, tmp_path: Path) -> None:
    for data, stream in ((b"ou", 1), (b"er", 2), (b"t\nmore", 1), (b"r\n", 2), (b"!\n\n", 1), (b"end", 2)):
        writer.write(data, stream)
    found = [(entry.stream, entry.line, entry.ended) for entry in read_entries(str(tmp_path / "box"))]
    assert found == [
        ("stdout", b"out", True),
        ("stderr", b"err", True),
        ("stdout", b"more!", True),
        ("stdout", b"", True),
        ("stderr", b"end", False),
    ]


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=200), st.sampled_from([1, 2])), max_size=30), st.integers(1, 400))
def test_every_byte_is_read_back_over_any_rotation(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[bytes, int]], max_bytes: int
) -> None:
    directory = tmp_path_factory.mktemp("logs")
    made = Writer(directory, max_bytes, 100)
    for data, stream in pieces:
        made.write(data, stream)
    made.close()
    found: dict[str, bytes] = {"stdout": b"", "stderr": b""}
    for entry in read_entries(str(directory / "box")):
        found[entry.stream] += entry.line + (b"\n" if entry.ended else b"")
    assert found["stdout"] == b"".join(data for data, stream in pieces if stream == 1)
    assert found["stderr"] == b"".join(data for data, stream in pieces if stream == 2)


@given(
    st.lists(st.tuples(st.sampled_from([b"a\n", b"b", b"cc\ndd\n", b"\n"]), st.sampled_from([1, 1, 2])), max_size=12),
    st.integers(0, 8),
)
def test_blocks_say_what_lines_say_with_and_without_times(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[bytes, int]], tail: int
) -> None:
    directory = tmp_path_factory.mktemp("logs")
    made = Writer(directory)
    for data, stream in pieces:
        made.write(data, stream)
    made.close()
    prefix = str(directory / "box")
    timed = [(entry.stream, entry.line, entry.ended) for entry in read_entries(prefix)]
    for name in ("stdout", "stderr"):
        untimed = [entry.line for entry in entries_of(read_blocks(prefix, timed=False)) if entry.stream == name]
        assert untimed == [line for of, line, _ in timed if of == name]
    last = [(entry.stream, entry.line, entry.ended) for entry in read_entries(prefix, tail)]
    assert last == timed[max(0, len(timed) - tail) :]


def test_what_one_stream_wrote_in_a_row_is_one_block_where_times_do_not_matter(writer: Writer, tmp_path: Path) -> None:
    for _ in range(3):
        writer.write(b"out\n")
    writer.write(b"err\n", 2)
    assert [block[1:] for block in read_blocks(str(tmp_path / "box"), timed=False)] == [
        ("stdout", b"out\n" * 3),
        ("stderr", b"err\n"),
    ]
    assert len(list(read_blocks(str(tmp_path / "box")))) == 4


def test_bytes_without_an_index_record_are_found_again(writer: Writer, tmp_path: Path) -> None:
    """The monitor was killed between the two."""
    writer.write(b"one\n")
    writer.write(b"two\n")
    os.truncate(tmp_path / "box.idx", 3 * RECORD.size + 5)
    writer.reopen()
    writer.write(b"three\n")
    assert lines(tmp_path) == [b"one", b"two", b"three"]
    assert (tmp_path / "box.idx").stat().st_size % RECORD.size == 0


def test_a_rotation_cut_off_between_its_renames_loses_nothing(tmp_path: Path) -> None:
    made = Writer(tmp_path, max_bytes=0)
    made.write(b"old\n" * 3)
    os.rename(tmp_path / "box.log", tmp_path / "box.log.1")
    made.reopen()
    made.write(b"new\n")
    made.close()
    assert lines(tmp_path) == [b"old"] * 3 + [b"new"]


def test_tail_and_since(writer: Writer, tmp_path: Path) -> None:
    writer.write(b"a\nb\n")
    between = time.time()
    writer.write(b"c\nd")
    assert lines(tmp_path, tail=2) == [b"c", b"d"]
    assert lines(tmp_path, tail=0) == []
    assert lines(tmp_path, tail=100) == [b"a", b"b", b"c", b"d"]
    assert [entry.line for entry in read_entries(str(tmp_path / "box"), since=between)] == [b"c", b"d"]


def test_a_follower_goes_on_where_it_was_even_when_files_were_rotated_twice(tmp_path: Path) -> None:
    made = Writer(tmp_path, max_bytes=10, max_files=5)
    follower = Follower(str(tmp_path / "box"))
    assert list(follower.read()) == []
    made.write(b"first line\n")
    assert [entry.line for entry in entries_of(follower.read())] == [b"first line"]
    made.write(b"second line\n")
    made.write(b"third line\n")
    made.write(b"fou")
    assert [entry.line for entry in entries_of(follower.read())] == [b"second line", b"third line"]
    made.write(b"rth")
    rest = entries_of([*follower.read(), *follower.finish()])
    assert [(entry.line, entry.ended) for entry in rest] == [(b"fourth", False)]
    follower.close()
    made.close()


def test_a_follower_that_came_before_the_index_finds_it_later(tmp_path: Path) -> None:
    (tmp_path / "box.log").write_bytes(b"one\ntwo\n")
    with Inotify() as inotify:
        follower = Follower(str(tmp_path / "box"), inotify=inotify)
        assert list(follower.read()) == []
        assert list(follower.read()) == []
        with (tmp_path / "box.idx").open("ab", buffering=0) as index:
            assert inotify.clear()
            assert list(follower.read()) == []
            index.write(RECORD.pack(0, 8, 1, 5))
            assert inotify.clear()
            assert list(follower.read()) == [(5e-9, "stdout", b"one\ntwo\n")]
        follower.close()


def test_a_line_without_end_does_not_fill_the_memory(writer: Writer, tmp_path: Path) -> None:
    for _ in range(50):
        writer.write(b"x" * 60_000)
    found = list(read_entries(str(tmp_path / "box")))
    assert sum(len(entry.line) for entry in found) == 3_000_000
    assert max(len(entry.line) for entry in found) < 1_200_000


def test_oldest_files_go_when_there_are_too_many(tmp_path: Path) -> None:
    made = Writer(tmp_path, max_bytes=5, max_files=2)
    for number in range(6):
        made.write(b"line%d\n" % number)
    made.close()
    assert lines(tmp_path) == [b"line4", b"line5"]
    assert sorted(os.listdir(tmp_path)) == ["box.idx", "box.idx.1", "box.log", "box.log.1"]


def test_a_file_is_not_much_larger_than_it_may_be_however_much_is_written_at_once(tmp_path: Path) -> None:
    made = Writer(tmp_path, max_bytes=10_240, max_files=3)
    text = b"".join(b"line %d\n" % number for number in range(20_000))
    made.write(text)
    made.next_run()
    made.write(b"the last line\n")
    made.close()
    sizes = [item.stat().st_size for item in tmp_path.glob("box.log*")]
    assert len(sizes) == 3
    assert max(sizes) < 10_240 + 4096
    assert sum(sizes) > 2 * 10_240
    assert lines(tmp_path)[-3:] == [b"line 19998", b"line 19999", b"the last line"]


def test_the_reader_imports_no_trio() -> None:
    program = "import sys, orchestrator.runtime.logs; sys.exit('trio' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
