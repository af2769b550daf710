"""Reading /proc/net/tcp: whose connections keep a container from being stopped."""

from __future__ import annotations

from orchestrator.network.open_connections import count_open

REST = "00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0"
LISTEN_80 = f"   0: 00000000:0050 00000000:0000 0A {REST}"
LISTEN6_8080 = f"   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A {REST}"


def line(local: str, remote: str, state: str) -> str:
    return f"   1: {local} {remote} {state} {REST}"


def test_connections_to_what_listens_count_and_its_own_to_others_do_not() -> None:
    to_it = line("0200C90A:0050", "0100C90A:D431", "01")
    to_a_database = line("0200C90A:A001", "0300C90A:1538", "01")
    assert count_open([LISTEN_80, to_it, to_a_database]) == 1


def test_one_that_is_over_does_not_count_and_one_with_something_still_to_send_does() -> None:
    states = {"06": 0, "05": 0, "07": 0, "01": 1, "03": 1, "04": 1, "08": 1, "09": 1, "0B": 1}
    for state, count in states.items():
        assert count_open([LISTEN_80, line("0200C90A:0050", "0100C90A:D431", state)]) == count, state


def test_what_a_container_has_with_itself_does_not_count() -> None:
    mapped = "0000000000000000FFFF00000100007F"
    own = [
        line("0100007F:0050", "0100007F:D431", "01"),
        line("00000000000000000000000001000000:1F90", "00000000000000000000000001000000:D431", "01"),
        line(f"{mapped}:1F90", f"{mapped}:D431", "01"),
    ]
    assert count_open([LISTEN_80, LISTEN6_8080, *own]) == 0


def test_ipv4_clients_of_a_socket_for_both_families_count() -> None:
    client = line("0000000000000000FFFF00000200C90A:1F90", "0000000000000000FFFF00000100C90A:D431", "01")
    assert count_open([LISTEN6_8080, client]) == 1
