"""What maintainer scripts would do, as data: accounts, alternatives, dpkg's database. And which base stands for a name."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from orchestrator.errors import InputError, OperationError
from orchestrator.images.bases import busybox, make, system
from orchestrator.images.bases.accounts import Account, Accounts
from orchestrator.images.bases.alternatives import Alternatives, choices
from orchestrator.images.bases.apt import Apt
from orchestrator.images.bases.archive import read_control
from orchestrator.images.bases.dpkg import Control, Database, parse_control
from orchestrator.images.bases.essential import essential
from orchestrator.images.bases.names import base_for
from orchestrator.images.bases.recipes import LIKE_ALPINE, RECIPES, recipe_of
from orchestrator.images.reference import parse_named

CONTROL = b"""\
Package: libthing1
Architecture: amd64
Version: 1.0-1
Multi-Arch: same
Description: a thing
 that goes on.
"""


def texts(accounts: Accounts) -> dict[str, str]:
    return {path: content.decode() for path, _, _, content in accounts.files()}


def test_accounts_come_from_the_system_the_packages_and_the_image() -> None:
    accounts = Accounts()
    accounts.add_files(b"root:*:0:0:root:/root:/bin/bash\nnot a line\n", b"root:*:0:\nadm:*:4:\n")
    accounts.add(Account("redis", 999, 999, "/data", groups=("adm",)))
    declared = {"b.conf": 'u messagebus - "A bus"\nm messagebus adm\n', "a.conf": "# none\ng input 105 -\nu root 0\n"}
    accounts.add_sysusers(declared)
    files = texts(accounts)
    assert files["/etc/passwd"].splitlines() == [
        "root:x:0:0:root:/root:/bin/bash",
        "messagebus:x:990:990:A bus:/:/usr/sbin/nologin",
        "redis:x:999:999::/data:/usr/sbin/nologin",
    ]
    assert "adm:x:4:redis,messagebus" in files["/etc/group"].splitlines()
    assert "input:x:105:" in files["/etc/group"].splitlines()
    assert files["/etc/shadow"].splitlines()[0] == "root:*:::::::"
    assert accounts.id_of("redis:adm") == (999, 4)


def test_only_alternatives_said_in_so_many_words_are_taken() -> None:
    script = r"""
    update-alternatives --quiet --install /usr/bin/awk awk /usr/bin/mawk 5 \
        --slave /usr/share/man/man1/awk.1.gz awk.1.gz /usr/share/man/man1/mawk.1.gz
    update-alternatives --install /usr/bin/$name $name $dir/$name 10
    update-alternatives --install "/usr/bin/broken
    update-alternatives --install relative name path 1
    # update-alternatives --install /usr/bin/no no /usr/bin/comment 5
    """
    (found,) = choices(script)
    assert (found.name, found.link, found.path, found.priority) == ("awk", "/usr/bin/awk", "/usr/bin/mawk", 5)
    alternatives = Alternatives()
    alternatives.add(found)
    (better,) = choices("update-alternatives --install /usr/bin/awk awk /usr/bin/gawk 10")
    alternatives.add(better)
    assert dict(alternatives.links())["/etc/alternatives/awk"] == "/usr/bin/gawk"
    ((name, record),) = alternatives.records()
    assert name == "awk"
    assert record.decode().split("\n") == [
        "auto", "/usr/bin/awk", "awk.1.gz", "/usr/share/man/man1/awk.1.gz", "",
        "/usr/bin/gawk", "10", "",
        "/usr/bin/mawk", "5", "/usr/share/man/man1/mawk.1.gz", "", "",
    ]  # fmt: skip


def test_a_package_is_recorded_as_dpkg_does_it(tmp_path: Path) -> None:
    files = {
        "control": CONTROL,
        "conffiles": b"/etc/thing.conf\nremove-on-upgrade /etc/old\n",
        "postinst": b"#!/bin/sh\n",
        "triggers": b"interest-noawait /usr/share/thing\nactivate other\n",
    }
    database = Database()
    database.add(parse_control(files), ["/etc", "/etc/thing.conf"])
    for path, mode, content in database.files({"/etc/thing.conf": b"x=1\n"}.get):
        target = tmp_path / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(mode)
    admin = tmp_path / "var/lib/dpkg"
    assert (admin / "info/libthing1:amd64.list").read_text() == "/.\n/etc\n/etc/thing.conf\n"
    assert (admin / "triggers/File").read_text() == "/usr/share/thing libthing1:amd64/noawait\n"
    form = "${Status}|${Version}|${Conffiles}"
    argv = ["dpkg-query", f"--admindir={admin}", "-W", "-f", form]
    asked = subprocess.run(argv, capture_output=True, text=True, check=True)
    status, version, conffiles = asked.stdout.split("|")
    assert (status, version) == ("install ok installed", "1.0-1")
    assert conffiles.split() == ["/etc/thing.conf", "f968f33f844c98de1d3b4fe70f2e1a0f"]


def control(name: str, **fields: str) -> Control:
    lines = {"Package": name, "Version": "1", "Architecture": "all", **fields}
    return parse_control({"control": "".join(f"{key.replace('_', '-')}: {text}\n" for key, text in lines.items()).encode()})


def test_what_is_below_all_images_is_closed_and_does_not_depend_on_what_else_there_is() -> None:
    base = [
        control("files", Essential="yes", Pre_Depends="awk"),
        control("mawk", Provides="awk (= 1)"),
        control("apt", Depends="libc (>= 2.3), keys | ring:any, missing, ring | keys"),
        control("libc", Depends="libgcc"),
        control("libgcc", Depends="libc"),
        control("ring"),
    ]
    names = {package.name for package in base}
    assert essential(base, ("apt", "none")) == names
    assert essential([control("zawk", Provides="awk", Depends="apt"), *base[::-1]], ("apt",)) == names


def test_a_damaged_archive_of_a_package_is_one_clear_error(tmp_path: Path) -> None:
    for content, says in (
        (b"no archive", "it is no ar archive"),
        (b"!<arch>\n" + b"x" * 60, "it has no control.tar"),
        (b"!<arch>\ncontrol.tar.xz  0           0     0     100644  8         `\n\xfd7zXZ\0xx", "the xz data is damaged"),
    ):
        (tmp_path / "x.deb").write_bytes(content)
        with pytest.raises(OperationError, match=f"the package {tmp_path}/x.deb is damaged: {says}"):
            read_control(str(tmp_path / "x.deb"))


def test_a_control_file_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="no package"):
        parse_control({"control": b"Version: 1\nArchitecture: all\n"})


@pytest.mark.parametrize(
    ("reference", "kind", "include"),
    [
        ("redis:alpine", "debian", ("redis",)),
        ("postgres:15-alpine", "debian", ("postgres",)),
        ("python:3.11-slim", "debian", ("python",)),
        ("python:3.11", "debian", ("python", "buildpack-deps")),
        ("php:8.0.9-apache", "debian", ("php-apache",)),
        ("docker.io/library/mysql:8", "debian", ("mariadb",)),
        ("alpine:3.20", "alpine", ()),
    ],
)
def test_well_known_names_have_a_base(reference: str, kind: str, include: tuple[str, ...]) -> None:
    base = base_for(parse_named(reference))
    assert base is not None
    assert (base.kind, base.include) == (kind, include)


@pytest.mark.parametrize("reference", ["mcr.microsoft.com/dotnet/sdk:7.0", "team/redis", "localhost/redis", "mongo"])
def test_other_names_have_none(reference: str) -> None:
    assert base_for(parse_named(reference)) is None


def test_tags_decide_what_is_in_it_unless_it_is_said() -> None:
    assert [recipe.name for recipe in make.check("debian", [], ["redis:7", "redis:alpine"]).recipes] == ["redis"]
    wanted = make.check("debian", ["nginx, curl"], ["x:1"])
    assert ([recipe.name for recipe in wanted.recipes], wanted.packages) == (["nginx"], ("curl",))
    assert wanted.command == "pystack image make debian --include nginx,curl"
    assert [tag.full for tag in make.check("debian", ["redis-server"], []).tags] == ["localhost/redis:latest"]
    assert [tag.full for tag in make.check("busybox", [], []).tags] == ["localhost/busybox:latest"]


def test_a_kind_or_the_name_of_an_image_says_what_to_make() -> None:
    assert make.wanted_of("debian") == make.check("debian", [], [])
    assert make.wanted_of("redis:7") == make.check("debian", ["redis"], ["redis:7"])
    assert make.wanted_of("alpine:3.20").kind == "alpine"
    with pytest.raises(InputError, match="neither a kind of base nor the name of an image") as caught:
        make.wanted_of("team/app:1")
    assert str(caught.value.hint).endswith("pystack image make debian --include PACKAGE -t team/app:1")


@pytest.mark.parametrize(
    ("kind", "include", "tags", "says"),
    [
        ("fedora", [], [], '"fedora" is not a kind of base'),
        ("busybox", ["redis"], [], "busybox cannot have packages"),
        ("alpine", ["redis"], [], "alpine cannot have packages"),
        ("debian", [], ["redis", "postgres"], "stand for different images"),
        ("debian", [], ["x@sha256:" + "0" * 64], "names a digest"),
        ("debian", [], ["UPPER"], "UPPER"),
    ],
)
def test_what_cannot_be_asked_is_one_clear_error(kind: str, include: list[str], tags: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        make.check(kind, include, tags)


@pytest.mark.parametrize("name", ["-o=Dir::Etc=/x", "./evil.deb", "redis server", "Redis", "redis/sid"])
async def test_no_name_of_a_package_can_be_an_option_or_a_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not the name of a Debian package"):
        await Apt(str(tmp_path / "cache"), print).packages([name])
    assert not (tmp_path / "cache").exists()


def test_the_least_recently_used_archives_go_first(tmp_path: Path) -> None:
    archives = tmp_path / "archives"
    archives.mkdir()
    for age, name in enumerate(("new", "old", "oldest")):
        (archives / name).write_bytes(bytes(100))
        os.utime(archives / name, (1000 - age, 1000 - age))
    Apt(str(tmp_path), print).trim(most_bytes=250)
    assert sorted(path.name for path in archives.iterdir()) == ["new", "old"]


def test_every_recipe_can_be_read_by_its_shell_and_made_into_a_configuration() -> None:
    for recipe in RECIPES.values():
        for path, content in recipe.files:
            if content.startswith(b"#!"):
                shell = content.split(b"\n")[0][2:].decode()
                checked = subprocess.run([shell, "-n"], input=content, capture_output=True, check=False)
                assert checked.returncode == 0, (recipe.name, path, checked.stderr)
        for _, _, owner in recipe.directories:
            user = owner.split(":")[0]
            assert user in ("root", "www-data", "nobody", *(account.name for account in recipe.accounts)), recipe.name
        command = (recipe.config.get("Entrypoint") or recipe.config.get("Cmd") or ["sh"])[0]
        if recipe.name == "maven":  # Its package's script names it by a variable, so no alternative is read from that.
            assert (f"/usr/bin/{command}", f"/usr/share/maven/bin/{command}") in recipe.links
    assert recipe_of("mysql") is recipe_of("mariadb")
    assert recipe_of("curl") is None


def test_static_programs_are_told_from_dynamic_ones(tmp_path: Path) -> None:
    assert not busybox.is_static("/bin/sh")
    assert not busybox.is_static(str(tmp_path / "missing"))
    (tmp_path / "text").write_text("#!/bin/sh\n")
    assert not busybox.is_static(str(tmp_path / "text"))
    assert busybox.is_static("/bin/busybox")


def test_variables_that_name_the_machines_bundle_are_taken_over() -> None:
    bundle = "/etc/ssl/certs/ca-certificates.crt"
    environ = {"REQUESTS_CA_BUNDLE": bundle, "SSL_CERT_FILE": "/home/me/ca.pem", "SECRET": bundle}
    assert system.bundle_variables(environ) == {"REQUESTS_CA_BUNDLE": bundle}


@pytest.mark.parametrize(
    ("words", "code", "asked"),
    [
        ("add --no-cache bash curl", 0, ["-q update", "-q install -y --no-install-recommends bash curl"]),
        ("--no-cache add -U git>=2.1 vim~9", 0, ["-q update", "-q install -y --no-install-recommends git vim"]),
        ("update", 0, ["-q update"]),
        ("upgrade", 0, []),
        ("del .build", 0, []),
        ("search x", 1, []),
    ],
)
def test_apk_is_apt_get_in_images_that_stand_for_alpine(tmp_path: Path, words: str, code: int, asked: list[str]) -> None:
    (tmp_path / "apk").write_bytes(dict(LIKE_ALPINE)["/usr/sbin/apk"])
    (tmp_path / "apt-get").write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\n')
    (tmp_path / "ls").write_text("#!/bin/sh\n")  # no lists of packages are there
    for name in ("apt-get", "ls"):
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(["sh", tmp_path / "apk", *words.split()], env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert done.returncode == code
    told = tmp_path / "asked"
    assert (told.read_text().splitlines() if told.exists() else []) == asked


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("adduser -D app", "useradd -m -U -s /bin/sh -c  app"),
        ("adduser -S -G web -h /srv app", "useradd -r -d /srv -g web -s /bin/sh -c  app"),
        ("adduser -S --shell /bin/bash --ingroup docker vscode", "useradd -r -g docker -s /bin/bash -c  vscode"),
        ("adduser -H -u 10 app", "useradd -M -u 10 -U -s /bin/sh -c  app"),
        ("adduser app web", "usermod -a -G web app"),
        ("addgroup -S -g 7 web", "groupadd -r -g 7 web"),
        ("addgroup app web", "usermod -a -G web app"),
    ],
)
def test_adduser_takes_the_options_of_busybox_there(tmp_path: Path, line: str, asked: str) -> None:
    name, *words = line.split()
    (tmp_path / name).write_bytes(dict(LIKE_ALPINE)[f"/usr/local/sbin/{name}"])
    for program in ("useradd", "groupadd", "usermod"):
        (tmp_path / program).write_text('#!/bin/sh\necho "${0##*/}" "$@"\n')
        (tmp_path / program).chmod(0o755)
    done = subprocess.run(["sh", tmp_path / name, *words], env={"PATH": f"{tmp_path}:/bin"}, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, asked)
