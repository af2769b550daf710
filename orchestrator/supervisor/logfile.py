"""``supervisor.log``: what the supervisor has to say when nobody listens."""

from __future__ import annotations

import os
from contextlib import suppress

from orchestrator.contracts.site import Site
from orchestrator.errors import HostError
from orchestrator.kernel.plain import open_plain

LIMIT_BYTES = 1 << 20


def write_to_log(site: Site) -> None:
    """From now on stdout and stderr are the log; one that is long becomes ``supervisor.log.1`` first. The caller holds the
    project's lock. Raises HostError."""
    path = os.path.join(site.data_dir, "supervisor.log")
    try:
        with suppress(FileNotFoundError):
            if os.lstat(path).st_size > LIMIT_BYTES:
                os.replace(path, path + ".1")
        log = open_plain(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    except OSError as exc:
        raise HostError(f"cannot write {path}: {exc.strerror}") from exc
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
