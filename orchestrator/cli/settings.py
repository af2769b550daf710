"""The global options of one command, and what follows from them: the project, its place, the terminal."""

from __future__ import annotations

import os
import stat
import sys

from orchestrator.cli.terminal import Terminal, detect
from orchestrator.errors import PystackError
from orchestrator.values import field, frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.compose.discovery import LoadRequest
    from orchestrator.contracts.site import Site
    from orchestrator.launch import Launch
    from orchestrator.model.names import ServiceName
    from orchestrator.model.project import Project

_read_already: list[str] = []


def _stdin() -> str:
    """All of it; it can be read but once."""
    if not _read_already:
        _read_already.append(sys.stdin.read())
    return _read_already[0]


def _keep(paths: tuple[str, ...]) -> None:
    """Put what comes from a shell's ``<(...)`` into a file in memory, under the same number: it is read more than once."""
    from orchestrator.compose.folder import DESCRIPTORS
    from orchestrator.compose.text.files import MAX_COMPOSE_BYTES

    for path in paths:
        number = path.rpartition("/")[2]
        if not (path.startswith(DESCRIPTORS) and number.isdecimal() and _is_pipe(path)):
            continue
        with open(int(number), "rb", closefd=False) as pipe, open(os.memfd_create("compose"), "wb") as kept:
            kept.write(pipe.read(MAX_COMPOSE_BYTES + 1))  # What is more than that the loader refuses.
            kept.flush()
            os.dup2(kept.fileno(), int(number), inheritable=False)


def _is_pipe(path: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        return False


@frozen
class Settings:
    """`data_root` None: the default. Everything else is as it was written."""

    files: tuple[str, ...] = ()
    project_name: str | None = None
    project_directory: str | None = None
    profiles: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    ansi: str = "auto"
    progress: str = "auto"
    data_root: str | None = None
    no_ansi: bool = False
    dry_run: bool = False
    all_resources: bool = False
    parallel: int = -1
    environment: Mapping[str, str] | None = None
    begun: Launch | None = None
    """A supervisor that was started early, and waits (cli.early)."""
    warned: set[str] = field(default_factory=set, compare=False)
    """What `warn` has printed: a verb may load the files twice."""

    def terminal(self) -> Terminal:
        return detect("never" if self.no_ansi else self.ansi, self.progress, self.environ)

    @property
    def environ(self) -> Mapping[str, str]:
        return self.environment or {}

    def request(self, services: tuple[str, ...] = ()) -> LoadRequest:
        """What the loader is asked for. Reads stdin when a file is ``-``."""
        from orchestrator.compose.discovery import LoadRequest

        _keep((*self.files, *self.env_files))
        return LoadRequest(
            directory=os.getcwd(),
            environment=self.environ,
            files=self.files,
            stdin_text=_stdin() if "-" in self.files else None,
            project_name=self.project_name,
            project_directory=self.project_directory,
            profiles=self.profiles,
            env_files=self.env_files,
            services=services,
        )

    def load(self, services: tuple[str, ...] = ()) -> Project:
        """The whole stack. The services that a verb is about (named, and what they need; none: the active ones) are right
        in every respect. Warnings go to stderr. Raises ComposeError."""
        from orchestrator.cli.isolation import isolated
        from orchestrator.cli.wanted_images import with_epoch
        from orchestrator.compose.load import load

        loaded = load(self.request(services))
        self.warn(tuple(warning.text() for warning in loaded.warnings))
        return isolated(self, with_epoch(loaded.project, self.environ))

    def load_to_run(self, services: tuple[str, ...] = ()) -> tuple[Project, tuple[ServiceName, ...]]:
        """As `load`, for a verb that will run it, and the services that it is about, with what they need: what of these
        cannot be run is refused before anything is begun. Raises InputError pointing at the image that is malformed."""
        from orchestrator.cli.selection import check_files, check_images
        from orchestrator.compose.model.choice import select

        project = self.load(services)
        chosen = select(project, services)
        scheduled = () if services else project.scheduled
        check_images(project, (*chosen, *scheduled))
        check_files(project, (*chosen, *scheduled))
        return project, chosen

    def variables(self) -> dict[str, str]:
        """Our environment, with what the project's files of variables add to it."""
        from orchestrator.compose.discovery import discover

        return {**discover(self.request()).environment, **self.environ}

    def load_if_possible(self) -> Project | None:
        """As `load`, for a verb that can do without: None when ``-p`` names the project and ``-f`` no file, when there is
        no file, and when the files are wrong, which is told."""
        if self.project_name and not self.files:
            return None
        if self._environment_of_files() is None:
            return None
        from orchestrator.cli.isolation import isolated
        from orchestrator.compose.load import load

        try:
            return isolated(self, load(self.request()).project)
        except PystackError as error:
            self.warn((f"the compose files cannot be loaded, so this goes by what is recorded: {error}",))
            return None

    def variable(self, name: str) -> str:
        """An environment variable of ours, which may also stand in the project's ``.env``; "" when it is nowhere."""
        if name in self.environ:
            return self.environ[name]
        return (self._environment_of_files() or {}).get(name, "")

    def _environment_of_files(self) -> Mapping[str, str] | None:
        """With the ``.env`` beside the compose files; None when there are none."""
        from orchestrator.compose.discovery import discover

        try:
            return discover(self.request()).environment
        except PystackError:
            return None

    def warn(self, warnings: tuple[str, ...]) -> None:
        """Print the loader's warnings, each once, unless --progress is quiet or json."""
        from orchestrator.cli.render.escape import escape_text

        if self.progress not in ("quiet", "json"):
            for warning in warnings:
                if warning not in self.warned:
                    self.warned.add(warning)
                    print(escape_text(f"warning: {warning}"), file=sys.stderr)

    def origin(self) -> tuple[str, bool]:
        """The project's folder, and whether the user gave the project's name: by ``-p``, then the folder is "", or by
        COMPOSE_PROJECT_NAME (also of .env)."""
        from orchestrator.compose.discovery import discover, given_name

        if self.project_name or self.environ.get("COMPOSE_PROJECT_NAME"):
            return "", True
        request = self.request()
        found = discover(request)
        return found.working_dir, given_name(request, found.environment) is not None

    def site(self) -> Site:
        """Where the project is. The compose files are read only when nothing else names the project.

        Raises InputError for a name that is none: it becomes a directory's name.
        """
        from orchestrator.model.keys import parse_project_name

        given = self.project_name or self.environ.get("COMPOSE_PROJECT_NAME")
        if given:
            return self.site_named(parse_project_name(given))
        from orchestrator.cli.identity import project_name

        return self.site_named(project_name(self))

    def site_named(self, project: str) -> Site:
        from orchestrator.model.keys import ProjectName
        from orchestrator.state.directory import DEFAULT_DATA, DEFAULT_RUN, site_of

        run_root = self.environ.get("PYSTACK_RUN_DIR") or DEFAULT_RUN
        return site_of(self.data_root or DEFAULT_DATA, run_root, ProjectName(project))
