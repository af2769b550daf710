"""Dockerfiles become images: real containers on bases of busybox."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import socket
import stat
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from orchestrator.contracts.images import Image, Transfer
from orchestrator.errors import InputError, OperationError, PystackError
from orchestrator.images.host import HostImage
from orchestrator.model.build import BuildSecret, Ulimit
from tests.kernel.build_bench import Bench, Built, bench

pytestmark = pytest.mark.kernel


@pytest.fixture
async def at(leaves_nothing_behind: None, busybox_rootfs: Path) -> AsyncIterator[Bench]:
    async with bench(busybox_rootfs) as opened:
        yield opened


def tar_of(files: dict[str, bytes], **attributes: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for key, number in attributes.items():
                setattr(member, key, number)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


# ---- RUN --------------------------------------------------------------------------------------------------------------


async def test_a_run_makes_a_layer_of_what_it_wrote(at: Bench) -> None:
    script = "echo hello; mkdir /new; echo x > /new/file; rm /etc/group; chown 5:6 /new/file; chmod 4755 /new/file"
    built = await at.build(f"FROM busybox\nRUN {script}\n")
    assert built.output() == ["hello"]
    assert built.text("/new/file") == "x\n"
    assert not built.has("/etc/group")
    found = built.stat("/new/file")
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (5, 6, 0o4755)
    assert built.stat("/new").st_uid == 0
    assert built.top_layer() == ["etc", "etc/group", "new", "new/file"]


async def test_a_run_that_replaces_a_directory_hides_what_was_in_it(at: Bench) -> None:
    built = await at.build(
        "FROM busybox\nCOPY d /d\nRUN rm -r /d && mkdir /d && touch /d/new\n", {"d/old": "1"}
    )
    assert built.names("/d") == ["new"]
    assert os.getxattr(f"{built.image.layers[-1].path}/d", "trusted.overlay.opaque") == b"y"


async def test_nothing_of_the_runtime_is_in_a_layer(at: Bench) -> None:
    built = await at.build("FROM busybox\nRUN true\n")
    assert built.top_layer() == []


async def test_what_a_run_wrote_beside_a_mount_point_stays(at: Bench) -> None:
    built = await at.build(
        """FROM scratch
COPY --from=busybox /bin /bin
RUN echo 1 > /etc/mine
RUN --mount=type=tmpfs,target=/a/b/c touch /a/b/c/x
"""
    )
    assert built.text("/etc/mine") == "1\n"
    assert built.names("/") == ["bin", "etc"]
    assert built.names("/etc") == ["mine"]


async def test_a_run_has_the_user_the_directory_and_the_variables_of_the_stage(at: Bench) -> None:
    built = await at.build(
        """FROM busybox
ARG GREETING=hi
ARG PORT
ENV NAME=web PORT=80
USER nobody
WORKDIR /srv/app
RUN echo $(id -u) $(pwd) $GREETING $NAME $PORT
USER 12:34
RUN id -u; id -g
""",
        args=(("PORT", "99"), ("GREETING", "hello")),
    )
    assert built.output() == ["65534 /srv/app hello web 80", "12", "34"]
    assert built.config["User"] == "12:34"


async def test_a_stage_that_begins_with_another_has_its_arguments_and_a_stage_beside_it_has_not(at: Bench) -> None:
    built = await at.build(
        """FROM busybox AS one
ARG GREETING=hi
ARG PORT
ENV GREETS=$GREETING
FROM one AS two
ARG MORE=more
RUN echo one $GREETING $PORT $MORE
FROM two
ARG MORE
RUN echo two $GREETING $PORT $MORE
FROM busybox
COPY --from=2 /etc /etc
RUN echo beside $GREETING $PORT
""",
        args=(("PORT", "99"),),
    )
    assert sorted(built.output()) == ["beside", "one hi 99 more", "two hi 99 more"]
    undefined = [told for told in built.told if isinstance(told, str) and "UndefinedVar" in told]
    assert not [told for told in undefined if ":13:" not in told]


async def test_shells_exec_forms_and_heredocs_run_as_docker_runs_them(at: Bench) -> None:
    built = await at.build(
        """FROM busybox
RUN ["echo", "$HOME", "a b"]
SHELL ["/bin/sh", "-e", "-c"]
RUN echo $0 $-
RUN <<EOF
echo one
echo two
EOF
RUN <<EOF
#!/bin/sh
echo script $0
EOF
RUN cat <<A - <<B
a
A
b
B
"""
    )
    assert built.output()[0] == "$HOME a b"
    assert "e" in built.output()[1]
    assert built.output()[2:] == ["one", "two", "script /dev/pipes/EOF", "b"]


async def test_a_failing_run_tells_where_it_stands_and_what_it_wrote(at: Bench) -> None:
    with pytest.raises(OperationError) as caught:
        await at.build("FROM busybox\n\nRUN echo before; \\\n    echo after >&2; exit 7\nRUN true\n")
    error = caught.value
    assert error.place == "build.dockerfile_inline:3"
    assert "exit code 7" in error.message
    assert "> 3 | RUN echo before" in error.message
    assert "    before\n    after" in error.message
    assert [each.action for each in at.told if isinstance(each, Transfer)][-1] == "failed"


async def test_a_command_that_is_not_there_is_a_step_that_failed(at: Bench) -> None:
    with pytest.raises(OperationError, match="nowhere") as caught:
        await at.build('FROM busybox\nRUN ["nowhere"]\n')
    assert caught.value.place == "build.dockerfile_inline:2"


async def test_a_user_that_is_not_there_is_an_error_of_the_dockerfile(at: Bench) -> None:
    with pytest.raises(InputError, match='no user "ghost"') as caught:
        await at.build("FROM busybox\nUSER ghost\nRUN true\n")
    assert caught.value.place == "build.dockerfile_inline:3"


async def test_a_run_that_leaves_processes_behind_ends_with_its_first_one(at: Bench) -> None:
    built = await at.build("FROM busybox\nRUN (while true; do echo x > /file; sleep 1; done) & sleep 0.1; echo done\n")
    assert built.output() == ["done"]


async def test_a_build_that_is_cancelled_leaves_nothing(at: Bench) -> None:
    async with trio.open_nursery() as nursery:

        def told(each: object) -> None:
            if isinstance(each, Transfer) and each.text == "started":
                nursery.cancel_scope.cancel()

        spec = at.spec("FROM busybox\nRUN echo started; sleep 1000\n")
        nursery.start_soon(at.builder.build, spec, (), at, told)
    assert nursery.cancel_scope.cancelled_caught


async def test_a_run_without_a_network_has_a_loopback_and_no_more(at: Bench) -> None:
    built = await at.build(
        "FROM busybox\nRUN --network=none ip -o link | wc -l; ip link show lo | grep -q LOWER_UP && echo up\n"
    )
    assert built.output() == ["1", "up"]


async def test_a_run_reaches_the_machine_by_its_network(at: Bench) -> None:
    built = await at.build(
        "FROM busybox\nRUN ip -o link | wc -l; grep -c nameserver /etc/resolv.conf; grep extra /etc/hosts\n",
        extra_hosts=(("extra", "10.1.2.3"),),
    )
    assert built.output() == ["2", "1", "10.1.2.3\textra"]


async def test_extended_rights_are_refused(at: Bench) -> None:
    with pytest.raises(InputError, match="insecure"):
        await at.build("FROM busybox\nRUN --security=insecure true\n")
    with pytest.raises(InputError, match="extended rights"):
        await at.build("FROM busybox\n", privileged=True)


async def test_limits_and_shared_memory_are_those_of_the_build(at: Bench) -> None:
    built = await at.build(
        "FROM busybox\nRUN ulimit -n; df -k /dev/shm | tail -1 | awk '{print $2}'\n",
        ulimits=(Ulimit("nofile", 100, 200),),
        shm_size_bytes=1 << 20,
    )
    assert built.output() == ["100", "1024"]


async def test_no_setuid_bit_and_no_hard_link_is_lost_on_the_way(at: Bench) -> None:
    built = await at.build(
        "FROM busybox\nRUN cp /bin/busybox /su && chown 3:4 /su && chmod 6711 /su && ln /su /hard && ln -s su /soft\n"
    )
    assert stat.S_IMODE(built.stat("/su").st_mode) == 0o6711
    assert built.stat("/hard").st_ino == built.stat("/su").st_ino
    assert (built.stat("/hard").st_uid, built.stat("/soft").st_uid) == (3, 0)


# ---- RUN --mount ------------------------------------------------------------------------------------------------------


async def test_a_bind_mount_shows_the_context_and_keeps_nothing(at: Bench) -> None:
    built = await at.build(
        """FROM busybox
RUN --mount=type=bind,source=sub,target=/in cat /in/a; touch /in/b 2>/dev/null || echo read-only
RUN --mount=type=bind,source=sub,target=/in,rw touch /in/b; ls /in
RUN --mount=type=bind,target=/all ls /all
""",
        {"sub/a": "content\n", "hidden": "x", ".dockerignore": "hidden\n"},
    )
    assert built.output() == ["content", "read-only", "a", "b", "sub"]
    assert not built.has("/in")


async def test_a_bind_mount_shows_other_stages_and_images(at: Bench) -> None:
    built = await at.build(
        """FROM busybox AS one
RUN mkdir /out; echo a > /out/a
RUN echo b > /out/b
FROM busybox
RUN --mount=from=one,source=/out,target=/in cat /in/a /in/b
RUN --mount=from=busybox,source=/etc/passwd,target=/p grep -c root /p
""",
    )
    assert built.output() == ["a", "b", "1"]


async def test_a_run_on_nothing_has_what_is_mounted(at: Bench) -> None:
    built = await at.build("FROM scratch\nRUN --mount=from=busybox,source=/bin,target=/bin echo 1 > /x\n")
    assert built.names("/") == ["x"]


async def test_a_cache_outlives_the_build_and_is_in_no_layer(at: Bench) -> None:
    text = "FROM busybox\nARG N\nRUN --mount=type=cache,target=/cache,mode=0700 ls /cache; touch /cache/$N\n"
    assert (await at.build(text, args=(("N", "1"),))).output() == []
    again = await at.build(text, args=(("N", "2"),))
    assert again.output() == ["1"]
    assert not again.has("/cache")


async def test_a_locked_cache_is_for_one_at_a_time(at: Bench) -> None:
    step = "RUN --mount=type=cache,id=x,sharing=locked,target=/c mkdir /c/lock && sleep 0.1 && rmdir /c/lock"
    built = await at.build(
        f"FROM busybox AS a\n{step}\nFROM busybox AS b\n{step}; touch /b\nFROM a\nCOPY --from=b /b /b\n"
    )
    assert built.has("/b")


async def test_a_secret_is_a_file_or_a_variable_and_stays_nowhere(at: Bench) -> None:
    (at.root / "token").write_text("swordfish")
    secrets = (BuildSecret("token", file=str(at.root / "token")), BuildSecret("word", environment="W", value="magic"))
    built = await at.build(
        """FROM busybox
RUN --mount=type=secret,id=token cat /run/secrets/token; stat -c ' %a %u' /run/secrets/token
RUN --mount=type=secret,id=token,target=/t,mode=0444,uid=7 stat -c '%a %u' /t
RUN --mount=type=secret,id=word,env=WORD echo $WORD
RUN --mount=type=secret,id=missing ls /run/secrets 2>/dev/null || echo nothing
""",
        secrets=secrets,
    )
    assert built.output() == ["swordfish 400 0", "444 7", "magic", "nothing"]
    assert not built.has("/run")
    assert not built.has("/t")
    written = [path.read_bytes() for path in (at.root / "data").rglob("*") if path.is_file()]
    assert not any(b"swordfish" in content for content in written)


async def test_a_secret_that_is_required_and_missing_is_an_error(at: Bench) -> None:
    with pytest.raises(OperationError, match='no secret "s"') as caught:
        await at.build("FROM busybox\nRUN --mount=type=secret,id=s,required=true true\n")
    assert caught.value.place == "build.dockerfile_inline:2"


async def test_the_agents_socket_is_there(at: Bench) -> None:
    path = str(at.root / "agent")
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(path)
        built = await at.build(
            "FROM busybox\nRUN --mount=type=ssh test -S $SSH_AUTH_SOCK && echo $SSH_AUTH_SOCK\n", ssh=(("default", path),)
        )
    assert built.output() == ["/run/buildkit/ssh_agent.0"]


async def test_a_tmpfs_has_its_size(at: Bench) -> None:
    built = await at.build("FROM busybox\nRUN --mount=type=tmpfs,target=/t,size=1m df -k /t | tail -1 | awk '{print $2}'\n")
    assert built.output() == ["1024"]
    assert not built.has("/t")


# ---- COPY and ADD -----------------------------------------------------------------------------------------------------


async def test_files_and_directories_are_copied_by_dockers_rules(at: Bench) -> None:
    files = {"a.txt": "a", "b.txt": "b", "dir/x": "x", "dir/sub/y": "y"}
    built = await at.build(
        """FROM busybox
COPY a.txt /one
COPY a.txt /etc/
COPY a.txt /etc
COPY a.txt b.txt /many/
COPY *.txt /globbed/
COPY dir /whole
COPY dir /etc
COPY dir/ a.txt /mixed/
WORKDIR /work/er
COPY a.txt .
COPY a.txt relative/name
""",
        files,
    )
    assert built.text("/one") == "a"
    assert built.text("/etc/a.txt") == "a"
    assert built.names("/many") == built.names("/globbed") == ["a.txt", "b.txt"]
    assert built.names("/whole") == ["sub", "x"]
    assert built.text("/etc/sub/y") == "y"
    assert built.has("/etc/passwd")
    assert built.names("/mixed") == ["a.txt", "sub", "x"]
    assert built.names("/work/er") == ["a.txt", "relative"]
    assert built.text("/work/er/relative/name") == "a"


async def test_what_is_copied_from_the_context_is_roots(at: Bench) -> None:
    context = at.context({"dir/file": "x"})
    os.chown(context / "dir/file", 1234, 1234)
    os.chmod(context / "dir/file", 0o640)
    os.utime(context / "dir/file", (1000, 1000))
    built = await at.build("FROM busybox\nCOPY dir /d\n", context)
    found = built.stat("/d/file")
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), found.st_mtime) == (0, 0, 0o640, 1000.0)


async def test_owners_and_modes_are_as_asked_for(at: Bench) -> None:
    built = await at.build(
        """FROM busybox
RUN echo 'web:x:77:88::/:' >> /etc/passwd; echo 'www:x:99:' >> /etc/group
COPY --chown=web dir /a
COPY --chown=web:www file /b
COPY --chown=5 --chmod=600 file /deep/er/c
COPY --chmod=u=rwX,go=rX dir /d
COPY --chmod=+x file /e
""",
        {"dir/x": "1", "file": "2"},
    )
    assert (built.stat("/a/x").st_uid, built.stat("/a/x").st_gid) == (77, 88)
    assert (built.stat("/b").st_uid, built.stat("/b").st_gid) == (77, 99)
    assert (built.stat("/deep/er/c").st_uid, built.stat("/deep/er/c").st_gid, built.stat("/deep").st_uid) == (5, 5, 5)
    assert stat.S_IMODE(built.stat("/deep/er/c").st_mode) == 0o600
    assert stat.S_IMODE(built.stat("/d").st_mode) == 0o755
    assert stat.S_IMODE(built.stat("/d/x").st_mode) == 0o644
    assert stat.S_IMODE(built.stat("/e").st_mode) == 0o755
    with pytest.raises(InputError, match='no user "ghost"'):
        await at.build("FROM busybox\nCOPY --chown=ghost a /a\n", {"a": ""})


async def test_links_lead_nowhere_outside(at: Bench) -> None:
    context = at.context({"real": "inside", "dir/x": "x"})
    (context / "out").symlink_to("/etc/hostname")
    (context / "up").symlink_to("../../../../etc/hostname")
    (context / "in").symlink_to("real")
    (context / "dir/link").symlink_to("/etc/shadow")
    built = await at.build("FROM busybox\nCOPY in /in\nCOPY dir /dir\n", context)
    assert built.text("/in") == "inside"
    assert stat.S_ISREG(built.stat("/in").st_mode)
    assert stat.S_ISLNK(built.stat("/dir/link").st_mode)
    for name in ("out", "up", "../../etc/hostname"):
        with pytest.raises(OperationError, match="does not exist in the build context"):
            await at.build(f"FROM busybox\nCOPY {name} /x\n", context)


async def test_a_destination_that_is_a_link_is_followed_inside_the_image(at: Bench) -> None:
    built = await at.build(
        """FROM busybox
RUN mkdir /target && ln -s /target /link && ln -s ../../../.. /up
COPY a /link/
COPY a /up/etc/b
""",
        {"a": "1"},
    )
    assert built.text("/target/a") == built.text("/etc/b") == "1"
    assert stat.S_ISLNK(built.stat("/link").st_mode)


async def test_a_linked_copy_does_not_depend_on_what_is_below(at: Bench) -> None:
    text = "FROM busybox\nARG N\nRUN echo $N > /n\nCOPY --link a /deep/a\n"
    context = at.context({"a": "1"})
    first = await at.build(text, context, args=(("N", "1"),))
    again = await at.build(text, context, args=(("N", "2"),))
    assert again.ran() == 1
    assert first.image.layers[-1].key == again.image.layers[-1].key


async def test_parents_and_excludes(at: Bench) -> None:
    files = {"x/a.txt": "a", "x/b.md": "b", "y/z/c.txt": "c", "top.txt": "t"}
    built = await at.build(
        """FROM busybox
COPY --parents x/a.txt y/z/c.txt /p/
COPY --parents y/./z/c.txt /q/
COPY --parents **/*.txt /r/
COPY --exclude=*.md x /s/
COPY --exclude=**/*.txt . /t/
""",
        files,
    )
    assert built.text("/p/x/a.txt") == "a"
    assert built.text("/p/y/z/c.txt") == "c"
    assert built.names("/q") == ["z"]
    assert built.names("/r") == ["top.txt", "x", "y"]
    assert built.names("/s") == ["a.txt"]
    assert built.names("/t") == ["x", "y"]
    assert built.names("/t/x") == ["b.md"]
    assert built.names("/t/y/z") == []


async def test_the_ignore_file_is_heard(at: Bench) -> None:
    files = {".dockerignore": "*.log\nnode\n!node/keep\n", "a.log": "1", "b": "2", "node/x": "3", "node/keep": "4"}
    built = await at.build("FROM busybox\nCOPY . /c/\n", files)
    assert built.names("/c") == [".dockerignore", "b", "node"]
    assert built.names("/c/node") == ["keep"]
    with pytest.raises(OperationError, match=r'"a.log" does not exist in the build context') as caught:
        await at.build("FROM busybox\nCOPY a.log /\n", files)
    assert caught.value.hint == ".dockerignore leaves it out"


async def test_a_link_that_leads_to_nothing_is_told_as_one(at: Bench) -> None:
    context = at.context({"d/a": ""})
    (context / "d/out").symlink_to("../../elsewhere")
    for source in ("d/out", "d/out/x"):
        with pytest.raises(OperationError, match=rf'"{source}" does not exist in the build context\n') as caught:
            await at.build(f"FROM busybox\nCOPY {source} /\n", context)
        assert caught.value.hint == 'd/out is a link to "../../elsewhere", which leads to nothing in the build context'


async def test_documents_are_files(at: Bench) -> None:
    built = await at.build(
        'FROM busybox\nARG X=1\nCOPY <<a.conf <<"b.conf" /etc/\nx=$X\na.conf\nx=$X\nb.conf\nCOPY <<EOF /one\nhi\nEOF\n'
    )
    assert (built.text("/etc/a.conf"), built.text("/etc/b.conf"), built.text("/one")) == ("x=1\n", "x=$X\n", "hi\n")
    assert stat.S_IMODE(built.stat("/one").st_mode) == 0o644


async def test_what_does_not_go_together_is_an_error(at: Bench) -> None:
    files = {"a": "", "b": "", "d/etc/x": "", "f/passwd/y": ""}
    for line, what in (
        ("COPY a b /etc/passwd", "no directory"),
        ("COPY a /etc/passwd/", "no directory"),
        ("COPY f /etc", "cannot be replaced"),
        ("COPY missing /", "does not exist"),
    ):
        with pytest.raises(PystackError, match=what) as caught:
            await at.build(f"FROM busybox\n{line}\n", files)
        assert caught.value.place == "build.dockerfile_inline:2"
    assert not (await at.build("FROM busybox\nCOPY nothing* /x/\n", files)).has("/x/nothing")


async def test_a_stage_gives_files_with_their_owners_and_links(at: Bench) -> None:
    built = await at.build(
        """FROM busybox AS one
RUN mkdir /o; echo 1 > /o/a; ln /o/a /o/b; ln -s a /o/c; chown -R 7:8 /o; chmod 4755 /o/a; mkfifo /o/fifo
FROM scratch
COPY --from=one /o /o
COPY --from=one --chown=9:9 /o/a /single
"""
    )
    assert built.stat("/o/a").st_ino == built.stat("/o/b").st_ino
    assert (built.stat("/o/a").st_uid, built.stat("/o/a").st_gid) == (7, 8)
    assert stat.S_IMODE(built.stat("/o/a").st_mode) == 0o4755
    assert stat.S_ISLNK(built.stat("/o/c").st_mode)
    assert stat.S_ISFIFO(built.stat("/o/fifo").st_mode)
    assert built.stat("/single").st_uid == 9
    assert built.names("/") == ["o", "single"]


async def test_add_unpacks_archives_and_nothing_else(at: Bench) -> None:
    archive = tar_of({"in/file": b"1", "../up": b"2"}, uid=5, gid=6)
    files: dict[str, str | bytes] = {
        "a.tar": archive, "b.tgz": gzip.compress(archive), "c.txt": "text", "d.gz": gzip.compress(b"no archive")
    }  # fmt: skip
    built = await at.build(
        """FROM busybox
ADD a.tar /a
ADD b.tgz /b/
ADD c.txt d.gz /c/
ADD --unpack=false a.tar /d/
COPY a.tar /e/
ADD --chown=1:2 a.tar /f
""",
        files,
    )
    assert built.text("/a/in/file") == built.text("/b/in/file") == "1"
    assert built.text("/a/up") == "2"
    assert (built.stat("/a/in/file").st_uid, built.stat("/f/in/file").st_uid) == (5, 1)
    assert built.names("/c") == ["c.txt", "d.gz"]
    assert built.names("/d") == built.names("/e") == ["a.tar"]


async def test_named_contexts_are_directories_or_images(at: Bench) -> None:
    other = at.context({"file": "other"})
    at.images["elsewhere"] = at.images["busybox"]
    built = await at.build(
        "FROM base\nCOPY --from=more file /f\nRUN --mount=from=more,target=/m cat /m/file\n",
        additional_contexts=(("more", str(other)), ("base", "docker-image://elsewhere")),
    )
    assert built.text("/f") == "other"
    assert built.output() == ["other"]
    assert at.asked[0][0] == "elsewhere"


# ---- the configuration ------------------------------------------------------------------------------------------------


async def test_the_configuration_is_what_the_instructions_say(at: Bench) -> None:
    built = await at.build(
        """FROM busybox
MAINTAINER me
ENV A=1 B="two words"
LABEL one=1 two="$A b"
EXPOSE 80 443/tcp 53/udp
VOLUME /data
VOLUME ["/more"]
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=5s --retries=3 CMD curl -f http://localhost/
ENTRYPOINT ["/entry"]
CMD ["serve", "it"]
ONBUILD RUN echo later
""",
        labels=(("two", "mine"), ("three", "3")),
        tags=("example:1",),
    )
    config = built.config
    assert config["Env"] == ["PATH=/bin", "A=1", "B=two words"]
    assert config["Labels"] == {"one": "1", "two": "mine", "three": "3"}
    assert set(config["ExposedPorts"]) == {"80/tcp", "443/tcp", "53/udp"}
    assert set(config["Volumes"]) == {"/data", "/more"}
    assert config["StopSignal"] == "SIGQUIT"
    assert config["Healthcheck"] == {
        "Test": ["CMD-SHELL", "curl -f http://localhost/"], "Interval": 5 * 10**9, "Retries": 3
    }  # fmt: skip
    assert (config["Entrypoint"], config["Cmd"]) == (["/entry"], ["serve", "it"])
    assert config["OnBuild"] == ["RUN echo later"]
    assert built.image.config.author == "me"
    assert at.store.find("example:1") is not None
    assert all(entry.empty_layer for entry in built.image.config.history)


async def test_an_entrypoint_forgets_the_command_of_the_base(at: Bench) -> None:
    built = await at.build('FROM busybox\nENTRYPOINT ["/e"]\n')
    assert built.config["Entrypoint"] == ["/e"]
    assert "Cmd" not in built.config
    built = await at.build("FROM busybox\nCMD echo $A\nENTRYPOINT exec x\n")
    assert built.config["Cmd"] == ["/bin/sh", "-c", "echo $A"]
    assert built.config["Entrypoint"] == ["/bin/sh", "-c", "exec x"]


async def test_the_history_tells_which_step_made_which_layer(at: Bench) -> None:
    built = await at.build("FROM scratch\nCOPY a /a\nENV X=1\nWORKDIR /w\nWORKDIR /w\n", {"a": ""})
    history = built.image.config.history
    assert [(entry.created_by, entry.empty_layer) for entry in history] == [
        ("COPY a /a", False), ("ENV X=1", True), ("WORKDIR /w", False), ("WORKDIR /w", True),
    ]  # fmt: skip
    assert len(built.image.layers) == 2


async def test_triggers_of_a_base_run_first(at: Bench) -> None:
    base = await at.build("FROM busybox\nONBUILD COPY a /a\nONBUILD RUN cat /a\nONBUILD COPY --from=tools /t /t\n")
    at.images["base"] = base.image
    built = await at.build("FROM busybox AS tools\nRUN touch /t\nFROM base\nRUN echo own\n", {"a": "from the trigger"})
    assert built.output() == ["from the trigger", "own"]
    assert built.has("/t")
    assert "OnBuild" not in built.config


# ---- the cache --------------------------------------------------------------------------------------------------------


async def test_what_was_built_once_is_not_built_again(at: Bench) -> None:
    text = "FROM busybox\nCOPY a /a\nRUN cat /a > /b\nCOPY c /c\nRUN cat /c > /d\nENV X=1\n"
    context = at.context({"a": "1", "c": "2"})
    first = await at.build(text, context)
    assert first.ran() == 4
    again = await at.build(text, context)
    assert again.ran() == 0
    assert again.image.id == first.image.id
    (context / "c").write_text("3")
    changed = await at.build(text, context)
    assert changed.ran() == 2
    assert (changed.text("/b"), changed.text("/d")) == ("1", "3")
    os.utime(context / "c", (1, 1))
    assert (await at.build(text, context)).ran() == 0
    os.chmod(context / "c", 0o600)
    assert (await at.build(text, context)).ran() == 2


async def test_arguments_count_from_where_they_are_declared(at: Bench) -> None:
    text = "FROM busybox\nRUN touch /a\nARG N\nRUN echo $N > /b\n"
    await at.build(text, args=(("N", "1"), ("HTTP_PROXY", "http://one")))
    assert (await at.build(text, args=(("N", "2"), ("HTTP_PROXY", "http://one")))).ran() == 1
    assert (await at.build(text, args=(("N", "2"), ("HTTP_PROXY", "http://two")))).ran() == 0


async def test_a_variable_that_nobody_defines_is_a_warning(at: Bench) -> None:
    built = await at.build("FROM busybox\nENV A=$PATH B=$PTAH\n", args=(("UNUSED", "1"),))
    told = [each for each in built.told if isinstance(each, str)]
    assert told[0] == "build arguments that no ARG declares: UNUSED"
    assert told[1].startswith("build.dockerfile_inline:2: the variable PTAH is not defined")


async def test_the_cache_may_be_left_alone(at: Bench) -> None:
    text = "FROM busybox AS one\nRUN echo 1\nFROM one AS two\nRUN echo 2\n"
    await at.build(text)
    assert (await at.build(text)).ran() == 0
    assert (await at.build(text, no_cache_filter=("two",))).output() == ["2"]
    assert (await at.build(text, no_cache=True)).ran() == 2


async def test_steps_are_carried_to_another_store_in_a_directory(at: Bench, busybox_rootfs: Path) -> None:
    text = "FROM busybox\nCOPY a /a\nRUN cat /a > /b; rm /etc/group\n"
    context = at.context({"a": "1"})
    carried = at.root / "carried"
    first = await at.build(text, context, cache_to=(f"type=local,dest={carried},mode=max", "type=registry,ref=x"))
    assert any(isinstance(each, str) and "type=registry" in each for each in first.told)
    async with bench(busybox_rootfs) as other:
        brought = await other.build(text, context, cache_from=(f"type=local,src={carried}",))
        assert brought.ran() == 0
        assert brought.text("/b") == "1"
        assert not brought.has("/etc/group")
        for archive in (carried / "layers").iterdir():
            archive.write_bytes(b"damaged")
        other.store.collect(in_use=(), unnamed=True, unused=True, cache=True)
        other.images["busybox"] = other.image_of(busybox_rootfs, {"Env": ["PATH=/bin"], "Cmd": ["sh"]})
        assert (await other.build(text, context, cache_from=(f"type=local,src={carried}",))).ran() == 2


async def test_what_a_stage_takes_counts_by_its_content(at: Bench) -> None:
    text = """FROM busybox AS one
ARG N
RUN echo $N; echo same > /out
FROM busybox
COPY --from=one /out /out
RUN cat /out
"""
    await at.build(text, args=(("N", "1"),))
    again = await at.build(text, args=(("N", "2"),))
    assert again.output() == ["2"]


async def test_two_builds_with_an_epoch_give_the_same_image(at: Bench) -> None:
    text = "FROM busybox\nARG SOURCE_DATE_EPOCH\nWORKDIR /w\nCOPY d /d\nRUN echo x > /x; mkdir /y\nCMD x\n"
    context = at.context({"d/a": "1"})
    arguments = (("SOURCE_DATE_EPOCH", "1000000000"),)
    first = await at.build(text, context, args=arguments)
    os.utime(context / "d/a")
    again = await at.build(text, context, args=arguments, no_cache=True)
    assert again.ran() == 3
    assert again.image.id == first.image.id
    assert again.image.config.created == "2001-09-09T01:46:40Z"
    assert again.stat("/x").st_mtime == 1e9


async def test_an_epoch_gives_the_same_image_in_another_store(at: Bench, busybox_rootfs: Path) -> None:
    text = "FROM busybox\nWORKDIR /w\nCOPY d /d\nADD <<E /e\nx\nE\nRUN echo x > /x; mkdir /y; rm /etc/group\n"
    arguments = (("SOURCE_DATE_EPOCH", "1000000000"),)
    first = await at.build(text, {"d/a": "1"}, args=arguments)
    async with bench(busybox_rootfs) as other:
        assert (await other.build(text, {"d/a": "1"}, args=arguments)).image.id == first.image.id


# ---- stages and bases -------------------------------------------------------------------------------------------------


async def test_steps_are_named_as_buildkit_names_them(at: Bench) -> None:
    def parts(built: Built) -> set[str]:
        return {each.part for each in built.told if isinstance(each, Transfer)}

    assert parts(await at.build("FROM scratch\nENV A=1\n")) == {"1/2", "2/2"}
    built = await at.build("FROM scratch\nFROM busybox AS two\nFROM two\nENV B=1\n")
    assert parts(built) == {"two 1/1", "stage-2 1/2", "stage-2 2/2"}


async def test_stages_run_side_by_side_and_only_those_that_are_needed(at: Bench) -> None:
    wait = "while ! test -e /m/{other}; do sleep 0.01; done"
    meet = f"RUN --mount=type=cache,id=m,target=/m touch /m/{{own}}; {wait}; touch /{{own}}"
    built = await at.build(
        "FROM busybox AS a\n" + meet.format(own="a", other="b") + "\nFROM busybox AS b\n" + meet.format(own="b", other="a")
        + "\nFROM busybox AS unused\nRUN false\nFROM busybox AS last\nCOPY --from=a /a /\nCOPY --from=b /b /\n"
        "FROM last AS after\nRUN false\n",
        target="last",
    )  # fmt: skip
    assert built.has("/a")
    assert built.has("/b")


async def test_stages_that_begin_alike_do_it_once(at: Bench) -> None:
    same = "RUN echo made; sleep 0.1\n"
    built = await at.build(f"FROM busybox AS a\n{same}FROM busybox AS b\n{same}FROM a\nCOPY --from=b /etc/group /g\n")
    assert built.output() == ["made"]


async def test_a_stage_that_fails_ends_the_others(at: Bench) -> None:
    with pytest.raises(OperationError, match="exit code 3"):
        await at.build(
            "FROM busybox AS a\nRUN sleep 1000\nFROM busybox AS b\nRUN exit 3\nFROM a\nCOPY --from=b /bin/sh /x\n"
        )


async def test_the_machines_own_system_is_a_base(at: Bench) -> None:
    at.images["host"] = HostImage(str(at.root / "data" / "images")).make()
    built = await at.build(
        "FROM host AS tools\nRUN python3 -c 'print(6 * 7)' > /answer\nFROM scratch\nCOPY --from=tools /answer /\n"
    )
    assert built.text("/answer") == "42\n"
    kept = await at.build("FROM host\nRUN python3 -c 'print(1)'\n")
    assert kept.config["Labels"]["io.pystack.host"].startswith("sha256:")
    assert kept.has("/etc/passwd")
    assert kept.names("/usr") == []


async def test_a_directory_is_a_base_as_it_is_now(at: Bench, busybox_rootfs: Path) -> None:
    tree = at.root / "tree"
    shutil.copytree(busybox_rootfs, tree, symlinks=True)
    at.images["rootfs:x"] = Image("rootfs:x", "dir:1", (str(tree),))
    text = "FROM rootfs:x\nRUN cat /file 2>/dev/null || echo none\n"
    assert (await at.build(text)).output() == ["none"]
    assert (await at.build(text)).ran() == 0
    (tree / "file").write_text("there\n")
    assert (await at.build(text)).output() == ["there"]


async def test_a_base_that_is_not_there_is_told_with_its_line(at: Bench) -> None:
    with pytest.raises(OperationError, match='no image "nginx"') as caught:
        await at.build("ARG BASE=nginx\nFROM $BASE\n")
    assert caught.value.place == "build.dockerfile_inline:2"


async def test_the_dockerfile_is_found_in_the_context(at: Bench) -> None:
    context = at.context({
        "Dockerfile": "FROM busybox\nRUN echo found\n",
        "sub/other": "FROM busybox\nCOPY . /c\n",
        "sub/other.dockerignore": "sub\n",
    })
    built = await at.build_spec(context)
    assert built.output() == ["found"]
    built = await at.build_spec(context, dockerfile="sub/other")
    assert built.names("/c") == ["Dockerfile"]
    with pytest.raises(InputError, match="no Dockerfile"):
        await at.build_spec(context, dockerfile="../Dockerfile.x")
    (context / "out").symlink_to("/etc/passwd")
    with pytest.raises(InputError, match="no Dockerfile"):
        await at.build_spec(context, dockerfile="out")


async def test_builds_side_by_side_that_begin_alike_do_a_step_once(at: Bench) -> None:
    """As two services with the same `build:` do."""
    spec = at.spec("FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /made\n")
    found: list[Built] = []

    async def build() -> None:
        told: list[str | Transfer] = []
        found.append(Built(await at.builder.build(spec, (), at, told.append), told))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(build)
        nursery.start_soon(build)
    assert found[0].text("/made") == found[1].text("/made")
    assert sorted(built.ran() for built in found) == [0, 1]
