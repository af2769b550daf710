"""The first moments of a supervisor's process, before anything that takes long to import is imported.

    close what the starter's shell left open - start the monitor (`runtime.cradle`) - import the rest - wait for the word to
    begin (`orchestrator.launch`) - live (`main`) - leave without dismantling the interpreter
"""

from __future__ import annotations

import gc
import os
import sys

from orchestrator.kernel.spawn import born
from orchestrator.model.keys import ProjectName
from orchestrator.runtime import cradle
from orchestrator.state.directory import site_of
from orchestrator.supervisor.options import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from orchestrator.supervisor.options import Options


def main(argv: Sequence[str]) -> NoReturn:
    """Does not return. Ends with 0 when its starter goes away before it gave the word."""
    # Modules and classes are no garbage, and looking at them again and again is a tenth of the imports' time.
    gc.disable()
    options = parse(argv)
    born(fd for fd in (options.go_fd, options.ready_fd) if fd is not None)
    site = site_of(options.data_dir, options.run_dir, ProjectName(options.project))
    if not os.path.exists(os.path.join(site.run_dir, "monitor.sock")):
        cradle.begin_ahead(site.data_dir)
    code = 1
    try:
        live = _imported()
        gc.enable()
        gc.freeze()
        code = live(options) if _may_begin(options.go_fd) else 0
    except Exception:
        import traceback

        traceback.print_exc()
    finally:
        # A monitor that nobody took sees its connection close, and ends.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _imported() -> Callable[[Options], int]:
    """`main.live`. trio asks ctypes for the thread library's name when it is imported, for which that runs ldconfig: 8 ms
    for names of threads that nobody reads. Meanwhile the answer is that there is none."""
    import ctypes.util

    asked = ctypes.util.find_library
    ctypes.util.find_library = lambda _name: None  # type: ignore[assignment]
    try:
        from orchestrator.supervisor.main import live
    finally:
        ctypes.util.find_library = asked
    return live


def _may_begin(go_fd: int | None) -> bool:
    """Wait for the starter's word; False when it has gone instead."""
    if go_fd is None:
        return True
    try:
        return os.read(go_fd, 1) != b""
    finally:
        os.close(go_fd)
