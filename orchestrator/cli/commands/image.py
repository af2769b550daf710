"""``pystack image pull, push, load, save, tag, rm, prune, import, make``: the store, changed."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from orchestrator.cli.asking import agreed
from orchestrator.cli.imagework import (
    carry_out,
    data_root_of,
    familiar_names,
    found,
    store_of,
    stored_of,
    transfers_of,
    users_of_images,
)
from orchestrator.cli.render.transfer import size_text
from orchestrator.cli.render.transfers import Transfers
from orchestrator.cli.volumes import has_label
from orchestrator.errors import InputError, OperationError, PystackError
from orchestrator.images.reference import Archive, Named, parse_named, parse_reference
from orchestrator.images.spec.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.cli.settings import Settings
    from orchestrator.images.store.store import Store
    from orchestrator.images.store.values import StoredImage

_SHAPES = {
    "docker-archive": "docker-archive",
    "oci-archive": "oci-archive",
    "oci": "oci",
    "oci-dir": "oci",
    "dir": "dir",
    "docker-dir": "dir",
}
"""What ``save --format`` takes: transports, and podman's names for them."""


def pull(settings: Settings, image: str, platform: str | None, quiet: bool) -> int:
    """Get an image from its registry or an archive."""
    reference = parse_reference(image)
    if not isinstance(reference, (Named, Archive)):
        raise InputError(f'"{image}" is in no registry and no archive', hint="write NAME[:TAG], or oci-archive:FILE")
    stored = stored_of(settings)

    async def work(transfers: Transfers) -> StoredImage:
        progress = transfers.of(image)
        if isinstance(reference, Archive):
            return await stored.load(reference, os.getcwd(), progress)
        return await stored.pull(reference, platform or "", settings.environ, progress)

    made = carry_out(settings, work, quiet=quiet)
    print(made.id if quiet or isinstance(reference, Archive) else reference.familiar)
    return 0


def push(settings: Settings, image: str, destination: str | None, quiet: bool) -> int:
    """Put an image into a registry or an archive."""
    store = store_of(settings)
    made = found(store, image)
    to = parse_reference(destination or image)
    if isinstance(to, Archive):
        _save(settings, [image], to, quiet=quiet)
        return 0
    if not isinstance(to, Named):
        raise InputError(f'"{destination or image}" is no place for an image', hint="write NAME[:TAG], or oci-archive:FILE")
    print(push_one(settings, store, made, to, quiet=quiet))
    return 0


def push_one(settings: Settings, store: Store, made: StoredImage, to: Named, *, quiet: bool = False) -> Digest:
    """The digest of the manifest."""
    from orchestrator.images.registry.credentials import Credentials
    from orchestrator.images.registry.push import push as push_image
    from orchestrator.images.registry.settings import load_settings

    async def work(transfers: Transfers) -> Digest:
        return await push_image(
            store, made, to, transfers.of(to.familiar),
            settings=load_settings(settings.environ), credentials=Credentials(settings.environ),
        )  # fmt: skip

    return carry_out(settings, work, quiet=quiet)


def load(settings: Settings, path: str | None, quiet: bool) -> int:
    """Load the images of an archive."""
    from orchestrator.images.transports.loading import load as load_archive

    if path is None and sys.stdin.isatty():
        raise InputError("there is no archive on a terminal", hint="give it by -i FILE, or redirect stdin")
    name = path or "stdin"
    with transfers_of(settings, quiet=quiet) as transfers:
        try:
            images = load_archive(store_of(settings), path or "/dev/stdin", transfers.of(name))
        except OperationError as error:
            raise OperationError(f"{name}: {error.message}", hint=error.hint) from error
    for image in images:
        lines = [f"Loaded image: {known}" for known in familiar_names(image.names)]
        print("\n".join(lines) or f"Loaded image ID: {image.id}")
    return 0


def save(settings: Settings, path: str | None, shape: str | None, images: tuple[str, ...]) -> int:
    """Save images to an archive."""
    transport = _SHAPES.get(shape or "docker-archive")
    if transport is None:
        raise InputError(f'--format: there is no "{shape}"', hint="docker-archive, oci-archive, oci or dir")
    if path is None and transport in ("oci", "dir"):
        raise InputError(f"--format {shape} is a directory", hint="name it by -o DIRECTORY")
    if path is None and sys.stdout.isatty():
        raise InputError("an archive does not go to a terminal", hint="give a file by -o FILE, or redirect stdout")
    _save(settings, list(images), Archive(transport, path or "stdout"), to_stdout=path is None)
    return 0


def _save(settings: Settings, images: list[str], archive: Archive, *, quiet: bool = False, to_stdout: bool = False) -> None:
    from orchestrator.images.transports.saving import save as save_images

    store = store_of(settings)
    for text in images:
        found(store, text)
    with transfers_of(settings, quiet=quiet) as transfers:
        save_images(store, images, archive, transfers.of(archive.path), out=sys.stdout.buffer if to_stdout else None)


def tag(settings: Settings, image: str, name: str) -> int:
    """Give an image another name."""
    store = store_of(settings)
    store.name(_new_name(name), found(store, image).id)
    return 0


def rm(settings: Settings, images: tuple[str, ...], force: bool, no_prune: bool) -> int:
    """Remove names, and images without any other. All are tried; the first error is raised at the end, others are told."""
    store, users = store_of(settings), users_of_images(settings)
    errors: list[PystackError] = []
    for text in images:
        try:
            if not (force and store.find(text) is None):
                print("\n".join(_remove(store, text, users, force=force)))
        except PystackError as error:
            errors.append(error)
    if not no_prune:
        store.collect(in_use=frozenset(map(Digest, users)), unnamed=False, unused=False)
    settings.warn(tuple(str(error) for error in errors[1:]))
    if errors:
        raise errors[0]
    return 0


def _remove(store: Store, text: str, users: Mapping[str, tuple[str, ...]], *, force: bool) -> list[str]:
    """As Docker does: a name goes alone while there are others; the last one takes the image with it. An image that
    containers were made from loses its names by `force`, and goes with a prune after them."""
    image = found(store, text)
    named, names = _name_of(image, text), familiar_names(image.names)
    if named is not None and len(names) > 1:
        store.unname(named.full)
        return [f"Untagged: {named.familiar}"]
    if named is None and len(names) > 1 and not force:
        raise OperationError(
            f'image "{text}" has several names: {", ".join(names)}', hint="remove them one by one, or all by --force"
        )
    containers = users.get(image.id)
    if containers and not (force and names):
        hint = "remove these containers first (`pystack down`)" + (", or only its name by --force" if names else "")
        raise OperationError(f'image "{text}" is used by {", ".join(containers)}', hint=hint)
    gone = [f"Untagged: {name}" for name in names]
    if containers:
        for name in image.names:
            store.unname(name)
        return gone
    store.forget(image.id)
    return [*gone, f"Deleted: {image.id}"]


def _name_of(image: StoredImage, text: str) -> Named | None:
    """The name that `text` is of the image; None for an id."""
    try:
        named = parse_named(text)
    except InputError:
        return None
    return named if named.full in image.names else None


def remove_unused(settings: Settings, images: tuple[str, ...]) -> None:
    """For ``down --rmi``: those that are here and that no other container was made from; the others are named."""
    store, users = store_of(settings), users_of_images(settings)
    for text in images:
        if not isinstance(parse_reference(text), Named) or store.find(text) is None:
            continue
        try:
            for line in _remove(store, text, users, force=False):
                print(line)
        except PystackError as error:
            settings.warn((str(error),))
    store.collect(in_use=frozenset(map(Digest, users)), unnamed=False, unused=False)


def prune(settings: Settings, everything: bool, filters: tuple[str, ...], force: bool, cache: bool, dry: bool) -> int:
    """Remove images that nothing needs."""
    from orchestrator.cli.instants import parse_instant

    until_s, having, lacking = None, list[str](), list[str]()
    for text in filters:
        key, _, value = text.partition("=")
        if key not in ("until", "label", "label!") or not value:
            hint = "until=10m, until=2026-05-04T12:00:00Z, label=KEY[=VALUE] or label!=KEY[=VALUE]"
            raise InputError(f'--filter: there is no "{text}"', hint=hint)
        if key == "until":
            until_s = parse_instant(value, time.time())
        else:
            (having if key == "label" else lacking).append(value)
    store, users = store_of(settings), users_of_images(settings)
    what = "images that no container was made from" if everything else "images without a name"
    if not (force or dry) and not _confirmed(f"This removes all {what}. Go on? [y/N] "):
        return 0
    gone = store.collect(
        in_use=frozenset(map(Digest, users)),
        unnamed=True,
        unused=everything,
        until_s=until_s,
        only=_labelled(store, having, lacking) if having or lacking else None,
        cache=cache,
        dry=dry,
    )
    lines = [f"untagged: {name}" for name in familiar_names(gone.names)] + [f"deleted: {image}" for image in gone.images]
    if lines:
        print("\n".join(["Images that would be deleted:" if dry else "Deleted Images:", *lines, ""]))
    print(f"Total {'that would be ' if dry else ''}reclaimed space: {size_text(gone.bytes)}")
    return 0


def _labelled(store: Store, having: Sequence[str], lacking: Sequence[str]) -> list[Digest]:
    """The images that have all of these labels (``KEY``, ``KEY=VALUE``), and none of those."""
    found = []
    for image in store.images():
        labels: Mapping[str, str] = image.config.config.get("Labels") or {}
        if all(has_label(labels, text) for text in having) and not any(has_label(labels, text) for text in lacking):
            found.append(Digest(image.id))
    return found


def _confirmed(question: str) -> bool:
    answer = agreed(question)
    if answer is None:
        raise InputError("nobody can be asked whether to go on", hint="use --force")
    return answer


def import_(
    settings: Settings, path: str, name: str | None, changes: tuple[str, ...], message: str | None, platform: str | None
) -> int:
    """Make an image of a tar of a root file system."""
    from orchestrator.build.changes import changed_config
    from orchestrator.images.spec.platform import parse_platform
    from orchestrator.images.transports.importing import import_tree

    store, config = store_of(settings), changed_config({}, changes)
    wanted, full = parse_platform(platform) if platform else None, _new_name(name) if name else None
    try:
        file = open(path if path != "-" else 0, "rb", closefd=path != "-")  # noqa: SIM115
    except OSError as exc:
        raise InputError(f"cannot read {path}: {exc.strerror}") from exc
    label = path if path != "-" else "stdin"
    with file, transfers_of(settings) as transfers:
        try:
            image = import_tree(store, file, config, transfers.of(label), comment=message or "", platform=wanted)
        except OperationError as error:
            raise OperationError(f"{label}: {error.message}", hint=error.hint) from error
        if full is not None:
            store.name(full, image.id)
    print(image.id)
    return 0


def make(settings: Settings, bases: tuple[str, ...], include: tuple[str, ...], tags: tuple[str, ...], quiet: bool) -> int:
    """Make base images without a registry."""
    from orchestrator.images.bases.make import check, wanted_of
    from orchestrator.images.bases.make import make as make_base
    from orchestrator.images.together import each

    store = store_of(settings)
    cache = os.path.join(data_root_of(settings), "cache", "bases")
    if not (include or tags):
        wanted = {text: wanted_of(text) for text in bases}
    elif len(bases) == 1:
        wanted = {bases[0]: check(bases[0], include, tags)}
    else:
        raise InputError("--include and --tag are of one image", hint="make the others with a command of their own")
    made: dict[str, StoredImage] = {}

    async def work(transfers: Transfers) -> None:
        async def one(name: str) -> None:
            progress = transfers.of(name)
            made[name] = await make_base(store, wanted[name], cache=cache, progress=progress, environ=settings.environ)

        await each(dict.fromkeys(wanted, ()), one, at_once=1 + (os.cpu_count() or 1))

    carry_out(settings, work, quiet=quiet)
    for image_id in dict.fromkeys(made[name].id for name in wanted):  # the same packages under two names are one image
        image = store.get(image_id)
        print("\n".join(familiar_names(image.names) if image is not None else ()) or image_id)
    return 0


def _new_name(text: str) -> str:
    named = parse_named(text)
    if named.digest is not None:
        raise InputError(f'"{text}" has a digest: a name that is given has none')
    return named.full
