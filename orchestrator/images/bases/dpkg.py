"""dpkg's database as data (/var/lib/dpkg), so that `dpkg -l` tells what is there and `apt-get install` adds to it.

A package is recorded as dpkg does it: its paragraph in `status` with the hashes of its configuration files, the list of its
paths, its control files beside it, its interest in triggers.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from orchestrator.values import entity, field, frozen

INFO = "/var/lib/dpkg/info"
_FIELD = re.compile(r"([!-9;-~]+):[ \t]*(.*)")


@frozen
class Control:
    """A package's control archive. `paragraph`: its `control` file as it is; `files`: the others, by name."""

    paragraph: str
    files: Mapping[str, bytes]
    fields: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.fields["package"]

    @property
    def key(self) -> str:
        """How its files in `info` are named: with the architecture where several can be installed."""
        return f"{self.name}:{self.fields['architecture']}" if self.fields.get("multi-arch") == "same" else self.name

    @property
    def conffiles(self) -> list[str]:
        lines = self.files.get("conffiles", b"").decode(errors="replace").split("\n")
        return [line for line in lines if line.startswith("/")]  # a flag before the path: it is to be removed

    @property
    def script(self) -> str:
        return self.files.get("postinst", b"").decode(errors="replace")


def parse_control(files: Mapping[str, bytes]) -> Control:
    """Of a control archive's files, by name. Raises ValueError."""
    paragraph = files.get("control", b"").decode(errors="replace").strip("\n")
    fields = {}
    for line in paragraph.split("\n"):
        if match := _FIELD.match(line):
            fields[match[1].lower()] = match[2].strip()
    for needed in ("package", "architecture", "version"):
        if not fields.get(needed):
            raise ValueError(f"a package's control file has no {needed}")
    return Control(paragraph, {name: data for name, data in files.items() if name != "control"}, fields)


def listed(control: Control, read: Callable[[str], bytes | None]) -> list[str]:
    """The paths of a package that a database has, as `Database.add` takes them. `read`: a file's content in its tree."""
    return [os.fsdecode(line) for line in (read(f"{INFO}/{control.key}.list") or b"").splitlines()[1:]]


@entity
class Database:
    packages: list[tuple[Control, Sequence[str]]] = field(default_factory=list)

    def add(self, control: Control, paths: Sequence[str]) -> None:
        """`paths`: as the package has them, absolute; parents first."""
        self.packages.append((control, paths))

    def names(self) -> list[str]:
        return sorted(control.name for control, _ in self.packages)

    def files(self, read: Callable[[str], bytes | None]) -> Iterator[tuple[str, int, bytes]]:
        """(path, mode, content) of all files of the database. `read`: a configuration file's content in the tree."""
        status = []
        interests: dict[str, list[str]] = {}
        for control, paths in sorted(self.packages, key=lambda package: package[0].key):
            status.append(_status(control, read))
            yield f"{INFO}/{control.key}.list", 0o644, os.fsencode("".join(f"{path}\n" for path in ("/.", *paths)))
            for name, content in sorted(control.files.items()):
                is_script = name in ("preinst", "postinst", "prerm", "postrm", "config")
                yield f"{INFO}/{control.key}.{name}", 0o755 if is_script else 0o644, content
            for trigger, line in _interests(control):
                interests.setdefault(trigger, []).append(line)
        yield f"{INFO}/format", 0o644, b"1\n"
        yield "/var/lib/dpkg/status", 0o644, "\n".join(status).encode()
        for name in ("available", "diversions", "statoverride", "lock", "triggers/Lock", "triggers/Unincorp"):
            yield f"/var/lib/dpkg/{name}", 0o640 if name.lower().endswith("lock") else 0o644, b""
        for trigger, lines in sorted(interests.items()):
            yield f"/var/lib/dpkg/triggers/{trigger}", 0o644, "".join(f"{line}\n" for line in lines).encode()


def _status(control: Control, read: Callable[[str], bytes | None]) -> str:
    first, _, rest = control.paragraph.partition("\n")
    lines = [first, "Status: install ok installed", *([rest] if rest else [])]
    hashes = []
    for path in control.conffiles:
        content = read(path)
        if content is not None:
            hashes.append(f" {path} {hashlib.md5(content, usedforsecurity=False).hexdigest()}")
    if hashes:
        lines += ["Conffiles:", *hashes]
    return "\n".join(lines) + "\n"


def _interests(control: Control) -> Iterator[tuple[str, str]]:
    """(file below triggers/, line) of the triggers that a package waits for (deb-triggers(5))."""
    for line in control.files.get("triggers", b"").decode(errors="replace").splitlines():
        words = line.split("#")[0].split()
        if len(words) != 2 or not words[0].startswith("interest"):
            continue
        who = control.key + ("/noawait" if words[0].endswith("-noawait") else "")
        if words[1].startswith("/"):
            yield "File", f"{words[1]} {who}"
        elif "/" not in words[1]:
            yield words[1], who
