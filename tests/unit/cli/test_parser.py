"""The small parser and click, which are made from the same table, understand the same."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.cli import clicked
from orchestrator.cli.parser import Invocation, parse
from orchestrator.cli.table import GLOBALS, every_verb, reference
from orchestrator.cli.table.shapes import Option

VERBS = dict(every_verb())
FLAGS = sorted({flag for verb in VERBS.values() for option in verb.options for flag in option.flags.split()})
GLOBAL_FLAGS = sorted(flag for option in GLOBALS for flag in option.flags.split())
VALUES = ("", "5", "-1", "0.5", "all", "json", "text", "plain", "auto", "never", "web", "A=b", "nan", "1e3", "-", "--")
WORDS = st.one_of(
    st.sampled_from(FLAGS),
    st.sampled_from(VALUES),
    st.sampled_from(["db", "up", "--help", "-x", "--unknown", "--tail=3", "-n3", "-aq", "-dt5", "-Te", "--format=json"]),
    st.builds(lambda flag, value: f"{flag}={value}", st.sampled_from(FLAGS), st.sampled_from(VALUES)),
    st.builds(lambda flag, value: f"{flag}{value}", st.sampled_from(FLAGS), st.sampled_from(VALUES)),
)
BEFORE = st.lists(
    st.one_of(
        st.sampled_from(GLOBAL_FLAGS),
        st.builds(lambda flag, value: f"{flag}={value}", st.sampled_from(GLOBAL_FLAGS), st.sampled_from(VALUES)),
        st.sampled_from(VALUES),
    ),
    max_size=3,
)


def test_what_lists_is_called_ls_and_the_other_name_of_a_list_is_the_same_verb() -> None:
    for name in ("chaos", "network", "volume", "image"):
        assert f"{name} ls" in VERBS
    ours, other = VERBS["chaos ls"], VERBS["chaos list"]
    assert (ours.function, ours.options, ours.arguments) == (other.function, other.options, other.arguments)


def by_click(words: list[str]) -> Invocation | int:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return clicked.parse(words)


@given(before=BEFORE, verb=st.sampled_from(sorted(VERBS)), after=st.lists(WORDS, max_size=5))
@settings(max_examples=600, deadline=None)
def test_what_the_small_parser_understands_click_understands_alike(before: list[str], verb: str, after: list[str]) -> None:
    words = [*before, *verb.split(), *after]
    understood = parse(words, os.environ)
    if understood is not None:
        assert by_click(words) == understood


@given(verb=st.sampled_from(sorted(VERBS)), data=st.data())
@settings(max_examples=300, deadline=None)
def test_what_is_right_needs_no_click(verb: str, data: st.DataObject) -> None:
    row = VERBS[verb]
    words = verb.split()
    for option in data.draw(st.lists(st.sampled_from(row.options), max_size=4)) if row.options else []:
        words += data.draw(written(option))
    words += [f"word{number}" for number, argument in enumerate(row.arguments) if argument.required]
    expected = by_click(words)
    assert isinstance(expected, Invocation)
    assert parse(words, os.environ) == (expected if row.hot else None)


def written(option: Option) -> st.SearchStrategy[list[str]]:
    """The ways to write a right use of `option`."""
    flags = st.sampled_from(option.flags.split())
    if option.kind in ("flag", "part"):
        return flags.map(lambda flag: [flag])
    right = {"text": ["a", "b=c", "-d", ""], "seconds": ["0", "1.5", "1e2"], "count": ["0", "7"], "lines": ["all", "9"]}
    values = st.sampled_from(list(option.choices) or right[option.kind])

    def put(flag: str, value: str) -> list[list[str]]:
        joined = [[f"{flag}={value}"]] if flag.startswith("--") else [[f"{flag}{value}"], [f"{flag}={value}"]]
        return [[flag, value], *joined] if value else [[flag, value]]

    return st.builds(put, flags, values).flatmap(st.sampled_from)


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["ps", "-aq", "db", "--format=json", "web"], {"everything": True, "quiet": True, "services": ("db", "web")}),
        (["logs", "-n", "-1"], {"tail": -1}),
        (["logs", "-fn5", "--", "-x"], {"follow": True, "tail": 5, "services": ("-x",)}),
        (["exec", "-Te", "A=b", "--env=C", "db", "ls", "-l", "--", "-T"], {"variables": ("A=b", "C"), "no_tty": True}),
        (["exec", "db", "ls", "-l", "--", "-T"], {"command": ("ls", "-l", "--", "-T"), "no_tty": False}),
        (["stop", "-t", "0.5"], {"timeout_s": 0.5, "services": ()}),
        (["up", "--menu=false", "--wait=True", "-d"], {"menu": False, "wait": True, "detach": True}),
        (["up", "--scale", "a=2", "--scale=b=3", "--no-deps=0"], {"scale": ("a=2", "b=3"), "no_deps": False}),
        (["up", "--exit-code-from", "--wait=1"], {"exit_code_from": "--wait=1", "wait": False}),
        (["ps", "--orphans=false"], {"orphans": False}),
        (["ps", "--orphans"], {"orphans": True}),
        (["ps", "-a", "--", "--all=0"], {"everything": True, "services": ("--all=0",)}),
        (["up", "-d", "--wait-timeout=9"], {"detach": True, "wait_timeout_s": 9.0}),
        (["up", "-dt=9", "-V=false"], {"detach": True, "timeout_s": 9.0, "renew_volumes": False}),
        (["up", "-dV=0", "web"], {"detach": True, "renew_volumes": False, "services": ("web",)}),
        (["exec", "--tty=false", "db", "ls"], {"tty": False, "no_tty": False}),
        (["exec", "-it", "db", "ls"], {"tty": True, "no_tty": False}),
        (["exec", "-i=false", "-e=A=b", "db", "ls", "-l=x"], {"variables": ("A=b",), "command": ("ls", "-l=x")}),
        (["logs", "-n=-1", "-f=true"], {"tail": -1, "follow": True}),
    ],
)
def test_options_in_all_their_spellings(words: list[str], values: dict[str, object]) -> None:
    understood = parse(words, {})
    assert understood is not None
    assert understood.values == understood.values | values
    assert by_click(words) == understood


def test_options_before_the_verb_have_all_their_spellings_too() -> None:
    words = ["-f=a.yaml", "-pshop", "--dry-run=false", "up", "-d"]
    understood = parse(words, {})
    assert understood is not None
    found = {name: understood.settings[name] for name in ("files", "project_name", "dry_run")}
    assert found == {"files": ("a.yaml",), "project_name": "shop", "dry_run": False}
    assert by_click(words) == understood


@pytest.mark.parametrize(
    "words",
    [
        [], ["--help"], ["ps", "--help"], ["nosuch"], ["-x", "ps"], ["ps", "--nosuch"], ["logs", "-n"], ["logs", "-n", "x"],
        ["stop", "-t", "-1"], ["stop", "-t", "nan"], ["exec", "db"], ["why"], ["why", "a", "b"],
        ["ps", "--all=x"], ["ps", "-a", "--all=1"], ["ps", "--all=0", "-a"], ["version", "word"],
        ["--ansi", "blue", "ps"], ["config"], ["lint"], ["version", "--format", "xml"],
    ],
)  # fmt: skip
def test_what_is_wrong_rare_or_help_is_left_to_click(words: list[str]) -> None:
    assert parse(words, {}) is None


@pytest.mark.parametrize("name", ["COMPOSE_ANSI", "COMPOSE_PROGRESS", "PYSTACK_DATA_DIR"])
@pytest.mark.parametrize("value", ["", "json", "never", "/x"])
def test_environment_variables_stand_in_for_options(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in ("COMPOSE_ANSI", "COMPOSE_PROGRESS", "PYSTACK_DATA_DIR"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, value)
    understood = parse(["ps"], os.environ)
    assert by_click(["ps"]) == (understood if understood is not None else 2)


@pytest.mark.parametrize(
    ("value", "words", "menu"),
    [
        ("0", [], False),
        ("false", [], False),
        ("", [], True),
        ("1", [], True),
        ("0", ["--menu"], True),
        ("1", ["--menu=0"], False),
    ],
)
def test_environment_variables_stand_in_for_flags(
    value: str, words: list[str], menu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPOSE_MENU", value)
    monkeypatch.setenv("PYSTACK_ISOLATED", value)
    for understood in (parse(["up", *words], os.environ), by_click(["up", *words])):
        assert isinstance(understood, Invocation)
        assert (understood.values["menu"], understood.values["isolate"]) == (menu, value == "1")


def test_a_variable_that_is_no_truth_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPOSE_MENU", "perhaps")
    assert (parse(["up"], os.environ), by_click(["up"])) == (None, 2)


def test_the_shell_is_told_the_verbs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_PYSTACK_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "pystack re")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert parse(["ps"], os.environ) is None
    with pytest.raises(SystemExit):
        clicked.parse([])
    assert capsys.readouterr().out == "plain,restart\n"


def test_the_shell_is_told_the_verbs_of_a_group(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_PYSTACK_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "pystack volume i")
    monkeypatch.setenv("COMP_CWORD", "2")
    with pytest.raises(SystemExit):
        clicked.parse([])
    assert capsys.readouterr().out == "plain,inspect\nplain,import\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["volume", "inspekt", "x"], '"inspekt" is not a verb of volume (did you mean "inspect"?)'),
        (["volumee", "ls"], '"volumee" is not a verb (did you mean "volume"?)'),
        (["volume", "ls", "--nosuch"], "no such option"),
        (["volume", "rm"], "missing argument"),
        (["volume"], "Usage: pystack volume [OPTIONS] VERB [OPTION]... [ARGUMENT]..."),
    ],
)
def test_what_is_wrong_in_a_group_is_told_of_the_group(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert parse(words, {}) is None
    assert clicked.parse(words) == 2
    assert said in capsys.readouterr().err


def test_the_verbs_of_a_group_are_imported_when_one_is_asked_for() -> None:
    program = "import orchestrator.cli.table as table, sys; print(table.__name__ + '.volumes' in sys.modules)"
    listed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert listed.stdout == "False\n"


def test_the_tables_of_the_page_are_those_of_the_table() -> None:
    page = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()
    assert page == reference.renewed(page), (
        "run: python -c \"from orchestrator.cli.table.reference import write; write('docs/cli.md')\""
    )


def test_every_row_fits_the_function_that_carries_it_out() -> None:
    for verb in VERBS.values():
        module = importlib.import_module(f"orchestrator.cli.commands.{verb.module}")
        parameters = set(inspect.signature(getattr(module, verb.function or verb.name)).parameters)
        names = {option.name for option in verb.options if not option.accepted}
        names |= {argument.name for argument in verb.arguments}
        assert parameters == {"settings"} | names, verb.name
        every = names | {option.name for option in verb.options}
        assert set(verb.told(dict.fromkeys(every))) == names
