"""The container's first process, from its birth to its execve (docs/oci-cli.md has the order of it all).

It is born in the new namespaces, as a fork of `create`, and waits for each word of it. What it needs of the host's file
system was opened before (`preparing`). Once it has begun to mount, nothing is imported, looked up or formatted any more:
the file system is becoming the image's, and what it offers would run with our rights. A failure is an errno and a text that
was there before.
"""

from __future__ import annotations

import errno
import os
import stat
import struct

from orchestrator.kernel import constants as c
from orchestrator.kernel import mounts, process
from orchestrator.kernel.fdpass import accept
from orchestrator.kernel.loopback import raise_loopback
from orchestrator.kernel.rooted import ensure, open_in, read_small_file
from orchestrator.kernel.syscalls import setdomainname, sethostname
from orchestrator.kernel.trees import copy_tree
from orchestrator.standalone.becoming import become, find_command
from orchestrator.standalone.birth import MOST_WORD, Birth
from orchestrator.standalone.hooks import run_hooks
from orchestrator.standalone.identities import home_of
from orchestrator.standalone.plans import Device, Mount, Plan
from orchestrator.standalone.terminals import make_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import NoReturn

FAILED, HOOKS, READY = b"e", b"h", b"r"
"""Words of the first process: what failed, its namespaces are made, it waits for `start`."""
GO, ON, START = b"m", b"c", b"s"
"""Words of `create`: it is in its cgroups and has its ids; the hooks have run; begin."""
_PROC_FLAGS = c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NODEV | c.MOUNT_ATTR_NOEXEC
_DEV_LINKS = (
    (b"fd", b"/proc/self/fd"),
    (b"stdin", b"/proc/self/fd/0"),
    (b"stdout", b"/proc/self/fd/1"),
    (b"stderr", b"/proc/self/fd/2"),
)
_NULL = os.makedev(1, 3)


class FirstProcess:
    def __init__(self, plan: Plan, birth: Birth, control: socket.socket) -> None:
        self.plan, self.birth = plan, birth
        self.about = b"begin"
        self.control = self.channel = control
        self.pid = 0
        self.command = b""
        self.null = -1
        self.nursery = -1
        """Where prepared mounts are copied: below all that is the container's."""

    def run(self) -> NoReturn:
        """Never returns, never raises."""
        try:
            self._to_ready()
            self._wait_for_start()
            self._to_execve()
        except OSError as exc:
            self._fail(exc.errno or 0)
        except BaseException:
            self._fail(0)
        finally:
            os._exit(1)

    def _fail(self, number: int) -> None:
        try:
            self.channel.send(FAILED + struct.pack("=i", number) + self.about)
        except OSError:
            return

    def _hear(self, word: bytes) -> bytes:
        """The rest of what was said. Ends with who should have said it."""
        said = self.control.recv(MOST_WORD)
        if said[:1] != word:
            os._exit(1)
        return said[1:]

    # ---- up to `start` --------------------------------------------------------------------------------------------

    def _to_ready(self) -> None:
        plan = self.plan
        process.set_not_dumpable()
        self.about = b"enter the control groups"
        self.birth.enter(self.control)
        (self.pid,) = struct.unpack("=i", self._hear(GO))
        plan.identity.pid = self.pid
        self._enter()
        self._make_root()
        for mount in plan.mounts:
            self.about = mount.about
            self._mount(mount)
        self._make_devices()
        if plan.terminal:
            self.about = b"make the terminal"
            self._make_terminal()
        for name, value in plan.sysctls:
            self.about = b"set the sysctl " + name.replace(b"/", b".")
            fd = os.open(b"/proc/sys/" + name, os.O_WRONLY | os.O_CLOEXEC)
            os.write(fd, value)
            os.close(fd)
        self.control.send(HOOKS)
        self._hear(ON)
        for hook in plan.create_hooks:
            self.about = b"run the createContainer hook " + hook.path
            run_hooks((hook,), plan.state["creating"] % self.pid, plan.bundle)
        if plan.start_hooks:
            self.null = os.open(b"/dev/null", os.O_WRONLY | os.O_CLOEXEC)
        self._hide()
        self._pivot()
        self._enter_directory()
        self.command = self._find()
        self.control.send(READY)

    def _enter(self) -> None:
        plan = self.plan
        self.about = b"enter the namespaces"
        if plan.mount_path >= 0:
            process.setns(plan.mount_path, c.CLONE_NEWNS)
        if plan.new_user:
            if plan.identity.set_groups:
                os.setgroups([])
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            process.set_not_dumpable()
        if plan.new_cgroup:
            process.unshare(c.CLONE_NEWCGROUP)
        os.setsid()
        if plan.keyring:
            self.about = b"make a session keyring"
            try:
                process.join_new_session_keyring()
            except OSError as exc:
                if exc.errno not in (errno.ENOSYS, errno.EPERM):
                    raise
        if plan.new_network:
            self.about = b"raise the loopback device"
            raise_loopback()
        if plan.hostname:
            self.about = b"set the host name"
            sethostname(plan.hostname)
        if plan.domainname:
            self.about = b"set the domain name"
            setdomainname(plan.domainname)

    def _make_root(self) -> None:
        if not self.plan.own_mounts:
            return  # The root stays in no namespace, with all that is mounted in it, and is gone with who is in it.
        self.about = b"make the root file system"
        mounts.set_attributes(c.AT_FDCWD, propagation=self.plan.host_propagation, recursive=True, path=b"/")
        # What is mounted on / hides nothing from us: our own root is what is below it.
        mounts.set_attributes(c.AT_FDCWD, propagation=c.MS_PRIVATE, path=b"/")
        place = self._place_of_root()
        if any(mount.tree >= 0 for mount in self.plan.mounts):
            self._make_nursery(place)
        mounts.attach(self.plan.root, c.AT_FDCWD, place)

    def _place_of_root(self) -> bytes:
        """On / it is in nobody's way. Hooks look for it, and mount into it, where the bundle has it."""
        shown_at = os.fsencode(self.plan.shown_at)
        try:  # It may be out of reach of a user namespace, or not be there in a mount namespace by path.
            found, ours = os.stat(shown_at or b"/"), os.fstat(self.plan.root)
        except OSError:
            return b"/"
        return shown_at if (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino) else b"/"

    def _make_nursery(self, place: bytes) -> None:
        self.nursery = mounts.new_filesystem(b"tmpfs", [(b"size", b"4k"), (b"mode", b"700")])
        mounts.attach(self.nursery, c.AT_FDCWD, place)
        os.mkdir(b"d", dir_fd=self.nursery)
        os.mknod(b"f", dir_fd=self.nursery)

    def _mount(self, mount: Mount) -> None:
        root = self.plan.root
        if mount.link:
            above = ensure(root, os.path.dirname(mount.target) or b"/", directory=True)
            try:
                self._link(mount.link, os.path.basename(mount.target), above)
            finally:
                os.close(above)
            return
        tree = mount.tree
        directory = mount.directory
        if tree < 0 and not mount.kind:
            where = open_in(root, mount.target)
            if self.plan.own_mounts:
                mounts.set_attributes(where, mount.set_)
            else:  # Of what is attached the kernel changes only what is in our namespace.
                self._cover_read_only(where)
            os.close(where)
            return
        if tree < 0 and mount.old_way:
            where = ensure(root, mount.target, directory=True)
            mounts.mount_by_name(mount.source, b"/proc/self/fd/%d" % where, mount.kind, mount.old_way)
            os.close(where)
            where = ensure(root, mount.target, directory=True)
            mounts.set_attributes(where, mount.set_, mount.clear)
            os.close(where)
            return
        where = self._there(mount.target) if mount.mode_of_target else -1
        if where >= 0:
            mount.data.append((b"mode", b"%o" % stat.S_IMODE(os.fstat(where).st_mode)))
        else:
            where = ensure(root, mount.target, directory=directory)
            if mount.mode_of_target:  # The kernel's own for a tmpfs, and so for the next one on this root.
                os.chmod(b"/proc/self/fd/%d" % where, 0o1777)
        tree = self._new(mount) if tree < 0 else self._renewed(tree, b"d" if directory else b"f")
        if mount.copy_up:
            self._copy_up(mount.target, tree)
            mounts.set_attributes(tree, mount.set_ & c.MOUNT_ATTR_RDONLY)
        if directory != stat.S_ISDIR(os.fstat(where).st_mode):  # The kernel's own words would be EINVAL.
            raise OSError(errno.ENOTDIR, "")
        if mount.propagation is not None:
            mounts.set_attributes(tree, propagation=mount.propagation[0], recursive=mount.propagation[1])
        mounts.attach(tree, where)
        if os.path.normpath(mount.target) in (b"/", b"//"):
            self.plan.root, tree = tree, root  # It covers the root that was: all else is done in it.
        os.close(where)
        os.close(tree)

    def _renewed(self, tree: int, name: bytes) -> int:
        """A copy of a prepared mount: /proc/self/mountinfo has mounts in the order in which they were made, and `create`
        has made this one before all file systems of the container's own. What was copied goes with the host's file
        system."""
        if self.nursery < 0:
            return tree
        mounts.attach(tree, self.nursery, name)  # The kernel copies only what is in our namespace.
        try:
            fresh = mounts.open_tree(tree, b"", recursive=True)
        except OSError:
            return tree  # To be moved on.
        # Not with its peers, who would lose what is mounted below it.
        mounts.set_attributes(tree, propagation=c.MS_PRIVATE, recursive=True)
        os.close(tree)
        return fresh

    def _link(self, target: bytes, name: bytes, above: int) -> None:
        try:
            os.symlink(target, name, dir_fd=above)
        except FileExistsError:
            if not stat.S_ISLNK(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
                raise
            if os.readlink(name, dir_fd=above) != target:
                raise

    def _new(self, mount: Mount) -> int:
        try:
            # Read-only is it once it has got its content.
            set_ = mount.set_ & ~c.MOUNT_ATTR_RDONLY if mount.copy_up else mount.set_
            return mounts.new_filesystem(mount.kind, mount.data, set_)
        except OSError as exc:
            if not mount.fallback or exc.errno not in (errno.EPERM, errno.EBUSY):
                raise
        tree = mounts.open_tree(c.AT_FDCWD, mount.fallback, recursive=True)
        mounts.set_attributes(tree, mount.set_ & c.MOUNT_ATTR_RDONLY | _PROC_FLAGS, propagation=c.MS_PRIVATE)
        return tree

    def _copy_up(self, target: bytes, tree: int) -> None:
        source = open_in(self.plan.root, target, os.O_RDONLY | os.O_DIRECTORY)
        # Only what is attached can be written to through any descriptor of it.
        copy = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=tree)
        copy_tree(source, copy)
        os.close(copy)
        os.close(source)

    def _make_devices(self) -> None:
        root = self.plan.root
        before = os.umask(0)
        for device in self.plan.devices:
            self.about = device.about
            if device.tree >= 0:
                where = ensure(root, device.path, directory=False)
                mounts.attach(device.tree, where)
                os.close(where)
                os.close(device.tree)
                continue
            above = ensure(root, os.path.dirname(device.path), directory=True)
            self._make_device(above, os.path.basename(device.path), device)
            os.close(above)
        if self.plan.dev_links:
            self.about = b"make the links in /dev"
            dev = ensure(root, b"/dev", directory=True)
            for name, target in (*_DEV_LINKS, *self._ptmx(dev)):
                try:
                    os.symlink(target, name, dir_fd=dev)
                except FileExistsError:
                    continue
                except OSError as exc:
                    if exc.errno != errno.EROFS:
                        raise
            os.close(dev)
        os.umask(before)

    def _ptmx(self, dev: int) -> tuple[tuple[bytes, bytes], ...]:
        try:
            os.stat(b"pts/ptmx", dir_fd=dev, follow_symlinks=False)
        except OSError:
            return ()
        return ((b"ptmx", b"pts/ptmx"),)

    def _make_device(self, above: int, name: bytes, device: Device) -> None:
        try:
            os.mknod(name, device.mode, device.device, dir_fd=above)
        except FileExistsError:
            found = os.stat(name, dir_fd=above, follow_symlinks=False)
            if stat.S_IFMT(found.st_mode) == stat.S_IFMT(device.mode) and found.st_rdev == device.device:
                return
            raise
        os.chown(name, device.uid, device.gid, dir_fd=above, follow_symlinks=False)

    def _make_terminal(self) -> None:
        plan = self.plan
        assert plan.console is not None
        number = make_terminal(plan.root, plan.console, plan.identity.uid, plan.size)
        tree = mounts.open_tree(open_in(plan.root, b"/dev/pts/%d" % number), b"")
        where = ensure(plan.root, b"/dev/console", directory=False)
        mounts.attach(tree, where)
        os.close(tree)
        os.close(where)

    def _hide(self) -> None:
        plan = self.plan
        null = os.open(b"/dev/null", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        for path in plan.masked:
            self.about = b"mask " + path
            where = self._there(path)
            if where < 0:
                continue
            if stat.S_ISDIR(os.fstat(where).st_mode):
                tree = mounts.new_filesystem(b"tmpfs", [(b"size", b"0"), (b"nr_inodes", b"2")], c.MOUNT_ATTR_RDONLY)
            else:
                found = os.fstat(null)
                if not stat.S_ISCHR(found.st_mode) or found.st_rdev != _NULL:
                    raise OSError(errno.ENODEV, "")
                tree = mounts.open_tree(null, b"")
                mounts.set_attributes(tree, propagation=c.MS_PRIVATE)
            mounts.attach(tree, where)
            os.close(tree)
            os.close(where)
        os.close(null)
        for path in plan.read_only:
            self.about = b"make read-only: " + path
            where = self._there(path)
            if where < 0:
                continue
            self._cover_read_only(where)
            os.close(where)

    def _cover_read_only(self, where: int) -> None:
        tree = mounts.open_tree(where, b"", recursive=True)
        mounts.set_attributes(tree, c.MOUNT_ATTR_RDONLY, propagation=c.MS_PRIVATE, recursive=True)
        mounts.attach(tree, where)
        os.close(tree)

    def _there(self, path: bytes) -> int:
        try:
            return open_in(self.plan.root, path)
        except (FileNotFoundError, NotADirectoryError):
            return -1

    def _pivot(self) -> None:
        plan = self.plan
        self.about = b"pivot into the root file system"
        if plan.pivot and plan.own_mounts:
            mounts.pivot_to(plan.root, self.nursery)
            if self.nursery >= 0:
                os.close(self.nursery)
        else:
            os.fchdir(plan.root)
            os.chroot(b".")
            os.chdir(b"/")

    def _enter_directory(self) -> None:
        plan, identity = self.plan, self.plan.identity
        self.about = b"enter the working directory " + identity.cwd
        # A root that is read-only becomes so only now: the working directory may have to be made.
        fd = ensure(plan.root, identity.cwd, directory=True)
        os.fchdir(fd)
        os.close(fd)
        if not os.getcwdb().startswith(b"/"):
            raise OSError(errno.ENOENT, "")
        self.about = b"make the root file system read-only"
        if plan.root_read_only:
            mounts.set_attributes(plan.root, c.MOUNT_ATTR_RDONLY)
        if plan.root_propagation is not None:
            self.about = b"set the propagation of the root file system"
            kind, below = plan.root_propagation
            mounts.set_attributes(plan.root, propagation=kind, recursive=below)
        identity.variables.setdefault(b"HOME", home_of(identity.uid, read_small_file(plan.root, b"/etc/passwd") or b""))

    def _find(self) -> bytes:
        return find_command(self.plan.identity, self._say)

    def _say(self, about: bytes) -> None:
        self.about = about

    # ---- from `start` to execve -----------------------------------------------------------------------------------

    def _wait_for_start(self) -> None:
        """In `run` the word comes by the control socket; after `create` from whoever connects. Who connects and says
        nothing only wanted to know whether we wait."""
        listener = self.plan.listener
        if listener is None:
            self._hear(START)
            return
        self.control.close()
        while True:
            channel = accept(listener)
            if channel.recv(16) == START:
                self.channel = channel
                listener.close()
                return
            channel.close()

    def _to_execve(self) -> None:
        plan, identity = self.plan, self.plan.identity
        for hook in plan.start_hooks:
            self.about = b"run the startContainer hook " + hook.path
            run_hooks((hook,), plan.state["created"] % self.pid, null=self.null)
        become(identity, self._say, own_stdio=not plan.terminal)
        self.about = b"execute " + identity.argv[0]
        os.execve(self.command, identity.argv, identity.variables)
