"""Dockerfiles that two builders build, with the files of their contexts. All begin with ``localhost/base``: busybox."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping

Files = Mapping[str, str | bytes]
TREE: Files = {
    "a": "A\n", "b": "B\n", "d/x": "X\n", "d/y/z": "Z\n", "d/y/run.sh": "#!/bin/sh\n", "e/": "", "n 1": "blank\n"
}  # fmt: skip
"""The context, where a case names no other."""


def tar(mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        directory = tarfile.TarInfo("t")
        directory.type, directory.mode, directory.uid = tarfile.DIRTYPE, 0o750, 3
        archive.addfile(directory)
        member = tarfile.TarInfo("t/file")
        member.size, member.mode, member.uid, member.gid = 5, 0o640, 7, 8
        archive.addfile(member, io.BytesIO(b"hello"))
        link = tarfile.TarInfo("t/link")
        link.type, link.linkname = tarfile.SYMTYPE, "file"
        archive.addfile(link)
        hard = tarfile.TarInfo("t/hard")
        hard.type, hard.linkname, hard.mode, hard.uid, hard.gid = tarfile.LNKTYPE, "t/file", 0o640, 7, 8
        archive.addfile(hard)
    return out.getvalue()


ARCHIVES: Files = {
    "plain.tar": tar(), "a.tgz": tar("w:gz"), "b.tar.bz2": tar("w:bz2"), "c.tar.xz": tar("w:xz"), "text": "no\n"
}  # fmt: skip
IGNORING: Files = {**TREE, ".dockerignore": "d/y\n!d/y/z\n*.md\nb\n", "x.md": "m", "d/k.md": "k"}

CASES: Mapping[str, tuple[str, Files]] = {
    # COPY
    "a file to a file": ("COPY a /new", TREE),
    "a file over a file": ("COPY a /etc/passwd", TREE),
    "a file into a directory with a slash": ("COPY a /etc/", TREE),
    "a file into a directory without a slash": ("COPY a /etc", TREE),
    "a file into a new directory": ("COPY a /new/", TREE),
    "a file below new directories": ("COPY a /p/q/r/a", TREE),
    "several files": ("COPY a b /etc/", TREE),
    "several files into a new directory": ("COPY a b /new/deep/", TREE),
    "a directory to a new place": ("COPY d /new", TREE),
    "a directory with a slash": ("COPY d/ /new/", TREE),
    "a directory into one that is there": ("COPY d /etc", TREE),
    "the whole context": ("COPY . /new", TREE),
    "the whole context to the root": ("COPY . /", TREE),
    "an empty directory": ("COPY e /new/e", TREE),
    "a wildcard": ("COPY d/y/* /new/", TREE),
    "a question mark": ("COPY ? /new/", {"a": "1", "b": "2", "cc": "3"}),
    "a class": ("COPY [ab] /new/", TREE),
    "directories and files": ("COPY d a /new/", TREE),
    "a blank in a name": ('COPY ["n 1", "/with blank/"]', TREE),
    "a relative destination": ("WORKDIR /w/x\nCOPY a .\nCOPY b ../b\nCOPY d sub", TREE),
    "an owner by number": ("COPY --chown=5:6 d /new", TREE),
    "an owner by name": ("COPY --chown=nobody:nogroup a /new", TREE),
    "a mode": ("COPY --chmod=751 a /new", TREE),
    "an ignore file": ("COPY . /new", IGNORING),
    "a file over a link to a directory": ("RUN mkdir /t && ln -s t /l\nCOPY a /l/", TREE),
    "through a link that leads up": ("RUN ln -s ../../etc /l\nCOPY a /l/", TREE),
    "one file twice": ("COPY a /new\nCOPY b /new", TREE),
    "a file that was deleted": ("COPY a /new\nRUN rm /new\nCOPY b /new", TREE),
    "a directory that was deleted": ("COPY d /new\nRUN rm -r /new\nCOPY e /new", TREE),
    # stages
    "a file of a stage": ("RUN echo 1 > /one; chown 3:4 /one\nFROM localhost/base\nCOPY --from=0 /one /two", {}),
    "a directory of a stage": (
        "RUN mkdir -p /o/p; touch /o/p/q; ln -s p /o/l; chmod 700 /o/p\nFROM localhost/base\nCOPY --from=0 /o /new", {}
    ),
    "a stage by its name": ("FROM localhost/base AS one\nRUN touch /x\nFROM localhost/base\nCOPY --from=one /x /y", {}),
    "a stage on a stage": ("ENV A=1\nRUN touch /x\nFROM localhost/base AS m\nRUN touch /m\nFROM m\nRUN touch /y", {}),
    "a stage without a base": ("FROM scratch\nCOPY --from=localhost/base /bin/busybox /b", {}),
    "setuid of a stage": ("RUN cp /bin/busybox /s; chmod 4755 /s\nFROM localhost/base\nCOPY --from=0 /s /s", {}),
    # ADD
    "an archive": ("ADD plain.tar /new/", ARCHIVES),
    "a compressed archive": ("ADD a.tgz /new/", ARCHIVES),
    "an archive by bzip2": ("ADD b.tar.bz2 /new", ARCHIVES),
    "an archive by xz": ("ADD c.tar.xz /new/", ARCHIVES),
    "what is no archive": ("ADD text /new/", ARCHIVES),
    "an archive that is copied": ("COPY plain.tar /new/", ARCHIVES),
    "an archive over what is there": (
        "RUN mkdir -p /new/t; echo x > /new/t/file; echo k > /new/t/kept\nADD plain.tar /new/", ARCHIVES
    ),
    # RUN
    "a run": ("RUN echo hello > /hello", {}),
    "a run that deletes": ("RUN rm /etc/group; rm -r /var", {}),
    "a run that replaces a directory": ("RUN rm -r /var && mkdir /var && touch /var/new", {}),
    "a run that changes modes": ("RUN chmod 700 /root; chmod 1777 /var; chown 9:9 /etc/group", {}),
    "a run that links": ("RUN echo 1 > /f; ln /f /g; ln -s f /h; mkfifo /p", {}),
    "a run that moves": ("RUN mv /etc/group /etc/group2; mkdir /m; mv /var/run /m/", {}),
    "an exec form": ('RUN ["/bin/sh", "-c", "echo $0 > /o"]', {}),
    "a shell": ('SHELL ["/bin/sh", "-e", "-c"]\nRUN echo $- > /flags\nSHELL ["/bin/sh", "-c"]', {}),
    "a user": ("RUN mkdir -m 777 /pub\nUSER nobody\nRUN touch /pub/x; id -u > /pub/id", {}),
    "a user by number": ("RUN mkdir -m 777 /pub\nUSER 12:34\nRUN touch /pub/x", {}),
    "a setuid file": ("RUN cp /bin/busybox /s && chown 5 /s && chmod 4711 /s", {}),
    # the configuration
    "variables": ("ENV A=1 B=$PATH\nENV C ${A}x\nENV A=2\nRUN echo $A $C > /o", {}),
    "arguments": ("ARG X=1\nARG Y\nENV Z=$X$Y\nRUN echo $X > /o", {}),
    "an argument above": ("RUN true\nFROM localhost/base\nARG V=2\nENV W=${V:-3}${U:-4}${V:+5}", {}),
    "labels": ('LABEL a=1 b="two words" c=$PATH\nLABEL a=3', {}),
    "ports": ("EXPOSE 80 443/tcp 53/udp\nARG P=99\nEXPOSE $P", {}),
    "volumes": ('VOLUME /data\nVOLUME ["/x", "/y"]', {}),
    "working directories": ("WORKDIR /a\nWORKDIR b\nENV D=/c\nWORKDIR $D/d\nRUN pwd > /o", {}),
    "a command": ('CMD ["a", "b"]\nSTOPSIGNAL SIGINT\nUSER root', {}),
    "a command for the shell": ("CMD echo $A", {}),
    "an entrypoint": ('CMD ["x"]\nENTRYPOINT ["e", "f"]', {}),
    "an entrypoint after the base's command": ('ENTRYPOINT ["e"]', {}),
    "a health check": ("HEALTHCHECK --interval=5s --timeout=2s --retries=4 --start-period=1s CMD true", {}),
    "no health check": ("HEALTHCHECK NONE", {}),
    "triggers": ("ONBUILD RUN echo 1\nONBUILD COPY . /x", {}),
}
