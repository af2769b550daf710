"""Which changes a watch rule is about, when they are dealt with, and in which order."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from orchestrator.cli.watching.rules import Filter, Ground, filter_of, target_of
from orchestrator.cli.watching.states import Behind, Kind, Operation, ServiceState, shared_out
from orchestrator.cli.watching.timing import STORM, Burst, Calm
from orchestrator.cli.watching.trees import Tree
from orchestrator.errors import InputError
from orchestrator.model.names import ContainerId
from orchestrator.model.watch import WatchAction, WatchRule

SRC = Ground("/stack/src")


def made(*ignore: str, include: tuple[str, ...] = (), ground: Ground = SRC, context_ignore: str = "") -> Filter:
    rule_ = WatchRule(ground.root, WatchAction.SYNC, "/srv", ignore, include, place="services.a.develop.watch[0]")
    return filter_of(rule_, ground, context_ignore, ".dockerignore")


@pytest.mark.parametrize(
    ("ignore", "meant", "not_meant"),
    [
        ((), ("a", "a/b", ".github/x"), (".git/index", "a/.git", "a.swp~", ".a.swp", "x/.#lock", "4913", "b/.idea/x")),
        (("node_modules/",), ("a/node_modules/x",), ("node_modules", "node_modules/x/y")),
        (("**/*.tmp", "!keep.tmp"), ("keep.tmp", "a/b"), ("a.tmp", "a/b.tmp")),
        (("/abs",), ("b/abs",), ("abs/x",)),
        (("*",), ("a", "a/b"), (".git/x",)),
        (("", " "), ("a",), ()),
    ],
)
def test_what_is_ignored(ignore: tuple[str, ...], meant: tuple[str, ...], not_meant: tuple[str, ...]) -> None:
    found = made(*ignore)
    assert [path for path in (*meant, *not_meant) if found.meant(path)] == list(meant)


def test_with_include_only_what_matches_is_meant_and_folders_are_entered_all_the_same() -> None:
    found = made("vendor", include=("*.py", "deep/**"))
    assert found.meant("a.py")
    assert found.meant("deep/er/x")
    assert not found.meant("b/a.py")
    assert not found.meant("vendor/a.py")
    assert found.enters("b")
    assert not found.enters("vendor")


@pytest.mark.parametrize(
    ("root", "context", "ignored", "kept"),
    [
        ("/stack", "/stack", "logs/x", "src/logs/x"),
        ("/stack/logs", "/stack", "x", None),
        ("/", "/stack", "stack/logs/x", "logs/x"),
        ("/elsewhere", "/stack", None, "logs/x"),
        ("/stackish", "/stack", None, "logs/x"),
    ],
)
def test_the_ignore_file_counts_from_the_build_context(
    root: str, context: str, ignored: str | None, kept: str | None
) -> None:
    found = made(ground=Ground(root, context=context), context_ignore="logs\n")
    assert ignored is None or not found.meant(ignored)
    assert kept is None or found.meant(kept)


def test_an_ignore_file_that_leaves_out_everything_leaves_something_to_watch() -> None:
    found = made(ground=Ground("/s", context="/s"), context_ignore="# all\n*\n!src\n")
    assert found.meant("src/a")
    assert found.meant("other")


def test_an_ignored_folder_with_an_exception_is_entered() -> None:
    found = made("data/*", "!data/keep")
    assert not found.meant("data/x")
    assert found.meant("data/keep/x")
    assert found.enters("data")
    assert not found.enters("data/x")


def test_a_pattern_that_is_none_names_its_rule() -> None:
    with pytest.raises(InputError, match="is no pattern") as caught:
        made("[a")
    assert caught.value.place == "services.a.develop.watch[0].ignore"


def test_where_files_go() -> None:
    def goes(target: str, path: str, only: str = "") -> tuple[str, str]:
        return target_of(WatchRule("/x", WatchAction.SYNC, target), Ground("/x", only), path)

    assert goes("/srv/app/", "a/b") == ("/srv/app", "a/b")
    assert goes("srv", "a") == ("/srv", "a")
    assert goes("/etc/../etc/app.conf", "c", only="c") == ("/etc", "app.conf")
    assert goes("/", "a") == ("/", "a")


NAMES = st.lists(st.sampled_from(["a", "b", ".git", "x.tmp", "node_modules", "é", "4913"]), min_size=1, max_size=4)
PATTERNS = st.lists(st.sampled_from(["a", "*.tmp", "**/b", "!a/b", "node_modules/", "a/*", "!a/b/x.tmp"]), max_size=4)


@given(NAMES, PATTERNS, PATTERNS)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_meant_is_found_by_entering_folders(names: list[str], ignore: list[str], context: list[str]) -> None:
    found = made(*ignore, ground=Ground("/s", context="/s"), context_ignore="\n".join(context))
    if found.meant("/".join(names)):
        assert all(found.enters("/".join(names[:count])) for count in range(1, len(names)))


# ---- when ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 5), min_size=1, max_size=50))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_burst_is_over_when_it_is_calm_and_never_later_than_its_limit(steps: list[float]) -> None:
    calm, now_s, first_s = Calm(0.25, 2.0), 100.0, 100.0
    for step in steps:
        now_s += step
        if calm.over(now_s):
            calm.clear()
        if calm.due_s is None:
            first_s = now_s
        calm.came(now_s)
        assert calm.due_s is not None
        assert calm.due_s <= min(now_s + 0.25, first_s + 2.0)
        assert not calm.over(now_s) or calm.due_s == first_s + 2.0


def test_a_change_alone_is_looked_at_in_a_moment_and_a_storm_when_it_is_over() -> None:
    burst = Burst()
    burst.came({"a"}, 1.0)
    assert burst.take(1.0) == set()
    assert burst.take(1.01) == {"a"}
    assert burst.due_s is None
    many = {str(number) for number in range(STORM)}
    burst.came(many, 2.0)
    assert burst.take(2.1) == set()
    burst.came({"b"}, 2.1)
    assert burst.take(2.2) == set()
    assert burst.take(2.26) == many | {"b"}
    now_s = 3.0
    while not burst.take(now_s):  # It never ends, and is looked at all the same.
        burst.came(many, now_s)
        now_s += 0.1
    assert now_s <= 4.2


# ---- what is to be done ----------------------------------------------------------------------------------------------

ACTIONS = {0: WatchAction.SYNC, 1: WatchAction.SYNC_RESTART, 2: WatchAction.SYNC_EXEC, 3: WatchAction.REBUILD}
ONE = ContainerId("p-a-1")


def test_the_order_is_rebuild_then_copies_then_restart_then_commands() -> None:
    state = ServiceState(ACTIONS)
    state.containers({ONE: 1.0})
    for number in ACTIONS:
        state.changed(number, {f"of-{number}"}, 10.0)
    ((container, behind),) = state.to_copy(10.0)
    assert behind == {0: {"of-0"}, 1: {"of-1"}, 2: {"of-2"}}
    assert state.next_operation(10.1) is None
    assert state.next_operation(10.3) == Operation(Kind.REBUILD)
    assert state.next_operation(10.4) is None
    assert state.failed(container, behind, 10.4) == 1
    state.ended()
    assert state.next_operation(10.4) is None, "it is behind"
    assert state.wake_s() == pytest.approx(10.45)
    assert state.to_copy(10.44) == []
    state.stirred(ONE)
    assert state.to_copy(10.44) == [(ONE, behind)]
    state.copied(ONE, [(0, "of-0"), (1, "of-1"), (2, "of-2")], [], 10.44)
    assert state.next_operation(10.5) == Operation(Kind.RESTART)
    state.changed(2, {"more"}, 10.5)
    assert state.to_copy(10.5) == [(ONE, {2: {"more"}})]
    state.ended()
    assert state.next_operation(10.6) is None, "not calm"
    assert state.next_operation(10.75) == Operation(Kind.EXEC, (2,))
    state.ended()
    assert (state.next_operation(99.0), state.wake_s()) == (None, None)


def test_a_new_container_needs_no_restart_and_gets_all_that_was_copied() -> None:
    state = ServiceState(ACTIONS)
    state.containers({ONE: 1.0})
    state.changed(0, {"a", "b"}, 1.0)
    state.changed(1, {"c"}, 1.0)
    state.changed(3, {"d"}, 1.0)
    state.to_copy(1.0)
    assert state.next_operation(1.3) == Operation(Kind.REBUILD)
    state.containers({ONE: 2.0})
    state.ended(replaced=True)
    assert state.to_copy(1.3) == [(ONE, {0: {"a", "b"}, 1: {"c"}})]
    assert state.next_operation(2.0) is None
    state.containers({})
    assert state.wake_s() is None


def test_what_is_refused_is_tried_again_ever_more_rarely_and_nothing_waits_for_it() -> None:
    state = ServiceState(ACTIONS)
    state.containers({ONE: 1.0})
    state.changed(0, {"a"}, 0.0)
    state.changed(1, {"c"}, 0.0)
    both, bad = {(0, "a"), (1, "c")}, {(1, "c")}
    state.to_copy(0.0)
    assert state.copied(ONE, both, bad, 0.0) == bad
    assert state.next_operation(0.3) == Operation(Kind.RESTART)
    state.ended()
    now_s, pauses = 0.0, []
    for _ in range(7):
        again_s = state.wake_s()
        assert again_s is not None
        pauses.append(again_s - now_s)
        now_s = again_s
        assert state.to_copy(now_s - 0.01) == []
        assert state.to_copy(now_s) == [(ONE, {1: {"c"}})]
        assert not state.copied(ONE, bad, bad, now_s), "no news"
    assert pauses == [0.5, 1, 2, 4, 8, 10, 10]
    state.changed(1, {"c"}, now_s)
    assert state.to_copy(now_s) == [(ONE, {1: {"c"}})]
    assert state.copied(ONE, bad, bad, now_s) == bad, "it was saved again"
    state.stirred(ONE)
    assert state.to_copy(now_s) == [(ONE, {1: {"c"}})]
    state.next_operation(now_s + 1)
    state.ended()
    state.copied(ONE, bad, [], now_s + 1)
    assert state.next_operation(now_s + 2) == Operation(Kind.RESTART), "what comes late is acted upon too"
    state.ended()
    assert state.wake_s() is None


def test_what_is_copied_at_the_beginning_is_nothing_to_act_upon() -> None:
    state = ServiceState(ACTIONS)
    state.begins_with(1, {"a"})
    state.containers({ONE: 1.0})
    assert state.to_copy(0.0) == [(ONE, {1: {"a"}})]
    assert state.next_operation(99.0) is None


def test_what_is_in_a_folder_is_copied_after_it_however_little_is_copied_at_once() -> None:
    behind = {0: {"a/c", "a", "b", "a/c/d"}, 1: set[str](), 2: {"x"}}
    assert shared_out(behind, 2) == ({0: {"a", "a/c"}}, {0: {"a/c/d", "b"}, 2: {"x"}})
    assert shared_out(behind, 4) == ({0: behind[0]}, {2: {"x"}})
    assert shared_out(behind, 9) == ({0: behind[0], 2: {"x"}}, {})
    assert shared_out({1: set()}, 9) == ({}, {})


FOLLOWED = {1: Kind.RESTART, 2: Kind.EXEC, 3: Kind.REBUILD}


class Life(RuleBasedStateMachine):
    """Whatever happens: what changed reaches every container that is there, and every action is done after its change."""

    def __init__(self) -> None:
        super().__init__()
        self.state = ServiceState(ACTIONS)
        self.now_s = 0.0
        self.there: dict[ContainerId, float] = {}
        self.has: dict[ContainerId, Behind] = {}
        self.refused: dict[ContainerId, set[tuple[int, str]]] = {}
        self.changed: Behind = {}
        self.owed: dict[Kind, float] = {}
        self.under_way: Operation | None = None

    @rule(seconds=st.floats(0, 1))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @rule(number=st.sampled_from(sorted(ACTIONS)), path=st.sampled_from("abc"))
    def a_file_changes(self, number: int, path: str) -> None:
        self.state.changed(number, {path}, self.now_s)
        action = ACTIONS[number]
        if action.syncs:
            self.changed.setdefault(number, set()).add(path)
            for name, has in self.has.items():
                has.get(number, set()).discard(path)
                self.refused[name].discard((number, path))
        kind = FOLLOWED.get(number)
        if kind is not None:
            self.owed[kind] = self.now_s

    @rule(number=st.integers(1, 3))
    def a_container_is_made(self, number: int) -> None:
        name = ContainerId(f"p-a-{number}")
        self.there[name] = self.there.get(name, 0.0) + 1.0
        self.has[name], self.refused[name] = {}, set()
        self.state.containers(self.there)

    @rule(number=st.integers(1, 3))
    def a_container_goes(self, number: int) -> None:
        self.there.pop(ContainerId(f"p-a-{number}"), None)
        self.has.pop(ContainerId(f"p-a-{number}"), None)
        self.state.containers(self.there)

    @rule(works=st.booleans(), most=st.integers(0, 12), refused=st.sets(st.sampled_from("abc")))
    def files_are_copied(self, works: bool, most: int, refused: set[str]) -> None:
        for name, all_behind in self.state.to_copy(self.now_s):
            if not works:
                self.state.failed(name, all_behind, self.now_s)
                continue
            behind, left = shared_out(all_behind, most)
            assert sum(map(len, behind.values())) <= most
            if left:
                self.state.left(name, left)
            tried = {(number, path) for number, paths in behind.items() for path in paths}
            bad = {(number, path) for number, path in tried if path in refused}
            for number, path in tried - bad:
                self.has[name].setdefault(number, set()).add(path)
                if (number, path) in self.refused[name] and number in FOLLOWED:
                    self.owed[FOLLOWED[number]] = self.now_s
            self.refused[name] = self.refused[name] - tried | bad
            self.state.copied(name, tried, bad, self.now_s)

    @rule()
    def an_operation_begins(self) -> None:
        operation = self.state.next_operation(self.now_s)
        if operation is None:
            return
        assert self.under_way is None
        if operation.kind is not Kind.REBUILD:
            assert Kind.REBUILD not in self.owed
            wanted = {(number, path) for number, paths in self.changed.items() for path in paths}
            for name, has in self.has.items():
                there = {(number, path) for number, paths in has.items() for path in paths}
                assert there | self.refused[name] == wanted
        assert self.owed.pop(operation.kind) <= self.now_s
        self.under_way = operation

    @rule(replaced=st.booleans())
    def an_operation_ends(self, replaced: bool) -> None:
        if self.under_way is None:
            return
        replaced = replaced and self.under_way.kind is Kind.REBUILD
        self.state.ended(replaced=replaced)
        if replaced:
            self.owed.pop(Kind.RESTART, None)
        self.under_way = None

    @invariant()
    def nobody_waits_for_ever(self) -> None:
        lacking = any(
            path not in has.get(number, set())
            for has in self.has.values()
            for number, paths in self.changed.items()
            for path in paths
        )
        if lacking or (self.owed and self.under_way is None):
            assert self.state.wake_s() is not None

    def teardown(self) -> None:
        for _ in range(10):
            self.now_s += 5.0
            self.files_are_copied(True, 12, set())
            self.an_operation_ends(False)
            self.an_operation_begins()
        assert all(has == self.changed for has in self.has.values())
        assert not self.owed


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


# ---- what has changed on disk ----------------------------------------------------------------------------------------


def reading(root: Path) -> dict[str, str]:
    """What the tree is to know: path -> content, link or folder."""
    found = {}
    for above, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(above) / name
            kind = f"->{os.readlink(path)}" if path.is_symlink() else "/" if path.is_dir() else path.read_text()
            found[str(path.relative_to(root))] = kind
    return found


PATHS = st.sampled_from(["a", "b", "a/b", "a/c", "a/b/c", "b/a"])
STEPS = st.lists(st.tuples(st.sampled_from(["write", "folder", "link", "remove", "rename"]), PATHS, PATHS), max_size=8)


def do(root: Path, step: tuple[str, str, str], number: int) -> set[str]:
    """Carry out what can be, and say where the kernel would tell of something."""
    what, first, second = step
    path, other = root / first, root / second
    first, second = (os.path.relpath(os.path.realpath(each.parent) + "/" + each.name, root) for each in (path, other))
    try:
        if what == "write":
            if path.is_symlink():
                return set()
            path.write_text(str(number))
        elif what == "folder":
            path.mkdir(parents=True)
        elif what == "link":
            path.symlink_to("a")
        elif what == "remove":
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        else:
            path.rename(other)
            return {first, second}
    except OSError:
        return set()
    return {first.split("/")[0]} if what == "folder" else {first}


@given(st.lists(STEPS, max_size=6))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_copy_that_follows_what_changed_is_always_the_same(batches: list[list[tuple[str, str, str]]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory).resolve()
        ground = Ground(str(root))
        tree = Tree(ground, made(ground=ground))
        tree.look({""})
        copy: dict[str, str] = {}
        for number, batch in enumerate(batches):
            hints: set[str] = set()
            for step in batch:
                hints |= do(root, step, number)
            changed = tree.look(hints)
            there = reading(root)
            for path in changed:
                copy.pop(path, None)
                if path in there:
                    copy[path] = there[path]
            assert copy == there
            assert tree.paths == set(there)


def test_what_cannot_have_changed_unseen_is_not_told_twice(tmp_path: Path) -> None:
    ground = Ground(str(tmp_path))
    tree = Tree(ground, made("ignored", ground=ground))
    (tmp_path / "a").write_text("1")
    os.utime(tmp_path / "a")
    assert tree.look({"a"}) == {"a"}
    assert tree.look({"a"}) == {"a"}, "it was written a moment ago: a second write may look the same"
    assert tree.look({""}) == set()
    (tmp_path / "ignored").mkdir()
    (tmp_path / "ignored" / "x").write_text("1")
    (tmp_path / "link").symlink_to("ignored")
    assert tree.look({"ignored/x", "ignored"}) == set()
    assert tree.look({"link/x"}) == {"link"}
    assert tree.look({"link/x"}) == set()


def test_a_file_with_several_names_has_changed_under_each(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x").write_text("1")
    os.link(tmp_path / "a/x", tmp_path / "a/z")
    os.link(tmp_path / "a/x", tmp_path / "y")
    ground = Ground(str(tmp_path))
    tree = Tree(ground, made(ground=ground))
    assert tree.look({""}) == {"a", "a/x", "a/z", "y"}
    (tmp_path / "y").write_text("22")
    assert tree.look({"y"}) == {"a/x", "a/z", "y"}
    (tmp_path / "a/z").unlink()
    (tmp_path / "new").write_text("another")
    (tmp_path / "new").rename(tmp_path / "y")
    assert tree.look({"a/z", "y"}) == {"a/z", "y"}
    (tmp_path / "y").write_text("another one")
    assert tree.look({"y"}) == {"y"}


def test_of_a_single_file_nothing_else_is_told(tmp_path: Path) -> None:
    ground = Ground(str(tmp_path), "one")
    tree = Tree(ground, made(ground=ground))
    tree.look({""})
    for name in ("one", "two"):
        (tmp_path / name).write_text("1")
    assert tree.look({"two"}) == set()
    assert tree.look({"one", "two"}) == {"one"}
    assert tree.look({"two", "", "x/y"}) == set()
    (tmp_path / "one").unlink()
    assert tree.look({""}) == {"one"}
    assert tree.paths == set()


def test_a_root_that_goes_while_it_is_looked_at_says_nothing_of_what_was_in_it(tmp_path: Path) -> None:
    class Late(Tree):
        identity = (1, 1)

    (tmp_path / "src/a").mkdir(parents=True)
    ground = Ground(str(tmp_path / "src"))
    tree = Late(ground, made(ground=ground))
    assert tree.look({""}) == {"a"}
    (tmp_path / "src").rename(tmp_path / "away")
    assert tree.look({""}) == tree.look({"a/b"}) == set()
    assert tree.paths == {"a"}


def test_a_root_that_is_away_says_nothing_of_what_was_in_it(tmp_path: Path) -> None:
    root = tmp_path / "src"
    root.mkdir()
    (root / "a").write_text("1")
    ground = Ground(str(root))
    tree = Tree(ground, made(ground=ground))
    tree.look({""})
    root.rename(tmp_path / "away")
    assert (tree.identity, tree.look({"", "a"})) == (None, set())
    root.mkdir()
    away = (tmp_path / "away").stat()
    assert tree.identity not in (None, (away.st_dev, away.st_ino))
    (root / "b").write_text("1")
    assert tree.look({""}) == {"a", "b"}
