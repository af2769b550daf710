"""Verbs that look, and `exec`."""

from __future__ import annotations

from orchestrator.cli.table.shapes import (
    CHOICE,
    COUNT,
    DETACH_KEYS,
    FORMAT,
    LINES,
    LIST_FORMAT,
    SERVICES,
    TEXT,
    Argument,
    Group,
    Option,
    Verb,
    output_format,
)
from orchestrator.values import replace

STATES = ("paused", "restarting", "removing", "running", "dead", "created", "exited")
"""Docker's."""

_SWITCH = ("on", "off")
_VERSION_SHAPES = ("text", "json", "pretty")

INDEX = Option("--index", "index", "Which of the service's containers.", COUNT, "NUMBER", default=0)

PS = Verb(
    "ps",
    "ps",
    "List containers and their state.",
    "List the project's containers and their state.",
    options=(
        replace(FORMAT, default=""),
        Option("-a --all", "everything", "Also what was stopped, or ended with code 0."),
        Option("-q --quiet", "quiet", "Only ids: another one for a container that was replaced."),
        Option("--services", "names_only", "Only service names."),
        Option(
            "--status",
            "states",
            "Only those in this state; may be repeated.",
            CHOICE,
            many=True,
            choices=STATES,
        ),
        Option("--filter", "filters", "status=STATE: the same as --status; label=KEY[=VALUE].", TEXT, "FILTER", many=True),
        Option("--orphans", "orphans", "=false: without containers whose services the stack no longer has.", default=True),
        Option("--no-trunc", "no_trunc", "Do not cut lines at the terminal's width."),
    ),
    arguments=SERVICES,
    hot=True,
)
LS = Verb(
    "ls",
    "ls",
    "List the projects of this machine.",
    "List the projects of which something runs, with how many containers are in which state, and their compose files.",
    options=(
        Option("-a --all", "everything", "Also those of which nothing runs."),
        Option("--filter", "filters", "name=PART: with PART in the name; may be repeated.", TEXT, "FILTER", many=True),
        LIST_FORMAT,
        Option("-q --quiet", "quiet", "Only names."),
    ),
    hot=True,
)
WAIT = Verb(
    "wait",
    "wait",
    "Wait until services have ended.",
    """Wait until all containers of SERVICEs have ended, and will not be started again by themselves. Prints the exit code
    of each, and ends with that of the last.
    """,
    options=(Option("--down-project", "down_project", "Take the project down once the first has ended."),),
    arguments=(Argument("services", "SERVICE...", many=True, required=True),),
    hot=True,
)
LOGS = Verb(
    "logs",
    "logs",
    "Show what services wrote.",
    "Show what services wrote, in the order of time. What a container wrote to stderr goes to stderr.",
    options=(
        Option("-f --follow", "follow", "Go on with what is written, until all have ended or Ctrl-C."),
        Option("--index", "index", "Only the container of this number.", COUNT, "NUMBER", default=0),
        Option("-n --tail", "tail", "Only the last lines of each container.", LINES, "LINES", default=-1),
        Option("-t --timestamps", "timestamps", "Show when each line was written."),
        Option("--since", "since", "Only since then: 10m, or 2026-05-04T12:00:00Z.", TEXT, "TIME"),
        Option("--until", "until", "Only before then.", TEXT, "TIME"),
        Option("--no-log-prefix", "no_log_prefix", "Without the container's name."),
        Option("--no-color", "no_color", "Without colours."),
        Option("--raw", "raw", "Do not escape what containers wrote. Always so when stdout is no terminal."),
    ),
    arguments=SERVICES,
    hot=True,
)
EXEC = Verb(
    "exec",
    "exec",
    "Run a command in a running service.",
    """Run COMMAND in SERVICE's running container. Ends with the command's exit code.

    It has a terminal if stdin and stdout are one. Without one, Ctrl-C sends it the signal, and the third time ends it.
    """,
    options=(
        Option("-d --detach", "detach", "Return once it is executed; it reads nothing, and what it writes is lost."),
        Option("-T --no-tty --no-TTY", "no_tty", "No terminal, even if stdin and stdout are one."),
        Option("-e --env", "variables", "Environment variable.", TEXT, "NAME[=VALUE]", many=True),
        Option("-u --user", "user", "Run as this user.", TEXT, "USER[:GROUP]"),
        Option("-w --workdir", "working_dir", "Working directory in the container.", TEXT, "DIR"),
        INDEX,
        Option("--privileged", "privileged", "With all capabilities."),
        Option("-i --interactive", "interactive", "=false: stdin is not connected.", default=True),
        Option("-t --tty", "tty", "It is so where there is one; =false is -T.", default=True),
        DETACH_KEYS,
    ),
    arguments=(
        Argument("service", "SERVICE", required=True),
        Argument("command", "COMMAND...", many=True, required=True),
    ),
    function="exec_",
    hot=True,
    rest=True,
)
ATTACH = Verb(
    "attach",
    "attach",
    "Connect to a running service.",
    """Show what SERVICE's running container writes from now on, and pass on what is typed if it has `stdin_open`. Ends when
    the container does, with its exit code.

    Several may be attached at once. Ctrl-P Ctrl-Q leaves; Ctrl-C is the container's.
    """,
    options=(
        INDEX,
        DETACH_KEYS,
        Option("--no-stdin", "no_stdin", "Pass on nothing that is typed."),
        Option("--sig-proxy", "sig_proxy", "=false: signals are not passed on, and Ctrl-C leaves.", default=True),
    ),
    arguments=(Argument("service", "SERVICE", required=True),),
    hot=True,
)
PORT = Verb(
    "port",
    "port",
    "Show where a port is published.",
    "Print HOST:PORT, where PRIVATE_PORT of SERVICE is published; without PRIVATE_PORT, all that SERVICE publishes.",
    options=(
        INDEX,
        Option("--protocol", "protocol", "The protocol.", CHOICE, default="tcp", choices=("tcp", "udp")),
        Option("--url", "url", "As a URL: http://127.0.0.1:8080."),
    ),
    arguments=(
        Argument("service", "SERVICE", required=True),
        Argument("private_port", "PRIVATE_PORT"),
    ),
    hot=True,
)
ENV = Verb(
    "env",
    "env",
    "Print where services are reached, as variables.",
    """Print where the services that run are reached, as NAME=VALUE: for `eval "$(pystack env --export)"`, or a file
    of variables.

    Of a service `web`: WEB_HOST, WEB_PORT and WEB_URL of what it publishes first, WEB_PORT_80 and WEB_PORT_53_UDP of each
    port, WEB_ADDRESS on the project's networks. A further container's are WEB_2_PORT, and so on.
    """,
    options=(
        Option("--export", "export", "Each line begins with `export`."),
        Option("--format", "shape", "json: one object.", CHOICE, default="shell", choices=("shell", "json")),
    ),
    arguments=SERVICES,
    hot=True,
)
TOP = Verb(
    "top",
    "top",
    "Show the processes of services.",
    "Show the processes of services, with the machine's process ids, and with user ids as the container has them.",
    arguments=SERVICES,
)
STATS = Verb(
    "stats",
    "stats",
    "Show what containers use.",
    """Show what containers use of processors, memory, networks and disks, every second until Ctrl-C.

    File pages that could go at once are not counted as memory.
    """,
    options=(
        Option("-a --all", "everything", "Also those that do not run."),
        FORMAT,
        Option("--no-stream", "no_stream", "Once."),
        Option("--no-trunc", "no_trunc", "Whole ids, and lines that are not cut."),
    ),
    arguments=SERVICES,
)
WHY = Verb(
    "why",
    "why",
    "Explain why a service is as it is.",
    "Explain why SERVICE's containers are as they are: state, reason, and what led to it.",
    options=(
        output_format("text", "json"),
        Option("-n --tail", "count", "Events to show.  [default: 20]", COUNT, "COUNT", default=20),
        Option("--index", "index", "Only the container of this number.  [default: all]", COUNT, "NUMBER", default=0),
    ),
    arguments=(Argument("service", "SERVICE", required=True),),
    hot=True,
)
NET = Verb(
    "net",
    "net",
    "Show who may talk to whom, and who does.",
    """Show which services share a network, what is published, and who says that it needs whom; with --observed, who talks
    to whom.

    The stack is the one that was brought up last, or else that of the compose files.
    """,
    options=(
        Option("--observed", "observed", "What was seen: connections now, and what was counted since `--observe on`."),
        Option("--observe", "observe", "Count what containers say to each other, or forget it.", CHOICE, choices=_SWITCH),
        output_format("table", "json"),
    ),
)
EVENTS = Verb(
    "events",
    "events",
    "Follow what happens in the project.",
    "Follow what happens in the project, until Ctrl-C or until the project is taken down.",
    options=(
        output_format("text", "json", help="json: an object a line."),
        Option("--json", "as_json", "Events of containers alone, as Docker Compose has them: an object a line."),
        Option("--since", "since", "Also what happened since then: 10m, or 2026-05-04T12:00:00Z.", TEXT, "TIME"),
        Option("--until", "until", "Only until then, also a time to come.", TEXT, "TIME"),
    ),
    arguments=SERVICES,
    hot=True,
)
VOLUMES = Verb(
    "volumes",
    "volumes",
    "List the project's volumes.",
    "List the project's volumes: what it made, and what its containers use; of some services, what these use.",
    options=(FORMAT, Option("-q --quiet", "quiet", "Only names.")),
    arguments=SERVICES,
)
VOLUME = Group("volume", "volumes", "Volumes of all projects.", "List, make, inspect and remove volumes of all projects.")
NETWORK = Group(
    "network", "networks", "Networks of all projects.", "List, make, inspect and remove networks that projects share."
)
VERSION = Verb(
    "version",
    "version",
    "Show the version.",
    "Show the version.",
    options=(
        Option("-f --format", "shape", "Output format; pretty is text.", CHOICE, default="text", choices=_VERSION_SHAPES),
        Option("--short", "short", "Only the version number."),
    ),
    hot=True,
)
