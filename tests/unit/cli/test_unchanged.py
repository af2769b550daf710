"""A build that is told without being carried out: only if nothing has changed that its outcome follows from."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.cli.settings import Settings
from orchestrator.cli.unchanged import Note, Outcome, look
from orchestrator.values import replace

IMAGE = "sha256:" + "0123456789abcdef" * 4
LATER_NS = 3600 * 10**9


class Stack:
    """A stack that was built, as far as notes go."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "context" / "sub").mkdir(parents=True)
        (root / "context" / "sub" / "file").write_text("content")
        (root / "compose.yaml").write_text("services: {web: {build: context}}\n")
        (root / "name").write_text(f'{{"means": "{IMAGE}"}}')
        (root / "synced").touch()
        self.settings = Settings(data_root=str(root / "data"), environment={"HOME": "/root", "SHLVL": "1"})

    def build(self, *, settled: bool = True) -> None:
        outcome = Outcome(
            ((str(self.root / "name"), IMAGE),), (str(self.root / "synced"),), (("web", "a warning"),), ("web",)
        )
        seen = look(self.settings, [str(self.root / "compose.yaml")], str(self.root), [], [str(self.root / "context")])
        note = Note(self.settings, {})
        note.began_ns += LATER_NS if settled else 0
        note.keep(seen, outcome)

    def is_told(self, **options: object) -> bool:
        return Note(self.settings, options).tell_if_unchanged(quiet=False)


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    monkeypatch.chdir(tmp_path)
    return Stack(tmp_path)


def test_a_build_of_which_nothing_has_changed_is_told_with_its_warnings(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    stack.build()
    assert stack.is_told()
    assert capsys.readouterr().err.splitlines()[:2] == ["web: a warning", "web: cached: nothing has changed"]


def test_a_quiet_one_says_nothing(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    stack.build()
    assert Note(stack.settings, {}).tell_if_unchanged(quiet=True)
    assert capsys.readouterr() == ("", "")


def test_variables_of_the_shell_itself_make_no_difference(stack: Stack) -> None:
    stack.build()
    stack.settings = replace(stack.settings, environment={"HOME": "/root", "SHLVL": "2", "OLDPWD": "/"})
    assert stack.is_told()


def _replaced(directory: Path) -> None:
    directory.rename(directory.with_name("old"))
    directory.mkdir()


CHANGES: dict[str, Callable[[Path], object]] = {
    "a file's content": lambda root: (root / "context/sub/file").write_text("CONTENT"),
    "a file's mode": lambda root: (root / "context/sub/file").chmod(0o700),
    "a new file in the context": lambda root: (root / "context/sub/new").touch(),
    "a file less": lambda root: (root / "context/sub/file").unlink(),
    "a directory by another one": lambda root: _replaced(root / "context"),
    "the compose file": lambda root: (root / "compose.yaml").write_text("services: {web: {build: other}}\n"),
    "a new override file": lambda root: (root / "compose.override.yaml").touch(),
    "a new .env": lambda root: (root / ".env").touch(),
    "what the name means": lambda root: (root / "name").write_text('{"means": "sha256:other"}'),
    "a layer less": lambda root: (root / "synced").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_build_is_carried_out_again_after_a_change_of(stack: Stack, change: str) -> None:
    stack.build()
    CHANGES[change](stack.root)
    assert not stack.is_told()


def test_other_options_and_another_environment_are_another_build(stack: Stack) -> None:
    stack.build()
    assert not stack.is_told(services=("web",))
    stack.settings = replace(stack.settings, environment={"HOME": "/home/ann"})
    assert not stack.is_told()


def test_what_was_changed_a_moment_ago_is_not_noted(stack: Stack) -> None:
    stack.build(settled=False)
    assert not stack.is_told()


def test_a_context_that_cannot_be_seen_whole_is_not_noted(stack: Stack) -> None:
    seen = look(stack.settings, [], str(stack.root), [], [str(stack.root / "nothing")])
    assert seen.newest_ns < 0


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", "\0" * 100, '{"at_s": "now"}', '{"at_s": 1e999, "names": 3}'])
def test_a_damaged_note_is_none(stack: Stack, content: str) -> None:
    stack.build()
    (note,) = (stack.root / "data/cache/builds").iterdir()
    note.write_text(content)
    assert not stack.is_told()


def test_old_notes_make_room_for_new_ones(stack: Stack) -> None:
    notes = stack.root / "data/cache/builds"
    notes.mkdir(parents=True)
    for number in range(200):
        (notes / str(number)).touch()
        os.utime(notes / str(number), (number, number))
    stack.build()
    assert stack.is_told()
    assert len(list(notes.iterdir())) < 200
