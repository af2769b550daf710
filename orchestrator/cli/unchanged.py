"""``pystack build`` when nothing has changed since the last time: it is told without loading what a build needs.

A build notes what its outcome follows from, and what must be there for it to stand:

    asked      the command's options, the working directory, the environment, our version: the note's name
    watched    files that stack and Dockerfiles are read from, or would be if they were there: their stat(2)
    trees      the contexts, each with the stat of everything in it, hashed
    names      files of the store's names, each with the id that it must mean: of the base images and of what was built
    there      the records and layers of what was built

If all of this is as it was, so is the outcome, whatever the Dockerfiles say: no instruction sees anything else. What does
(an address, the host's own system, an archive, `include`) is never noted (`build.basis`). Neither is a build whose files
were changed so shortly before that their times might not tell of another change. A note holds for a day: the steps of the
build cache are to be seen as used.

Next to nothing is imported, so that this costs about as much as ``pystack ps``.
"""

from __future__ import annotations

import os
import stat
import sys
import time

from orchestrator import __version__
from orchestrator.cli.render.escape import escape_line
from orchestrator.compose.folder import DEFAULT_FILES, OVERRIDE_FILES
from orchestrator.kernel.jsontext import dumps, loads
from orchestrator.model.keys import short_hash
from orchestrator.state.directory import DEFAULT_DATA
from orchestrator.values import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from orchestrator.cli.settings import Settings

_HOLDS_S = 86_400
_SETTLED_NS = 2 * 10**9
_MOST_FILES = 20_000
"""In a context; of one with more the walk would cost more than it saves."""
_MOST_NOTES = 128
_MOST_BYTES = 1 << 20
_OF_THE_SHELL = ("_", "SHLVL", "OLDPWD")
"""Variables that differ from command to command and say nothing."""


@frozen
class Seen:
    """Files and directories as they were before a build. `newest_ns`: the last change among them, -1 if that is not
    known."""

    watched: tuple[tuple[str, str], ...]
    trees: tuple[tuple[str, str], ...]
    newest_ns: int


@frozen
class Outcome:
    """`names`: (file, id that it means). `said`: what was told about each service: (service, sentence), the command's own
    under "". `built`: the services."""

    names: tuple[tuple[str, str], ...]
    there: tuple[str, ...]
    said: tuple[tuple[str, str], ...]
    built: tuple[str, ...]


class Note:
    """The one of this command line, here and now. `began_ns`: when the command did."""

    def __init__(self, settings: Settings, options: Mapping[str, object]) -> None:
        self.began_ns = time.time_ns()
        self._settings = settings
        environment = sorted(pair for pair in settings.environ.items() if pair[0] not in _OF_THE_SHELL)
        asked = [
            __version__, os.getcwd(), settings.files, settings.project_name, settings.project_directory, settings.profiles,
            settings.env_files, sorted(options.items()), environment,
        ]  # fmt: skip
        self._directory = os.path.join(settings.data_root or DEFAULT_DATA, "cache", "builds")
        self._path = os.path.join(self._directory, short_hash(repr(asked), 64))

    def tell_if_unchanged(self, *, quiet: bool) -> bool:
        """Whether everything is as it was; if so, that has been told as the build would."""
        began_s = time.monotonic()
        try:
            with open(self._path, "rb") as file:
                noted = loads(file.read(_MOST_BYTES))
            if not _holds(noted):
                return False
            outcome = Outcome(*(noted[name] for name in ("names", "there", "said", "built")))
        except (OSError, ValueError, TypeError, KeyError):
            return False
        self._tell(outcome, began_s, quiet=quiet)
        return True

    def keep(self, seen: Seen, outcome: Outcome) -> None:
        """`seen`, which was looked at before the build, led to `outcome`. Nothing is kept where that does not always
        follow: files that were changed since shortly before the command began may have been read before or after."""
        if not 0 <= seen.newest_ns < self.began_ns - _SETTLED_NS:
            return
        noted: dict[str, Any] = {
            "at_s": time.time(), "watched": seen.watched, "trees": seen.trees, "names": outcome.names,
            "there": outcome.there, "said": outcome.said, "built": outcome.built,
        }  # fmt: skip
        from orchestrator.kernel.atomic import replace_file

        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            self._make_room()
            replace_file(self._path, dumps(noted).encode(), durable=False)
        except OSError:
            pass  # The next build looks at everything again.

    def _make_room(self) -> None:
        paths = [os.path.join(self._directory, name) for name in os.listdir(self._directory)]
        if len(paths) >= _MOST_NOTES:
            for path in sorted(paths, key=lambda path: os.lstat(path).st_mtime_ns)[: _MOST_NOTES // 2]:
                os.unlink(path)

    def _tell(self, outcome: Outcome, began_s: float, *, quiet: bool) -> None:
        progress = "quiet" if quiet else self._settings.terminal().progress
        count = len(outcome.built)
        last = f"{count} image{'' if count == 1 else 's'} built in {time.monotonic() - began_s:.2f} s"
        lines: list[str] = []
        if progress == "json":
            values = [{"image": name, "text": text} for name, text in outcome.said if name]
            values += [{"image": name, "part": "", "action": "cached", "text": ""} for name in outcome.built]
            lines = [dumps(value) for value in (*values, {"note": last})]
        elif progress != "quiet":
            lines = [escape_line(text if name in text else f"{name}: {text}") for name, text in outcome.said]
            lines += [escape_line(f"{name}: cached: nothing has changed") for name in outcome.built]
            lines.append(last)
        if lines:
            print("\n".join(lines), file=sys.stderr)


def look(settings: Settings, files: Sequence[str], working_dir: str, also: Sequence[str], contexts: Sequence[str]) -> Seen:
    """`files`: the compose files, of the project in `working_dir`. `also`: other files that are read."""
    here = os.getcwd()
    paths = [*files, *(os.path.join(here, name) for name in settings.env_files), *also]
    for folder in dict.fromkeys((*_upwards(here, working_dir), settings.project_directory or here, working_dir)):
        paths += [os.path.join(here, folder, name) for name in (*DEFAULT_FILES, *OVERRIDE_FILES, ".env")]
    newest_ns = 0
    watched, trees = [], []
    for path in dict.fromkeys(paths):
        sign, changed_ns = _sign(path)
        watched.append((path, sign))
        newest_ns = max(newest_ns, changed_ns)
    for context in dict.fromkeys(contexts):
        found = _tree(context)
        if found is None:
            return Seen((), (), -1)
        trees.append((context, found[0]))
        newest_ns = max(newest_ns, found[1])
    return Seen(tuple(watched), tuple(trees), newest_ns)


def _upwards(directory: str, last: str) -> list[str]:
    """Where a compose file is looked for (`compose.folder.search`)."""
    found = [directory]
    while found[-1] not in (last, "/"):
        found.append(os.path.dirname(found[-1]))
    return found


def _holds(noted: Any) -> bool:
    return (
        0 <= time.time() - noted["at_s"] < _HOLDS_S
        and all(_means(path, image) for path, image in noted["names"])
        and all(os.path.exists(path) for path in noted["there"])
        and all(_sign(path)[0] == sign for path, sign in noted["watched"])
        and all((found := _tree(path)) is not None and found[0] == sign for path, sign in noted["trees"])
    )


def _means(path: str, image: str) -> bool:
    """Whether the name in this file of the store means that image."""
    try:
        with open(path, "rb") as file:
            return f'"{image}"'.encode() in file.read(_MOST_BYTES)
    except OSError:
        return False


def _sign(path: str) -> tuple[str, int]:
    """What changes when the file does, or when there is none any more; and its last change."""
    try:
        found = os.stat(path)
    except OSError as exc:
        return f"none: {exc.errno}", 0
    return _text(found), max(found.st_mtime_ns, found.st_ctime_ns)


def _text(found: os.stat_result) -> str:
    return (
        f"{found.st_dev} {found.st_ino} {found.st_mode} {found.st_uid} {found.st_gid} {found.st_size}"
        f" {found.st_mtime_ns} {found.st_ctime_ns}"
    )


def _tree(root: str) -> tuple[str, int] | None:
    """Everything below `root` by name and stat, hashed, and the last change. None if it is too much, or cannot be seen."""
    lines: list[str] = []
    newest_ns = 0
    ahead = [root]
    try:
        lines.append(_text(os.stat(root)))
        while ahead:
            directory = ahead.pop()
            with os.scandir(directory) as found:
                entries = sorted(found, key=lambda entry: entry.name)
            if len(lines) + len(entries) > _MOST_FILES:
                return None
            for entry in entries:
                own = entry.stat(follow_symlinks=False)
                newest_ns = max(newest_ns, own.st_mtime_ns, own.st_ctime_ns)
                lines.append(f"{entry.path!r} {_text(own)}")
                if stat.S_ISDIR(own.st_mode):
                    ahead.append(entry.path)
    except OSError:
        return None
    return short_hash("\n".join(lines), 64), newest_ns
