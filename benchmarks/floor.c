/* The floor: what starting containers costs when a C program makes the system calls and decides nothing.
 *
 *   floor DIRECTORY ROOTFS COUNT IN_FLIGHT RESTARTS
 *
 * Starts COUNT containers, at most IN_FLIGHT of them between clone3 and exec at a time, each with what pystack gives to
 * one: user, pid, mount, uts, ipc, cgroup and network namespaces, an idmapped overlay root, /proc, /sys and /dev,
 * /etc/hosts, /etc/hostname and /etc/resolv.conf, pivot_root, masked and read-only paths, a cgroup in each hierarchy with its limits, a veth on a bridge with an address
 * and a default route, eleven capabilities, a seccomp filter, and exec of `/bin/sleep 3600`. Then it kills and starts
 * again the first container RESTARTS times, in the same network namespace, on the same files. Prints one line of JSON with
 * milliseconds, removes what it made in the kernel, and leaves the files below DIRECTORY to the caller.
 *
 * Sources: clone(2), mount_setattr(2), fsopen and its kin in linux/mount.h, pivot_root(2), rtnetlink(7), veth(4),
 * seccomp(2), capabilities(7), cgroups(7).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/veth.h>
#include <arpa/inet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Numbers that Debian 12's headers may lack or that clash between libc's and the kernel's. */
#define SYS_open_tree_ 428
#define SYS_move_mount_ 429
#define SYS_fsopen_ 430
#define SYS_fsconfig_ 431
#define SYS_fsmount_ 432
#define SYS_clone3_ 435
#define SYS_close_range_ 436
#define SYS_mount_setattr_ 442
#define INTO_CGROUP 0x200000000ULL
#define NEWCGROUP 0x02000000
#define TREE_CLONE 1
#define TREE_CLOEXEC O_CLOEXEC
#define MOVE_F_EMPTY 4
#define CFG_STRING 1
#define CFG_FD 5
#define CFG_CREATE 6
#define ATTR_RDONLY 0x1
#define ATTR_IDMAP 0x00100000

#define BASE_ID 1900000000u
#define MOST 512

struct attributes { unsigned long long set, clear, propagation, userns; };
struct clone_arguments {
    unsigned long long flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

struct container {
    pid_t pid;
    int pidfd, go, failed, netns, userns;
    char directory[256];
};

static struct container all[MOST];
static const char *directory, *rootfs;
static int lower_fd = -1, bridge, netlink, own_id;
static unsigned sequence;
static const char *const V1[] = {"memory", "pids", "cpu", "freezer", "devices"};
static char v2_root[64];

static void die(const char *what) {
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

static long must(long result, const char *what) {
    if (result < 0) die(what);
    return result;
}

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static int put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t written = write(fd, text, strlen(text));
    close(fd);
    return written == (ssize_t)strlen(text) ? 0 : -1;
}

/* --- rtnetlink: messages packed by hand, one send for a batch --------------------------------------------------- */

struct batch { char data[4096]; size_t length, message; };

static void begin(struct batch *b, int type, int flags, const void *head, size_t size) {
    b->message = b->length;
    struct nlmsghdr *header = (void *)(b->data + b->length);
    *header = (struct nlmsghdr){.nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags, .nlmsg_seq = ++sequence};
    memcpy(NLMSG_DATA(header), head, size);
    b->length += NLMSG_SPACE(size);
}

static void end(struct batch *b) {
    ((struct nlmsghdr *)(b->data + b->message))->nlmsg_len = b->length - b->message;
}

static size_t attribute(struct batch *b, int type, const void *value, size_t size) {
    size_t at = b->length;
    struct rtattr *a = (void *)(b->data + at);
    a->rta_type = type;
    a->rta_len = RTA_LENGTH(size);
    if (size) memcpy(RTA_DATA(a), value, size);
    b->length += RTA_SPACE(size);
    return at;
}

static void close_nest(struct batch *b, size_t at) { ((struct rtattr *)(b->data + at))->rta_len = b->length - at; }

/* Sends and waits for every acknowledgement. */
static int talk(int fd, struct batch *b, int messages) {
    char reply[8192];
    if (send(fd, b->data, b->length, 0) < 0) return -1;
    while (messages > 0) {
        ssize_t got = recv(fd, reply, sizeof reply, 0);
        if (got < 0) return -1;
        for (struct nlmsghdr *h = (void *)reply; NLMSG_OK(h, got); h = NLMSG_NEXT(h, got)) {
            if (h->nlmsg_type != NLMSG_ERROR) continue;
            int error = ((struct nlmsgerr *)NLMSG_DATA(h))->error;
            if (error) {
                errno = -error;
                return -1;
            }
            messages--;
        }
    }
    return 0;
}

static void make_bridge(void) {
    char name[IFNAMSIZ];
    snprintf(name, sizeof name, "flb%d", own_id);
    struct batch b = {.length = 0};
    struct ifinfomsg link = {.ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    begin(&b, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link, sizeof link);
    attribute(&b, IFLA_IFNAME, name, strlen(name) + 1);
    size_t info = attribute(&b, IFLA_LINKINFO, NULL, 0);
    attribute(&b, IFLA_INFO_KIND, "bridge", 7);
    close_nest(&b, info);
    end(&b);
    must(talk(netlink, &b, 1), "make the bridge");
    bridge = must(if_nametoindex(name) ? (long)if_nametoindex(name) : -1, "find the bridge");
}

static int delete_link(int index) {
    struct batch b = {.length = 0};
    struct ifinfomsg link = {.ifi_index = index};
    begin(&b, RTM_DELLINK, 0, &link, sizeof link);
    end(&b);
    return talk(netlink, &b, 1);
}

static void delete_links(int count) {
    char name[IFNAMSIZ];
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "flv%d.%d", own_id, i);
        int index = if_nametoindex(name);
        if (index) delete_link(index); /* it may just have gone with its network namespace */
    }
    must(delete_link(bridge), "delete the bridge");
}

/* The host's end on the bridge and up, the other end in `pid`'s network namespace, in one request. */
static void make_veth(int index, pid_t pid) {
    char name[IFNAMSIZ];
    snprintf(name, sizeof name, "flv%d.%d", own_id, index);
    struct batch b = {.length = 0};
    struct ifinfomsg link = {.ifi_flags = IFF_UP, .ifi_change = IFF_UP}, peer_link = {0};
    begin(&b, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link, sizeof link);
    attribute(&b, IFLA_IFNAME, name, strlen(name) + 1);
    attribute(&b, IFLA_MASTER, &bridge, sizeof bridge);
    size_t info = attribute(&b, IFLA_LINKINFO, NULL, 0);
    attribute(&b, IFLA_INFO_KIND, "veth", 5);
    size_t data = attribute(&b, IFLA_INFO_DATA, NULL, 0);
    size_t peer = attribute(&b, VETH_INFO_PEER, &peer_link, sizeof peer_link);
    attribute(&b, IFLA_IFNAME, "eth0", 5);
    attribute(&b, IFLA_NET_NS_PID, &pid, sizeof pid);
    close_nest(&b, peer);
    close_nest(&b, data);
    close_nest(&b, info);
    end(&b);
    must(talk(netlink, &b, 1), "make a veth pair");
}

/* Inside the new network namespace: lo up, eth0 up, address, default route; one batch. */
static int wire(int index) {
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0) return -1;
    int lo = 1, eth = if_nametoindex("eth0");
    if (!eth) return -1;
    struct batch b = {.length = 0};
    struct ifinfomsg link = {.ifi_index = lo, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    begin(&b, RTM_NEWLINK, 0, &link, sizeof link);
    end(&b);
    link.ifi_index = eth;
    begin(&b, RTM_NEWLINK, 0, &link, sizeof link);
    end(&b);
    unsigned address = htonl(0xC6120000u + 2 + index), gateway = htonl(0xC6120001u); /* 198.18/15, for benchmarks */
    struct ifaddrmsg add = {.ifa_family = AF_INET, .ifa_prefixlen = 16, .ifa_index = eth};
    begin(&b, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &add, sizeof add);
    attribute(&b, IFA_LOCAL, &address, 4);
    attribute(&b, IFA_ADDRESS, &address, 4);
    end(&b);
    struct rtmsg route = {.rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_BOOT,
                          .rtm_scope = RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST};
    begin(&b, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &route, sizeof route);
    attribute(&b, RTA_GATEWAY, &gateway, 4);
    attribute(&b, RTA_OIF, &eth, 4);
    end(&b);
    int result = talk(fd, &b, 4);
    close(fd);
    return result;
}

/* --- cgroups ------------------------------------------------------------------------------------------------------ */

static int cgroup_path(char *path, size_t size, const char *root, int index) {
    return snprintf(path, size, index < 0 ? "%s/floor%d" : "%s/floor%d/%d", root, own_id, index);
}

static char v1_roots[8][64];
static int v1_count;

static void find_cgroups(void) {
    for (size_t i = 0; i < sizeof V1 / sizeof *V1; i++) {
        char probe[96];
        snprintf(v1_roots[v1_count], sizeof *v1_roots, "/sys/fs/cgroup/%s", V1[i]);
        snprintf(probe, sizeof probe, "%s/cgroup.procs", v1_roots[v1_count]);
        if (access(probe, F_OK) == 0) v1_count++;
    }
    const char *const candidates[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
    for (int i = 0; i < 2; i++) {
        char probe[80];
        snprintf(probe, sizeof probe, "%s/cgroup.controllers", candidates[i]);
        if (access(probe, F_OK) == 0) strcpy(v2_root, candidates[i]);
    }
    char path[768];
    for (int i = 0; i < v1_count; i++) {
        cgroup_path(path, sizeof path, v1_roots[i], -1);
        must(mkdir(path, 0755), path);
    }
    if (*v2_root) {
        cgroup_path(path, sizeof path, v2_root, -1);
        must(mkdir(path, 0755), path);
        if (!v1_count) {
            strcat(path, "/cgroup.subtree_control");
            put(path, "+memory +pids +cpu");
        }
    }
}

static void set_limit(const char *root, int index, const char *file, const char *value) {
    char path[768];
    int length = cgroup_path(path, sizeof path, root, index);
    snprintf(path + length, sizeof path - length, "/%s", file);
    put(path, value); /* a hierarchy has only the files of its own controller */
}

/* Makes the container's cgroups with the default pids limit; the v2 directory's descriptor, or -1. */
static int make_cgroups(int index) {
    char path[768];
    for (int i = 0; i < v1_count; i++) {
        cgroup_path(path, sizeof path, v1_roots[i], index);
        must(mkdir(path, 0755), path);
        if (strstr(v1_roots[i], "pids")) set_limit(v1_roots[i], index, "pids.max", "2048");
    }
    if (!*v2_root) return -1;
    cgroup_path(path, sizeof path, v2_root, index);
    must(mkdir(path, 0755), path);
    if (!v1_count) set_limit(v2_root, index, "pids.max", "2048");
    return must(open(path, O_DIRECTORY | O_RDONLY | O_CLOEXEC), path);
}

static void attach_v1(int index, pid_t pid) {
    char text[16];
    snprintf(text, sizeof text, "%d", pid);
    for (int i = 0; i < v1_count; i++) set_limit(v1_roots[i], index, "cgroup.procs", text);
}

static void remove_cgroups(int count) {
    char path[768];
    for (int index = count - 1; index >= -1; index--) {
        for (int i = 0; i < v1_count; i++) {
            cgroup_path(path, sizeof path, v1_roots[i], index);
            rmdir(path);
        }
        if (*v2_root) {
            cgroup_path(path, sizeof path, v2_root, index);
            rmdir(path);
        }
    }
}

/* --- files -------------------------------------------------------------------------------------------------------- */

/* A user namespace with the project's map, to idmap the lower layer once: the map is what mount_setattr(2) wants. */
static int map_ids(pid_t pid) {
    char path[64], map[64];
    snprintf(map, sizeof map, "0 %u 65536", BASE_ID);
    snprintf(path, sizeof path, "/proc/%d/uid_map", pid);
    if (put(path, map)) return -1;
    snprintf(path, sizeof path, "/proc/%d/gid_map", pid);
    return put(path, map);
}

static void map_lower(void) {
    struct clone_arguments a = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
    pid_t pid = must(syscall(SYS_clone3_, &a, sizeof a), "clone3");
    if (pid == 0) {
        pause();
        _exit(0);
    }
    must(map_ids(pid), "write an id map");
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/user", pid);
    int userns = must(open(path, O_RDONLY | O_CLOEXEC), path);
    lower_fd = must(syscall(SYS_open_tree_, AT_FDCWD, rootfs, TREE_CLONE | TREE_CLOEXEC), "open_tree");
    struct attributes attributes = {.set = ATTR_IDMAP, .userns = userns};
    must(syscall(SYS_mount_setattr_, lower_fd, "", AT_EMPTY_PATH, &attributes, sizeof attributes), "idmap the lower layer");
    close(userns);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* A detached overlay of the idmapped lower layer and the container's own upper directory. */
static int make_overlay(const char *bundle) {
    char path[300];
    int fs = must(syscall(SYS_fsopen_, "overlay", 1), "fsopen overlay");
    must(syscall(SYS_fsconfig_, fs, CFG_FD, "lowerdir+", NULL, lower_fd), "lowerdir+ (Linux 6.13)");
    snprintf(path, sizeof path, "%s/upper", bundle);
    must(syscall(SYS_fsconfig_, fs, CFG_STRING, "upperdir", path, 0), "upperdir");
    snprintf(path, sizeof path, "%s/work", bundle);
    must(syscall(SYS_fsconfig_, fs, CFG_STRING, "workdir", path, 0), "workdir");
    must(syscall(SYS_fsconfig_, fs, CFG_CREATE, NULL, NULL, 0), "make the overlay");
    int mount = must(syscall(SYS_fsmount_, fs, 1, 0), "fsmount");
    close(fs);
    return mount;
}

static void make_bundle(int index) {
    char path[300];
    snprintf(all[index].directory, sizeof all[index].directory, "%s/%d", directory, index);
    must(mkdir(all[index].directory, 0755), all[index].directory);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", all[index].directory, i ? "work" : "upper");
        must(mkdir(path, 0755), path);
        must(chown(path, BASE_ID, BASE_ID), path);
    }
}

/* --- the child ---------------------------------------------------------------------------------------------------- */

static const char *const DEVICES[] = {"null", "zero", "full", "random", "urandom", "tty"};
static const char *const GENERATED[] = {"etc/hosts", "etc/hostname", "etc/resolv.conf"};
static const char *const MASKED[] = {"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
                                     "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
                                     "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"};
static const char *const READ_ONLY[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};

/* The generated files, from a tmpfs that is nowhere to be seen afterwards. */
static int make_files(void) {
    if (mount("tmpfs", "tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m")) return -1;
    for (size_t i = 0; i < sizeof GENERATED / sizeof *GENERATED; i++) {
        char from[16];
        snprintf(from, sizeof from, "tmp/%zu", i);
        int made = open(from, O_CREAT | O_WRONLY | O_CLOEXEC, 0644), target = open(GENERATED[i], O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
        if (made < 0 || target < 0 || write(made, "127.0.0.1 localhost\n", 20) != 20) return -1;
        close(made), close(target);
        if (mount(from, GENERATED[i], NULL, MS_BIND, NULL)) return -1;
    }
    return umount2("tmp", MNT_DETACH);
}

static int build_root(int overlay) {
    if (syscall(SYS_move_mount_, overlay, "", AT_FDCWD, rootfs, MOVE_F_EMPTY)) return 10;
    if (chdir(rootfs)) return 11;
    mkdir("proc", 0755), mkdir("sys", 0755), mkdir("dev", 0755);
    if (mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL)) return 12;
    if (mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL)) return 13;
    if (mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k")) return 14;
    for (size_t i = 0; i < sizeof DEVICES / sizeof *DEVICES; i++) {
        char from[32], to[32];
        snprintf(from, sizeof from, "/dev/%s", DEVICES[i]);
        snprintf(to, sizeof to, "dev/%s", DEVICES[i]);
        int fd = open(to, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
        close(fd);
        if (mount(from, to, NULL, MS_BIND, NULL)) return 15;
    }
    mkdir("dev/pts", 0755), mkdir("dev/shm", 01777), mkdir("dev/mqueue", 0755);
    if (mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620")) return 16;
    if (mount("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=65536k")) return 17;
    if (mount("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL)) return 18;
    if (*v2_root && mount("cgroup2", "sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL)) return 19;
    const char *const links[][2] = {{"/proc/self/fd", "dev/fd"}, {"/proc/self/fd/0", "dev/stdin"},
                                    {"/proc/self/fd/1", "dev/stdout"}, {"/proc/self/fd/2", "dev/stderr"}, {"pts/ptmx", "dev/ptmx"}};
    for (int i = 0; i < 5; i++)
        if (symlink(links[i][0], links[i][1])) return 20;
    if (make_files()) return 25;
    if (syscall(SYS_pivot_root, ".", ".")) return 21;
    if (umount2(".", MNT_DETACH) || chdir("/")) return 22;
    for (size_t i = 0; i < sizeof READ_ONLY / sizeof *READ_ONLY; i++) {
        if (mount(READ_ONLY[i], READ_ONLY[i], NULL, MS_BIND | MS_REC, NULL)) continue;
        if (mount(NULL, READ_ONLY[i], NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL)) return 23;
    }
    for (size_t i = 0; i < sizeof MASKED / sizeof *MASKED; i++) {
        struct stat s;
        if (stat(MASKED[i], &s)) continue;
        if (S_ISDIR(s.st_mode) ? mount("tmpfs", MASKED[i], "tmpfs", MS_RDONLY, "size=0k,nr_inodes=2")
                               : mount("/dev/null", MASKED[i], NULL, MS_BIND, NULL))
            return 24;
    }
    return 0;
}

/* A filter that allows everything and costs what a compiled profile costs to install: the kernel checks every instruction,
 * and runs it once for each system call to find those that are always allowed. */
static int confine(void) {
    static struct sock_filter program[160];
    int length = 0;
    program[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    program[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int number = 1000; number < 1128; number++)
        program[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 0);
    program[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog filter = {.len = length, .filter = program};
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter);
}

static int drop_capabilities(void) {
    static const unsigned kept[] = {0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 31};
    unsigned long long mask = 0;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) mask |= 1ULL << kept[i];
    for (int cap = 0; cap <= 40; cap++)
        if (!(mask >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0)) return -1;
    unsigned header[2] = {0x20080522, 0};
    unsigned low = (unsigned)mask, high = (unsigned)(mask >> 32);
    unsigned data[6] = {low, low, 0, high, high, 0};
    return (int)syscall(SYS_capset, header, data);
}

/* Never returns. `go`: read one byte before anything that needs the id map, the veth or the cgroup. */
static void become(int index, int overlay, int go, int failed, int first) {
    char byte;
    int step = 0;
    if (read(go, &byte, 1) != 1) _exit(1);
    if (syscall(SYS_setresgid, 0, 0, 0) || syscall(SYS_setresuid, 0, 0, 0) || syscall(SYS_setgroups, 0, NULL)) step = 1;
    if (!step && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) step = 2;
    if (!step && first && wire(index)) step = 3;
    if (!step) step = build_root(overlay);
    if (!step && sethostname("floor", 5)) step = 30;
    if (!step && setsid() < 0) step = 31;
    /* The filter goes in before the capabilities go: it needs CAP_SYS_ADMIN here, as no_new_privs is not set. */
    if (!step && confine()) step = 33;
    if (!step && drop_capabilities()) step = 32;
    if (!step) {
        char *argv[] = {"sleep", "3600", NULL}, *env[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0), dup2(null, 1), dup2(null, 2);
        syscall(SYS_close_range_, 3, ~0U, 4 /* CLOEXEC: `failed` must report a failing exec */);
        execve("/bin/sleep", argv, env);
        step = 40;
    }
    int report[2] = {step, errno};
    if (write(failed, report, sizeof report) < 0) _exit(2);
    _exit(1);
}

static void launch(int index, int first) {
    struct container *c = &all[index];
    int go[2], failed[2], cgroup = -1;
    must(pipe2(go, O_CLOEXEC), "pipe");
    must(pipe2(failed, O_CLOEXEC), "pipe");
    if (first) {
        make_bundle(index);
        cgroup = make_cgroups(index);
    } else if (*v2_root) {
        char path[768];
        cgroup_path(path, sizeof path, v2_root, index);
        cgroup = must(open(path, O_DIRECTORY | O_RDONLY | O_CLOEXEC), path);
    }
    int overlay = make_overlay(c->directory);
    struct clone_arguments a = {
        .flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | NEWCGROUP | CLONE_PIDFD | (cgroup >= 0 ? INTO_CGROUP : 0),
        .pidfd = (unsigned long)&c->pidfd, .exit_signal = SIGCHLD, .cgroup = cgroup,
    };
    if (first) {
        a.flags |= CLONE_NEWUSER | CLONE_NEWNET;
        c->pid = must(syscall(SYS_clone3_, &a, sizeof a), "clone3");
        if (c->pid == 0) become(index, overlay, go[0], failed[1], 1);
    } else {
        /* The sandbox's user and network namespaces are entered first; CLONE_PARENT makes the container our child. */
        int answer[2];
        must(pipe2(answer, O_CLOEXEC), "pipe");
        pid_t middle = must(fork(), "fork");
        if (middle == 0) {
            if (setns(c->netns, CLONE_NEWNET) || setns(c->userns, CLONE_NEWUSER)) _exit(3);
            a.flags = (a.flags & ~(unsigned long long)CLONE_PIDFD) | CLONE_PARENT;
            a.exit_signal = 0;
            pid_t pid = syscall(SYS_clone3_, &a, sizeof a);
            if (pid == 0) become(index, overlay, go[0], failed[1], 0);
            _exit(write(answer[1], &pid, sizeof pid) < 0 || pid < 0);
        }
        close(answer[1]);
        if (read(answer[0], &c->pid, sizeof c->pid) != sizeof c->pid || c->pid < 0) die("start again");
        close(answer[0]);
        waitpid(middle, NULL, 0);
    }
    close(overlay), close(go[0]), close(failed[1]);
    if (cgroup >= 0) close(cgroup);
    if (first) {
        char path[64];
        must(map_ids(c->pid), "write an id map");
        make_veth(index, c->pid);
        snprintf(path, sizeof path, "/proc/%d/ns/net", c->pid);
        c->netns = must(open(path, O_RDONLY | O_CLOEXEC), path);
        snprintf(path, sizeof path, "/proc/%d/ns/user", c->pid);
        c->userns = must(open(path, O_RDONLY | O_CLOEXEC), path);
    }
    attach_v1(index, c->pid);
    c->go = go[1], c->failed = failed[0];
    must(write(c->go, "x", 1), "let it go");
}

/* After exec the pipe is at its end without a word. */
static void finish(struct container *c) {
    int report[2];
    ssize_t got = read(c->failed, report, sizeof report);
    close(c->failed), close(c->go);
    c->failed = -1;
    if (got != 0) {
        errno = got == sizeof report ? report[1] : EIO;
        fprintf(stderr, "floor: container %d failed at step %d\n", (int)(c - all), got == sizeof report ? report[0] : -1);
        die("start");
    }
}

static double start_all(int count, int in_flight) {
    double begin = now_ms();
    int started = 0, done = 0;
    struct pollfd waiting[MOST];
    int who[MOST];
    while (done < count) {
        while (started < count && started - done < in_flight) launch(started++, 1);
        int n = 0;
        for (int i = 0; i < started; i++)
            if (all[i].failed >= 0) waiting[n] = (struct pollfd){.fd = all[i].failed, .events = POLLIN}, who[n++] = i;
        must(poll(waiting, n, -1), "poll");
        for (int i = 0; i < n; i++)
            if (waiting[i].revents) finish(&all[who[i]]), done++;
    }
    return now_ms() - begin;
}

static void stop(struct container *c) {
    kill(c->pid, SIGKILL);
    waitpid(c->pid, NULL, __WALL);
}

/* Copying a mount namespace costs time for each mount: keep those that are needed, in a namespace of our own. */
static void prune_mounts(void) {
    must(unshare(CLONE_NEWNS), "unshare");
    must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "make mounts private");
    FILE *file = fopen("/proc/self/mountinfo", "re");
    char line[4096], where[1024];
    static char found[4096][256];
    int count = 0;
    while (file && fgets(line, sizeof line, file) && count < 4096)
        if (sscanf(line, "%*d %*d %*s %*s %1023s", where) == 1 && strlen(where) < 256) strcpy(found[count++], where);
    if (file) fclose(file);
    for (int i = count - 1; i >= 0; i--) {
        size_t length = strlen(found[i]);
        int needed = !strcmp(found[i], "/") || !strcmp(found[i], "/proc") || !strncmp(found[i], "/sys", 4) ||
                     !strcmp(found[i], "/dev") || !strncmp(directory, found[i], length) || !strncmp(rootfs, found[i], length);
        if (!needed) umount2(found[i], MNT_DETACH);
    }
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "usage: floor DIRECTORY ROOTFS COUNT IN_FLIGHT RESTARTS\n");
        return 2;
    }
    directory = argv[1], rootfs = argv[2];
    int count = atoi(argv[3]), in_flight = atoi(argv[4]), restarts = atoi(argv[5]);
    if (count < 1 || count > MOST || in_flight < 1) return 2;
    own_id = getpid();
    prune_mounts();
    netlink = must(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), "netlink");
    for (int i = 0; i < count; i++) all[i].failed = -1;
    map_lower();
    make_bridge();
    find_cgroups();
    double up_ms = start_all(count, in_flight);
    double restart_ms = 0;
    for (int i = 0; i < restarts; i++) {
        double begin = now_ms();
        stop(&all[0]);
        launch(0, 0);
        finish(&all[0]);
        restart_ms += (now_ms() - begin) / restarts;
    }
    for (int i = 0; i < count; i++) kill(all[i].pid, SIGKILL);
    for (int i = 0; i < count; i++) waitpid(all[i].pid, NULL, __WALL);
    for (int i = 0; i < count; i++) close(all[i].netns), close(all[i].userns);
    delete_links(count);
    remove_cgroups(count);
    printf("{\"count\": %d, \"in_flight\": %d, \"up_ms\": %.3f, \"restart_ms\": %.3f}\n", count, in_flight, up_ms, restart_ms);
    return 0;
}
