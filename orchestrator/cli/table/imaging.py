"""Verbs about images: those of the stack's services, and the group ``image``, which knows nothing of a stack."""

from __future__ import annotations

from orchestrator.cli.table.shapes import CHOICE, COUNT, LIST_FORMAT, SERVICES, TEXT, Argument, Group, Option, Verb

QUIET = Option("-q --quiet", "quiet", "Show no progress.")
IDS_ONLY = Option("-q --quiet", "quiet", "Only ids.")
NO_TRUNC = Option("--no-trunc", "no_trunc", "Whole ids and commands.")
PLATFORM = Option("--platform", "platform", "For this platform: linux/arm64/v8.", TEXT, "PLATFORM")
IMAGE = Argument("image", "IMAGE", required=True)
IMAGES = Argument("images", "IMAGE...", many=True, required=True)
FILTER = Option(
    "-f --filter",
    "filters",
    "reference=PATTERN, dangling=true, label=KEY[=VALUE], before=IMAGE, since=IMAGE or until=TIME.",
    TEXT,
    "FILTER",
    many=True,
)
PRUNE_FILTER = Option(
    "--filter",
    "filters",
    "until=TIME: only what was made before; label=KEY[=VALUE], label!=KEY[=VALUE].",
    TEXT,
    "FILTER",
    many=True,
)
CHANGE = Option(
    "-c --change",
    "changes",
    "A Dockerfile instruction for its configuration: CMD, ENV, USER...",
    TEXT,
    "INSTRUCTION",
    many=True,
)

PULL = Verb(
    "pull",
    "pull",
    "Get the images of services.",
    "Get the images of SERVICEs (all active ones) from their registries.",
    options=(
        QUIET,
        Option("--include-deps", "include_deps", "Also of the services that they need."),
        Option("--ignore-buildable", "ignore_buildable", "Not of services with a build."),
        Option("--ignore-pull-failures", "ignore_failures", "Go on with the others."),
        Option(
            "--policy",
            "policy",
            "missing: only images that are not here.",
            CHOICE,
            choices=("always", "missing"),
            default="always",
        ),
    ),
    arguments=SERVICES,
)
PUSH = Verb(
    "push",
    "pull",
    "Put the images of services into their registries.",
    "Put the images of SERVICEs that are built here (all active ones) into their registries.",
    options=(
        QUIET,
        Option("--include-deps", "include_deps", "Also of the services that they need."),
        Option("--ignore-push-failures", "ignore_failures", "Go on with the others."),
    ),
    arguments=SERVICES,
)
BUILD = Verb(
    "build",
    "build",
    "Build the images of services.",
    "Build the images of SERVICEs (all active ones with a build) from their Dockerfiles.",
    options=(
        Option(
            "--build-arg", "build_args", "For ARG; without a value: the environment's.", TEXT, "NAME[=VALUE]", many=True
        ),
        Option("--no-cache", "no_cache", "Carry out every step."),
        Option("--pull", "pull", "Get newer base images."),
        Option("--push", "push", "Push what was built."),
        QUIET,
        Option("--ssh", "ssh", "The SSH agent's socket, or a key, for --mount=type=ssh.", TEXT, "ID[=PATH]", many=True),
        Option("--with-dependencies", "with_dependencies", "Also the services that they need."),
        Option("--check", "check", "Only look for mistakes in the Dockerfiles."),
        Option("--print", "printed", "Print what would be built, as JSON."),
        Option("-m --memory", "memory", "Accepted: steps have no limit of their own.", TEXT, "BYTES", accepted=True),
        Option("--builder", "builder", "Accepted: there is one builder.", TEXT, "NAME", accepted=True),
        Option("--provenance", "provenance", "Accepted: none is made.", TEXT, "VALUE", accepted=True),
        Option("--sbom", "sbom", "Accepted: none is made.", TEXT, "VALUE", accepted=True),
    ),
    arguments=SERVICES,
    hot=True,
)
IMAGES_VERB = Verb(
    "images",
    "images",
    "List the images of the project's containers.",
    "List the images that the containers of SERVICEs (all) were made from.",
    options=(LIST_FORMAT, IDS_ONLY),
    arguments=SERVICES,
)
COMMIT = Verb(
    "commit",
    "commit",
    "Make an image of a container's changes.",
    "Make an image of SERVICE's container as it is now, and name it.",
    options=(
        Option("-a --author", "author", "Who made it.", TEXT, "NAME"),
        CHANGE,
        Option("--index", "index", "Which of the service's containers.", COUNT, "NUMBER", default=0),
        Option("-m --message", "message", "What was changed.", TEXT, "TEXT"),
        Option("-p --pause", "pause", "Stop its processes meanwhile; =false: do not.", default=True),
    ),
    arguments=(Argument("service", "SERVICE", required=True), Argument("name", "[NAME[:TAG]]")),
)
EXPORT = Verb(
    "export",
    "commit",
    "Write a container's file system as a tar.",
    "Write the file system of SERVICE's container, without its volumes, as a tar archive.",
    options=(
        Option("-o --output", "output", "To FILE instead of stdout.", TEXT, "FILE"),
        Option("--index", "index", "Which of the service's containers.", COUNT, "NUMBER", default=0),
    ),
    arguments=(Argument("service", "SERVICE", required=True),),
)
PUBLISH = Verb(
    "publish",
    "publish",
    "Refused: a stack is published as the files that it is.",
    """Docker Compose puts the compose files into a registry as an artifact. Nothing here reads such artifacts, so nothing
    writes them: publish the files, or what `config --lock-image-digests` makes of them.
    """,
    options=(
        Option("--app", "app", "Refused, as the verb is.", accepted=True),
        Option("--oci-version", "oci_version", "Refused, as the verb is.", TEXT, "VERSION", accepted=True),
        Option("--resolve-image-digests", "pinned", "Refused, as the verb is.", accepted=True),
        Option("--with-env", "with_env", "Refused, as the verb is.", accepted=True),
        Option("-y --yes", "yes", "Refused, as the verb is.", accepted=True),
    ),
    arguments=(Argument("repository", "REPOSITORY[:TAG]", required=True),),
)
LOGIN = Verb(
    "login",
    "login",
    "Log in to a registry.",
    "Log in to REGISTRY (Docker Hub), and keep the credential as Docker does.",
    options=(
        Option("-u --username", "user", "Who.", TEXT, "NAME"),
        Option("-p --password", "password", "The password; better by --password-stdin.", TEXT, "TEXT"),
        Option("--password-stdin", "from_stdin", "Read the password from stdin."),
    ),
    arguments=(Argument("registry", "[REGISTRY]", default=""),),
)
LOGOUT = Verb(
    "logout",
    "login",
    "Forget the credential for a registry.",
    "Forget the credential for REGISTRY (Docker Hub).",
    arguments=(Argument("registry", "[REGISTRY]", default=""),),
)
IMAGE_GROUP = Group("image", "image", "Images of this machine.", "Images of this machine, whatever stack they are of.")
