"""Images in memory."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping

import trio

from orchestrator.contracts.images import Image, ImageConfig, ImageRequest, Known, Missing, Progress
from orchestrator.errors import InputError, OperationError

_ROOTFS = "rootfs:"


class FakeImages:
    """`contracts.images.Images`. Every reference exists but `missing`; those in `unmade` have to be obtained first, those
    in `due` are obtained again (their value is the identity they have then) where the request's policy wants that.
    `configs`: what some of them bring. `whole`: what some of them are. `identities`: set one, and the image's content has
    changed. `obtained`: what was made, in order. `environs`: of whom each was made for. `asked`: the references that were
    looked at. `beside`: share the store of that one, as another project on the same machine does."""

    def __init__(
        self,
        configs: Mapping[str, ImageConfig] | None = None,
        missing: Collection[str] = (),
        unmade: Collection[str] = (),
        *,
        beside: FakeImages | None = None,
        whole: Mapping[str, Image] | None = None,
    ) -> None:
        self._whole = dict(whole or {})
        self.configs: dict[str, ImageConfig] = dict(configs or {}) if beside is None else beside.configs
        self.missing: set[str] = set(missing) if beside is None else beside.missing
        self.unmade: set[str] = set(unmade) if beside is None else beside.unmade
        self.identities: dict[str, str] = {} if beside is None else beside.identities
        self.due: dict[str, str] = {} if beside is None else beside.due
        self.obtained: list[str] = [] if beside is None else beside.obtained
        self.environs: dict[str, Mapping[str, str]] = {}
        self.asked: list[str] = []

    async def inspect(self, request: ImageRequest) -> Known | Missing:
        await trio.lowlevel.checkpoint()
        return self._look(request)

    async def obtain(self, request: ImageRequest, progress: Progress) -> Image:
        await trio.lowlevel.checkpoint()
        found = self._look(request)
        if isinstance(found, Known) and not found.due:
            return found.image
        progress(f"making the image {request.reference}: {found.due if isinstance(found, Known) else found.reason}")
        self.unmade.discard(request.reference)
        if request.reference in self.due:
            self.identities[request.reference] = self.due[request.reference]
        self.obtained.append(request.reference)
        self.environs[request.reference] = request.environ
        return self._image(request)

    def _look(self, request: ImageRequest) -> Known | Missing:
        self.asked.append(request.reference)
        if request.reference in ("", _ROOTFS):
            raise InputError(f'image "{request.reference}" names nothing')
        if request.reference in self.missing:
            raise OperationError(f'image "{request.reference}" does not exist')
        if request.reference in self.unmade:
            return Missing(request.reference, "it has not been made")
        wanted_anew = request.reference in self.due and request.pull_policy.when not in ("missing", "never")
        return Known(self._image(request), "it is obtained each time" if wanted_anew else "")

    def _image(self, request: ImageRequest) -> Image:
        reference = request.reference
        if reference in self._whole:
            return self._whole[reference]
        where = reference
        if reference.startswith(_ROOTFS):
            where = _ROOTFS + posixpath.normpath(posixpath.join(request.base_dir, reference.removeprefix(_ROOTFS)))
        identity = self.identities.get(reference, f"id-of-{where}")
        return Image(reference, identity, (f"/images/{where}",), self.configs.get(reference, ImageConfig()))
