"""The keys of `up` in the foreground, as a state machine."""

from __future__ import annotations

import pytest

from orchestrator.cli.menu import HELP, Act, Menu, Pressed

SERVICES = ["web", "db"]


def test_d_detaches_and_h_helps() -> None:
    menu = Menu(SERVICES)
    assert menu.press("d") == Pressed(Act.DETACH)
    assert menu.press("h").text == HELP
    assert len(HELP) <= 80


def test_w_watches_unless_something_is_being_chosen() -> None:
    menu = Menu(SERVICES)
    assert menu.press("w") == Pressed(Act.WATCH)
    menu.press("l")
    assert menu.press("w").act is None


def test_l_lists_and_the_next_key_chooses() -> None:
    menu = Menu(SERVICES)
    assert menu.press("l").text == "show the logs of: 0 all, 1 web, 2 db; any other key: nothing"
    assert menu.press("2") == Pressed(Act.SHOW, "db", "only the logs of db are shown; l 0 shows all")
    assert menu.press("2") == Pressed()
    menu.press("l")
    assert menu.press("0") == Pressed(Act.SHOW, None, "the logs of all services are shown")


def test_r_lists_services_and_has_no_all() -> None:
    menu = Menu(SERVICES)
    assert menu.press("r").text == "restart: 1 web, 2 db; any other key: nothing"
    assert menu.press("1") == Pressed(Act.RESTART, "web", "restarting web")
    menu.press("r")
    assert menu.press("0").act is None


@pytest.mark.parametrize("key", ["x", "3", "\n", "d", "é"])
def test_any_other_key_ends_the_choice_and_does_nothing(key: str) -> None:
    menu = Menu(SERVICES)
    menu.press("r")
    pressed = menu.press(key)
    assert (pressed.act, pressed.service) == (None, None)
    assert "nothing was chosen" in pressed.text
    assert menu.press("1") == Pressed()


def test_many_services_have_letters() -> None:
    menu = Menu([f"s{number}" for number in range(50)])
    text = menu.press("r").text
    assert "9 s8, a s9" in text
    assert "z s34" in text
    assert menu.press("z").service == "s34"
