"""The wait status of processes that are somebody else's children."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from orchestrator.kernel import pidfd


@contextmanager
def grandchild(code: int) -> Iterator[tuple[int, int, int]]:
    """A process that waits for a line, then ends with `code`; its parent reaps it when it gets a line itself.
    Its pidfd, where to write its line, and where its parent's."""
    (its_reader, its_writer), (parents_reader, parents_writer) = os.pipe(), os.pipe()
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        child = os.fork()
        if child == 0:
            os.read(its_reader, 1)
            os._exit(code)
        os.write(writer, str(child).encode())
        os.read(parents_reader, 1)
        os.waitpid(child, 0)
        os.read(parents_reader, 1)
        os._exit(0)
    fd = os.pidfd_open(int(os.read(reader, 32)))
    try:
        yield fd, its_writer, parents_writer
    finally:
        os.write(parents_writer, b"..")
        os.waitpid(parent, 0)
        for number in (fd, reader, writer, its_reader, its_writer, parents_reader, parents_writer):
            os.close(number)


@pytest.mark.parametrize("code", [0, 7])
def test_the_status_of_another_s_child_is_known_before_it_is_reaped(code: int) -> None:
    with grandchild(code) as (fd, line, _):
        assert pidfd.exit_status(fd) is None
        os.write(line, b".")
        _await(fd)
        assert pidfd.exit_status(fd) == code << 8


def test_a_signal_is_told_too() -> None:
    with grandchild(0) as (fd, _, _parent):
        pidfd.send(fd, 9)
        _await(fd)
        assert pidfd.exit_status(fd) == 9


def test_a_process_that_runs_has_no_status() -> None:
    own = os.pidfd_open(os.getpid())
    assert pidfd.exit_status(own) is None
    os.close(own)


def _await(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(10_000)
