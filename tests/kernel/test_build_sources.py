"""What a build takes, when something is wrong with it: special files, files that change, names that are not there, ignore
files, repositories, warnings."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.build.copying import Copier, Placing, Taken
from orchestrator.build.fetching import GitSource, git_source
from orchestrator.build.trees import Tree
from orchestrator.errors import InputError, OperationError
from orchestrator.images.unpack.merged import Merged
from tests.kernel.build_bench import Bench, bench
from tests.kernel.test_build_trouble import git_served

pytestmark = pytest.mark.kernel


@pytest.fixture
async def at(leaves_nothing_behind: None, busybox_rootfs: Path) -> AsyncIterator[Bench]:
    async with bench(busybox_rootfs) as found:
        yield found


def sentences(told: list[object]) -> list[str]:
    return [each for each in told if isinstance(each, str)]


# Special files


async def test_sockets_fifos_and_devices_of_a_context_are_left_out_and_told(at: Bench) -> None:
    context = at.context({"d/file": "1", ".dockerignore": "d/ignored"})
    os.mkfifo(context / "d/fifo")
    os.mkfifo(context / "d/ignored")
    os.mknod(context / "d/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(context / "d/socket"))
        text = "FROM busybox\nCOPY d /d\nRUN --mount=target=/c ls /c/d\n"
        for built in (await at.build(text, context), await at.build(text, context)):
            assert built.names("/d") == ["file"]
            assert sentences(list(built.told)) == [
                f'build.dockerfile_inline:{line}: the {kind} "d/{name}" of the build context is left out'
                for line in (2, 3)
                for kind, name in (("FIFO", "fifo"), ("device", "null"), ("socket", "socket"))
            ]
        with pytest.raises(OperationError, match='"d/socket" in the build context is a socket, which cannot be copied'):
            await at.build("FROM busybox\nCOPY d/socket /s\n", context)
        assert (await at.build("FROM busybox\nCOPY d/s* d/file /s/\n", context)).names("/s") == ["file"]


# Files that cannot be read, or change


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    (tmp_path / "context" / "d").mkdir(parents=True)
    (tmp_path / "context" / "d" / "file").write_text("content")
    (tmp_path / "layer").mkdir()
    directory = str(tmp_path / "context")
    return Tree("the build context", Merged((directory,)), (directory,), local=True)


def copy(tree: Tree, taken: list[Taken]) -> None:
    with Copier(str(Path(tree.lowers[0]).parent / "layer"), (), Placing("/new/")) as copier:
        for each in taken:
            copier.copy(each, many=False)
        copier.finish()


def test_a_file_that_goes_while_it_is_copied_is_one_error(tree: Tree) -> None:
    taken = [Taken(tree, match) for match in tree.matches("d")]
    Path(tree.lowers[0], "d", "file").unlink()
    with pytest.raises(OperationError, match='cannot read "d/file" in the build context: No such file') as caught:
        copy(tree, taken)
    assert "nothing may change" in (caught.value.hint or "")


def test_a_file_that_becomes_a_link_is_not_followed(tree: Tree) -> None:
    taken = [Taken(tree, match) for match in tree.matches("d")]
    path = Path(tree.lowers[0], "d", "file")
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(OperationError, match='cannot read "d/file" in the build context'):
        copy(tree, taken)


def test_a_file_that_shrinks_is_one_error(tree: Tree) -> None:
    taken = [Taken(tree, match) for match in tree.matches("d")]
    Path(tree.lowers[0], "d", "file").write_text("c")
    with pytest.raises(OperationError, match="the data of /new/file ends 6 bytes too early"):
        copy(tree, taken)


def test_what_may_not_be_read_is_one_error(tree: Tree) -> None:
    Path(tree.lowers[0]).parent.chmod(0o755)
    Path(tree.lowers[0], "d", "file").chmod(0o600)
    (match,) = tree.matches("d/file")
    os.seteuid(65534)
    try:
        with pytest.raises(OperationError, match='cannot read "d/file" in the build context: Permission denied'):
            tree.open(match.found[0])
    finally:
        os.seteuid(0)


def test_links_in_a_circle_are_one_error(tree: Tree) -> None:
    Path(tree.lowers[0], "loop").symlink_to("loop")
    with pytest.raises(OperationError, match='cannot read "loop/x" in the build context: Too many levels'):
        tree.matches("loop/x")


async def test_a_destination_that_cannot_be_is_one_error_with_its_line(at: Bench) -> None:
    for line, what in (
        ("COPY a /etc/passwd/x/", "cannot be made: Not a directory"),
        ("COPY a /loop/x", "cannot be made: Too many levels"),
        ("WORKDIR /etc/passwd/x", "Not a directory"),
        ("WORKDIR /loop", "Too many levels"),
    ):
        with pytest.raises(Exception, match=what) as caught:
            await at.build(f"FROM busybox\nRUN ln -s loop /loop\n{line}\n", {"a": "1"})
        assert getattr(caught.value, "place", "") == "build.dockerfile_inline:3"


# Names that are not there


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        ("src/mian.py", '"src/mian.py" does not exist in the build context (did you mean "src/main.py"?)', None),
        ("scr/main.py", '"scr/main.py" does not exist in the build context (did you mean "src"?)', None),
        ("src/main.py/x", '"src/main.py/x" does not exist in the build context', None),
        ("secret.txt", '"secret.txt" does not exist in the build context', ".dockerignore leaves it out"),
        ("secre.txt", '"secre.txt" does not exist in the build context', None),
        ("zzz", '"zzz" does not exist in the build context', None),
    ],
)
async def test_a_source_that_is_not_there_is_told_with_what_is(
    at: Bench, source: str, message: str, hint: str | None
) -> None:
    files = {"src/main.py": "", "secret.txt": "", ".dockerignore": "secret.txt\n"}
    with pytest.raises(OperationError) as caught:
        await at.build(f"FROM busybox\nCOPY {source} /x\n", files)
    assert caught.value.message.partition("\n")[0] == message
    assert caught.value.hint == hint


# Ignore files


async def test_the_ignore_file_beside_a_dockerfile_elsewhere_counts(at: Bench) -> None:
    top = at.context({
        "app/a": "1", "app/b": "2", "app/.dockerignore": "a\n", "files/Web": "FROM busybox\nCOPY . /c\n",
        "files/Web.dockerignore": "b\n",
    })  # fmt: skip
    for dockerfile in (str(top / "files/Web"), "../files/Web"):
        built = await at.build_spec(top / "app", dockerfile=dockerfile)
        assert built.names("/c") == [".dockerignore", "a"]


async def test_an_ignore_file_that_cannot_be_read_is_an_error(at: Bench) -> None:
    with pytest.raises(InputError, match=r"cannot read \.dockerignore: Is a directory"):
        await at.build("FROM busybox\nCOPY . /c\n", {".dockerignore/x": ""})


# Warnings


async def test_warnings_that_need_the_base_and_the_context_are_told_with_their_line(at: Bench) -> None:
    text = "# check=experimental=CopyIgnoredFile\nFROM busybox\nCOPY a$PATH$NOPE b /c/\nENV X=$HTTP_PROXY\n"
    files = {f"a{os.sep}bin": "", "b": "", ".dockerignore": "b\n"}
    with pytest.raises(OperationError, match='"b" does not exist'):
        await at.build(text, files)
    assert sentences(list(at.told)) == [
        "build.dockerfile_inline:3: the variable NOPE is not defined (UndefinedVar)",
        "build.dockerfile_inline:3: b is copied and excluded by the ignore file (CopyIgnoredFile)",
    ]


async def test_warnings_are_mistakes_where_the_dockerfile_says_so(at: Bench) -> None:
    for line, rule in (("WORKDIR w", "WorkdirRelativePath"), ("ENV A=$NOPE", "UndefinedVar")):
        with pytest.raises(InputError, match=rule) as caught:
            await at.build(f"# check=error=true\nFROM busybox\n{line}\nRUN touch /x\n")
        assert caught.value.place == "build.dockerfile_inline:3"
        assert f"> 3 | {line}" in caught.value.message
    assert (await at.build("# check=error=true;skip=UndefinedVar\nFROM busybox\nENV A=$NOPE\n")).config["Env"]


# Repositories


def repository(top: Path, name: str, files: dict[str, str]) -> Path:
    work = top / f"{name}-work"
    work.mkdir()
    for path, text in files.items():
        (work / path).write_text(text)
    git(work, "init", "-q", "-b", "main")
    commit(work)
    return work


def commit(work: Path) -> None:
    git(work, "add", ".")
    git(work, "-c", "user.name=x", "-c", "user.email=x", "commit", "-q", "-m", "one")


def git(directory: Path, *arguments: str) -> str:
    settings = ["-c", "protocol.file.allow=always"]
    done = subprocess.run(["git", *settings, *arguments], cwd=directory, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


async def test_submodules_come_along_by_a_network_alone(at: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    top = at.context({"site/": ""})
    part = repository(top, "part", {"inner": "inner"})
    git(top, "clone", "-q", "--bare", str(part), "site/part.git")
    with git_served(top / "site") as url:
        whole = repository(top, "whole", {"file": "content"})
        git(whole, "submodule", "--quiet", "add", f"{url}/part.git", "part")
        commit(whole)
        git(whole, "tag", "v1")
        git(whole, "submodule", "--quiet", "add", str(part), "local")
        commit(whole)
        git(top, "clone", "-q", "--bare", str(whole), "site/whole.git")
        # The caller's own repository, hooks and templates are nobody's business here.
        monkeypatch.setenv("GIT_DIR", "/nowhere")
        monkeypatch.setenv("GIT_WORK_TREE", "/nowhere")
        built = await at.build(f"FROM busybox\nADD {url}/whole.git?tag=v1 /w\nADD {url}/whole.git?submodules=false /s\n")
        assert built.text("/w/part/inner") == "inner"
        assert built.names("/s/part") == built.names("/s/local") == []
        with pytest.raises(OperationError, match=r"git submodule of git://.*whole\.git: ") as caught:
            await at.build(f"FROM busybox\nADD {url}/whole.git /w\n")
        assert caught.value.place == "build.dockerfile_inline:2"


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("https://x.y/a.git", GitSource("https://x.y/a.git")),
        ("https://x.y/a.git#v1:sub/d", GitSource("https://x.y/a.git", "v1", "sub/d")),
        ("git@x.y:a/b.git#main", GitSource("git@x.y:a/b.git", "main")),
        ("https://x.y/a.git?branch=b&subdir=d", GitSource("https://x.y/a.git", "refs/heads/b", "d")),
        ("https://x.y/a.git?commit=abc&submodules=0", GitSource("https://x.y/a.git", "abc", "", "abc", False)),
        ("https://x.y/a.tar.gz", None),
        ("https://x.y/a.git.tar?x=.git", None),
    ],
)
def test_addresses_of_repositories(text: str, source: GitSource | None) -> None:
    assert git_source(text) == source


@pytest.mark.parametrize(
    "text",
    ["https://x.y/a.git#--upload-pack=x", "https://x.y/a.git#:../..", "https://x.y/a.git?evil=1", "git://x/a?ref=a:b"],
)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(InputError):
        git_source(text)


def test_passwords_of_addresses_are_not_shown() -> None:
    assert GitSource("https://me:hush@x.y/a.git").shown == "https://me@x.y/a.git"
    assert GitSource("https://x.y/@a.git").shown == "https://x.y/@a.git"
