"""The last steps before execve, of a container's first process and of `exec`'s: rights, ids, filter.

Nothing is imported, looked up or formatted here: the file system is the image's.
"""

from __future__ import annotations

import errno
import os
import resource
import stat

from orchestrator.kernel import fdpass, process
from orchestrator.kernel.syscalls import call, cloexec_from, number_of
from orchestrator.standalone.identities import Identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable

    Say = Callable[[bytes], None]
else:  # It would make enumerations of all that it has
    import _signal as signal

_NULL = os.makedev(1, 3)


def find_command(identity: Identity, say: Say) -> bytes:
    """Where ``argv[0]`` is. Raises OSError when there is no such program, or it is none."""
    name = identity.argv[0]
    if b"/" in name:
        say(b"execute " + name)
        found = os.stat(name)
        if not stat.S_ISREG(found.st_mode) or not found.st_mode & 0o111:
            raise OSError(errno.EACCES, "")
        return name
    refused = errno.ENOENT
    for directory in identity.variables.get(b"PATH", identity.default_path).split(b":"):
        path = (directory or b".") + b"/" + name
        try:
            found = os.stat(path)
        except OSError:
            continue
        if stat.S_ISREG(found.st_mode) and found.st_mode & 0o111:
            return path
        refused = errno.EACCES
    say(b"executable file `" + name + b"` not found in $PATH")
    raise OSError(refused, "")


def become(identity: Identity, say: Say, *, own_stdio: bool) -> None:
    """All that only execve is left after. Root of the container's namespaces until the ids are set."""
    if own_stdio:
        for fd in range(3):
            _give(fd, identity.uid)
    say(b"set the resource limits")
    for kind, soft, hard in identity.limits:
        try:
            resource.setrlimit(kind, (soft, hard))
        except ValueError:
            raise OSError(errno.EPERM, "") from None
    if identity.personality is not None:
        say(b"set the personality")
        call(number_of("personality"), identity.personality)
    if identity.memory_policy is not None:
        say(b"set the memory policy")
        mode, nodes, bits = identity.memory_policy
        call(number_of("set_mempolicy"), mode, nodes, bits)
    if identity.label:
        say(b"set the label")
        fd = os.open(identity.label_file, os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, identity.label)
        os.close(fd)
    if identity.no_new_privileges:
        process.set_no_new_privileges()
    say(b"drop capabilities")
    process.drop_bounding(identity.bounding, identity.last_capability)
    say(b"set the user id")
    process.keep_capabilities()
    if identity.set_groups:
        os.setgroups(identity.groups)
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    os.umask(identity.umask)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    cloexec_from(3)
    for fd in identity.kept:
        os.set_inheritable(fd, True)
    if identity.filter is not None and not identity.no_new_privileges:
        # Needs CAP_SYS_ADMIN, so before the capabilities; and after all else, none of which a filter need let through.
        say(b"install the seccomp filter")
        _, permitted, inheritable = process.capabilities()
        process.set_capabilities(permitted, permitted, inheritable)
        install_filter(identity)
    say(b"set capabilities")
    process.set_capabilities(*identity.sets)
    process.raise_ambient(identity.ambient)
    say(b"install the seccomp filter")
    if identity.filter is not None and identity.no_new_privileges:
        install_filter(identity)


def install_filter(identity: Identity) -> None:
    assert identity.filter is not None
    if identity.listener is None:
        process.install_seccomp(identity.filter, identity.filter_flags)
        return
    fd = process.install_seccomp_listener(identity.filter, identity.filter_flags)
    fdpass.send(identity.listener, identity.listener_state % (identity.pid, identity.pid), [fd])
    os.close(fd)


def _give(fd: int, uid: int) -> None:
    """Pipes and terminals of ours to the container's user, so that /dev/stdout can be opened; never /dev/null."""
    try:
        found = os.fstat(fd)
        if found.st_uid != uid and found.st_rdev != _NULL and not stat.S_ISREG(found.st_mode):
            os.fchown(fd, uid, -1)
    except OSError:
        return
