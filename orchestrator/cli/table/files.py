"""Verbs about the compose files and the machine. They import what takes far longer than click."""

from __future__ import annotations

from orchestrator.cli.table.shapes import CHOICE, COUNT, PART, SERVICES, TEXT, Argument, Option, Verb, output_format

PLAN = Verb(
    "plan",
    "plan",
    "Show what a verb would do, and why.",
    "Show what VERB (up, down, stop, start, restart; default: up) would do, and why.",
    options=(
        Option("--force-recreate", "force_recreate", "As for up."),
        Option("--no-recreate", "no_recreate", "As for up."),
        Option("--no-deps", "no_deps", "As for up."),
        Option("--scale", "scale", "As for up.", TEXT, "SERVICE=NUMBER", many=True),
        Option("--remove-orphans", "remove_orphans", "As for up and down."),
        Option("-v --volumes", "volumes", "As for down."),
        output_format("text", "json"),
        Option("-o --output", "output", "Also write it to FILE, for `apply`.", TEXT, "FILE"),
    ),
    arguments=(
        Argument("verb", "[VERB]", choices=("up", "down", "stop", "start", "restart"), default="up"),
        *SERVICES,
    ),
    loads_and_starts=True,
)
APPLY = Verb(
    "apply",
    "apply",
    "Carry out a plan that `plan -o` has written.",
    """Do exactly what the plan in FILE says. Refuses, and ends with 3, when the compose files, the containers, images,
    networks or volumes are not as they were when the plan was made.
    """,
    arguments=(Argument("path", "FILE", required=True),),
)
TIMELINE = Verb(
    "timeline",
    "timeline",
    "Show what each start waited for.",
    """Show each part of each start of the last operation that started SERVICEs on one clock, the critical path, and what
    would shorten it.

    Ends with 2 when nothing was started that the event log knows of.
    """,
    options=(
        Option("-a --all", "everything", "All operations and restarts that the event log has."),
        output_format("text", "svg", "html", "chrome", "json", help="chrome: for chrome://tracing and ui.perfetto.dev."),
    ),
    arguments=SERVICES,
)
SIMULATE = Verb(
    "simulate",
    "simulate",
    "Say what the stack would do, on virtual time.",
    """Bring the stack (or SERVICEs, with what they need) up on virtual time, let it run, and print what happens: with the
    real scheduler, and without root, images or network. Judges it by x-pystack.expect of the stack; docs/simulate.md.

    Ends with 1 when an expectation does not hold, or --search has found failures after which the stack does not converge.
    """,
    options=(
        Option("--for", "duration", "How much time passes.  [default: 10m]", TEXT, "TIME", default="10m"),
        Option("--kill", "kills", "It is killed then; may be repeated, as all of these.", TEXT, "SERVICE@TIME", many=True),
        Option("--ill", "ills", "Its probes fail from then on, until it is restarted.", TEXT, "SERVICE@TIME", many=True),
        Option("--exit", "exits", "Each of its runs ends so after that time.", TEXT, "SERVICE=CODE@TIME", many=True),
        Option("--slow", "slow", "It takes so long to be ready.", TEXT, "SERVICE=TIME", many=True),
        Option("--kill-supervisor", "kill_supervisor", "The supervisor is killed then.", TEXT, "TIME", many=True),
        Option("--no-chaos", "no_chaos", "Without the faults that x-pystack.chaos of the stack says."),
        Option("--recorded", "recorded", "With what starts took here, by the project's event log."),
        Option("--seed", "seed", "The order of what happens at the same time.", COUNT, "NUMBER", default=0),
        Option("--search", "tries", "Look in so many random tries for failures of no return.", COUNT, "NUMBER", default=0),
        output_format("text", "json"),
    ),
    arguments=SERVICES,
)
CONFIG = Verb(
    "config",
    "config",
    "Check the compose files and print them resolved.",
    "Check the compose files and print them resolved: one file, long forms, all variables replaced.",
    options=(
        Option("--format", "shape", "Output format.  [default: yaml]", CHOICE, choices=("yaml", "json")),
        Option("-q --quiet", "quiet", "Only check; print nothing."),
        Option("--services", "part", "Only the service names, one a line.", PART),
        Option("--volumes", "part", "Only the volume names, one a line.", PART),
        Option("--networks", "part", "Only the network names, one a line.", PART),
        Option("--models", "part", "Only the names of models, one a line.", PART),
        Option("--images", "part", "Only the images, one a line.", PART),
        Option("--profiles", "part", "Only the profiles, active or not, one a line.", PART),
        Option("--variables", "part", "The variables that the files use, with their defaults.", PART),
        Option("--environment", "part", "The variables that interpolation sees.", PART),
        Option("--hash", "hashed", "The configuration hash of each service, or with * of all.", TEXT, "SERVICE"),
        Option("--no-interpolate", "no_interpolate", "Leave variables as they are written."),
        Option("--no-normalize", "no_normalize", "Leave out the default network and full names."),
        Option("--no-path-resolution", "no_path_resolution", "Leave paths as they are written."),
        Option("--no-env-resolution", "no_env_resolution", "Leave env_file as it is, and its variables out."),
        Option("--no-consistency", "no_consistency", "Do not check that what services refer to exists."),
        Option("--resolve-image-digests", "resolves_images", "With the digests that images have in their registries now."),
        Option("--lock-image-digests", "locks_images", "Only these images with their digests: an override file."),
        Option("-o --output", "output", "Write to FILE instead of stdout.", TEXT, "FILE"),
    ),
    arguments=SERVICES,
)
LINT = Verb(
    "lint",
    "lint",
    "Advice about the compose files: mistakes and risks.",
    """Look for mistakes and risks in the compose files: a command cut at &&, a secret in the environment, a port open to
    all, a health check nobody waits for... docs/compose.md explains each rule.

    Ends with 0 when there is nothing but notes, with 1 when there is a warning, with 2 when the files have errors.
    """,
    options=(output_format("text", "json", "sarif"),),
    arguments=SERVICES,
)
DOCTOR = Verb(
    "doctor",
    "doctor",
    "Check what this machine can do.",
    "Check what this machine can do. Ends with 125 when something that is needed is missing.",
    options=(output_format("text", "json"),),
)
