"""More Dockerfiles that two builders build: corners of the rules, and what buildah 1.28 has to be told otherwise."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping

from orchestrator.values import field, frozen
from tests.differential.dockerfiles import ARCHIVES, TREE, tar

BASE = "FROM localhost/base\n"
REFERENCE = "https://docs.docker.com/reference/dockerfile"
_SETUID = "buildah strips the bits as Docker 19.03 did; BuildKit keeps them (github.com/moby/buildkit/issues/3920)"
_ADD_OWNER = "since BuildKit 0.23 --chown is about what is in the archive too (github.com/moby/buildkit/pull/5987)"
_STUB = "buildah leaves its mount point; a secret leaves nothing"
_COPY_UP = "buildah makes one layer of a stage's RUNs; else a link to a layer below is copied up (overlayfs.rst, copy_up)"
_SHELL = f"buildah passes SHELL over; it is also for CMD and ENTRYPOINT ({REFERENCE}/#shell)"
_SCOPE = f"buildah forgets the arguments of the stage that another begins with ({REFERENCE}/#scope)"
_ESCAPE = f"buildah escapes words by a backslash all the same ({REFERENCE}/#escape)"


@frozen
class Link:
    """A symbolic link of a context."""

    target: str


@frozen
class Mode:
    """A file of a context that is not 0644."""

    mode: int
    content: str = ""


Context = Mapping[str, str | bytes | Link | Mode]


@frozen
class Case:
    """`body`: behind ``FROM localhost/base``, or with a FROM of its own at the beginning (`whole`). `instead`: the same as
    buildah 1.28 has to be told it. `args`, `secrets`: of the build, for both. `differs`: paths and keys of the
    configuration that are not as buildah makes them -> why, and what says so; no others differ."""

    body: str
    files: Context = field(default_factory=dict)
    instead: str = ""
    whole: bool = False
    target: str = ""
    args: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    differs: Mapping[str, str] = field(default_factory=dict)


def odd_tar() -> bytes:
    """Names with ``./`` before them, links that lead up and away, extended attributes, an odd mode."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, link, mode in (
            ("./", tarfile.DIRTYPE, "", 0o711),
            ("./sub", tarfile.DIRTYPE, "", 0o2775),
            ("./sub/absolute", tarfile.SYMTYPE, "/etc/passwd", 0o777),
            ("./sub/up", tarfile.SYMTYPE, "../../../x", 0o777),
            ("./setuid", tarfile.REGTYPE, "", 0o4711),
            ("deep/er/file", tarfile.REGTYPE, "", 0o600),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode, member.uid, member.gid = kind, link, mode, 1, 2
            if name == "./setuid":
                member.pax_headers = {"SCHILY.xattr.user.note": "kept"}
            archive.addfile(member)
    return out.getvalue()


ODD: Context = {
    "odd.tar": odd_tar(), "text.gz": gzip.compress(b"text\n", mtime=0), "d/inner.tar": tar(), "empty.tar": bytes(10240)
}  # fmt: skip
LINKED: Context = {
    "f": "F\n", "d/x": "X\n", "d/in": Link("x"), "d/out": Link("/etc/passwd"), "lf": Link("f"), "ld": Link("d"),
    "labs": Link("/f"), "d/dangling": Link("nowhere"),
}  # fmt: skip
MODES: Context = {
    "secret": Mode(0o600, "s\n"), "tool": Mode(0o755, "#!/bin/sh\n"), "suid": Mode(0o4755, "x\n"), "d/group": Mode(0o664)
}  # fmt: skip
DOCS: Context = {
    "a.md": "a", "b.txt": "b", "s/c.md": "c", "s/d.txt": "d", "s/t/e.md": "e", "s/t/README.md": "r", "tmp/x": "x",
    "tmp/keep/y": "y", "Makefile": "m",
}  # fmt: skip


def ignoring(text: str) -> Context:
    return {**DOCS, ".dockerignore": text}


CORNERS: Mapping[str, Case] = {
    # COPY and ADD: what the source is
    "a link to a file": Case("COPY lf /new", LINKED),
    "a link to a directory": Case("COPY ld /new", LINKED),
    "a link from the root": Case("COPY labs /new", LINKED),
    "links in a directory": Case("COPY d /new", LINKED),
    "a link in the way": Case("COPY ld/x /new/", LINKED),
    "a source that leads up": Case("COPY ../../f /new/", LINKED),
    "a source with dots": Case("COPY ./d/../f d/. /new/", LINKED),
    "a source from the root": Case("COPY /f /d/x /new/", LINKED),
    "modes of the context": Case("COPY . /new", MODES, differs={"new/suid": _SETUID}),
    "a wildcard in the middle": Case("COPY d*/x /new/", LINKED),
    "a wildcard for directories": Case("COPY s* /new/", DOCS),
    "a class of names": Case("COPY [a-b].* /new/", DOCS),
    "a wildcard without the first": Case("COPY s/[^c]* /new/", DOCS),
    "an escaped wildcard": Case(r"COPY a\*b /new/", {"a*b": "1", "axb": "2"}),
    "one match of a wildcard to a file": Case("COPY M* /new", DOCS),
    # COPY and ADD: what the destination is
    "a file over a link to a file": Case("RUN echo t > /t; ln -s t /l\nCOPY a /l", TREE),
    "a file into a link to a directory": Case("RUN mkdir /t; ln -s t /l\nCOPY a /l", TREE),
    "a directory into a link to a directory": Case("RUN mkdir -m 700 /t; ln -s t /l\nCOPY d /l", TREE),
    "a directory through a link": Case("RUN mkdir /t; ln -s /t /l\nCOPY d /l/sub", TREE),
    "what is there keeps its mode": Case("RUN mkdir -m 711 /new; chown 4:5 /new\nCOPY d /new/", TREE),
    "a directory below keeps its mode": Case("RUN mkdir -p /new/y; chmod 700 /new/y; chown 6 /new/y\nCOPY d /new", TREE),
    "a directory over links": Case("RUN mkdir /new; ln -s /etc/group /new/x\nCOPY d /new", TREE),
    "the working directory": Case("WORKDIR /w\nCOPY a b ./\nADD d ./d", TREE),
    "a variable in everything": Case("ARG S=d\nENV T=/new\nCOPY $S/x ${T}/${S}_x\nADD ${S} $T/all/", TREE),
    "two owners": Case("COPY --chown=1:2 d /new\nCOPY --chown=3:4 d/x /new/z\nCOPY --chown=7 a /p/q", TREE),
    "an owner without a group": Case("COPY --chown=nobody a /new", TREE),
    "a name and a number": Case("ADD --chown=nobody:7 a /new", TREE),
    "an owner for directories": Case("COPY --chown=5:6 d/y /p/q/", TREE),
    "a mode for a directory": Case("COPY --chmod=700 d /new", TREE),
    "a mode with zeros": Case("COPY --chmod=0640 --chown=2:3 a b /new/", TREE),
    "by list": Case('COPY ["a", "b", "/new/"]\nADD ["d", "/d d/"]', TREE),
    # what buildah 1.28 does not know
    "linked": Case("COPY --link a /new/a\nCOPY --link d /p/d/", TREE, instead="COPY a /new/a\nCOPY d /p/d/"),
    "with parents": Case("COPY --parents d/y/z a /new/", TREE, instead="COPY d/y/z /new/d/y/z\nCOPY a /new/a"),
    "parents of wildcards": Case(
        "COPY --parents s/*.md s/t/*.md /new/", DOCS,
        instead="COPY s/c.md /new/s/c.md\nCOPY s/t/e.md s/t/README.md /new/s/t/",
    ),
    "parents from the middle": Case("COPY --parents ./s/./t/e.md /new/", DOCS, instead="COPY s/t/e.md /new/t/e.md"),
    "excluded": Case(
        "COPY --exclude=*.md --exclude=t s /new/\nCOPY --exclude=**/*.md tmp s /all/", DOCS,
        instead="COPY s/d.txt /new/\nRUN mkdir -p /all/t\nCOPY s/d.txt tmp/x /all/\nCOPY tmp/keep /all/keep",
    ),
    "a document": Case(
        "ENV W=world\nCOPY <<a <<'b' /new/\nhello $W\na\nhello $W\nb\n",
        {"a": "hello world\n", "b": "hello $W\n"}, instead="ENV W=world\nCOPY a b /new/",
    ),
    "a script": Case(
        "RUN <<E\nset -e\necho 1 > /one\necho $PATH > /path\nE\n", {},
        instead="RUN set -e; echo 1 > /one; echo $PATH > /path",
    ),
    "a script of a program": Case(
        "RUN <<E\n#!/bin/cat\nE\nRUN sh <<E\necho 2 > /two\nE\n", {}, instead="RUN true\nRUN echo 2 > /two"
    ),
    "expansions of today": Case(
        "ENV A=foo.tar.gz\nENV B=${A#*.} C=${A##*.} D=${A%.*} E=${A%%.*} F=${A/o/0} G=${A//o/0}", {},
        instead="ENV A=foo.tar.gz\nENV B=tar.gz C=gz D=foo.tar E=foo F=f0o.tar.gz G=f00.tar.gz",
    ),
    # archives
    "an odd archive": Case("ADD odd.tar /new/", ODD),
    "an archive with an owner": Case(
        "ADD --chown=5:6 odd.tar /new/", ODD,
        differs={f"new{name}": _ADD_OWNER for name in (
            "", "/deep", "/deep/er", "/deep/er/file", "/setuid", "/sub", "/sub/absolute", "/sub/up"
        )},
    ),
    "an archive without a slash": Case("ADD odd.tar /new", ODD),
    "two archives": Case("ADD plain.tar a.tgz /new/", ARCHIVES),
    "an archive and a file": Case("ADD plain.tar text /new/", ARCHIVES),
    "a compressed file": Case("ADD text.gz /new/", ODD),
    "an archive in a directory": Case("ADD d /new", ODD),
    "an empty archive": Case("ADD empty.tar /new/", ODD),
    "an archive through a link": Case("RUN mkdir /t; ln -s t /l\nADD plain.tar /l/", ARCHIVES),
    # stages
    "a target": Case(
        "FROM localhost/base AS one\nRUN touch /1\nFROM one AS two\nRUN touch /2\nFROM two\nRUN false",
        whole=True, target="two",
    ),
    "a target by number": Case("FROM localhost/base\nENV A=1\nFROM localhost/base\nRUN false", whole=True, target="0"),
    "an argument for the base": Case(
        "ARG B=base\nARG REG=localhost\nFROM ${REG}/$B AS x\nARG B\nRUN echo $B-$REG > /o\nFROM x\nRUN echo $B > /p",
        whole=True, args={"B": "base"}, differs={"p": _SCOPE},
    ),
    "a link of a stage": Case("RUN mkdir /d; echo x > /d/f; ln -s d /l\nFROM localhost/base\nCOPY --from=0 /l /new"),
    "a link to a file of a stage": Case("RUN echo x > /f; ln -s /f /l\nFROM localhost/base\nCOPY --from=0 /l /new/"),
    "a wildcard in a stage": Case("RUN mkdir /o; touch /o/a1 /o/a2 /o/b\nFROM localhost/base\nCOPY --from=0 /o/a* /new/"),
    "hard links of a stage": Case(
        "RUN mkdir /o; echo x > /o/a; ln /o/a /o/b\nFROM localhost/base\nCOPY --from=0 /o /new",
    ),
    "owners of a stage given away": Case(
        "RUN mkdir /o; touch /o/a; chown -R 5:6 /o; chmod 2750 /o\n"
        "FROM localhost/base\nCOPY --chown=nobody --from=0 /o /new/\nCOPY --from=0 /o /p/kept",
    ),
    "the root of a stage": Case(
        "FROM scratch AS one\nCOPY d /\nFROM localhost/base\nCOPY --from=one / /new", TREE, whole=True
    ),
    "what a stage deleted": Case(
        "RUN mkdir /o; touch /o/a /o/b\nRUN rm /o/a\nRUN rm -r /var\nRUN mkdir /var; touch /var/n\n"
        "FROM localhost/base\nCOPY --from=0 /o /new\nCOPY --from=0 /var /nvar",
    ),
    "an image": Case("COPY --from=localhost/base /etc/passwd /new/"),
    # RUN
    "a bind mount": Case("RUN --mount=type=bind,target=/ctx cp -r /ctx/d /new", TREE),
    "a bind mount of a stage": Case(
        "RUN echo 1 > /o\nFROM localhost/base\nRUN --mount=type=bind,from=0,source=/o,target=/i cat /i > /p"
    ),
    "a cache": Case("RUN --mount=type=cache,target=/root/.cache touch /root/.cache/x /root/y"),
    "a tmpfs": Case("RUN --mount=type=tmpfs,target=/var/t touch /var/t/x /var/y"),
    "a secret": Case(
        "RUN --mount=type=secret,id=s cat /run/secrets/s > /o", secrets={"s": "hush"}, differs={"run/secrets": _STUB}
    ),
    "a secret elsewhere": Case(
        "RUN --mount=type=secret,id=s,target=/etc/s,mode=0444 stat -c %a /etc/s > /o", secrets={"s": "hush"}
    ),
    "a directory made anew": Case("RUN mkdir -p /o/p; touch /o/p/q\nRUN rm -r /o; mkdir -m 700 /o\nRUN touch /o/n"),
    "a directory for a file": Case("RUN rm /etc/group; mkdir /etc/group; touch /etc/group/x"),
    "a file for a directory": Case("RUN mkdir /o; touch /o/x\nRUN rm -r /o; echo f > /o"),
    "a link for a directory": Case("RUN mkdir /o; touch /o/x\nRUN mv /o /p; ln -s p /o\nRUN touch /o/y"),
    "links over layers": Case(
        "RUN echo 1 > /a; ln /a /b\nRUN ln /b /c; rm /a\nRUN echo 2 >> /c", differs={"b": _COPY_UP, "c": _COPY_UP}
    ),
    "sticky and setgid": Case("RUN mkdir -m 2775 /g; chown 0:7 /g; mkdir -m 1777 /s; touch /g/x"),
    "nothing": Case("RUN true\nRUN :"),
    "many lines": Case("RUN echo 1 > /a \\\n  # a remark\n  && echo 2 > /b \\\n\n  && echo '3  4' > /c"),
    "quotes for the shell": Case("RUN echo \"$PATH\" '$PATH' \\$PATH \"a  b\" > /o; echo ${HOME:-none} >> /o"),
    "a variable for a run": Case("ENV X='a b' Y=\"$PATH\"\nRUN echo \"$X\" > \"/$X\"; env | grep ^Y > /y"),
    "the shell of another": Case(
        'SHELL ["/bin/sh", "-ec"]\nRUN echo 1 > /o\nCMD run me\nENTRYPOINT start',
        differs={"Cmd": _SHELL, "Entrypoint": _SHELL},
    ),
    "a user with a group": Case(
        "RUN mkdir -m 777 /pub\nUSER nobody:nogroup\nRUN id > /pub/id; touch /pub/x\nWORKDIR /pub/w/v\nUSER 3:4\nWORKDIR x"
    ),
    # ENV and ARG
    "defaults": Case(
        "ENV A=1 E=\nENV B=${A:-x} C=${N:-y} D=${A:+z} F=${N:+w} G=${E:-v} H=${E-u} I=${N-t} J=${E+s}",
        instead="ENV A=1 E=\nENV B=${A:-x} C=${N:-y} D=${A:+z} F=${N:+w} G=${E:-v} H= I=t J=s",
    ),
    "quotes": Case(
        "ENV A='$PATH' B=\"q $PATH\" C=a\\ b D=\\$PATH E=\"x\\\"y\" F='i\"j'\nENV G $A and  $B\nLABEL l=\"$A\" m='$A'"
    ),
    "the same line": Case("ENV A=old\nENV A=new B=$A\nENV C=$A"),
    "an argument given": Case("ARG A=1\nARG B\nARG C=c$A\nENV X=$A$B$C\nRUN echo $A $B $C > /o", args={"A": "2", "B": "b"}),
    "a variable over an argument": Case(
        "ENV A=env\nARG A=arg\nRUN echo $A > /o\nARG D=1\nENV D=2\nRUN echo $D > /p", args={"A": "given"}
    ),
    "an argument of another stage": Case("ARG A=1\nRUN echo $A > /o\nFROM localhost/base\nENV B=x$A\nRUN echo x$A > /o"),
    "another escape": Case(
        "# escape=`\nFROM localhost/base\nENV A=c:\\x B=a` b\nRUN echo 1 > /a && `\n  echo 2 > /b",
        whole=True, differs={"Env": _ESCAPE},
    ),
    "platforms": Case("ARG TARGETOS\nARG TARGETARCH\nRUN echo $TARGETOS/$TARGETARCH > /o"),
    # the configuration
    "nothing to start": Case('ENTRYPOINT ["a"]\nCMD ["b"]\nENTRYPOINT []\nCMD []'),
    "both for the shell": Case("ENTRYPOINT exec top -b\nCMD -d 5"),
    "an entrypoint in another stage": Case('ENTRYPOINT ["a"]\nCMD ["b"]\nFROM localhost/base\nRUN true'),
    "a stage with a command": Case('FROM localhost/base AS b\nENTRYPOINT ["a"]\nCMD ["b"]\nFROM b\nCMD ["c"]', whole=True),
    "an entrypoint over a stage's command": Case(
        'FROM localhost/base AS b\nCMD ["b"]\nFROM b\nENTRYPOINT ["e"]', whole=True
    ),
    "labels over lines": Case('LABEL "a b"="c d" \\\n  e=f\\ g \\\n  h="i\\\nj"\nLABEL k l m'),
    "ports by variables": Case("ENV P=80\nEXPOSE $P 81/udp ${P}0/tcp\nEXPOSE 80"),
    "a signal by number": Case("STOPSIGNAL 9"),
    "a signal by variable": Case("ARG S=SIGUSR1\nSTOPSIGNAL $S"),
    "a check by list": Case('HEALTHCHECK --interval=1m30s --timeout=500ms CMD ["a", "b"]'),
    "a check for a shell": Case('SHELL ["/bin/ash", "-c"]\nHEALTHCHECK CMD a || b'),
    "directories through variables": Case("ENV A=/x\nWORKDIR $A/y\nWORKDIR ../z/\nWORKDIR ${N:-deep}/er\nRUN pwd > /o"),
    "a working directory through a link": Case("RUN mkdir /t; ln -s t /l\nWORKDIR /l/sub\nRUN pwd -P > /o"),
    "a directory that is there": Case("RUN mkdir -m 700 /t; chown 5 /t\nWORKDIR /t\nWORKDIR /"),
    "a user by variable": Case("ARG U=nobody\nUSER $U\nRUN id -un > /tmp/o || true"),
    "a maintainer": Case("MAINTAINER me <me@x>\nENV A=1"),
    "small letters": Case("env A=1\nrun echo $A > /o\ncopy a /new\ncmd [\"x\"]", TREE),
    # the ignore file
    "all but some": Case("COPY . /new", ignoring("*\n!s\n!Makefile\ns/t\n")),
    "at any depth": Case("COPY . /new", ignoring("**/*.md\n!**/README.md\n")),
    "from the root of it": Case("COPY . /new", ignoring("/tmp\n./a.md\ns/\n!s/t\n")),
    "remarks and blanks": Case("COPY . /new", ignoring("# a.md\n\n  b.txt  \n\ttmp/keep\n")),
    "the last one counts": Case("COPY . /new", ignoring("s\n!s/t/e.md\ns/t/e.md\n!s/c.md\n")),
    "the ignore file itself": Case("COPY . /new", ignoring(".dockerignore\nMakefile\n")),
    "one name in all places": Case("COPY . /new", ignoring("**/t\ntmp/*\n!tmp/keep\n")),
    "only its children": Case("COPY s /new\nCOPY tmp /t2", ignoring("s/*\ntmp/**\n")),
    "a name with a question mark": Case("COPY . /new", ignoring("?.md\n[bs]*\n")),
}  # fmt: skip
