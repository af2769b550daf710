"""update-alternatives(1) as data: what maintainer scripts would have installed, read from them and not run.

A script says ``update-alternatives --install LINK NAME PATH PRIORITY [--slave LINK NAME PATH]...``; most say it literally.
What has a variable in it is left out. The administrative files are written as well, so that an `apt-get install` in a
container goes on from there.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from orchestrator.values import entity, field, frozen


@frozen
class Choice:
    """One program that can be behind a name, with those that go with it (`followers`: name -> (link, path))."""

    name: str
    link: str
    path: str
    priority: int
    followers: tuple[tuple[str, str, str], ...] = ()


def choices(script: str) -> Iterator[Choice]:
    """Those that a maintainer script installs in so many words."""
    for line in script.replace("\\\n", " ").splitlines():
        if "update-alternatives" not in line or "--install" not in line:
            continue
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            continue
        if "--install" not in words:
            continue
        at = words.index("--install") + 1
        choice = _choice(words[at : at + 4], words[at + 4 :])
        if choice is not None:
            yield choice


def _choice(leader: list[str], rest: list[str]) -> Choice | None:
    if len(leader) != 4 or any("$" in word or "`" in word for word in leader) or not leader[3].isdigit():
        return None
    link, name, path, priority = leader
    if not link.startswith("/") or not path.startswith("/") or "/" in name:
        return None
    followers = []
    while len(rest) >= 4 and rest[0] in ("--slave", "--follower"):
        if any("$" in word for word in rest[1:4]) or not (rest[1].startswith("/") and rest[3].startswith("/")):
            break
        followers.append((rest[2], rest[1], rest[3]))
        rest = rest[4:]
    return Choice(name, link, path, int(priority), tuple(followers))


@entity
class Alternatives:
    """All choices of a tree, by name."""

    groups: dict[str, list[Choice]] = field(default_factory=dict)

    def add(self, choice: Choice) -> None:
        self.groups.setdefault(choice.name, []).append(choice)

    def links(self) -> Iterator[tuple[str, str]]:
        """(link, what it points to), leaders and followers of the best choice of each name: ``/usr/bin/awk`` to
        ``/etc/alternatives/awk``, and that to ``/usr/bin/mawk``."""
        for _, best in self._best():
            for name, link, path in ((best.name, best.link, best.path), *best.followers):
                yield f"/etc/alternatives/{name}", path
                yield link, f"/etc/alternatives/{name}"

    def records(self) -> Iterator[tuple[str, bytes]]:
        """(name, content) of the files in /var/lib/dpkg/alternatives: state, link, followers, an empty line, then each
        choice with its priority and its followers' paths, and an empty line at the end."""
        for name, best in self._best():
            group = [choice for choice in self.groups[name] if choice.link == best.link]
            followers = sorted({(one, link) for choice in group for one, link, _ in choice.followers})
            lines = ["auto", best.link, *(word for pair in followers for word in pair), ""]
            for choice in sorted({choice.path: choice for choice in group}.values(), key=lambda one: one.path):
                paths = {one: path for one, _, path in choice.followers}
                lines += [choice.path, str(choice.priority), *(paths.get(one, "") for one, _ in followers)]
            yield name, "\n".join([*lines, "", ""]).encode()

    def _best(self) -> Iterator[tuple[str, Choice]]:
        for name in sorted(self.groups):
            yield name, max(self.groups[name], key=lambda choice: (choice.priority, choice.path))
