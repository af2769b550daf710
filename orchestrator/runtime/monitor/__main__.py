"""``python -I -S -X utf8 .../runtime/monitor/__main__.py FD DATA_DIR``: started by `runtime.cradle`, from whose end of the
socket FD it gets what it needs once that is known.

Everything is imported before the host's file system is left: from then on no module could be found, and none is looked for.
"""

from __future__ import annotations

import gc
import os
import sys

# Our own packages last: none stands in for one of the library's.
sys.path.append(os.path.abspath(f"{__file__}/../../../.."))

from orchestrator.kernel import fdpass, process
from orchestrator.kernel.clean_start import start_clean
from orchestrator.kernel.jsontext import loads
from orchestrator.kernel.limits import make_room
from orchestrator.kernel.spawn import born
from orchestrator.runtime.monitor.mount_namespace import enter_own
from orchestrator.runtime.monitor.server import Monitor

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    import socket
else:  # `signal` and `socket` make enumerations of all that they have
    import _signal as signal
    import _socket as socket


def main(starter_fd: int) -> None:
    starter = socket.socket(fileno=starter_fd)
    packet, fds, _ = fdpass.receive(starter, 1 << 16)
    starter.close()
    if not packet:  # The supervisor went away, or needs no monitor.
        return
    about = loads(packet)
    listen_fd, log = fds
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    serve(listen_fd, about["data_dir"], about["extents"])


def serve(listen_fd: int, data_dir: str, extents: list[list[int]]) -> None:
    # SIGPIPE stays ignored: who waits at a gate may have been killed.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    start_clean()  # What it says was said by the supervisor, which has told it to somebody.
    make_room()
    # Started by a descriptor (`runtime.cradle`), we would be called after its number.
    process.name_thread(b"pystack-monitor")
    # Before the first child: what we are must not be readable from a container (security page, rule 2).
    process.set_not_dumpable()
    listener = socket.socket(fileno=listen_fd)
    os.set_inheritable(listen_fd, False)
    # Again, and now by us: SO_PEERCRED tells who listened, and that has to be the monitor.
    listener.listen(16)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
    data = os.open(data_dir, flags)
    logs = os.open("logs", flags, dir_fd=data)
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot_id = file.read().strip()
    namespaces = enter_own(data_dir)
    monitor = Monitor(listener, namespaces, data, logs, boot_id, extents)
    # No cycles are made in the loop; a collection would only unshare pages from the children.
    gc.collect()
    gc.freeze()
    gc.disable()
    sys.path.clear()
    monitor.run()
    # Dismantling the interpreter takes longer than the kernel takes to dismantle the rest, and `down` waits for it.
    os._exit(0)


born((int(sys.argv[1]),))
main(int(sys.argv[1]))
