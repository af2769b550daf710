"""Work on images from where there is no event loop: order, bounds, errors, ticks."""

from __future__ import annotations

import os
import signal

import pytest
import trio

from orchestrator.contracts.images import Transfer
from orchestrator.errors import Ended, OperationError
from orchestrator.images.together import each, in_thread, run_to_end


def test_each_comes_after_what_it_names_and_the_first_error_ends_all() -> None:
    done: list[str] = []

    async def work(name: str) -> None:
        await trio.lowlevel.checkpoint()
        if name == "bad":
            raise OperationError("bad")
        done.append(name)

    assert run_to_end(lambda: each({"c": ["b"], "b": ["a", "elsewhere"], "a": []}, work, at_once=2)) == []
    assert done == ["a", "b", "c"]
    with pytest.raises(OperationError, match="bad"):
        run_to_end(lambda: each({"bad": [], "d": ["bad"]}, work, at_once=2))
    errors = run_to_end(lambda: each({"bad": [], "d": ["bad"]}, work, at_once=2, go_on=True))
    assert ([error.message for error in errors], done) == (["bad"], ["a", "b", "c", "d"])


def test_it_ticks_while_it_works() -> None:
    async def body() -> int:
        await ticked.wait()
        return 7

    ticked = trio.Event()
    assert run_to_end(body, tick=ticked.set, each_s=0.001) == 7


def test_ctrl_c_ends_a_thread_that_looks_and_is_raised() -> None:
    begun = trio.Event()

    async def body() -> None:
        def work(told: object, check: object) -> None:
            trio.from_thread.run_sync(begun.set)
            while True:
                check()  # type: ignore[operator]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_thread, work, lambda _: None)
            await begun.wait()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_to_end(body)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_would_end_us_puts_away_what_was_begun(number: signal.Signals) -> None:
    done: list[str] = []

    async def body() -> None:
        try:
            os.kill(os.getpid(), number)
            await trio.sleep_forever()
        finally:
            done.append("put away")

    before = signal.getsignal(number)
    with pytest.raises(Ended) as ended:
        run_to_end(body)
    assert (ended.value.number, done) == (number, ["put away"])
    assert signal.getsignal(number) is before


def test_ctrl_c_ends_nobody_whose_order_to_end_comes_from_others() -> None:
    """It may come while any task is running."""
    done: list[str] = []

    async def body() -> None:
        closing = trio.Event()

        async def serve() -> None:
            with trio.CancelScope(shield=True):
                os.kill(os.getpid(), signal.SIGINT)
                await closing.wait()
                done.append("closed")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            try:
                await trio.sleep_forever()
            finally:
                closing.set()

    with pytest.raises(KeyboardInterrupt):
        run_to_end(body)
    assert done == ["closed"]


def test_a_hangup_that_is_ignored_stays_so() -> None:
    async def body() -> int:
        os.kill(os.getpid(), signal.SIGHUP)
        await trio.sleep(0.01)
        return 7

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run_to_end(body) == 7
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_terminal_that_is_gone_is_no_other_error_than_its_hangup() -> None:
    def tick() -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        raise OSError(5, "Input/output error")

    with pytest.raises(Ended):
        run_to_end(trio.sleep_forever, tick=tick, each_s=0.001)


def test_what_a_thread_tells_is_told_in_the_task() -> None:
    told: list[str | Transfer] = []

    async def body() -> int:
        def progress(news: str | Transfer) -> None:
            trio.lowlevel.current_task()
            told.append(news)

        def work(tell: object, check: object) -> int:
            tell(Transfer("a", "done"))  # type: ignore[operator]
            return 3

        return await in_thread(work, progress)

    assert run_to_end(body) == 3
    assert told == [Transfer("a", "done")]
