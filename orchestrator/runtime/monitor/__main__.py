"""``python -I -S -X utf8 .../runtime/monitor LISTEN_FD DATA_DIR HOST_BASE COUNT``: started by `runtime.link`.

Everything is imported before the host's file system is left: from then on no module could be found, and none is looked for.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys

# Without this directory, which Python puts first; and our own packages last: none stands in for one of the library's.
sys.path[:] = [*sys.path[1:], os.path.abspath(f"{__file__}/../../../..")]

from orchestrator.kernel import process  # noqa: E402
from orchestrator.kernel.clean_start import start_clean  # noqa: E402
from orchestrator.runtime.monitor.mount_namespace import enter_own  # noqa: E402
from orchestrator.runtime.monitor.server import Monitor  # noqa: E402


def main(listen_fd: int, data_dir: str, host_base: int, count: int) -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    start_clean()  # What it says was said by the supervisor, which has told it to somebody.
    # Before the first child: what we are must not be readable from a container (security page, rule 2).
    process.set_not_dumpable()
    listener = socket.socket(fileno=listen_fd)
    listener.set_inheritable(False)
    # Again, and now by us: SO_PEERCRED tells who listened, and that has to be the monitor.
    listener.listen(16)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
    data = os.open(data_dir, flags)
    logs = os.open("logs", flags, dir_fd=data)
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot_id = file.read().strip()
    namespaces = enter_own(data_dir)
    monitor = Monitor(listener, namespaces, data, logs, boot_id, (host_base, count))
    # No cycles are made in the loop; a collection would only unshare pages from the children.
    gc.collect()
    gc.freeze()
    gc.disable()
    sys.path.clear()
    monitor.loop.run()


main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
