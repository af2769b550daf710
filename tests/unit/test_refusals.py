"""What the machine refuses is no bug of ours, at whichever call it is met."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from orchestrator.contracts.refusals import refusing
from orchestrator.contracts.runtime import OciConfig, SandboxSpec
from orchestrator.errors import BugReport, HostError, OperationError
from orchestrator.model.names import ContainerId
from orchestrator.supervisor.faults import error_of


@refusing(start="start", create="make", fail="fail")
class Adapter:
    """Fails with what it was given."""

    def __init__(self, failure: BaseException) -> None:
        self.failure = failure

    async def start(self, container: ContainerId) -> None:
        raise self.failure

    async def create(self, spec: SandboxSpec) -> None:
        raise self.failure

    async def fail(self) -> None:
        raise self.failure


def no_room(path: Path | None = None) -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path) if path else None)


async def test_an_operating_system_s_error_is_one_of_the_host_that_names_what_and_whom() -> None:
    with pytest.raises(HostError, match=r"^cannot start a-1: No space left on device: /x$"):
        await Adapter(no_room(Path("/x"))).start(ContainerId("a-1"))
    with pytest.raises(HostError, match=r"^cannot make a-2: No space left on device$"):
        await Adapter(ExceptionGroup("nursery", [no_room()])).create(SandboxSpec(ContainerId("a-2"), (), OciConfig({})))
    with pytest.raises(HostError, match=r"^cannot fail: Too many open files$"):
        await Adapter(OSError(errno.EMFILE, os.strerror(errno.EMFILE))).fail()


@pytest.mark.parametrize("failure", [OperationError("no"), ValueError("no"), KeyboardInterrupt()])
async def test_everything_else_stays_what_it_is(failure: BaseException) -> None:
    with pytest.raises(type(failure)) as caught:
        await Adapter(failure).start(ContainerId("a-1"))
    assert caught.value is failure


def test_a_request_that_meets_a_shortage_meets_no_bug(capsys: pytest.CaptureFixture[str]) -> None:
    for number in (errno.ENOSPC, errno.EMFILE, errno.ENOMEM, errno.EIO):
        error = error_of("up", ExceptionGroup("nursery", [OSError(number, os.strerror(number), "/x")]))
        assert isinstance(error, HostError)
        assert error.message.startswith('"up" failed: ')
        assert error.hint
    assert "no more threads" in error_of("up", RuntimeError("can't start new thread")).message
    assert capsys.readouterr().err == ""
    assert isinstance(error_of("up", OSError(errno.EBADF, "bad descriptor")), BugReport)
    assert "bad descriptor" in capsys.readouterr().err
    both = ExceptionGroup("nursery", [no_room(), ExceptionGroup("nursery", [no_room(Path("/x"))])])
    assert isinstance(error_of("up", both), HostError)
    assert isinstance(error_of("up", ExceptionGroup("nursery", [no_room(), ValueError("no")])), BugReport)
