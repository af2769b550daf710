"""Verbs that change what runs."""

from __future__ import annotations

from orchestrator.cli.table.shapes import (
    CHOICE,
    COUNT,
    DETACH_KEYS,
    SECONDS,
    SERVICES,
    TEXT,
    TIMEOUT,
    Argument,
    Group,
    Option,
    Verb,
)

SCALE = Option("--scale", "scale", "Replicas of SERVICE, in place of the stack's.", TEXT, "SERVICE=NUMBER", many=True)
REMOVE_ORPHANS = Option(
    "--remove-orphans",
    "remove_orphans",
    "Remove containers of services that the files no longer have. Also `COMPOSE_REMOVE_ORPHANS`; `COMPOSE_IGNORE_ORPHANS`: "
    "say nothing about them.",
)
FORCE_RECREATE = Option("--force-recreate", "force_recreate", "Replace containers even if nothing changed.")
NO_RECREATE = Option("--no-recreate", "no_recreate", "Keep containers even if their service changed.")
_PULLS = ("policy", "always", "missing", "never")
BUILD = Option("--build", "build", "Build images before.")
PULL = Option("--pull", "pull", "When to pull images, in place of the stack's pull_policy.", CHOICE, choices=_PULLS)
QUIET_PULL = Option("--quiet-pull", "quiet_pull", "Do not show how far images are.")
QUIET_BUILD = Option("--quiet-build", "quiet_build", "Do not show what build steps write.")
OF_IMAGES = (BUILD, Option("--no-build", "no_build", "Build nothing, even if an image is missing."), PULL, QUIET_PULL)
YES = Option("-y --yes", "yes", "Accepted: nothing is asked.", accepted=True)

UP = Verb(
    "up",
    "up",
    "Bring services up, and follow their logs until Ctrl-C.",
    """Bring services up, dependencies first, and follow their logs until Ctrl-C, which stops them.

    A second Ctrl-C kills them. What did not change since the last `up` is left alone.
    """,
    options=(
        Option("-d --detach", "detach", "Return once everything is started."),
        Option("--wait", "wait", "Return once everything is healthy; implies -d."),
        Option("--wait-timeout", "wait_timeout_s", "Limit of --wait.", SECONDS, "SECONDS"),
        FORCE_RECREATE,
        NO_RECREATE,
        Option(
            "--always-recreate-deps",
            "recreate_dependencies",
            "Replace what the given services depend on, changed or not.",
        ),
        Option("-V --renew-anon-volumes", "renew_volumes", "New anonymous volumes: what has some is replaced."),
        Option("--no-deps", "no_deps", "Do not start what the given services depend on."),
        Option("--no-start", "no_start", "Make the containers, and do not start them."),
        SCALE,
        REMOVE_ORPHANS,
        Option("--attach", "attached", "Follow the logs of SERVICE alone; may be repeated.", TEXT, "SERVICE", many=True),
        Option("--attach-dependencies", "attach_dependencies", "Also the logs of what the given services depend on."),
        Option("--no-attach", "unattached", "Not the logs of SERVICE; may be repeated.", TEXT, "SERVICE", many=True),
        Option("--no-log-prefix", "no_log_prefix", "Log lines without the service's name."),
        Option("--no-color", "no_color", "Log lines without colours."),
        Option("--raw", "raw", "Do not escape what containers write."),
        Option("--timestamps", "timestamps", "Show when each line was written."),
        Option("--abort-on-container-exit", "abort_on_exit", "Stop all when one container ends."),
        Option("--abort-on-container-failure", "abort_on_failure", "Stop all when one container fails."),
        Option(
            "--exit-code-from",
            "exit_code_from",
            "Stop all when one ends, with the exit code of SERVICE.",
            TEXT,
            "SERVICE",
        ),
        TIMEOUT,
        *OF_IMAGES,
        QUIET_BUILD,
        Option(
            "--isolated",
            "isolate",
            "Publish ports on a loopback address of the project's own, until `down`: for two checkouts side by side.",
            variable="PYSTACK_ISOLATED",
        ),
        Option("-w --watch", "watch", "Watch files, and bring their changes to the containers, as `watch` does."),
        Option("--menu", "menu", "=false: keys do nothing.", default=True, variable="COMPOSE_MENU"),
        YES,
    ),
    arguments=SERVICES,
    hot=True,
    loads_and_starts=True,
    exclusive=(
        ("force_recreate", "no_recreate"),
        ("no_recreate", "recreate_dependencies"),
        ("no_recreate", "renew_volumes"),
        ("abort_on_exit", "abort_on_failure"),
        ("attached", "attach_dependencies"),
        *((returns, shows) for returns in ("detach", "wait") for shows in ("attached", "attach_dependencies")),
    ),
)
CREATE = Verb(
    "create",
    "up",
    "Make services' containers, and do not start them.",
    "Make the containers of services, and of what they depend on; nothing is started. The same as `up --no-start`.",
    options=(FORCE_RECREATE, NO_RECREATE, SCALE, REMOVE_ORPHANS, *OF_IMAGES, YES),
    arguments=SERVICES,
    hot=True,
    loads_and_starts=True,
)
WATCH = Verb(
    "watch",
    "watch",
    "Bring changes of files to the containers, as they happen.",
    """Bring services up, and watch the files that develop.watch of the stack names, until Ctrl-C: what changes is copied
    into the containers, or rebuilds or restarts them. Ctrl-C leaves them running.
    """,
    options=(
        Option("--no-up", "no_up", "Do not build and start the services first."),
        Option("--prune", "prune", "Remove images that a rebuild replaced.  [default: true]", default=True),
        Option("--quiet", "quiet", "Hide what builds write."),
    ),
    arguments=SERVICES,
)
SCALE_VERB = Verb(
    "scale",
    "scale",
    "Change how many containers services have.",
    """Change how many containers services have. Containers that exist are not replaced; the lowest numbers stay.

    What the services depend on is started too, as the stack has it, unless --no-deps is given.
    """,
    options=(Option("--no-deps", "no_deps", "Leave alone what the services depend on."), TIMEOUT),
    arguments=(Argument("numbers", "SERVICE=NUMBER...", many=True, required=True),),
    hot=True,
    loads_and_starts=True,
)
RUN = Verb(
    "run",
    "run",
    "Run a command in a container of its own.",
    """Run COMMAND (or the service's own) in a new container that is made from SERVICE, after starting what SERVICE depends
    on. Ends with the command's exit code.

    Options end at SERVICE. Ctrl-C stops the container, a second one kills it; with a terminal it is the container's.
    """,
    options=(
        Option("-d --detach", "detach", "Return once it is started, and print its name."),
        Option("--rm", "remove", "Remove the container when it has ended."),
        Option("-e --env", "variables", "Environment variable.", TEXT, "NAME[=VALUE]", many=True),
        Option("--env-from-file", "env_files", "Environment variables from a file.", TEXT, "FILE", many=True),
        Option("-u --user", "user", "Run as this user.", TEXT, "USER[:GROUP]"),
        Option("-w --workdir", "working_dir", "Working directory in the container.", TEXT, "DIR"),
        Option("-p --publish", "published", "Publish a port, as in the short form of `ports`.", TEXT, "PORT", many=True),
        Option("-P --service-ports", "service_ports", "Publish the service's ports."),
        Option("--name", "name", "Name of the container.", TEXT, "NAME"),
        Option("--entrypoint", "entrypoint", "Instead of the image's; clears the service's command.", TEXT, "COMMAND"),
        Option("-v --volume --volumes", "volumes", "Mount, as in the short form of `volumes`.", TEXT, "MOUNT", many=True),
        Option("-l --label --labels", "labels", "Label of the container.", TEXT, "NAME=VALUE", many=True),
        Option("-T --no-tty --no-TTY", "no_tty", "No terminal, even if stdin and stdout are one."),
        Option("-t --tty", "tty", "It is so where there is one; =false is -T.", default=True),
        Option("-i --interactive", "interactive", "=false: stdin is not connected.", default=True),
        DETACH_KEYS,
        Option("-q --quiet", "quiet", "No progress."),
        Option("--no-deps", "no_deps", "Do not start what the service depends on."),
        Option("--use-aliases", "use_aliases", "Answer to the service's names on its networks."),
        *OF_IMAGES,
        QUIET_BUILD,
        REMOVE_ORPHANS,
        Option("--cap-add", "cap_add", "Add a capability, or ALL.", TEXT, "NAME", many=True),
        Option("--cap-drop", "cap_drop", "Drop a capability, or ALL.", TEXT, "NAME", many=True),
    ),
    arguments=(
        Argument("service", "SERVICE", required=True),
        Argument("command", "[COMMAND]...", many=True),
    ),
    hot=True,
    rest=True,
    loads_and_starts=True,
)
DOWN = Verb(
    "down",
    "down",
    "Stop and remove everything of the project.",
    """Stop and remove everything of the project, dependents first, or the containers of SERVICEs alone. Named volumes stay,
    unless -v is given.
    """,
    options=(
        Option("-v --volumes", "volumes", "Remove the named volumes too: their content is lost."),
        Option("--remove-orphans", "remove_orphans", "Also containers of services that the files no longer have."),
        TIMEOUT,
        Option(
            "--rmi",
            "rmi",
            "Remove images too: local, those that were built here and have no name of their own; or all.",
            CHOICE,
            choices=("local", "all"),
        ),
    ),
    arguments=SERVICES,
    hot=True,
)
RM = Verb(
    "rm",
    "rm",
    "Remove containers that do not run.",
    """Remove the containers of SERVICEs (all) that do not run, after asking. Networks and named volumes stay, and what
    `run` left.
    """,
    options=(
        Option("-f --force", "force", "Do not ask."),
        Option("-s --stop", "stop", "Also what runs: stop it before."),
        Option("-v --volumes", "volumes", "Remove their anonymous volumes too."),
    ),
    arguments=SERVICES,
    hot=True,
)
START = Verb(
    "start",
    "lifecycle",
    "Start stopped services.",
    "Start stopped services.",
    options=(
        Option("--no-deps", "no_deps", "Do not start what they depend on."),
        Option("--wait", "wait", "Return once everything is healthy."),
        Option("--wait-timeout", "wait_timeout_s", "Limit of --wait.", SECONDS, "SECONDS"),
        Option("--resume", "resume", "Only what ran when it was halted (`stop --halt`), or when the machine went down."),
    ),
    arguments=SERVICES,
    hot=True,
)
STOP = Verb(
    "stop",
    "lifecycle",
    "Stop services, keeping their files and addresses.",
    "Stop services, dependents first. Their files, addresses and logs stay.",
    options=(TIMEOUT, Option("--halt", "halt", "For now: `start --resume` starts what this stops, and nothing else.")),
    arguments=SERVICES,
    hot=True,
)
_ROOT = Option("--root", "root", "Write below DIR, as for another machine's disk.  [default: /]", TEXT, "DIR", default="/")
ENABLE = Verb(
    "enable",
    "enable",
    "Bring the project up with the machine.",
    """Write a systemd unit (or, with --init, an init script) that brings the project up with the machine, and stops it
    in order when the machine goes down. What was stopped by hand stays stopped.
    """,
    options=(Option("--init", "init", "An init script, for a machine without systemd."), _ROOT),
)
DISABLE = Verb(
    "disable",
    "enable",
    "Do not bring the project up with the machine any more.",
    "Remove what `enable` has written. What runs goes on.",
    options=(_ROOT,),
)
RESTART = Verb(
    "restart",
    "lifecycle",
    "Stop and start services.",
    "Stop and start services, whether they run or not.",
    options=(TIMEOUT, Option("--no-deps", "no_deps", "Do not restart what depends on them.")),
    arguments=SERVICES,
    hot=True,
)
KILL = Verb(
    "kill",
    "lifecycle",
    "Send a signal to services.",
    "Send a signal to services' main processes.",
    options=(
        Option("-s --signal", "name", "The signal to send.  [default: SIGKILL]", TEXT, "NAME", default="SIGKILL"),
        Option("--remove-orphans", "remove_orphans", "Remove containers of services that the files no longer have."),
    ),
    arguments=SERVICES,
    hot=True,
)
PAUSE = Verb(
    "pause",
    "pausing",
    "Let services stand still.",
    "Let the processes of services stand still, until `unpause`. No probes are made meanwhile.",
    arguments=SERVICES,
    hot=True,
)
UNPAUSE = Verb(
    "unpause",
    "pausing",
    "Let paused services go on.",
    "Let paused services go on.",
    arguments=SERVICES,
    hot=True,
)
CHAOS = Group(
    "chaos",
    "chaos",
    "Break connections and services on purpose, for a while.",
    "Break connections and services on purpose, for a while. `pystack chaos VERB --help` explains a verb.",
)
CP = Verb(
    "cp",
    "cp",
    "Copy files between containers and here.",
    """Copy a file or a folder out of SERVICE's container, or into all of SERVICE's containers; whether they run or not.

    One of SOURCE and DESTINATION is SERVICE:PATH, the other a path here, or - for a tar archive (stdin or stdout). PATH/.
    is the content of a folder. Nothing of the container takes part.
    """,
    options=(
        Option("-a --archive", "archive", "Keep owners, set-id bits and extended attributes."),
        Option("-L --follow-link", "follow", "If SOURCE is a symbolic link, copy what it leads to."),
        Option("--index", "index", "One of the service's containers.", COUNT, "NUMBER", default=0),
        Option("--all", "one_offs", "Also containers that `run` made."),
    ),
    arguments=(
        Argument("source", "SOURCE", required=True),
        Argument("destination", "DESTINATION", required=True),
    ),
)
