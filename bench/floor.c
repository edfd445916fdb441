/* The floor of the start-up benchmark: what the kernel alone takes. clone3 with the same
 * namespaces, maps written, the root bound read-only, /proc and a tmpfs on /dev mounted,
 * pivot_root, exec. Nothing is checked: it is a yardstick, not a tool. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        _exit(125);
    close(fd);
}

int main(int argc, char **argv)
{
    uint64_t args[8] = {CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC |
                            CLONE_NEWUTS | CLONE_NEWCGROUP,
                        0, 0, 0, SIGCHLD};
    char uids[64], gids[64];
    int status;
    long pid;

    if (argc < 2)
        return 125;
    snprintf(uids, sizeof uids, "%u %u 1\n", getuid(), getuid());
    snprintf(gids, sizeof gids, "%u %u 1\n", getgid(), getgid());
    pid = syscall(SYS_clone3, args, sizeof args);
    if (pid < 0)
        return 125;
    if (pid > 0) {
        waitpid((pid_t)pid, &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 125;
    }
    put("/proc/self/setgroups", "deny");
    put("/proc/self/uid_map", uids);
    put("/proc/self/gid_map", gids);
    if (mount("none", "/", NULL, MS_REC | MS_SLAVE, NULL) ||
        mount("/", "/tmp", NULL, MS_BIND | MS_REC, NULL) ||
        mount("none", "/tmp", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID, NULL) ||
        mount("proc", "/tmp/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) ||
        mount("tmpfs", "/tmp/dev", "tmpfs", MS_NOSUID, "mode=755") || chdir("/tmp") ||
        syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/"))
        _exit(125);
    execv(argv[1], argv + 1);
    _exit(127);
}
