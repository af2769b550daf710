/* What a container exposes, seen from inside of it: a line for each thing that can be reached or done.
 *
 * probe SUSPECTS [quick]: SUSPECTS are paths that must be masked or read-only, separated by colons; the rest is found, with
 * "quick" without a walk through all of /sys. Only for a root file system of its own: it mounts, unmounts and makes things.
 * Everything that is tried is harmless where it succeeds: files are opened and not written, calls have arguments that they
 * refuse only after they have looked at the caller's rights. Built with: gcc -O1 -static.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static void in_child(const char *what, int (*act)(void)) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) _exit(act() == 0 ? 0 : 1);
    int status = 0;
    waitpid(pid, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) printf("can %s\n", what);
}

/* ---- paths ---- */

static int is_masked(const char *path, struct stat *found) {
    if (S_ISCHR(found->st_mode)) return found->st_rdev == makedev(1, 3);
    if (!S_ISDIR(found->st_mode)) return 0;
    DIR *directory = opendir(path);
    if (!directory) return 1;
    int entries = 0;
    struct dirent *entry;
    while ((entry = readdir(directory))) entries += strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
    closedir(directory);
    return entries == 0;
}

static void suspects(char *list) {
    for (char *path = strtok(list, ":"); path; path = strtok(NULL, ":")) {
        struct stat found;
        struct statvfs system;
        if (stat(path, &found) < 0) continue;
        if (!is_masked(path, &found)) printf("visible %s\n", path);
        if (statvfs(path, &system) == 0 && !(system.f_flag & ST_RDONLY)) printf("changeable %s\n", path);
    }
}

static void walk(const char *folder, int depth, int read_too) {
    DIR *directory = opendir(folder);
    if (!directory) return;
    struct dirent *entry;
    while ((entry = readdir(directory))) {
        char path[4096];
        struct stat found;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        if (!strcmp(folder, "/proc") && (strspn(entry->d_name, "0123456789") == strlen(entry->d_name))) continue;
        if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) >= sizeof path) continue;
        if (lstat(path, &found) < 0 || S_ISLNK(found.st_mode)) continue;
        if (S_ISDIR(found.st_mode)) {
            if (depth > 0) walk(path, depth - 1, read_too);
            continue;
        }
        if (S_ISCHR(found.st_mode) && found.st_rdev == makedev(1, 3)) continue;
        int fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
        if (fd >= 0) printf("writable %s\n", path), close(fd);
        if (!read_too) continue;
        char byte;
        fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
        if (fd >= 0) {
            if (read(fd, &byte, 1) == 1) printf("readable %s\n", path);
            close(fd);
        }
    }
    closedir(directory);
}

static void devices(const char *folder) {
    DIR *directory = opendir(folder);
    struct dirent *entry;
    while (directory && (entry = readdir(directory))) {
        char path[4096];
        struct stat found;
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (lstat(path, &found) < 0) continue;
        if (S_ISDIR(found.st_mode) && strcmp(path, "/dev/pts") && strcmp(path, "/dev/mqueue")) devices(path);
        if (!S_ISCHR(found.st_mode) && !S_ISBLK(found.st_mode)) continue;
        int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
        if (fd >= 0 || (errno != EPERM && errno != EACCES && errno != ENXIO))
            printf("device %c %u:%u\n", S_ISCHR(found.st_mode) ? 'c' : 'b', major(found.st_rdev), minor(found.st_rdev));
        if (fd >= 0) close(fd);
    }
    if (directory) closedir(directory);
}

static const struct { mode_t kind; unsigned major, minor; } numbers[] = {
    {S_IFCHR, 1, 1}, {S_IFCHR, 1, 4}, {S_IFCHR, 1, 11}, {S_IFCHR, 10, 200}, {S_IFCHR, 10, 229}, {S_IFCHR, 10, 232},
    {S_IFCHR, 4, 0}, {S_IFCHR, 10, 237}, {S_IFBLK, 7, 0}, {S_IFBLK, 8, 0}, {S_IFBLK, 254, 0}, {S_IFBLK, 253, 0},
};

static void nodes(const char *folder) {
    for (size_t n = 0; n < sizeof numbers / sizeof *numbers; n++) {
        char path[256];
        snprintf(path, sizeof path, "%s/.probe-%zu", folder, n);
        if (mknod(path, numbers[n].kind | 0600, makedev(numbers[n].major, numbers[n].minor)) < 0) continue;
        char kind = numbers[n].kind == S_IFCHR ? 'c' : 'b';
        printf("mknod %c %u:%u in %s\n", kind, numbers[n].major, numbers[n].minor, folder);
        int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0 || (errno != EPERM && errno != EACCES))
            printf("opens %c %u:%u in %s\n", kind, numbers[n].major, numbers[n].minor, folder);
        if (fd >= 0) close(fd);
        unlink(path);
    }
}

/* ---- what the process is ---- */

static void status(void) {
    FILE *file = fopen("/proc/self/status", "re");
    char line[512];
    unsigned long long mask;
    int value;
    while (file && fgets(line, sizeof line, file)) {
        const char *sets[] = {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"};
        for (size_t n = 0; n < 5; n++)
            if (!strncmp(line, sets[n], 6) && sscanf(line + 7, "%llx", &mask) == 1)
                for (int bit = 0; bit < 64; bit++)
                    if (mask >> bit & 1) printf("capability %s %d\n", sets[n], bit);
        if (sscanf(line, "Seccomp: %d", &value) == 1 && value != 2) printf("unfiltered\n");
    }
    if (file) fclose(file);
    file = fopen("/proc/self/uid_map", "re");
    unsigned inside, outside;
    if (file && fscanf(file, "%u %u", &inside, &outside) == 2 && outside == 0) printf("root is the machine's\n");
    if (file) fclose(file);
    for (int fd = 3; fd < 1024; fd++)
        if (fcntl(fd, F_GETFD) >= 0) printf("descriptor %d\n", fd);
    char link[512];
    ssize_t length = readlink("/proc/1/cwd", link, sizeof link - 1);
    if (length > 0 && link[0] != '/') printf("working directory outside\n");
    const char *kinds[] = {"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"};
    for (size_t n = 0; n < 7; n++) {
        char path[64], mine[128] = "";
        snprintf(path, sizeof path, "/proc/self/ns/%s", kinds[n]);
        if (readlink(path, mine, sizeof mine - 1) > 0) printf("namespace %s\n", mine);
    }
}

static void mounted(void) {
    FILE *file = fopen("/proc/self/mountinfo", "re");
    char line[8192], point[4096], options[1024], optional[256];
    while (file && fgets(line, sizeof line, file)) {
        if (sscanf(line, "%*d %*d %*s %*s %4095s %1023s %255s", point, options, optional) != 3) continue;
        if (!strncmp(point, "/proc/", 6) || !strncmp(point, "/sys/devices", 12)) continue;
        if (!strstr(options, "nosuid")) printf("mount %s suid\n", point);
        if (!strstr(options, "nodev")) printf("mount %s dev\n", point);
        if (!strstr(options, "noexec")) printf("mount %s exec\n", point);
        if (!strncmp(options, "rw", 2)) printf("mount %s rw\n", point);
        if (!strncmp(optional, "shared", 6) || !strncmp(optional, "master", 6)) printf("mount %s propagates\n", point);
    }
    if (file) fclose(file);
}

/* ---- what it can do ---- */

static int new_user(void) { return unshare(CLONE_NEWUSER); }
static int new_mount(void) { return unshare(CLONE_NEWNS); }
static int new_net(void) { return unshare(CLONE_NEWNET); }
static int new_by_clone(void) {
    long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) _exit(0);
    return pid > 0 ? 0 : -1;
}
static int mount_tmpfs(void) { return mount("none", "/tmp", "tmpfs", 0, NULL); }
static int remount_proc(void) { return mount(NULL, "/proc/sys", NULL, MS_REMOUNT | MS_BIND, NULL); }
static int unmask(void) { return umount2("/proc/kcore", MNT_DETACH); }
static int other_root(void) { return mkdir("/tmp/.r", 0700) == 0 || errno == EEXIST ? chroot("/tmp/.r") : -1; }
static int trace_init(void) { return (int)ptrace(PTRACE_SEIZE, 1, 0, 0); }
static int host_name(void) {
    char name[65] = "";
    return gethostname(name, sizeof name) < 0 ? -1 : sethostname(name, strlen(name));
}
static int raw_socket(void) { return socket(AF_INET, SOCK_RAW, 1) < 0; }
static int packet_socket(void) { return socket(AF_PACKET, SOCK_RAW, 0) < 0; }
static int alg_socket(void) { return socket(38, SOCK_SEQPACKET, 0) < 0; }
static int vsock_socket(void) { return socket(40, SOCK_STREAM, 0) < 0; }
static int audit_socket(void) {
    int fd = socket(AF_NETLINK, SOCK_RAW, 9);
    struct { unsigned length; unsigned short type, flags; unsigned seq, pid; char text[4]; } message = {20, 1124, 1, 1, 0, "x"};
    return fd < 0 || send(fd, &message, sizeof message, 0) < 0;
}
static int push_terminal(void) {
    char byte = 'x';
    return ioctl(0, 0x5412, &byte);
}
static int no_randomisation(void) { return syscall(SYS_personality, 0x0040000) < 0; }
static int set_id_file(void) {
    int fd = open("/tmp/.s", O_CREAT | O_WRONLY | O_CLOEXEC, 0755);
    return fd < 0 ? -1 : fchmod(fd, 04755);
}
static int new_group(void) { return mkdir("/sys/fs/cgroup/.probe", 0755); }
static int new_group_v1(void) { return mkdir("/sys/fs/cgroup/memory/.probe", 0755); }
static int see_host_keys(void) {
    FILE *file = fopen("/proc/keys", "re");
    char line[512];
    return !file || !fgets(line, sizeof line, file) ? -1 : 0;
}

/* Calls whose answer to nonsense is not EPERM or ENOSYS where they are let through. */
#define CALL(name, ...) {#name, SYS_##name, {__VA_ARGS__}}
static const struct { const char *name; long number; long arguments[6]; } calls[] = {
    CALL(acct, 1), CALL(add_key, 1, 1, 1, 0, 0), CALL(bpf, 0, 0, 0), CALL(clock_adjtime, 99, 1), CALL(clock_settime, 99, 1),
    CALL(delete_module, 1, 0), CALL(fanotify_init, 0xffff, 0), CALL(finit_module, -1, 1, 0), CALL(fsmount, -1, 0, 0),
    CALL(fsopen, 1, 0), CALL(fspick, -1, 1, 0), CALL(get_mempolicy, 0, 0, 0, 0, 99), CALL(init_module, 1, 1, 1),
    CALL(io_uring_enter, -1, 0, 0, 0, 0, 0), CALL(io_uring_register, -1, 0, 0, 0), CALL(io_uring_setup, 0, 1), CALL(ioperm, 0, 0, 0),
    CALL(iopl, 9), CALL(kcmp, 1, 1, 99, 0, 0), CALL(kexec_file_load, -1, -1, 0, 0, 0), CALL(kexec_load, 0, 99, 0, 0xffff),
    CALL(keyctl, 0, -3, 0), CALL(lookup_dcookie, 0, 0, 0), CALL(mbind, 1, 1, 99, 0, 0, 0), CALL(migrate_pages, 0, 0, 0, 0),
    CALL(mount, 0, 1, 0, 0, 0), CALL(mount_setattr, -1, 1, 0, 0, 0), CALL(move_mount, -1, 1, -1, 1, 0), CALL(move_pages, 0, 0, 0, 0, 0, 99),
    CALL(nfsservctl, 0, 0, 0), CALL(open_by_handle_at, -1, 1, 0), CALL(open_tree, -1, 1, 0), CALL(perf_event_open, 0, 0, -1, -1, 0),
    CALL(pidfd_getfd, -1, 0, 0), CALL(pivot_root, 1, 1), CALL(process_madvise, -1, 0, 0, 0, 0), CALL(ptrace, 99, 1, 0, 0),
    CALL(quotactl, 0, 0, 0, 0), CALL(reboot, 0, 0, 0, 0), CALL(request_key, 1, 1, 0, 0), CALL(set_mempolicy, 99, 0, 0),
    CALL(setdomainname, 1, -1), CALL(sethostname, 1, -1), CALL(setns, -1, 0), CALL(settimeofday, 1, 0), CALL(swapoff, 1),
    CALL(swapon, 1, 0), CALL(sysfs, 99, 0, 0), CALL(_sysctl, 0), CALL(syslog, 99, 0, 0), CALL(umount2, 1, 0), CALL(unshare, 0x1),
    CALL(uselib, 1), CALL(userfaultfd, 0xffff), CALL(ustat, 0, 0), CALL(vhangup, 0), CALL(vmsplice, -1, 0, 0, 0), CALL(clone3, 1, 0),
    CALL(chroot, 1), CALL(name_to_handle_at, -1, 1, 0, 0, 0), CALL(process_vm_readv, 0, 0, 0, 0, 0, 1), CALL(seccomp, 99, 0, 0),
    CALL(modify_ldt, 99, 0, 0), CALL(personality, 0x0040000),
};

static void system_calls(void) {
    for (size_t n = 0; n < sizeof calls / sizeof *calls; n++) {
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) {
            const long *a = calls[n].arguments;
            long result = syscall(calls[n].number, a[0], a[1], a[2], a[3], a[4], a[5]);
            _exit(result >= 0 || (errno != EPERM && errno != ENOSYS) ? 0 : 1);
        }
        int status = 0;
        waitpid(pid, &status, 0);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) printf("call %s\n", calls[n].name);
    }
}

int main(int argc, char **argv) {
    if (access("/usr", F_OK) == 0 || access("/bin", F_OK) == 0) {
        fprintf(stderr, "this is no root file system of the probe's own\n");
        return 2;
    }
    status();
    mounted();
    if (argc > 1) suspects(argv[1]);
    walk("/proc", 6, 1);
    if (argc < 3) walk("/sys", 4, 0);
    devices("/dev");
    nodes("/tmp");
    nodes("/dev");
    system_calls();
    in_child("make a user namespace", new_user);
    in_child("make a user namespace by clone", new_by_clone);
    in_child("make a mount namespace", new_mount);
    in_child("make a network namespace", new_net);
    in_child("mount", mount_tmpfs);
    in_child("remount", remount_proc);
    in_child("unmount a mask", unmask);
    in_child("change its root", other_root);
    in_child("trace PID 1", trace_init);
    in_child("change the host name", host_name);
    in_child("make raw sockets", raw_socket);
    in_child("make packet sockets", packet_socket);
    in_child("reach the kernel's crypto", alg_socket);
    in_child("reach the hypervisor", vsock_socket);
    in_child("write to the audit log", audit_socket);
    in_child("type at its terminal", push_terminal);
    in_child("turn off randomisation", no_randomisation);
    in_child("make a set-uid file", set_id_file);
    in_child("make a control group", new_group);
    in_child("make a control group (v1)", new_group_v1);
    in_child("see keys", see_host_keys);
    printf("end\n");
    return 0;
}
