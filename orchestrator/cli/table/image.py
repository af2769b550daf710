"""The verbs of ``pystack image``."""

from __future__ import annotations

from orchestrator.cli.table.imaging import (
    CHANGE,
    FILTER,
    IDS_ONLY,
    IMAGE,
    IMAGES,
    NO_TRUNC,
    PLATFORM,
    PRUNE_FILTER,
    QUIET,
)
from orchestrator.cli.table.shapes import FORMAT, INSPECT_FORMAT, TEXT, Argument, Option, Verb

VERBS = (
    Verb(
        "ls",
        "image_list",
        "List images.",
        "List the images of this machine, of REPOSITORY[:TAG] if given.",
        options=(
            Option("-a --all", "everything", "Accepted: all are shown.", accepted=True),
            FILTER,
            FORMAT,
            Option("--digests", "digests", "With the digests of their manifests."),
            NO_TRUNC,
            IDS_ONLY,
        ),
        arguments=(Argument("pattern", "[REPOSITORY[:TAG]]"),),
        function="list_images",
    ),
    Verb(
        "pull",
        "image",
        "Get an image from a registry, or load it from an archive.",
        "Get IMAGE from its registry (or oci:, oci-archive:, docker-archive:, dir:).",
        options=(PLATFORM, QUIET),
        arguments=(IMAGE,),
    ),
    Verb(
        "push",
        "image",
        "Put an image into a registry, or save it to an archive.",
        "Put IMAGE into its registry, or where DESTINATION says.",
        options=(QUIET,),
        arguments=(IMAGE, Argument("destination", "[DESTINATION]")),
    ),
    Verb(
        "load",
        "image",
        "Load images from an archive.",
        "Load the images of an archive that `docker save`, `podman save` or `pystack image save` wrote.",
        options=(Option("-i --input", "path", "From FILE instead of stdin.", TEXT, "FILE"), QUIET),
    ),
    Verb(
        "save",
        "image",
        "Save images to an archive.",
        "Save IMAGEs to an archive that `docker load`, `podman load` and `pystack image load` read.",
        options=(
            Option("-o --output", "path", "To FILE instead of stdout.", TEXT, "FILE"),
            Option("--format", "shape", "docker-archive (default), oci-archive, oci or dir (a directory).", TEXT, "FORMAT"),
        ),
        arguments=(IMAGES,),
    ),
    Verb(
        "tag",
        "image",
        "Give an image another name.",
        "Give IMAGE the name NAME, too.",
        arguments=(IMAGE, Argument("name", "NAME", required=True)),
    ),
    Verb(
        "rm",
        "image",
        "Remove images.",
        "Remove the names IMAGE..., and the images that have no other name.",
        options=(
            Option("-f --force", "force", "Also names of what containers were made from; no error for what is not here."),
            Option("--no-prune", "no_prune", "Keep their layers."),
        ),
        arguments=(IMAGES,),
    ),
    Verb(
        "prune",
        "image",
        "Remove images that nothing needs.",
        """Remove images without a name; with --all those that no container was made from, too; and what is left of old
        pulls and builds.""",
        options=(
            Option("-a --all", "everything", "All images that no container was made from."),
            PRUNE_FILTER,
            Option("-f --force", "force", "Do not ask."),
            Option("--build-cache", "cache", "The build cache, too."),
            Option("--dry-run", "dry", "Only say what would go."),
        ),
    ),
    Verb(
        "inspect",
        "image_list",
        "Show everything about images.",
        "Show everything about IMAGEs, as JSON.",
        options=(INSPECT_FORMAT,),
        arguments=(IMAGES,),
    ),
    Verb(
        "history",
        "image_list",
        "Show how an image was made.",
        "Show the steps by which IMAGE was made, the last one first.",
        options=(
            FORMAT,
            Option("-H --human", "human", "Sizes and times for people; =false: bytes and instants.", default=True),
            NO_TRUNC,
            IDS_ONLY,
        ),
        arguments=(IMAGE,),
    ),
    Verb(
        "import",
        "image",
        "Make an image of a tar of a root file system.",
        "Make an image of the root file system in the tar archive FILE (- is stdin).",
        options=(CHANGE, Option("-m --message", "message", "What it is.", TEXT, "TEXT"), PLATFORM),
        arguments=(Argument("path", "FILE", required=True), Argument("name", "[NAME[:TAG]]")),
        function="import_",
    ),
    Verb(
        "make",
        "image",
        "Make base images without a registry.",
        "Make base images: debian (its packages, by apt), busybox, alpine, host (this machine's /usr), or what stands for "
        "the image of a name: redis:7 python:3.12-slim.",
        options=(
            Option(
                "--include",
                "include",
                "Debian packages, separated by commas.",
                TEXT,
                "PACKAGES",
                many=True,
            ),
            Option("-t --tag", "tags", "Its name; may be repeated.", TEXT, "NAME", many=True),
            QUIET,
        ),
        arguments=(Argument("bases", "KIND|NAME...", many=True, required=True),),
    ),
)
