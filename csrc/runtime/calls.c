/* The system calls that the executor uses, under their names in the C library, as the manual pages
 * describe them. No threads, no cancellation, no caching: each is the call and errno. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "raw.h"

static int last_error;

int *__errno_location(void)
{
    return &last_error;
}

__attribute__((used)) long result_of(long answer)
{
    if (answer >= 0 || answer < -4095)
        return answer;
    last_error = (int)-answer;
    return -1;
}

#define CALL(number, a, b, c, d, e, f)                                                             \
    result_of(raw(number, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f)))

long syscall(long number, ...)
{
    va_list list;
    long a[6];
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    return CALL(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

_Noreturn void _exit(int status)
{
    for (;;)
        raw(SYS_exit_group, status, 0, 0, 0, 0, 0);
}

/* ---- files */

static int open_with(int directory, const char *path, int flags, unsigned int mode)
{
    return (int)CALL(SYS_openat, directory, path, flags, mode, 0, 0);
}

int open(const char *path, int flags, ...)
{
    va_list list;
    va_start(list, flags);
    unsigned int mode = va_arg(list, unsigned int);
    va_end(list);
    return open_with(AT_FDCWD, path, flags, mode);
}

int openat(int directory, const char *path, int flags, ...)
{
    va_list list;
    va_start(list, flags);
    unsigned int mode = va_arg(list, unsigned int);
    va_end(list);
    return open_with(directory, path, flags, mode);
}

int close(int fd)
{
    return (int)CALL(SYS_close, fd, 0, 0, 0, 0, 0);
}

ssize_t read(int fd, void *buffer, size_t count)
{
    return CALL(SYS_read, fd, buffer, count, 0, 0, 0);
}

ssize_t write(int fd, const void *buffer, size_t count)
{
    return CALL(SYS_write, fd, buffer, count, 0, 0, 0);
}

ssize_t pread(int fd, void *buffer, size_t count, off_t offset)
{
    return CALL(SYS_pread64, fd, buffer, count, offset, 0, 0);
}

ssize_t pwrite(int fd, const void *buffer, size_t count, off_t offset)
{
    return CALL(SYS_pwrite64, fd, buffer, count, offset, 0, 0);
}

ssize_t sendfile(int out, int in, off_t *offset, size_t count)
{
    return CALL(SYS_sendfile, out, in, offset, count, 0, 0);
}

int ftruncate(int fd, off_t length)
{
    return (int)CALL(SYS_ftruncate, fd, length, 0, 0, 0, 0);
}

int fstat(int fd, struct stat *st)
{
    return (int)CALL(SYS_fstat, fd, st, 0, 0, 0, 0);
}

int fstatfs(int fd, struct statfs *st)
{
    return (int)CALL(SYS_fstatfs, fd, st, 0, 0, 0, 0);
}

int fcntl(int fd, int command, ...)
{
    va_list list;
    va_start(list, command);
    long argument = va_arg(list, long);
    va_end(list);
    return (int)CALL(SYS_fcntl, fd, command, argument, 0, 0, 0);
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list list;
    va_start(list, request);
    long argument = va_arg(list, long);
    va_end(list);
    return (int)CALL(SYS_ioctl, fd, request, argument, 0, 0, 0);
}

int dup2(int from, int to)
{
    /* dup3(2), which every architecture has, refuses equal descriptors; dup2(2) then only looks. */
    if (from == to)
        return fcntl(from, F_GETFD) < 0 ? -1 : to;
    return (int)CALL(SYS_dup3, from, to, 0, 0, 0, 0);
}

int mkdirat(int directory, const char *path, mode_t mode)
{
    return (int)CALL(SYS_mkdirat, directory, path, mode, 0, 0, 0);
}

int mknodat(int directory, const char *path, mode_t mode, dev_t device)
{
    return (int)CALL(SYS_mknodat, directory, path, mode, device, 0, 0);
}

int symlinkat(const char *text, int directory, const char *path)
{
    return (int)CALL(SYS_symlinkat, text, directory, path, 0, 0, 0);
}

int unlinkat(int directory, const char *path, int flags)
{
    return (int)CALL(SYS_unlinkat, directory, path, flags, 0, 0, 0);
}

ssize_t readlinkat(int directory, const char *path, char *buffer, size_t size)
{
    return CALL(SYS_readlinkat, directory, path, buffer, size, 0, 0);
}

ssize_t readlink(const char *path, char *buffer, size_t size)
{
    return readlinkat(AT_FDCWD, path, buffer, size);
}

int chmod(const char *path, mode_t mode)
{
    return (int)CALL(SYS_fchmodat, AT_FDCWD, path, mode, 0, 0, 0);
}

int fchmod(int fd, mode_t mode)
{
    return (int)CALL(SYS_fchmod, fd, mode, 0, 0, 0, 0);
}

int fchown(int fd, uid_t uid, gid_t gid)
{
    return (int)CALL(SYS_fchown, fd, uid, gid, 0, 0, 0);
}

int fchownat(int directory, const char *path, uid_t uid, gid_t gid, int flags)
{
    return (int)CALL(SYS_fchownat, directory, path, uid, gid, flags, 0);
}

/* Without flags, which the system call does not have. */
int faccessat(int directory, const char *path, int mode, int flags)
{
    if (flags != 0)
        return (int)result_of(-EINVAL);
    return (int)CALL(SYS_faccessat, directory, path, mode, 0, 0, 0);
}

int chdir(const char *path)
{
    return (int)CALL(SYS_chdir, path, 0, 0, 0, 0, 0);
}

int fchdir(int fd)
{
    return (int)CALL(SYS_fchdir, fd, 0, 0, 0, 0, 0);
}

mode_t umask(mode_t mask)
{
    return (mode_t)CALL(SYS_umask, mask, 0, 0, 0, 0, 0);
}

int umount2(const char *path, int flags)
{
    return (int)CALL(SYS_umount2, path, flags, 0, 0, 0, 0);
}

void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
    return (void *)CALL(SYS_mmap, address, length, protection, flags, fd, offset);
}

int munmap(void *address, size_t length)
{
    return (int)CALL(SYS_munmap, address, length, 0, 0, 0, 0);
}

/* ---- processes, namespaces, identities */

int execve(const char *path, char *const argv[], char *const environment[])
{
    return (int)CALL(SYS_execve, path, argv, environment, 0, 0, 0);
}

int kill(pid_t pid, int signal)
{
    return (int)CALL(SYS_kill, pid, signal, 0, 0, 0, 0);
}

pid_t wait4(pid_t pid, int *status, int options, struct rusage *usage)
{
    return (pid_t)CALL(SYS_wait4, pid, status, options, usage, 0, 0);
}

pid_t waitpid(pid_t pid, int *status, int options)
{
    return wait4(pid, status, options, NULL);
}

int waitid(idtype_t type, id_t id, siginfo_t *info, int options)
{
    return (int)CALL(SYS_waitid, type, id, info, options, 0, 0);
}

pid_t getpid(void)
{
    return (pid_t)CALL(SYS_getpid, 0, 0, 0, 0, 0, 0);
}

pid_t getppid(void)
{
    return (pid_t)CALL(SYS_getppid, 0, 0, 0, 0, 0, 0);
}

pid_t getsid(pid_t pid)
{
    return (pid_t)CALL(SYS_getsid, pid, 0, 0, 0, 0, 0);
}

pid_t setsid(void)
{
    return (pid_t)CALL(SYS_setsid, 0, 0, 0, 0, 0, 0);
}

uid_t getuid(void)
{
    return (uid_t)raw(SYS_getuid, 0, 0, 0, 0, 0, 0);
}

uid_t geteuid(void)
{
    return (uid_t)raw(SYS_geteuid, 0, 0, 0, 0, 0, 0);
}

gid_t getgid(void)
{
    return (gid_t)raw(SYS_getgid, 0, 0, 0, 0, 0, 0);
}

gid_t getegid(void)
{
    return (gid_t)raw(SYS_getegid, 0, 0, 0, 0, 0, 0);
}

int setfsuid(uid_t uid)
{
    return (int)raw(SYS_setfsuid, (long)uid, 0, 0, 0, 0, 0);
}

int setfsgid(gid_t gid)
{
    return (int)raw(SYS_setfsgid, (long)gid, 0, 0, 0, 0, 0);
}

int setns(int fd, int type)
{
    return (int)CALL(SYS_setns, fd, type, 0, 0, 0, 0);
}

int unshare(int flags)
{
    return (int)CALL(SYS_unshare, flags, 0, 0, 0, 0, 0);
}

int sethostname(const char *name, size_t length)
{
    return (int)CALL(SYS_sethostname, name, length, 0, 0, 0, 0);
}

int setdomainname(const char *name, size_t length)
{
    return (int)CALL(SYS_setdomainname, name, length, 0, 0, 0, 0);
}

int prctl(int option, ...)
{
    va_list list;
    long a[4];
    va_start(list, option);
    for (int i = 0; i < 4; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    return (int)CALL(SYS_prctl, option, a[0], a[1], a[2], a[3], 0);
}

/* glibc declares the resource as an enum. */
#ifdef __GLIBC__
#define RESOURCE __rlimit_resource_t
#else
#define RESOURCE int
#endif

int getrlimit(RESOURCE resource, struct rlimit *limit)
{
    return (int)CALL(SYS_prlimit64, 0, resource, NULL, limit, 0, 0);
}

int setrlimit(RESOURCE resource, const struct rlimit *limit)
{
    return (int)CALL(SYS_prlimit64, 0, resource, limit, NULL, 0, 0);
}

/* ---- signals, time, waiting */

/* Only the default and ignoring: a handler of one's own would need a way back from it. */
int sigaction(int signal, const struct sigaction *action, struct sigaction *before)
{
    struct {
        void (*handler)(int);
        unsigned long flags;
        void (*restorer)(void);
        uint64_t mask;
    } kernel = {.handler = action ? action->sa_handler : NULL};
    if (before != NULL || action == NULL ||
        (action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN))
        return (int)result_of(-EINVAL);
    return (int)CALL(SYS_rt_sigaction, signal, &kernel, NULL, sizeof kernel.mask, 0, 0);
}

int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
    struct timespec left; /* the system call writes the rest of the time */
    if (timeout)
        left = *timeout;
    return (int)CALL(SYS_ppoll, fds, count, timeout ? &left : NULL, mask, 8, 0);
}

int poll(struct pollfd *fds, nfds_t count, int milliseconds)
{
    struct timespec timeout = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    return ppoll(fds, count, milliseconds < 0 ? NULL : &timeout, NULL);
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    return (int)CALL(SYS_clock_gettime, clock, time, 0, 0, 0, 0);
}

/* ---- sockets and terminals */

int socket(int domain, int type, int protocol)
{
    return (int)CALL(SYS_socket, domain, type, protocol, 0, 0, 0);
}

int socketpair(int domain, int type, int protocol, int pair[2])
{
    return (int)CALL(SYS_socketpair, domain, type, protocol, pair, 0, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    return CALL(SYS_sendmsg, fd, message, flags, 0, 0, 0);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    return CALL(SYS_recvmsg, fd, message, flags, 0, 0, 0);
}

/* The library's struct begins as the kernel's does and is longer. */
int tcgetattr(int fd, struct termios *settings)
{
    return ioctl(fd, TCGETS, settings);
}

int tcsetattr(int fd, int when, const struct termios *settings)
{
    return ioctl(fd, TCSETS + (unsigned long)when, settings);
}

void cfmakeraw(struct termios *settings)
{
    settings->c_iflag &=
        ~(tcflag_t)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    settings->c_oflag &= ~(tcflag_t)OPOST;
    settings->c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
    settings->c_cflag = (settings->c_cflag & ~(tcflag_t)(CSIZE | PARENB)) | CS8;
    settings->c_cc[VMIN] = 1;
    settings->c_cc[VTIME] = 0;
}
