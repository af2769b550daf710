"""Loopback addresses of projects (``up --isolated``): ``DATA_ROOT/loopback.json``, ``{PROJECT: ADDRESS}``.

All of 127.0.0.0/8 is the machine's own, and no other host reaches it. A project's address follows from its name, so it is
usually the same after `down` and `up`; it is written down because two names may lead to one address.
"""

from __future__ import annotations

import os

from orchestrator.kernel import jsontext
from orchestrator.kernel.plain import opener
from orchestrator.model.keys import short_hash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_FILE = "loopback.json"
_MOST_BYTES = 1 << 20


def address_of(data_root: str, project: str) -> str | None:
    """The address that `project` has; None: it publishes where the stack says."""
    return _read(data_root).get(project)


def take_address(data_root: str, project: str) -> str:
    """Give `project` an address that no other has. Raises HostError when the data directory cannot be written."""
    from orchestrator.state.preparation import data_lock, make_private

    make_private(data_root)
    with data_lock(data_root):
        taken = {name: address for name, address in _read(data_root).items() if name == project or _exists(data_root, name)}
        if project not in taken:
            others = set(taken.values())
            taken[project] = next(address for address in _candidates(project) if address not in others)
            _write(data_root, taken)
        return taken[project]


def give_back(data_root: str, project: str) -> None:
    """Nothing happens when it has none."""
    if address_of(data_root, project) is None:
        return
    from orchestrator.state.preparation import data_lock

    with data_lock(data_root):
        taken = _read(data_root)
        if taken.pop(project, None) is not None:
            _write(data_root, taken)


def _candidates(project: str) -> Iterator[str]:
    """None in 127.0.0.0/16, where systemd-resolved and Debian's own name have theirs, and none that ends in 0 or 255."""
    attempt = 0
    while True:
        number = int(short_hash(f"loopback:{project}:{attempt}", 12), 16)
        yield f"127.{1 + number % 254}.{(number >> 8) % 256}.{1 + (number >> 16) % 254}"
        attempt += 1


def _exists(data_root: str, project: str) -> bool:
    return os.path.isdir(os.path.join(data_root, "projects", project))


def _read(data_root: str) -> dict[str, str]:
    """One that is damaged is as none: the addresses are chosen again, and are the same but for the rare clash."""
    try:
        with open(os.path.join(data_root, _FILE), "rb", opener=opener) as file:
            found = jsontext.loads(file.read(_MOST_BYTES))
        return {str(name): str(address) for name, address in found.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _write(data_root: str, taken: dict[str, str]) -> None:
    from orchestrator.errors import HostError
    from orchestrator.kernel.atomic import replace_file

    path = os.path.join(data_root, _FILE)
    try:
        if not taken:
            os.unlink(path)
            return
        replace_file(path, jsontext.dumps(dict(sorted(taken.items()))).encode() + b"\n")
    except OSError as exc:
        raise HostError(f"cannot write {path}: {exc.strerror}") from exc
