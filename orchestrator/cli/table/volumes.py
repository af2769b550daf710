"""``pystack volume ...``, about the volumes of all projects."""

from __future__ import annotations

from orchestrator.cli.table.shapes import CHOICE, FORMAT, INSPECT_FORMAT, TEXT, Argument, Option, Verb

_QUIET = Option("-q --quiet", "quiet", "Only names.")
_FORCE = Option("-f --force", "force", "Say nothing of volumes that do not exist.")
_NAMES = (Argument("names", "VOLUME...", many=True, required=True),)
_ONE = Argument("name", "VOLUME", required=True)

VERBS = (
    Verb(
        "ls",
        "volume",
        "List volumes.",
        "List the volumes of all projects.",
        options=(
            _QUIET,
            Option(
                "-f --filter",
                "filters",
                "dangling=true (no container uses it), driver=NAME, label=KEY[=VALUE], name=PART; may be repeated.",
                TEXT,
                "FILTER",
                many=True,
            ),
            FORMAT,
        ),
        function="list_",
    ),
    Verb(
        "create",
        "volume",
        "Make a volume.",
        "Make a volume, and print its name. Without a name it gets a random one. One that exists is left as it is.",
        options=(
            Option("-d --driver", "driver", "The driver.", CHOICE, default="local", choices=("local",)),
            Option("--label", "labels", "A label; may be repeated.", TEXT, "KEY[=VALUE]", many=True),
            Option(
                "-o --opt",
                "options",
                "type, o or device, as mount(8) has them; may be repeated.",
                TEXT,
                "KEY=VALUE",
                many=True,
            ),
        ),
        arguments=(Argument("name", "[VOLUME]"),),
    ),
    Verb(
        "inspect",
        "volume",
        "Show all that is known of volumes.",
        "Show all that is known of volumes: also who made them, and which containers use them.",
        options=(INSPECT_FORMAT,),
        arguments=_NAMES,
    ),
    Verb(
        "rm",
        "volume",
        "Remove volumes with their content.",
        "Remove volumes with their content: none of them if a container, running or not, uses one.",
        options=(_FORCE,),
        arguments=_NAMES,
        function="remove",
    ),
    Verb(
        "prune",
        "volume",
        "Remove volumes that nobody uses.",
        "Remove anonymous volumes that no container uses, running or not.",
        options=(
            Option("-a --all", "everything", "Named ones too."),
            Option("--filter", "filters", "label=KEY[=VALUE], label!=KEY[=VALUE].", TEXT, "FILTER", many=True),
            Option("-f --force", "force", "Do not ask."),
        ),
    ),
    Verb(
        "export",
        "volume_content",
        "Write a volume's content as a tar archive.",
        """Write a volume's content as a tar archive: with owners as containers see them, modes, times, links and extended
        attributes. What containers write meanwhile may be in it or not.
        """,
        options=(Option("-o --output", "output", "Write to FILE instead of stdout.", TEXT, "FILE"),),
        arguments=(_ONE,),
    ),
    Verb(
        "import",
        "volume_content",
        "Fill an empty volume from a tar archive.",
        "Fill an empty volume from a tar archive (also gzip or zstd), - is stdin. All of it, or nothing.",
        arguments=(_ONE, Argument("source", "FILE|-", required=True)),
        function="import_",
    ),
)
