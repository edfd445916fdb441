"""The default profile: what a command in a sandbox may ask of the kernel.

It refuses what the OCI engines' default profiles refuse, so that what runs under them runs here.
It is an allow-list: what is not named is refused with EPERM, and what is newer than all names with
ENOSYS. It differs from theirs in three places, each to the stricter side:

* on ``ioctl`` TIOCSTI and TIOCLINUX are refused: they type into a terminal that is shared with the
  outside (CVE-2017-5226, CVE-2023-28100). The request is compared as the 32 bits that the kernel
  looks at, so that bits above them hide nothing (CVE-2019-10063);
* 32-bit and x32 calls are refused (see compiler.py);
* ``open_tree_attr``, newer than their profiles, goes with its family: only with CAP_SYS_ADMIN.
"""

from __future__ import annotations

import errno

from sublet.seccomp.profile import ALLOW, ERRNO, Condition, Profile, Rule

# Before 4.8 ptrace could step around a filter; so tracing is allowed from there on only.
MIN_KERNEL = (4, 8)

# all CLONE_NEW* flags of clone(2); CLONE_NEWTIME exists in clone3 and unshare only
NEW_NAMESPACES = 0x7E020000
TIOCSTI, TIOCLINUX = 0x5412, 0x541C
LOW_WORD = 0xFFFFFFFF
# PER_LINUX, PER_LINUX32, and each with UNAME26 (personality(2)); the last asks and changes nothing
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
# Protocol families that no plain program of today uses, and AF_VSOCK (40), which no network
# namespace holds back and which reaches the hypervisor. All from 46 on are refused too.
REFUSED_FAMILIES = frozenset((12, 19, 20, 23, 25, 34, 37, 38, 40))
FAMILIES_END = 46

ALWAYS = {
    "files by name": (
        "access chmod chown creat execve execveat faccessat faccessat2 fchmodat fchmodat2 "
        "fchownat futimesat getcwd lchown link linkat lstat mkdir mkdirat mknod mknodat "
        "name_to_handle_at newfstatat open openat openat2 readlink readlinkat rename renameat "
        "renameat2 rmdir stat statfs statx symlink symlinkat truncate unlink unlinkat utime "
        "utimensat utimes"
    ),
    "extended attributes": (
        "fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr "
        "listxattrat llistxattr lremovexattr lsetxattr removexattr removexattrat setxattr "
        "setxattrat"
    ),
    "the working directory, the mask, and what is mounted": (
        "chdir fchdir listmount statmount umask"
    ),
    "open files": (
        "cachestat close close_range copy_file_range dup dup2 dup3 fadvise64 fallocate fchmod "
        "fchown fcntl fdatasync flock fstat fstatfs fsync ftruncate getdents getdents64 lseek "
        "pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readv "
        "sendfile splice sync sync_file_range syncfs tee vmsplice write writev"
    ),
    "waiting for files": (
        "epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait "
        "epoll_wait_old eventfd eventfd2 fanotify_mark inotify_add_watch inotify_init "
        "inotify_init1 inotify_rm_watch poll ppoll pselect6 select signalfd signalfd4 "
        "timerfd_create timerfd_gettime "
        "timerfd_settime"
    ),
    # not io_uring_*: its requests are carried out where no filter sees them
    "asynchronous input and output": (
        "io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit ioprio_get ioprio_set"
    ),
    "sockets, once made": (
        "accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg "
        "recvmsg sendmmsg sendmsg sendto setsockopt shutdown socketpair"
    ),
    "System V and POSIX interprocess communication": (
        "mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget "
        "msgrcv msgsnd semctl semget semop semtimedop shmat shmctl shmdt shmget"
    ),
    "memory": (
        "brk madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 "
        "mlockall mmap mprotect mremap mseal msync munlock munlockall munmap pkey_alloc "
        "pkey_free pkey_mprotect process_mrelease remap_file_pages"
    ),
    # clone with conditions, below
    "processes and threads": (
        "exit exit_group fork futex futex_requeue futex_wait futex_waitv futex_wake "
        "get_robust_list get_thread_area getcpu getpgid getpgrp getpid getppid getsid gettid "
        "kill pause pidfd_open pidfd_send_signal prctl restart_syscall rseq set_robust_list "
        "set_thread_area set_tid_address setpgid setsid tgkill tkill uretprobe vfork wait4 "
        "waitid"
    ),
    "identity": (
        "capget capset getegid geteuid getgid getgroups getresgid getresuid getuid setfsgid "
        "setfsuid setgid setgroups setregid setresgid setresuid setreuid setuid"
    ),
    "scheduling and limits": (
        "getpriority getrlimit getrusage prlimit64 sched_get_priority_max sched_get_priority_min "
        "sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval "
        "sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield "
        "setpriority setrlimit "
        "times"
    ),
    "signals": (
        "rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend "
        "rt_sigtimedwait rt_tgsigqueueinfo sigaltstack"
    ),
    # setting the clock needs a capability that a user namespace cannot give
    "time": (
        "adjtimex alarm clock_adjtime clock_getres clock_gettime clock_nanosleep getitimer "
        "gettimeofday nanosleep setitimer time timer_create timer_delete timer_getoverrun "
        "timer_gettime timer_settime"
    ),
    "giving up rights": (
        "landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp"
    ),
    "the machine": "getrandom sysinfo uname",
    "x86 only": "arch_prctl modify_ldt",
}

WITH_CAPABILITY = {
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYSLOG": "syslog",
    "CAP_SYS_ADMIN": (
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie "
        "lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount "
        "open_tree open_tree_attr perf_event_open quotactl quotactl_fd setdomainname sethostname "
        "setns syslog umount2 unshare"
    ),
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": (
        "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"
    ),
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime settimeofday",
    "CAP_SYS_TTY_CONFIG": "vhangup",
}
# the capabilities that make a difference
CAPABILITIES = tuple(sorted(WITH_CAPABILITY))


def default_profile() -> Profile:
    """Return the default profile."""
    rules = [Rule(tuple(names.split()), ALLOW) for names in ALWAYS.values()]
    rules += [
        Rule(tuple(names.split()), ALLOW, capabilities=(capability,))
        for capability, names in WITH_CAPABILITY.items()
    ]
    rules += [
        Rule(("process_vm_readv", "process_vm_writev", "ptrace"), ALLOW, min_kernel=MIN_KERNEL),
        Rule(
            ("clone",),
            ALLOW,
            (Condition(0, "masked_eq", 0, NEW_NAMESPACES),),
            without_capabilities=("CAP_SYS_ADMIN",),
        ),
        # its flags are in memory, where a filter cannot look; ENOSYS makes the C library use clone
        Rule(("clone3",), ERRNO | errno.ENOSYS, without_capabilities=("CAP_SYS_ADMIN",)),
        Rule(
            ("ioctl",),
            ALLOW,
            (
                Condition(1, "masked_ne", TIOCSTI, LOW_WORD),
                Condition(1, "masked_ne", TIOCLINUX, LOW_WORD),
            ),
        ),
    ]
    rules += [
        Rule(("personality",), ALLOW, (Condition(0, "eq", value),)) for value in PERSONALITIES
    ]
    rules += [
        Rule(("socket",), ALLOW, (Condition(0, "eq", family),))
        for family in range(FAMILIES_END)
        if family not in REFUSED_FAMILIES
    ]
    return Profile(default_action=ERRNO | errno.EPERM, rules=tuple(rules))
