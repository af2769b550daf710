"""The command line as data: `GLOBALS` and `VERBS`.

A new verb is a row here, and a function in `orchestrator.cli.commands`. A group's verbs are rows of a module of their own.
"""

from __future__ import annotations

from orchestrator.cli.table import acting, files, imaging, looking
from orchestrator.cli.table.shapes import CHOICE, DRY_RUN, INTEGER, TEXT, Group, Option, Verb
from orchestrator.values import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ABOUT = "Bring up a compose file's services as real containers. No Docker, no daemon."

DRY_RUN_BEFORE = replace(DRY_RUN, accepted=False)
GLOBALS = (
    Option("-f --file", "files", "Compose file; may be repeated, - is stdin.", TEXT, "FILE", many=True),
    Option("-p --project-name", "project_name", "Project name.", TEXT, "NAME"),
    Option("--project-directory --workdir", "project_directory", "Directory relative paths start from.", TEXT, "DIR"),
    Option("--profile", "profiles", "Profile to enable; may be repeated.", TEXT, "NAME", many=True),
    Option("--env-file", "env_files", "Instead of .env; may be repeated.", TEXT, "FILE", many=True),
    Option(
        "--ansi",
        "ansi",
        "Colours and cursor movement.",
        CHOICE,
        default="auto",
        choices=("never", "always", "auto"),
        variable="COMPOSE_ANSI",
    ),
    Option(
        "--progress",
        "progress",
        "How progress is shown (on stderr).",
        CHOICE,
        default="auto",
        choices=("auto", "tty", "plain", "quiet", "json"),
        variable="COMPOSE_PROGRESS",
    ),
    Option("--no-ansi", "no_ansi", "The same as --ansi never."),
    DRY_RUN_BEFORE,
    Option("--all-resources", "all_resources", "Also make the networks and volumes that no service uses."),
    Option(
        "--parallel",
        "parallel",
        "How many images are pulled, pushed or built at once; -1: as many as is good.",
        INTEGER,
        "NUMBER",
        default=-1,
        variable="COMPOSE_PARALLEL_LIMIT",
    ),
    Option("--compatibility", "compatibility", "Accepted: names of containers have dashes.", accepted=True),
    Option("--verbose", "verbose", "Accepted.", accepted=True),
    Option("-v --version", "version", "Show the version.", accepted=True),
    Option("--data-dir", "data_root", "Where pystack keeps its files.", TEXT, "DIR", variable="PYSTACK_DATA_DIR"),
)
"""Before the verb. Their names are the fields of `cli.settings.Settings`, but for those that are only accepted."""

_DRY = frozenset({
    "attach", "build", "commit", "config", "cp", "create", "down", "events", "exec", "export", "images", "kill", "logs",
    "ls", "pause", "port", "ps", "publish", "pull", "push", "restart", "rm", "run", "scale", "start", "stats", "stop",
    "top", "unpause", "up", "version", "volumes", "wait", "watch",
})  # fmt: skip
"""Verbs that know a dry run: Docker Compose's. Those that only look do the same with it."""


def _row(verb: Verb | Group) -> Verb | Group:
    if isinstance(verb, Verb) and verb.name in _DRY:
        return replace(verb, options=(*verb.options, DRY_RUN))
    return verb


VERBS: Mapping[str, Verb | Group] = {
    verb.name: _row(verb)
    for verb in (
        acting.UP,
        acting.CREATE,
        acting.SCALE_VERB,
        acting.WATCH,
        acting.DOWN,
        acting.RM,
        looking.PS,
        looking.LS,
        looking.LOGS,
        looking.EXEC,
        looking.ATTACH,
        acting.RUN,
        acting.CP,
        looking.PORT,
        looking.ENV,
        looking.TOP,
        looking.STATS,
        acting.START,
        acting.STOP,
        acting.RESTART,
        acting.KILL,
        acting.PAUSE,
        acting.UNPAUSE,
        acting.ENABLE,
        acting.DISABLE,
        looking.WAIT,
        imaging.BUILD,
        imaging.PULL,
        imaging.PUSH,
        imaging.IMAGES_VERB,
        imaging.COMMIT,
        imaging.EXPORT,
        imaging.PUBLISH,
        imaging.LOGIN,
        imaging.LOGOUT,
        imaging.IMAGE_GROUP,
        looking.WHY,
        looking.NET,
        files.TIMELINE,
        files.SIMULATE,
        files.PLAN,
        files.APPLY,
        files.CONFIG,
        files.LINT,
        looking.EVENTS,
        looking.VOLUMES,
        looking.VOLUME,
        looking.NETWORK,
        acting.CHAOS,
        files.DOCTOR,
        looking.VERSION,
    )
}
"""In the order of ``--help``."""


def every_verb() -> Iterator[tuple[str, Verb]]:
    """All verbs with what is written for them (``volume ls``)."""
    for row in VERBS.values():
        if isinstance(row, Group):
            yield from ((f"{row.name} {verb.name}", verb) for verb in row.verbs.values())
        else:
            yield row.name, row
