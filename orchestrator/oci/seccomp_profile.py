"""The default system call filter, as an OCI ``linux.seccomp`` object (runtime-spec, config-linux.md, "Seccomp").

An allow-list after Docker's documented default profile, with its exceptions for capabilities that are added: what
administers the machine or opens rarely audited kernel code (mount, bpf, kexec, keyrings,
io_uring, userfaultfd, ...) is not in it and gives EPERM, unless a capability is held that is for it. Beyond that list:

* ``clone3`` gives ENOSYS: its flags lie in memory, where a filter cannot see them; C libraries fall back to ``clone``,
  which is allowed without any flag for a new namespace. Both are allowed with CAP_SYS_ADMIN.
* ``socket`` is refused for AF_ALG (38) and AF_VSOCK (40), which reach the kernel's crypto code and the hypervisor. The
  allowed families are written as masked blocks, because the kernel looks at 32 bits of an argument that has 64.
  ``socketcall(SYS_SOCKET)``, the way around for 32-bit x86 programs, is refused as well.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any

EPERM = 1
ENOSYS = 38

ARCHITECTURES = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86"),
    "aarch64": ("SCMP_ARCH_AARCH64",),
}
"""Machine (``os.uname().machine``) -> architectures of the filter, the native one first. x32 is deliberately absent."""

_NAMES = """
    accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget capset chdir chmod chown chown32 chroot
    clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
    clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1
    epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit
    exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2
    fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat
    fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait
    futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid
    getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid
    getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname
    getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1
    inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl
    ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32
    lgetxattr link linkat listen listmount listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat
    lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock
    mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64
    mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall
    munmap name_to_handle_at nanosleep newfstatat _newselect open openat openat2 pause pidfd_open pidfd_send_signal
    pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64
    process_mrelease process_vm_readv process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read
    readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr
    removexattrat rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask
    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
    sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
    sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile
    sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid
    setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid
    setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr
    setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketpair
    splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range sync_file_range2 syncfs
    sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime
    timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill
    truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork
    vmsplice wait4 waitid waitpid write writev
"""

ALLOWED = tuple(_NAMES.split())
"""Allowed whatever the arguments. Names that an architecture does not have are passed over there. ``chroot`` is for
CAP_SYS_CHROOT, which is among the default capabilities."""

_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
"""Linux, PER_LINUX32, both with UNAME26, and "tell me": none that turns off address space randomisation."""

_NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET."""

_FAMILY_BLOCKS = (
    (0xFFFFFFE0, 0),  # 0-31
    (0xFFFFFFFC, 32),  # 32-35
    (0xFFFFFFFE, 36),  # 36, 37; 38 is AF_ALG
    (0xFFFFFFFF, 39),  # 40 is AF_VSOCK
    (0xFFFFFFFF, 41),
    (0xFFFFFFFE, 42),  # 42, 43
    (0xFFFFFFFC, 44),  # 44-47; AF_MAX is 46 in Linux 6.18
)


_WITH_CAPABILITY = {
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYS_ADMIN": """
        bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount
        open_tree open_tree_attr perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount
        umount2 unshare
    """,
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_MODULE": "delete_module init_module finit_module",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYSLOG": "syslog",
}
"""Capability -> calls that are allowed to who holds it, as in Docker's profile; the kernel asks for it again."""


def default_profile(machine: str, held: Collection[str] = ()) -> dict[str, Any]:
    """The profile for `machine` and a process with `held` in its bounding set; one shared object for all that need the
    same: do not change it. Raises KeyError for a machine without a table."""
    return _default_profile(machine, tuple(name for name in _WITH_CAPABILITY if name in held))


@cache
def _default_profile(machine: str, held: tuple[str, ...]) -> dict[str, Any]:
    masked, equal = "SCMP_CMP_MASKED_EQ", "SCMP_CMP_EQ"
    syscalls: list[dict[str, Any]] = [{"names": list(ALLOWED), "action": "SCMP_ACT_ALLOW"}]
    syscalls += [
        _when("personality", {"index": 0, "value": value, "op": equal}) for value in _PERSONALITIES
    ]
    syscalls += [
        _when("socket", {"index": 0, "value": bits, "valueTwo": family, "op": masked}) for bits, family in _FAMILY_BLOCKS
    ]
    if "CAP_SYS_ADMIN" not in held:
        syscalls += [
            _when("clone", {"index": 0, "value": _NEW_NAMESPACES, "valueTwo": 0, "op": masked}),
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS},
        ]
    syscalls += [{"names": _WITH_CAPABILITY[name].split(), "action": "SCMP_ACT_ALLOW"} for name in held]
    if "SCMP_ARCH_X86" in ARCHITECTURES[machine]:
        # Every call but SYS_SOCKET (1): 0, 2-3, 4-7, 8-15, 16-31 (there are 20).
        blocks = ((0xFFFFFFFF, 0), (0xFFFFFFFE, 2), (0xFFFFFFFC, 4), (0xFFFFFFF8, 8), (0xFFFFFFF0, 16))
        syscalls += [
            _when("socketcall", {"index": 0, "value": bits, "valueTwo": call, "op": masked}) for bits, call in blocks
        ]
        syscalls.append({"names": ["modify_ldt"], "action": "SCMP_ACT_ALLOW"})
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": EPERM,
        "architectures": list(ARCHITECTURES[machine]),
        "syscalls": syscalls,
    }


def _when(name: str, condition: dict[str, Any]) -> dict[str, Any]:
    """`name` is allowed when `condition` holds; rules of one name add up."""
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [condition]}
