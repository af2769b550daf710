"""Faults as they are written."""

from __future__ import annotations

import pytest

from orchestrator.model.chaos import FaultKind, Injection, check_injection, parse_injection
from orchestrator.model.codec import from_json, to_json


@pytest.mark.parametrize(
    ("text", "wanted", "sentence"),
    [
        ("cut api db", Injection(FaultKind.CUT, "api", "db"), "cut api from db"),
        (
            "cut api outside --one-way --for 5m",
            Injection(FaultKind.CUT, "api", "outside", one_way=True, for_s=300.0),
            "cut api from outside one way",
        ),
        ("loss api db 0.5%", Injection(FaultKind.LOSS, "api", "db", share=0.005), "0.5% loss between api and db"),
        (
            "lag api 100ms --jitter=20ms",
            Injection(FaultKind.LAG, "api", delay_s=0.1, jitter_s=0.02),
            "0.1s lag of api",
        ),
        ("rate api db 1.5mbit", Injection(FaultKind.RATE, "api", "db", bits_per_s=1_500_000), "1.5mbit between api and db"),
        (
            "dns-fail api Example.COM. --timeout",
            Injection(FaultKind.DNS_FAIL, "api", name="example.com", silent=True),
            "name example.com fails for api",
        ),
        ("pause api --for 0", Injection(FaultKind.PAUSE, "api", for_s=0.0), "pause api"),
        ("oom api", Injection(FaultKind.OOM, "api", for_s=0.0), "let api run out of memory"),
        ("kill api -s HUP", Injection(FaultKind.KILL, "api", for_s=0.0, signal=1), "send SIGHUP to api"),
    ],
)
def test_what_is_written_is_what_is_meant(text: str, wanted: Injection, sentence: str) -> None:
    found = parse_injection(text)
    assert found == wanted
    assert str(found) == sentence
    assert from_json(Injection, to_json(found)) == found


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "begins with no fault"),
        ("break api", "they are cut, loss"),
        ("cut api", "it is written as: cut A B"),
        ("cut api db web", "it is written as: cut A B"),
        ("cut outside api", "can only be the other end"),
        ("cut api db --jitter 1s", 'cut has no option "--jitter"'),
        ("cut api db --for soon", '"soon" is not a duration'),
        ("cut api db --for", '"" is not a duration'),
        ("cut api db --for -1s", "negative"),
        ("loss api db 20", "is not a percentage"),
        ("loss api db 0%", "out of range"),
        ("loss api db 101%", "out of range"),
        ("lag api db 2h", "an hour at most"),
        ("lag api db 1ms --jitter 2ms", "at most as long as the lag"),
        ("rate api 10", "is not a rate"),
        ("rate api 1bit", "from 1kbit"),
        ("kill api -s NOSIG", "is not a signal"),
        ("kill api --for 3s", 'kill has no option "--for"'),
        ("oom api --for 3s", 'oom has no option "--for"'),
        ("oom", "it is written as: oom A"),
        ("oom api db", "it is written as: oom A"),
    ],
)
def test_what_is_written_wrongly_is_one_sentence(text: str, part: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_injection(text)
    assert part in str(caught.value)


def test_each_end_has_its_own_mark() -> None:
    fault = parse_injection("cut api db")
    assert [fault.mark("api", "shop-api-1"), fault.mark("db", "shop-db-1")] == ["cut from db", "cut from api"]
    assert parse_injection("rate api 1mbit").mark("api", "shop-api-1") == "1mbit"
    assert parse_injection("loss shop-api-2 db 20%").mark("api", "shop-api-2") == "20% loss to db"


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "cut", "on": "api"},
        {"kind": "cut", "on": "", "to": "db"},
        {"kind": "pause", "on": "api", "to": "db"},
        {"kind": "cut", "on": "api", "to": "db", "for_s": -1.0},
        {"kind": "cut", "on": "api", "to": "db", "for_s": float("nan")},
        {"kind": "cut", "on": "api", "to": "db", "for_s": float("inf")},
        {"kind": "loss", "on": "api", "to": "db", "share": 7.0},
        {"kind": "lag", "on": "api"},
        {"kind": "lag", "on": "api", "delay_s": -1.0},
        {"kind": "lag", "on": "api", "delay_s": 1.0, "jitter_s": float("nan")},
        {"kind": "rate", "on": "api"},
        {"kind": "rate", "on": "api", "bits_per_s": 10**18},
        {"kind": "kill", "on": "api", "signal": 0},
        {"kind": "oom", "on": "api", "to": "db"},
    ],
)
def test_what_comes_by_the_socket_is_checked_as_well(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_injection(from_json(Injection, wrong))
