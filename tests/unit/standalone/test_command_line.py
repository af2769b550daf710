"""Arguments of `pystack-oci`, as those who drive OCI runtimes write them."""

from __future__ import annotations

import pytest

from orchestrator.errors import InputError
from orchestrator.standalone.command_line import parse


def test_global_options_come_before_the_command_and_its_own_after_it() -> None:
    line = parse(["--root", "/r", "--log=/l", "--log-format", "json", "create", "--bundle", "/b", "--pid-file=/p", "box"])
    assert (line.command, line.words) == ("create", ("box",))
    assert line.given == {"root": "/r", "log": "/l", "log-format": "json"}
    assert (line.text("bundle"), line.text("pid-file"), line.text("config")) == ("/b", "/p", "")


def test_options_of_most_commands_may_follow_the_id() -> None:
    line = parse(["kill", "box", "--all", "9"])
    assert (line.words, line.flag("all"), line.flag("regex")) == (("box", "9"), True, False)


def test_what_follows_the_id_of_exec_is_the_programs() -> None:
    line = parse(["exec", "-e", "A=1", "--env", "B=2", "-td", "-u33:44", "box", "ls", "-l", "--help"])
    assert line.words == ("box", "ls", "-l", "--help")
    assert line.texts("env") == ["A=1", "B=2"]
    assert (line.flag("tty"), line.flag("detach"), line.text("user")) == (True, True, "33:44")


def test_two_dashes_end_the_options() -> None:
    assert parse(["exec", "--", "box", "-x"]).words == ("box", "-x")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fly"], "there is no command 'fly'"),
        (["--fly", "list"], "there is no option --fly"),
        (["list", "--fly"], "there is no option --fly"),
        (["create"], "create: an argument is missing"),
        (["create", "a", "b"], "create: 'b' is one argument too many"),
        (["create", "--bundle"], "--bundle needs a value"),
        (["list", "--quiet=maybe"], "--quiet takes no value"),
        (["restore", "x"], "restore is not supported"),
    ],
)
def test_a_mistake_is_named(words: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(words)
    assert message in str(caught.value)
