"""What every implementation of `contracts.images.Images` must do, as checks that the fake and the real one both pass.

A check is an async function of a *lab*: two adapters, of two projects, on one store, and a few references that the lab has
prepared.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import trio

from orchestrator.contracts.images import Image, ImageRequest, Images, Known, Missing, Transfer
from orchestrator.errors import InputError, OperationError, PystackError

DEADLINE_S = 20.0
"""No check takes longer; a hang is a failure."""


class ImagesLab(Protocol):
    """One store, empty at first; every check gets a fresh one."""

    @property
    def images(self) -> Images: ...

    @property
    def others(self) -> Images:
        """Another project's adapter on the same store."""
        ...

    @property
    def unmade(self) -> ImageRequest:
        """What `obtain` can make, and nobody has made yet."""
        ...

    @property
    def ready(self) -> ImageRequest:
        """What is there without having been made: relative, ``rootfs:app`` of one project."""
        ...

    @property
    def elsewhere(self) -> ImageRequest:
        """The same reference as `ready` in another project's directory, where it is another image."""
        ...

    @property
    def absent(self) -> ImageRequest:
        """What does not exist and cannot be made."""
        ...

    def change(self) -> None:
        """The content of what `unmade` is made from becomes another."""
        ...

    def traces(self) -> object:
        """What is in the store now, comparable: names, sizes, times."""
        ...


ImagesCheck = Callable[[ImagesLab], Awaitable[None]]


@contextmanager
def _refused(kind: type[PystackError]) -> Iterator[None]:
    try:
        yield
    except kind:
        return
    raise AssertionError(f"no {kind.__name__} was raised")


def _silent(_: str | Transfer) -> None:
    """Nobody watches."""


async def _identity(images: Images, request: ImageRequest) -> str:
    found = await images.inspect(request)
    assert isinstance(found, Known), found
    return found.image.identity


async def looking_finds_what_is_missing_and_makes_nothing(lab: ImagesLab) -> None:
    before = lab.traces()
    for _ in range(2):
        found = await lab.images.inspect(lab.unmade)
        assert isinstance(found, Missing), found
        assert (found.reference, bool(found.reason)) == (lab.unmade.reference, True)
    assert lab.traces() == before


async def what_was_obtained_is_known_and_looking_leaves_no_trace(lab: ImagesLab) -> None:
    told: list[str | Transfer] = []
    image = await lab.images.obtain(lab.unmade, told.append)
    assert told
    assert all(told)
    before = lab.traces()
    assert await lab.images.inspect(lab.unmade) == Known(image)
    assert lab.traces() == before
    assert (image.reference, bool(image.identity), bool(image.lowers)) == (lab.unmade.reference, True, True)


async def obtaining_what_is_there_makes_nothing_and_is_the_same(lab: ImagesLab) -> None:
    first = await lab.images.obtain(lab.unmade, _silent)
    before, told = lab.traces(), list[str | Transfer]()
    assert await lab.images.obtain(lab.unmade, told.append) == first
    assert (told, lab.traces()) == ([], before)


async def what_is_there_is_known_at_once(lab: ImagesLab) -> None:
    found = await lab.images.inspect(lab.ready)
    assert isinstance(found, Known)
    assert await lab.images.obtain(lab.ready, _silent) == found.image


async def what_does_not_exist_is_an_error_of_looking_already(lab: ImagesLab) -> None:
    with _refused(OperationError):
        await lab.images.inspect(lab.absent)
    with _refused(OperationError):
        await lab.images.obtain(lab.absent, _silent)


async def a_malformed_reference_is_an_input_error(lab: ImagesLab) -> None:
    for reference in ("", "rootfs:"):
        with _refused(InputError):
            await lab.images.inspect(ImageRequest(reference, "/"))
        with _refused(InputError):
            await lab.images.obtain(ImageRequest(reference, "/"), _silent)


async def another_content_is_another_image(lab: ImagesLab) -> None:
    before = await lab.images.obtain(lab.unmade, _silent)
    lab.change()
    found = await lab.images.inspect(lab.unmade)
    assert isinstance(found, Missing) or found.image.identity != before.identity
    after = await lab.images.obtain(lab.unmade, _silent)
    assert after.identity != before.identity
    assert await lab.others.inspect(lab.unmade) == Known(after)


async def a_relative_reference_starts_at_the_directory_of_the_request(lab: ImagesLab) -> None:
    """One adapter serves whoever asks: nothing of an earlier request stays with it."""
    here, there = await _identity(lab.images, lab.ready), await _identity(lab.images, lab.elsewhere)
    assert here != there
    assert await _identity(lab.images, lab.ready) == here
    assert await _identity(lab.others, lab.ready) == here


async def two_projects_that_obtain_at_once_get_one_image(lab: ImagesLab) -> None:
    made: list[Image] = []

    async def obtain(images: Images) -> None:
        made.append(await images.obtain(lab.unmade, _silent))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(obtain, lab.images)
            nursery.start_soon(obtain, lab.others)
    assert len(made) == 8
    assert all(image == made[0] for image in made)
    assert await lab.images.inspect(lab.unmade) == await lab.others.inspect(lab.unmade) == Known(made[0])


async def what_one_project_made_is_known_to_the_other(lab: ImagesLab) -> None:
    image = await lab.images.obtain(lab.unmade, _silent)
    assert await lab.others.inspect(lab.unmade) == Known(image)


IMAGES_CHECKS: tuple[ImagesCheck, ...] = (
    looking_finds_what_is_missing_and_makes_nothing,
    what_was_obtained_is_known_and_looking_leaves_no_trace,
    obtaining_what_is_there_makes_nothing_and_is_the_same,
    what_is_there_is_known_at_once,
    what_does_not_exist_is_an_error_of_looking_already,
    a_malformed_reference_is_an_input_error,
    another_content_is_another_image,
    a_relative_reference_starts_at_the_directory_of_the_request,
    two_projects_that_obtain_at_once_get_one_image,
    what_one_project_made_is_known_to_the_other,
)


async def run_images_check(check: ImagesCheck, lab: ImagesLab) -> None:
    """Run one check, with a deadline: what hangs has failed."""
    with trio.fail_after(DEADLINE_S):
        await check(lab)
