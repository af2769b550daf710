"""``pystack volumes`` and ``pystack volume ...`` on a real data directory, without a supervisor."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from orchestrator.contracts.state import ContainerRecord, Definition, ProjectRecord
from orchestrator.model.names import ContainerId, Instance, ProjectName, ServiceName, VolumeName
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.model.volume import Mount, MountKind, Volume
from orchestrator.state.directory import site_of
from orchestrator.state.preparation import prepare
from orchestrator.state.records import FileState
from orchestrator.state.volumes import FileVolumes
from tests.unit.cli.conftest import Bench

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="volumes belong to root")


def stack(bench: Bench, project: str = "demo", *, external: str = "") -> FileVolumes:
    """A project with a service `db` on the volume `data`, and its anonymous volume; `external`: a further one that it
    uses."""
    site = prepare(site_of(str(bench.root / "data"), str(bench.root / "run"), ProjectName(project)))
    data = Volume(VolumeName("data"), f"{project}_data", labels=(("tier", "one"),))
    volumes = {data.key: data}
    mounts = [Mount(MountKind.VOLUME, "/data", "data"), Mount(MountKind.VOLUME, "/anonymous")]
    if external:
        volumes[VolumeName("far")] = Volume(VolumeName("far"), external, external=True)
        mounts.append(Mount(MountKind.VOLUME, "/far", "far"))
    service = Service(ServiceName("db"), "host", volumes=tuple(mounts))
    container = ContainerId(f"{project}-db-1")
    record = ContainerRecord(container, Instance(service.name), Definition(service))
    other = Service(ServiceName("web"), "host")
    services = {service.name: service, other.name: other}
    FileState(site).commit(ProjectRecord(Project(ProjectName(project), "/srv", services, volumes=volumes), (record,)))
    made = FileVolumes(site)
    made.ensure(data)
    made.ensure_anonymous(container, "/anonymous")
    return made


def names(bench: Bench, *words: str) -> list[str]:
    outcome = bench.run("volume", "ls", "-q", *words)
    assert (outcome.code, outcome.err) == (0, "")
    return ["anonymous" if name.startswith("anonymous-") else name for name in outcome.out.splitlines()]


def test_a_volume_is_made_once_listed_inspected_and_removed(bench: Bench) -> None:
    assert names(bench) == []
    for _ in range(2):
        assert bench.run("volume", "create", "shared", "--label", "a=b", "--label", "c").out == "shared\n"
    assert bench.run("volume", "ls").out == "DRIVER   VOLUME NAME\nlocal    shared\n"
    (value,) = json.loads(bench.run("volume", "inspect", "shared").out)
    assert value["Labels"] == {"a": "b", "c": ""}
    assert (value["Name"], value["Driver"], value["Scope"], value["Options"]) == ("shared", "local", "local", None)
    assert value["UsedBy"] == []
    assert os.path.isdir(value["Mountpoint"])
    assert value["CreatedAt"].endswith("Z")
    assert bench.run("volume", "inspect", "shared", "-f", "{{.Labels.a}} {{index .Labels \"c\"}}|").out == "b |\n"
    assert bench.run("volume", "rm", "shared").out == "shared\n"
    assert names(bench) == []
    assert not os.path.exists(value["Mountpoint"])


def test_a_volume_without_a_name_gets_one_that_is_anonymous(bench: Bench) -> None:
    made = bench.run("volume", "create").out.strip()
    assert len(made) == 64
    assert names(bench, "--filter", "label=com.docker.volume.anonymous") == [made]


def test_the_lists_fields_are_those_of_docker(bench: Bench) -> None:
    stack(bench)
    rows = [json.loads(line) for line in bench.run("volume", "ls", "--format", "json").out.splitlines()]
    (data,) = [row for row in rows if row["Name"] == "demo_data"]
    assert data["Labels"] == "com.docker.compose.project=demo,com.docker.compose.volume=data,tier=one"
    assert (data["Driver"], data["Scope"], data["Links"]) == ("local", "local", 1)
    out = bench.run("volume", "ls", "--filter", "name=data", "--format", 'table {{.Name}}\\t{{.Label "tier"}}').out
    assert out == "VOLUME NAME   TIER\ndemo_data     one\n"


def test_filters_combine_as_docker_s_do(bench: Bench) -> None:
    stack(bench)
    bench.run("volume", "create", "free", "--label", "tier=two")
    assert names(bench) == ["anonymous", "demo_data", "free"]
    assert names(bench, "-f", "dangling=true") == ["free"]
    assert names(bench, "--filter", "dangling=0") == ["anonymous", "demo_data"]
    assert names(bench, "--filter", "name=dat", "--filter", "name=fre") == ["demo_data", "free"]
    assert names(bench, "--filter", "label=tier") == ["demo_data", "free"]
    assert names(bench, "--filter", "label=tier=two", "--filter", "label=tier") == ["free"]
    assert names(bench, "--filter", "driver=local", "--filter", "name=free") == ["free"]
    assert names(bench, "--filter", "driver=nfs") == []


def test_the_project_s_volumes_are_what_it_made_and_what_it_uses(bench: Bench) -> None:
    bench.run("volume", "create", "far")
    bench.run("volume", "create", "alien")
    stack(bench, external="far")
    stack(bench, "other")
    listed = bench.run("volumes", "-q").out.splitlines()
    assert [name for name in listed if not name.startswith("anonymous")] == ["demo_data", "far"]
    assert len(listed) == 3
    assert len(bench.run("volumes", "-q", "db").out.splitlines()) == 3
    assert bench.run("volumes", "web", "-q").out == ""
    assert bench.run("volumes").out.startswith("DRIVER   VOLUME NAME\n")
    outcome = bench.run("volumes", "wbe")
    assert outcome.code == 2
    assert 'did you mean "web"?' in outcome.err


def test_what_a_container_of_any_project_uses_is_not_removed(bench: Bench) -> None:
    bench.run("volume", "create", "far")
    bench.run("volume", "create", "free")
    stack(bench, external="far")
    stack(bench, "other", external="far")
    outcome = bench.run("volume", "rm", "free", "far")
    assert outcome.code == 1
    assert outcome.err.startswith('error: volume "far" is in use by containers demo-db-1, other-db-1\nhint: ')
    assert "free" in names(bench)
    outcome = bench.run("volume", "rm", "demo_data")
    assert outcome.err.startswith('error: volume "demo_data" is in use by container demo-db-1\n')


def test_prune_takes_anonymous_volumes_and_with_all_the_named_ones(bench: Bench) -> None:
    made = stack(bench)
    orphan = made.ensure_anonymous(ContainerId("demo-gone-1"), "/x")
    Path(orphan, "file").write_bytes(b"x" * 50_000)
    bench.run("volume", "create", "kept", "--label", "keep=1")
    bench.run("volume", "create", "free")
    outcome = bench.run("volume", "prune", "-f")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("Deleted Volumes:\nanonymous-")
    assert outcome.out.endswith("Total reclaimed space: 57.34kB\n") or "kB\n" in outcome.out
    assert names(bench) == ["anonymous", "demo_data", "free", "kept"]
    assert "free\n" in bench.run("volume", "prune", "-a", "-f", "--filter", "label!=keep").out
    assert names(bench) == ["anonymous", "demo_data", "kept"]
    assert "kept\n" in bench.run("volume", "prune", "--all", "--force").out
    assert bench.run("volume", "prune", "-f").out == "Total reclaimed space: 0B\n"
    assert names(bench) == ["anonymous", "demo_data"]


@pytest.mark.parametrize("verb", [("rm", "free"), ("prune", "-a", "-f"), ("ls",)])
def test_nothing_is_said_of_use_while_a_project_s_records_are_damaged(bench: Bench, verb: tuple[str, ...]) -> None:
    stack(bench)
    bench.run("volume", "create", "free")
    directory = bench.root / "data" / "projects" / "demo"
    for name in ("wanted.json", "wanted.json.copy"):
        (directory / name).write_bytes(b"\0" * 100)
    outcome = bench.run("volume", *verb)
    assert outcome.code == 1
    assert "what project demo uses is not known" in outcome.err
    assert (bench.root / "data" / "volumes" / "free").is_dir()


def test_prune_asks_and_takes_no_answer_for_no(bench: Bench) -> None:
    bench.run("volume", "create", "free")
    outcome = bench.run("volume", "prune", "-a")
    assert outcome.code == 2
    assert "-f does not ask" in outcome.err
    assert names(bench) == ["free"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("create", "../x"), 2, '"../x" is not a volume name'),
        (("create", "-x"), 2, "no such option"),
        (("create", "é"), 2, '"é" is not a volume name'),
        (("create", "anonymous-x"), 2, "are given by pystack"),
        (("create", "a", "--opt", "size=1"), 2, '"size" is no option of the local driver'),
        (("create", "a", "--opt", "type"), 2, '"type" is not KEY=VALUE'),
        (("create", "a", "--opt", "type=none", "--opt", "device=/x"), 2, 'type "none" needs o: bind'),
        (("create", "a", "--opt", "type=tmpfs"), 2, 'the local driver needs "device" as well'),
        (("create", "a", "--opt", "o=bind", "--opt", "type=none", "--opt", "device=x"), 2, "is not an absolute path"),
        (("create", "a", "--opt", "o=bind,ro", "--opt", "type=none", "--opt", "device=/x"), 2, 'takes no "ro"'),
        (("create", "a", "--driver", "nfs"), 2, "'nfs' is not"),
        (("create", "a", "--label", "=x"), 2, "a label needs a key"),
        (("inspect", "shraed"), 1, 'there is no volume "shraed" (did you mean "shared"?)'),
        (("inspect", "shared", "-f", "{{.Nmae}}"), 2, "--format:1:3: there is no field .Nmae"),
        (("ls", "--filter", "status=x"), 2, '"status=x" is no filter'),
        (("ls", "--filter", "name"), 2, '"name" is no filter'),
        (("ls", "--filter", "dangling=perhaps"), 2, "neither true nor false"),
        (("ls", "--format", "xml"), 2, '"xml" is no format'),
        (("rm", "nosuch"), 1, 'there is no volume "nosuch"'),
        (("rm", "../x"), 2, "is not a volume name"),
        (("prune", "-f", "--filter", "name=x"), 2, '"name=x" is no filter'),
        (("export", "nosuch"), 1, 'there is no volume "nosuch"'),
        (("export", "shared", "-o", "/nosuch/x.tar"), 2, "cannot write /nosuch/x.tar: No such file"),
        (("export", "shared", "-o", "/dev/full"), 125, "cannot write /dev/full: No space left on device"),
        (("import", "shared", "/nosuch.tar"), 2, "cannot read /nosuch.tar"),
    ],
)
def test_what_is_wrong_is_one_error(bench: Bench, words: tuple[str, ...], code: int, said: str) -> None:
    bench.run("volume", "create", "shared")
    outcome = bench.run("volume", *words)
    assert outcome.code == code
    assert outcome.err.count("error: ") == 1
    assert said in outcome.err
    assert names(bench) == ["shared"]


def test_options_that_differ_from_those_of_a_volume_that_exists_are_an_error(bench: Bench) -> None:
    bind = ("--opt", "type=none", "--opt", "o=bind", "--opt", f"device={bench.root}")
    assert bench.run("volume", "create", "a", *bind).code == 0
    assert bench.run("volume", "create", "a", *bind).code == 0
    assert 'volume "a" exists with other options' in bench.run("volume", "create", "a").err
    (value,) = json.loads(bench.run("volume", "inspect", "a").out)
    assert (value["Mountpoint"], value["Options"]["o"]) == (str(bench.root), "bind")


def test_removing_with_force_says_nothing_of_what_is_not_there(bench: Bench) -> None:
    bench.run("volume", "create", "a")
    outcome = bench.run("volume", "rm", "-f", "a", "nosuch")
    assert (outcome.code, outcome.out, outcome.err) == (0, "a\n", "")


def filled(bench: Bench, name: str) -> Path:
    """A volume with one of everything."""
    bench.run("volume", "create", name)
    data = bench.root / "data" / "volumes" / name / "_data"
    (data / "dir").mkdir()
    (data / "dir" / "file").write_text("content")
    os.link(data / "dir" / "file", data / "again")
    os.symlink("/etc/passwd", data / "link")
    (data / ".wh.name").write_text("no mark")
    os.chown(data / "dir", 1000, 70_000)
    os.chmod(data / "dir", 0o2750)
    os.chown(data, 70, 70)
    os.chmod(data, 0o700)
    os.utime(data / "dir" / "file", ns=(5, 1_500_000_000_000_000_000))
    return data


def test_what_was_exported_is_imported_as_it_was(bench: Bench) -> None:
    filled(bench, "from").joinpath(".wh.name").unlink()
    archive = bench.root / "x.tar"
    assert bench.run("volume", "export", "from", "-o", str(archive)).code == 0
    bench.run("volume", "create", "to")
    outcome = bench.run("volume", "import", "to", str(archive))
    assert (outcome.code, outcome.err) == (0, "")
    to = bench.root / "data" / "volumes" / "to" / "_data"
    assert sorted(os.listdir(to)) == ["again", "dir", "link"]
    assert os.readlink(to / "link") == "/etc/passwd"
    assert (to / "again").samefile(to / "dir" / "file")
    found = os.stat(to / "dir")
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (1000, 70_000, 0o2750)
    found = os.stat(to)
    assert (found.st_uid, found.st_mode & 0o7777) == (70, 0o700)
    assert os.stat(to / "dir" / "file").st_mtime_ns == 1_500_000_000_000_000_000
    with tarfile.open(archive) as members:
        assert {member.name for member in members} >= {"dir/file", "link"} or members.getnames()


def test_a_volume_with_content_is_not_imported_over(bench: Bench) -> None:
    data = filled(bench, "a")
    archive = bench.root / "x.tar"
    archive.write_bytes(tar_of(new=b"x"))
    outcome = bench.run("volume", "import", "a", str(archive))
    assert outcome.code == 1
    assert outcome.err.startswith('error: volume "a" is not empty\nhint: ')
    assert "new" not in os.listdir(data)


def test_names_that_are_marks_in_a_layer_are_names_in_a_volume(bench: Bench) -> None:
    bench.run("volume", "create", "a")
    archive = bench.root / "x.tar"
    archive.write_bytes(tar_of(**{".wh.name": b"x"}))
    assert bench.run("volume", "import", "a", str(archive)).code == 0
    assert (bench.root / "data" / "volumes" / "a" / "_data" / ".wh.name").read_bytes() == b"x"


@pytest.mark.parametrize("kind", ["cut", "rubbish", "escape"])
def test_an_archive_that_is_wrong_leaves_the_volume_empty(bench: Bench, kind: str) -> None:
    bench.run("volume", "create", "a")
    good = tar_of(a=b"x" * 5000, b=b"y" * 5000)
    wrong = {"cut": good[:4000], "rubbish": b"\x01" * 2048, "escape": tar_of(**{"../../../../escaped": b"x"})}[kind]
    archive = bench.root / "x.tar"
    archive.write_bytes(wrong)
    outcome = bench.run("volume", "import", "a", str(archive))
    data = bench.root / "data" / "volumes" / "a" / "_data"
    if kind == "escape":  # It is resolved inside of the volume, as an image's paths are.
        assert os.listdir(data) in (["escaped"], [])
    else:
        assert outcome.code == 1
        assert outcome.err.count("error: ") == 1
        assert os.listdir(data) == []
    assert not list(bench.root.rglob("../escaped"))


def test_an_archive_comes_from_stdin_and_goes_to_stdout(bench: Bench) -> None:
    filled(bench, "from").joinpath(".wh.name").unlink()
    bench.run("volume", "create", "to")
    exported = bench.spawn("volume", "export", "from")
    out, err = exported.communicate(timeout=60)
    assert (exported.returncode, err) == (0, b"")
    imported = bench.spawn("volume", "import", "to", "-", stdin=-1)
    assert imported.communicate(out, timeout=60) == (b"", b"")
    assert imported.returncode == 0
    assert (bench.root / "data" / "volumes" / "to" / "_data" / "dir" / "file").read_text() == "content"


def test_an_archive_goes_into_a_fifo_as_it_is(bench: Bench) -> None:
    filled(bench, "from")
    fifo = bench.root / "fifo"
    os.mkfifo(fifo)
    with bench.spawn("volume", "export", "from", "-o", str(fifo)) as exported:
        with open(fifo, "rb") as stream, tarfile.open(fileobj=stream, mode="r|") as members:
            names = [member.name for member in members]
        assert exported.wait(60) == 0
    assert "dir/file" in names
    assert fifo.is_fifo()
    assert not list(bench.root.glob("fifo?*")) + list(bench.root.glob(".fifo*"))


def tar_of(**files: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()
