"""What `cli.watching` hears of real folders, by the kernel's own events: nothing that happens may go unheard."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from orchestrator.cli.watching.notices import Notices, Root
from orchestrator.cli.watching.rules import Ground, filter_of
from orchestrator.cli.watching.trees import Tree
from orchestrator.kernel import constants as c
from orchestrator.kernel import mounts
from orchestrator.model.watch import WatchAction, WatchRule

QUEUE = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())


class Heard:
    """A folder as who watches it knows it, from hints alone."""

    def __init__(self, root: Path, *ignore: str) -> None:
        self.ground = Ground(str(root))
        self._rule = WatchRule(str(root), WatchAction.SYNC, "/srv", ignore=ignore)
        self.notices = Notices([Root(self.ground.root, filter_of(self._rule, self.ground).enters)])
        self.tree = self._tree()
        self.tree.look({""})

    def _tree(self) -> Tree:
        return Tree(self.ground, filter_of(self._rule, self.ground))

    def look(self) -> set[str]:
        """Paths that are found to have changed."""
        below = f"{self.ground.root}/"
        changed: set[str] = set()
        while hints := self.notices.take():
            hints = {path[len(below) :] for path in hints if f"{path}/".startswith(below)}
            changed |= self.tree.look(hints)
        return changed

    def there(self) -> set[str]:
        """What would be found by looking at everything."""
        tree = self._tree()
        tree.look({""})
        return tree.paths

    def watched(self) -> int:
        """How many folders the kernel watches (proc_pid_fdinfo(5)), but for those above the one that the root is in."""
        count = Path(f"/proc/self/fdinfo/{self.notices.fileno()}").read_text().count("inotify wd:")
        return count - (len(Path(self.ground.root).parents) - 1)


Watched = Callable[..., Heard]


@pytest.fixture
def watched() -> Iterator[Watched]:
    made: list[Heard] = []

    def make(root: Path, *ignore: str) -> Heard:
        made.append(Heard(root, *ignore))
        return made[-1]

    yield make
    for heard in made:
        heard.notices.close()


def put(path: Path, text: str = "1") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_folder_is_heard_from_the_moment_that_it_is_told_of(tmp_path: Path, watched: Watched) -> None:
    heard = watched(tmp_path)
    put(tmp_path / "x/y/z/f")
    assert heard.look() == {"x", "x/y", "x/y/z", "x/y/z/f"}
    put(tmp_path / "x/y/z/f", "more")
    assert heard.look() == {"x/y/z/f"}
    name = os.fsdecode(b"\xff")
    put(tmp_path / "x" / name)
    assert heard.look() == {f"x/{name}"}


def test_after_a_queue_that_was_full_every_folder_is_heard(tmp_path: Path, watched: Watched) -> None:
    heard = watched(tmp_path)
    with open(put(tmp_path / "a"), "w") as one, open(put(tmp_path / "b"), "w") as other:
        for _ in range(QUEUE // 2 + 1):  # The same event twice in a row would be one.
            for file in (one, other):
                file.write("x")
                file.flush()
    (tmp_path / "late").mkdir()
    assert heard.look() == {"a", "b", "late"}
    put(tmp_path / "late/f")
    assert heard.look() == {"late/f"}


def test_folders_that_are_moved_in_out_and_within_are_heard_where_they_are(tmp_path: Path, watched: Watched) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    put(root / "a/b/f")
    put(outside / "c/g")
    heard = watched(root)
    (root / "a").rename(root / "moved")
    (outside / "c").rename(root / "moved/c")
    assert heard.look() == {"a", "a/b", "a/b/f", "moved", "moved/b", "moved/b/f", "moved/c", "moved/c/g"}
    put(root / "moved/b/f", "more")
    put(root / "moved/c/g", "more")
    assert heard.look() == {"moved/b/f", "moved/c/g"}
    (root / "moved").rename(outside / "gone")
    assert heard.look() == {"moved", "moved/b", "moved/b/f", "moved/c", "moved/c/g"}
    put(outside / "gone/b/f", "unheard")
    assert not heard.notices.take()
    assert heard.watched() == 2, "the root and the folder above it"


def test_a_root_comes_back_however_many_folders_above_it_were_gone(tmp_path: Path, watched: Watched) -> None:
    root = tmp_path / "one/two/three/root"
    put(root / "f")
    heard = watched(root)
    shutil.rmtree(tmp_path / "one")
    assert heard.notices.take()
    for path in (tmp_path / "one", tmp_path / "one/two", tmp_path / "one/two/three"):
        path.mkdir()
        heard.look()
    put(root / "g")
    assert heard.look() == {"f", "g"}
    (tmp_path / "one/two/three").rename(tmp_path / "one/two/away")
    assert str(root) in heard.notices.take()
    put(root / "h")
    assert heard.look() == {"g", "h"}


def test_a_root_whose_folders_above_are_exchanged_is_the_one_that_is_there_now(tmp_path: Path, watched: Watched) -> None:
    put(tmp_path / "current/app/src/f", "old")
    put(tmp_path / "next/app/src/f", "new")
    heard = watched(tmp_path / "current/app/src")
    for _ in range(3):
        (tmp_path / "current").rename(tmp_path / "before")
        (tmp_path / "next").rename(tmp_path / "current")
        assert "f" in heard.look()
        put(tmp_path / "before/app/src/f", "unheard")
        assert not heard.notices.take()
        put(tmp_path / "current/app/src/g", "heard")
        assert "g" in heard.look()
        (tmp_path / "before").rename(tmp_path / "next")


@pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/fuse"), reason="mounts a file system")
def test_a_folder_whose_file_system_is_dead_is_passed_over(tmp_path: Path, watched: Watched) -> None:
    put(tmp_path / "src/f")
    (tmp_path / "dead").mkdir()
    heard = watched(tmp_path)
    put(tmp_path / "dead/known")
    assert heard.look() == {"dead/known"}
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    mounts.mount_by_name(b"dead", os.fsencode(tmp_path / "dead"), b"fuse", options)
    os.close(device)  # As an sshfs whose other side is gone.
    try:
        put(tmp_path / "src/f", "more")
        assert heard.look() == {"src/f"}
        assert heard.tree.look({"", "dead", "dead/known"}) == set(), "nobody can say what is there"
        again = watched(tmp_path)
        put(tmp_path / "src/f", "less")
        assert again.look() == {"src/f"}
    finally:
        mounts.unmount(os.fsencode(tmp_path / "dead"), c.MNT_DETACH)


def test_what_no_rule_enters_is_not_watched(tmp_path: Path, watched: Watched) -> None:
    put(tmp_path / "node_modules/deep/er/x")
    put(tmp_path / ".git/objects/aa/x")
    put(tmp_path / "src/x")
    heard = watched(tmp_path, "node_modules")
    assert heard.watched() == 3, "the folder, src, and the folder above"
    put(tmp_path / "node_modules/other/x")
    assert not heard.look()


def test_thousands_of_folders_that_go_take_no_more_work_than_each_alone(tmp_path: Path, watched: Watched) -> None:
    for number in range(6000):
        (tmp_path / f"root/{number % 50}/{number}").mkdir(parents=True)
    heard = watched(tmp_path / "root")
    shutil.rmtree(tmp_path / "root")
    calls = 0

    def count(_: object, event: str, __: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        taken = heard.notices.take()
    finally:
        sys.setprofile(None)
    assert str(tmp_path / "root/0/50") in taken
    assert calls < 100 * 6000, "all that is left is looked through for each"
    assert heard.watched() == 1


def test_a_link_is_not_followed(tmp_path: Path, watched: Watched) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    outside.mkdir()
    root.mkdir()
    (root / "before").symlink_to(outside)
    heard = watched(root)
    (root / "after").symlink_to(outside)
    assert heard.look() == {"after"}
    put(outside / "f")
    assert not heard.notices.take()


def test_what_the_kernel_refuses_is_said_with_the_setting(tmp_path: Path) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    script = f"""
import sys
from orchestrator.cli.watching.notices import Notices, Root
from orchestrator.errors import HostError
try:
    Notices([Root({str(tmp_path)!r}, lambda _: True)])
except HostError as error:
    sys.exit(f"{{error}} ({{error.hint}})")
"""
    for name in ("max_inotify_watches", "max_inotify_instances"):
        limit = f"echo 0 > /proc/sys/user/{name} && exec \"$@\""
        command = ["unshare", "--user", "--map-root-user", "sh", "-c", limit, "sh", sys.executable, "-c", script]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3], check=False)
        assert "the kernel does not watch these files" in done.stderr
        assert "fs.inotify.max_user_watches" in done.stderr


NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
SIDES = st.sampled_from(["root", "outside"])


class Changes(RuleBasedStateMachine):
    """Whatever happens to files and folders, and whenever it is looked: in the end all is known as it is."""

    base: Path

    @initialize()
    def begin(self) -> None:
        self.top = self.base / f"{len(list(self.base.iterdir()))}"
        self.root, self.outside = self.top / "root", self.top / "outside"
        for folder in (self.root, self.outside):
            folder.mkdir(parents=True)
        self.heard = Heard(self.root)

    @rule(path=PATHS, text=st.sampled_from(["1", "22"]), where=SIDES)
    def a_file_is_written(self, path: str, text: str, where: str) -> None:
        file = self.top / where / path
        if not file.is_dir() and not any(above.is_file() for above in file.parents):
            put(file, text)

    @rule(path=PATHS)
    def something_goes(self, path: str) -> None:
        found = self.root / path
        if found.is_dir():
            shutil.rmtree(found)
        else:
            found.unlink(missing_ok=True) if found.parent.is_dir() else None

    @rule(what=PATHS, place=PATHS, where=st.tuples(SIDES, SIDES))
    def something_moves(self, what: str, place: str, where: tuple[str, str]) -> None:
        found, new = self.top / where[0] / what, self.top / where[1] / place
        if found.exists() and new.parent.is_dir() and not new.exists() and found not in new.parents:
            found.rename(new)

    @rule()
    def the_root_is_made_anew(self) -> None:
        shutil.rmtree(self.root)
        self.root.mkdir()

    @rule()
    def it_is_looked(self) -> None:
        self.heard.look()

    def teardown(self) -> None:
        if hasattr(self, "heard"):
            self.heard.look()
            assert self.heard.tree.paths == self.heard.there()
            for folder in [self.root, *(path for path in self.root.rglob("*") if path.is_dir())]:
                put(folder / "last", os.urandom(4).hex())
            self.heard.look()
            assert self.heard.tree.paths == self.heard.there(), "a folder is not heard"
            self.heard.notices.close()


def test_whatever_happens_to_files_is_heard(tmp_path: Path) -> None:
    class Here(Changes):
        base = tmp_path

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
