"""``pystack image ...`` on a real store: what is listed, told, given names, removed and kept."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest

from orchestrator.contracts.state import ContainerRecord, Definition, ProjectRecord
from orchestrator.images.store.store import Store
from orchestrator.images.store.values import StoredImage
from orchestrator.model.names import ContainerId, Instance, Role, ServiceName
from orchestrator.model.service import Service
from orchestrator.state.preparation import prepare
from orchestrator.state.records import FileState
from orchestrator.testing.build import project, service
from tests.unit.cli.conftest import Bench
from tests.unit.images import made

BUSYBOX, TOOLS = "docker.io/library/busybox:latest", "quay.io/team/tools:2"


@pytest.fixture
def store(bench: Bench) -> Store:
    return Store(str(bench.root / "data" / "images"))


@pytest.fixture
def busybox(store: Store) -> StoredImage:
    return made.put(store, made.image({"bin/": None, "bin/sh": b"#!"}), BUSYBOX)


@pytest.fixture
def tools(store: Store) -> StoredImage:
    return made.put(store, made.image({"opt/": None}), TOOLS)


def short(image: StoredImage) -> str:
    return image.id.partition(":")[2][:12]


def note_of_archive(store: Store, image: StoredImage) -> None:
    """As loading `image: oci-archive:FILE` does."""
    store.name("oci-archive:/tmp/x.tar:#1-2-3", image.id)


@pytest.mark.usefixtures("tools")
def test_ls_lists_names_and_nothing_that_only_the_store_knows(bench: Bench, store: Store, busybox: StoredImage) -> None:
    note_of_archive(store, busybox)
    lines = bench.run("image", "ls").out.splitlines()
    assert lines[0].split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert sorted(line.split()[0] for line in lines[1:]) == ["busybox", "quay.io/team/tools"]
    assert short(busybox) in "\n".join(lines)


def test_ls_of_an_image_that_only_an_archive_named_has_no_name(bench: Bench, store: Store, busybox: StoredImage) -> None:
    note_of_archive(store, busybox)
    store.unname(BUSYBOX)
    assert bench.run("image", "ls").out.splitlines()[1].split()[:3] == ["<none>", "<none>", short(busybox)]
    assert bench.run("image", "ls", "-q", "-f", "dangling=true").out == f"{short(busybox)}\n"
    assert bench.run("image", "ls", "-q", "-f", "dangling=false").out == ""


@pytest.mark.usefixtures("busybox", "tools")
@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["busybox"], ["busybox"]),
        (["busybox:latest"], ["busybox"]),
        (["busybox:1"], []),
        (["quay.io/*/*"], ["quay.io/team/tools"]),
        (["-f", "reference=quay.io/team/tools:2"], ["quay.io/team/tools"]),
        (["-f", "label=x"], []),
        (["-f", "before=busybox"], []),
        (["-f", "until=0s", "busybox"], ["busybox"]),
        (["-f", "until=2001-01-01"], []),
    ],
)
def test_ls_filters(bench: Bench, arguments: list[str], names: list[str]) -> None:
    outcome = bench.run("image", "ls", "--format", "{{.Repository}}", *arguments)
    assert (outcome.code, outcome.out.splitlines()) == (0, names)


@pytest.mark.usefixtures("busybox")
@pytest.mark.parametrize(
    ("filter", "sentence"),
    [
        ("x", 'error: --filter "x" is not KEY=VALUE'),
        ("x=y", 'error: --filter: there is no "x"'),
        ("dangling=perhaps", 'error: --filter: dangling is true or false, not "perhaps"'),
    ],
)
def test_ls_refuses_what_is_no_filter(bench: Bench, filter: str, sentence: str) -> None:
    outcome = bench.run("image", "ls", "-f", filter)
    assert (outcome.code, outcome.err.splitlines()[0]) == (2, sentence)


def test_inspect_has_dockers_keys_and_tells_of_what_is_not_here(bench: Bench, busybox: StoredImage) -> None:
    outcome = bench.run("image", "inspect", "busybox", "nope")
    (value,) = json.loads(outcome.out)
    assert outcome.code == 1
    assert 'image "nope" is not here' in outcome.err
    assert (value["Id"], value["RepoTags"], value["Containers"]) == (busybox.id, ["busybox:latest"], [])
    assert bench.run("image", "inspect", "-f", "{{.Id}}", "busybox").out == f"{busybox.id}\n"


def test_a_near_name_is_offered(bench: Bench, busybox: StoredImage) -> None:
    assert 'did you mean "busybox:latest"?' in bench.run("image", "history", "busibox:latest").err
    assert bench.run("image", "history", "-q", "busybox").code == 0
    assert busybox.names == (BUSYBOX,)


def test_a_name_goes_alone_and_the_last_one_takes_the_image(bench: Bench, store: Store, busybox: StoredImage) -> None:
    note_of_archive(store, busybox)
    assert bench.run("image", "tag", "busybox", "bb:1").code == 0
    assert bench.run("image", "rm", "busybox").out == "Untagged: busybox:latest\n"
    assert bench.run("image", "rm", "bb:1").out == f"Untagged: bb:1\nDeleted: {busybox.id}\n"
    assert store.images() == []
    assert store.names() == {}


def test_an_id_of_several_names_needs_force(bench: Bench, store: Store, busybox: StoredImage) -> None:
    bench.run("image", "tag", "busybox", "bb:1")
    outcome = bench.run("image", "rm", short(busybox))
    assert (outcome.code, outcome.err.splitlines()[0]) == (
        1, f'error: image "{short(busybox)}" has several names: bb:1, busybox:latest'
    )  # fmt: skip
    assert bench.run("image", "rm", "-f", short(busybox)).out.splitlines()[-1] == f"Deleted: {busybox.id}"
    assert store.images() == []


def test_rm_goes_on_after_an_error_and_ends_with_it(bench: Bench, store: Store, busybox: StoredImage) -> None:
    outcome = bench.run("image", "rm", "nope", "Wrong", "busybox")
    assert (outcome.code, outcome.out) == (1, f"Untagged: busybox:latest\nDeleted: {busybox.id}\n")
    assert 'error: image "nope" is not here' in outcome.err
    assert 'image "Wrong" has capital letters' in outcome.err
    assert bench.run("image", "rm", "-f", "nope").code == 0
    assert store.images() == []


def container_of(bench: Bench, image: StoredImage) -> None:
    """A record of a container that was made from it."""
    made_from = Definition(Service(ServiceName("a"), "busybox"), image.id)
    record = ContainerRecord(ContainerId("demo-a-1"), Instance(ServiceName("a"), Role.REPLICA, 1), made_from)
    prepare(bench.site)
    FileState(bench.site).commit(ProjectRecord(project(service("a", image="busybox"), name="demo"), (record,)))


def test_what_a_container_was_made_from_loses_its_name_at_most(bench: Bench, store: Store, busybox: StoredImage) -> None:
    container_of(bench, busybox)
    refused = bench.run("image", "rm", "busybox")
    assert (refused.code, refused.err.splitlines()[0]) == (1, 'error: image "busybox" is used by demo-a-1')
    assert bench.run("image", "rm", "-f", "busybox").out == "Untagged: busybox:latest\n"
    assert bench.run("image", "rm", "-f", short(busybox)).code == 1
    assert bench.run("image", "prune", "-af").code == 0
    assert [image.id for image in store.images()] == [busybox.id]


def test_down_rmi_leaves_what_other_containers_need(bench: Bench, store: Store, busybox: StoredImage) -> None:
    container_of(bench, busybox)
    bench.compose("services: {b: {image: busybox}}")
    other = Bench(bench.root, bench.capture, "other")
    outcome = other.run("--project-directory", str(bench.directory), "down", "--rmi", "all")
    assert outcome.code == 0
    assert store.find("busybox") == busybox


def test_damaged_records_keep_everything(bench: Bench, store: Store, busybox: StoredImage) -> None:
    container_of(bench, busybox)
    for path in (bench.root / "data" / "projects" / "demo").glob("wanted.json*"):
        path.write_text("damaged")
    for words in (["rm", "busybox"], ["prune", "-af"]):
        outcome = bench.run("image", *words)
        assert outcome.code == 1
        assert outcome.err.startswith("error: what project demo uses is not known: ")
    assert [image.id for image in store.images()] == [busybox.id]


def test_prune_takes_what_has_no_name_and_with_all_what_nothing_uses(
    bench: Bench, store: Store, busybox: StoredImage, tools: StoredImage
) -> None:
    note_of_archive(store, tools)
    store.unname(BUSYBOX)
    assert bench.run("image", "prune", "-f", "--dry-run").out.splitlines()[:2] == [
        "Images that would be deleted:", f"deleted: {busybox.id}"
    ]  # fmt: skip
    assert bench.run("image", "prune", "-f").out.splitlines()[:2] == ["Deleted Images:", f"deleted: {busybox.id}"]
    outcome = bench.run("image", "prune", "-af")
    assert outcome.out.splitlines()[1:3] == ["untagged: quay.io/team/tools:2", f"deleted: {tools.id}"]
    assert store.images() == []


def test_prune_goes_by_labels(bench: Bench, store: Store, busybox: StoredImage) -> None:
    marked = made.put(store, made.image({"opt/": None}, config={"Labels": {"keep": "yes"}}), TOOLS)
    for words in (["label=nosuch"], ["label=keep=no"], ["label=keep", "label!=keep=yes"]):
        filters = [word for text in words for word in ("--filter", text)]
        assert bench.run("image", "prune", "-af", *filters).out == "Total reclaimed space: 0 B\n", words
    assert f"deleted: {busybox.id}" in bench.run("image", "prune", "-af", "--filter", "label!=keep").out
    assert [image.id for image in store.images()] == [marked.id]
    assert f"deleted: {marked.id}" in bench.run("image", "prune", "-af", "--filter", "label=keep=yes").out


def test_prune_asks_and_refuses_what_is_no_filter(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert "nobody can be asked" in bench.run("image", "prune").err
    for answer, done in (("n\n", False), ("y\ny\n", True)):
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        assert ("reclaimed space" in bench.run("image", "prune").out) is done
    assert bench.run("image", "prune", "-f", "--filter", "name=x").code == 2


@pytest.mark.usefixtures("busybox")
@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["save", "-o", "x", "nope"], 1, 'image "nope" is not here'),
        (["save", "--format", "zip", "busybox"], 2, '--format: there is no "zip"'),
        (["save", "--format", "oci", "busybox"], 2, "--format oci is a directory"),
        (["tag", "busybox", "a@sha256:" + "0" * 64], 2, "has a digest"),
        (["pull", "host"], 2, '"host" is in no registry and no archive'),
        (["push", "nope"], 1, 'image "nope" is not here'),
        (["import", "/nowhere.tar"], 2, "cannot read /nowhere.tar"),
        (["load", "-i", "/nowhere.tar"], 2, "cannot open /nowhere.tar"),
    ],
)
def test_what_cannot_be_is_one_error(bench: Bench, words: list[str], code: int, sentence: str) -> None:
    outcome = bench.run("image", *words)
    assert outcome.code == code
    assert sentence in outcome.err.splitlines()[0]
    assert outcome.out == ""


@pytest.mark.usefixtures("busybox")
def test_an_archive_goes_to_a_pipe_and_comes_from_one(bench: Bench, store: Store) -> None:
    saving = bench.spawn("image", "save", "busybox")
    archive, told = saving.communicate(timeout=30)
    assert (saving.returncode, told) == (0, b"")
    assert bench.run("image", "rm", "busybox").code == 0
    note_of_archive(store, made.put(store, made.image({"opt/": None}), TOOLS))
    loading = bench.spawn("image", "load", stdin=-1)
    out, _ = loading.communicate(archive, timeout=30)
    assert (loading.returncode, out) == (0, b"Loaded image: busybox:latest\n")


def test_damage_in_an_archive_is_told_with_its_name(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "bad.tar").write_bytes(os.urandom(2000))
    outcome = bench.run("image", "load", "-i", str(tmp_path / "bad.tar"))
    assert outcome.code == 1
    assert outcome.err.startswith(f"error: {tmp_path}/bad.tar: ")
