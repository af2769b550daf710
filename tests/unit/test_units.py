from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InputError
from orchestrator.units import (
    format_bytes,
    format_duration,
    format_duration_go,
    parse_bytes,
    parse_duration,
    parse_duration_ns,
    parse_signal,
    signal_name,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1m30s", 90),
        ("1d", 86_400),
        ("2w", 1_209_600),
        ("1w2d3h4m5s", 788_645),
        ("250ms", 0.25),
        ("1.5h", 5_400),
        (".5s", 0.5),
        ("1.s", 1),
        ("0", 0),
        ("-2s", -2),
        ("+2s", 2),
        ("10us", 1e-5),
        ("10µs", 1e-5),
        ("7ns", 7e-9),
    ],
)
def test_a_duration_is_read_as_go_reads_it_with_days_and_weeks(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize("text", ["", "5", "1.5", "s", "1x", "1m 30s", "1m30", "--1s", ".s", "5 s", "1e3s", "٣s"])
def test_what_is_not_a_duration_is_an_error_that_names_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a duration|has no unit"):
        parse_duration(text)


def test_a_duration_of_more_than_292_years_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        parse_duration("9999999w")


@given(st.integers(min_value=0, max_value=2**62))
def test_a_duration_printed_as_go_prints_it_reads_back_exactly(nanoseconds: int) -> None:
    assert parse_duration_ns(format_duration_go(nanoseconds)) == nanoseconds
    assert parse_duration_ns(format_duration_go(-nanoseconds)) == -nanoseconds


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5µs"),
        (250_000_000, "250ms"),
        (90 * 10**9, "1m30s"),
        (86_400 * 10**9, "24h0m0s"),
        (1_500_000_000, "1.5s"),
        (60 * 10**9 + 1, "1m0.000000001s"),
    ],
)
def test_go_durations_have_their_shape(nanoseconds: int, text: str) -> None:
    assert format_duration_go(nanoseconds) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64MiB", 64 * 2**20),
        ("64m", 64 * 2**20),
        ("64MB", 64 * 2**20),
        ("1.5g", 3 * 2**29),
        ("512", 512),
        ("512b", 512),
        ("2 gb", 2 * 2**30),
        ("1T", 2**40),
        ("1p", 2**50),
        ("0", 0),
        (".5k", 512),
        ("1e3", 1000),
    ],
)
def test_byte_sizes_are_binary_whatever_the_unit_is_called(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "m", "1Ki", "1mm", "-1m", "1 m b", "0x10", "ten", "1bb", "1.2.3k", "9999999p"])
def test_what_is_not_a_size_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_bytes(text)


@given(st.text(max_size=12))
def test_no_text_makes_a_parser_fail_in_any_other_way(text: str) -> None:
    for parse in (parse_bytes, parse_duration_ns):
        message = None
        try:
            parse(text)
        except ValueError as exc:
            message = str(exc)
        assert message != ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.004, "4ms"),
        (0.4, "0.4s"),
        (1.2, "1.2s"),
        (3.0, "3s"),
        (12.4, "12s"),
        (59.7, "1m"),
        (90, "1m30s"),
        (180, "3m"),
        (3_600, "1h"),
        (7_500, "2h05m"),
        (100 * 3600, "4d4h"),
        (-1.2, "-1.2s"),
    ],
)
def test_durations_for_people_are_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (512, "512B"), (2**10, "1KiB"), (64 * 2**20, "64MiB"), (3 * 2**29, "1.5GiB"), (2**20 - 1, "1MiB")],
)
def test_sizes_for_people_are_short(size: int, text: str) -> None:
    assert format_bytes(size) == text


@given(st.integers(min_value=0, max_value=2**50))
def test_a_size_for_people_is_within_five_per_cent(size: int) -> None:
    assert abs(parse_bytes(format_bytes(size)) - size) <= max(1, size * 0.05)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("SIGTERM", 15),
        ("TERM", 15),
        ("term", 15),
        ("sigterm", 15),
        ("15", 15),
        ("SIGUSR1", 10),
        ("IOT", 6),
        ("SIGCLD", 17),
        ("SIGPOLL", 29),
        ("STKFLT", 16),
        ("33", 33),
        ("64", 64),
        ("SIGRTMIN", 34),
        ("SIGRTMIN+0", 34),
        ("SIGRTMIN+3", 37),
        ("rtmin+30", 64),
        ("RTMAX-2", 62),
        ("SIGRTMAX", 64),
        ("SIGRTMAX-30", 34),
    ],
)
def test_signals_have_names_and_numbers(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize(
    "text",
    ["", "SIG", "SIGNOPE", "0", "65", "999", "-9", "+9", "9.0", " TERM", "TERM ", "TERM+1", "RTMIN-1", "RTMIN+31",
     "RTMAX+1", "RTMAX-31", "SIGSIGTERM", "SIG15", "SIGRTMIN+", "\u0669", "9" * 5000, "ſigterm"],
)  # fmt: skip
def test_what_is_no_signal_is_an_input_error(text: str) -> None:
    with pytest.raises(InputError, match="is not a signal") as caught:
        parse_signal(text)
    assert caught.value.hint


def test_every_signal_of_this_machine_has_the_name_that_python_knows() -> None:
    for known in signal.Signals:
        assert parse_signal(known.name) == known
        assert signal_name(known) == known.name


@given(st.integers(1, 64).filter(lambda number: number not in (32, 33)))
def test_a_signals_name_is_read_back(number: int) -> None:
    assert parse_signal(signal_name(number)) == number


def test_a_signal_without_a_name_is_a_number() -> None:
    assert [signal_name(number) for number in (32, 33, 65, 0)] == ["signal 32", "signal 33", "signal 65", "signal 0"]
