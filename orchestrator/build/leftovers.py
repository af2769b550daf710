"""``python -m orchestrator.build.leftovers DATA_ROOT RUN_ROOT PLACE``: what a killed build left is removed at once.

The monitor of the build's containers executes it when the build has gone without a word while something of it still runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial

import trio

from orchestrator.build.workshop import clear_place
from orchestrator.images.store.store import Store
from orchestrator.runtime.host_check import find_host


def main(arguments: Sequence[str]) -> None:
    """Raises HostError."""
    data_root, run_root, place = arguments
    trio.run(partial(clear_place, data_root, run_root, place, find_host()))
    Store(os.path.join(data_root, "images")).sweep()


if __name__ == "__main__":
    main(sys.argv[1:])
