"""The supervisor's end of a connection whose other end has gone."""

from __future__ import annotations

import os
import socket

import pytest

from orchestrator.runtime.link import Link, MonitorLost


async def test_who_finds_the_monitor_gone_lets_everybody_know() -> None:
    """`run` sees the end some turns of the loop later: who tries again at once must wait for the next monitor by then."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link = Link(ours, os.getpid(), os.pidfd_open(os.getpid()), lambda event: None)
    its.close()
    assert not link.lost
    with pytest.raises(MonitorLost):
        await link.request("goodbye")
    assert link.lost
    link.close()


async def test_a_descriptor_that_was_closed_meanwhile_is_no_loss_of_the_monitor() -> None:
    """Nobody would come and make another one: it lives."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link = Link(ours, os.getpid(), os.pidfd_open(os.getpid()), lambda event: None)
    gone = os.dup(its.fileno())
    os.close(gone)
    with pytest.raises(OSError, match="Bad file descriptor"):
        await link.request("keep", b"", [gone], name="x")
    assert not link.lost
    link.close()
    its.close()
