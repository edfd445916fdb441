from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from sublet.errors import InputError
from sublet.seccomp import default_filter
from sublet.seccomp._ready import FILTERS
from sublet.seccomp._syscalls import NUMBERS
from sublet.seccomp.compiler import compile_profile
from sublet.seccomp.default_profile import CAPABILITIES, default_profile
from sublet.seccomp.profile import ALLOW, ERRNO
from support.bpf import answer, check, data, run

ROOT = Path(__file__).resolve().parents[3]
KERNEL = (6, 1)
EPERM, ENOSYS = ERRNO | errno.EPERM, ERRNO | errno.ENOSYS
HIGH = 1 << 32

# What containers usually have (Docker's list).
USUAL = frozenset(
    f"CAP_{name}"
    for name in (
        *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "SETFCAP"),
        *("NET_BIND_SERVICE", "NET_RAW", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
    )
)

# The facts: what the default profile of Docker (moby/profiles, seccomp/default.json) refuses a
# process without capabilities, whatever its arguments. Calls with conditions are tested below.
REFUSED = """
    acct add_key bpf chroot clock_settime delete_module fanotify_init finit_module fsconfig fsmount
    fsopen fspick get_mempolicy init_module io_uring_enter io_uring_register io_uring_setup kcmp
    kexec_file_load kexec_load keyctl lookup_dcookie lsm_get_self_attr lsm_list_modules
    lsm_set_self_attr mbind migrate_pages mount mount_setattr move_mount move_pages nfsservctl
    open_by_handle_at open_tree open_tree_attr perf_event_open pidfd_getfd pivot_root
    process_madvise quotactl quotactl_fd reboot request_key set_mempolicy set_mempolicy_home_node
    setdomainname sethostname setns settimeofday swapoff swapon syslog umount2 unshare userfaultfd
    vhangup
"""
REFUSED_X86 = """
    _sysctl afs_syscall create_module get_kernel_syms getpmsg ioperm iopl putpmsg query_module
    security sysfs tuxcall uprobe uselib ustat vserver
"""
NEWER = {"file_getattr", "file_setattr", "listns"}
CONDITIONAL = {"clone", "clone3", "ioctl", "personality", "socket"}
REFUSED_ON = {
    "x86_64": {*REFUSED.split(), *REFUSED_X86.split()},
    "aarch64": set(REFUSED.split()),
}
# What each capability opens.
OPENED = {
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYSLOG": "syslog",
    "CAP_SYS_ADMIN": """
        bpf fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr
        lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree open_tree_attr
        perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount2 unshare
    """,
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime settimeofday",
    "CAP_SYS_TTY_CONFIG": "vhangup",
}

arches = pytest.mark.parametrize("arch", list(NUMBERS))


def asked(arch: str, name: str, *args: int, caps: frozenset[str] = frozenset()) -> int:
    return answer(default_filter(arch, caps, KERNEL), arch, NUMBERS[arch][name], args)


def refused(arch: str, caps: frozenset[str]) -> set[str]:
    program = default_filter(arch, caps, KERNEL)
    answers = {name: answer(program, arch, nr) for name, nr in NUMBERS[arch].items()}
    assert set(answers.values()) <= {ALLOW, EPERM, ENOSYS}
    assert {name for name in NEWER if answers[name] == ENOSYS} == NEWER
    return {name for name, given in answers.items() if given != ALLOW} - CONDITIONAL - NEWER


@arches
def test_without_capabilities_it_refuses_what_the_engines_refuse(arch: str) -> None:
    assert refused(arch, frozenset()) == REFUSED_ON[arch]


@arches
def test_with_a_containers_usual_capabilities_chroot_is_allowed_too(arch: str) -> None:
    assert refused(arch, USUAL) == REFUSED_ON[arch] - {"chroot"}


@arches
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_what_each_capability_opens(arch: str, capability: str) -> None:
    opened = REFUSED_ON[arch] - refused(arch, frozenset((capability,)))
    assert opened == REFUSED_ON[arch] & set(OPENED[capability].split())


@arches
def test_clone_may_make_processes_and_threads_but_no_namespaces(arch: str) -> None:
    threads = 0x3D0F00
    assert asked(arch, "clone", threads) == ALLOW
    assert asked(arch, "clone", threads + HIGH) == ALLOW
    for bit in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert asked(arch, "clone", threads | bit) == EPERM
        assert asked(arch, "clone", bit | HIGH) == EPERM
        assert asked(arch, "clone", bit, caps=frozenset({"CAP_SYS_ADMIN"})) == ALLOW


@arches
def test_clone3_seems_not_to_exist(arch: str) -> None:
    assert asked(arch, "clone3") == ENOSYS
    assert asked(arch, "clone3", caps=USUAL) == ENOSYS
    assert asked(arch, "clone3", caps=frozenset({"CAP_SYS_ADMIN"})) == ALLOW


@arches
@pytest.mark.parametrize("request_", [0x5412, 0x541C], ids=["TIOCSTI", "TIOCLINUX"])
def test_nothing_types_into_the_terminal(arch: str, request_: int) -> None:
    # CVE-2019-10063: the kernel looks at the low 32 bits only
    for high in (0, HIGH, 1 << 63, 0xFFFFFFFF << 32):
        assert asked(arch, "ioctl", 0, request_ | high) == EPERM
        assert asked(arch, "ioctl", 0, request_ | high, caps=frozenset(CAPABILITIES)) == EPERM
        assert asked(arch, "ioctl", 0, (request_ + 1) | high) == ALLOW
        assert asked(arch, "ioctl", 0, (request_ - 1) | high) == ALLOW


@arches
def test_socket_families(arch: str) -> None:
    allowed = {family for family in range(64) if asked(arch, "socket", family) == ALLOW}
    assert allowed == {
        *range(12),
        *range(13, 19),
        21,
        22,
        24,
        *range(26, 34),
        35,
        36,
        39,
        *range(41, 46),
    }
    # AF_VSOCK, hidden behind bits that the kernel does not look at
    assert asked(arch, "socket", 40 + HIGH) == EPERM


@arches
def test_personalities(arch: str) -> None:
    for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF):
        assert asked(arch, "personality", value) == ALLOW
    # among them ADDR_NO_RANDOMIZE and READ_IMPLIES_EXEC
    for value in (1, 0x40000, 0x400000, 0x20001, HIGH, 0xFFFFFFFF + HIGH, 0xFFFFFFFE):
        assert asked(arch, "personality", value) == EPERM


@arches
def test_tracing_is_allowed_where_it_cannot_step_around_the_filter(arch: str) -> None:
    nr = NUMBERS[arch]["ptrace"]
    assert answer(default_filter(arch, frozenset(), (4, 8)), arch, nr) == ALLOW
    assert answer(default_filter(arch, frozenset(), (4, 7)), arch, nr) == EPERM
    assert answer(default_filter(arch, frozenset({"CAP_SYS_PTRACE"}), (4, 7)), arch, nr) == ALLOW


def test_other_ways_into_the_kernel_are_closed() -> None:
    program = default_filter("x86_64", USUAL, KERNEL)
    assert answer(program, "i386", 4) == ENOSYS
    assert answer(program, "x86_64", 1 | 0x40000000) == ENOSYS
    assert answer(program, "x86_64", 520) == ENOSYS  # execve as x32 numbers it
    assert answer(default_filter("aarch64", USUAL, KERNEL), "i386", 4) == ENOSYS


@arches
@pytest.mark.parametrize("caps", [frozenset(), USUAL, frozenset(CAPABILITIES)])
def test_the_common_filters_are_ready_made(arch: str, caps: frozenset[str]) -> None:
    ready = default_filter(arch, caps, KERNEL)
    assert any(ready is one for one in FILTERS[arch].values())
    assert ready == compile_profile(default_profile(), arch, caps, KERNEL).filter


@arches
def test_every_name_in_it_is_known(arch: str) -> None:
    assert compile_profile(default_profile(), arch, frozenset(CAPABILITIES), KERNEL).unknown == ()


@arches
def test_it_is_short(arch: str) -> None:
    code = check(default_filter(arch, frozenset(), KERNEL))
    assert len(code) <= 128
    steps = [run(code, data(arch, nr))[1] for nr in range(512)]
    assert max(steps) <= 18


def test_another_architecture_is_an_error() -> None:
    with pytest.raises(InputError, match="s390x"):
        default_filter("s390x", frozenset(), KERNEL)


def test_the_common_filters_need_neither_compiler_nor_tables() -> None:
    script = (
        "import sys; from sublet.seccomp import default_filter;"
        "default_filter('x86_64', {'CAP_SYS_CHROOT'}, (6, 1));"
        "print(*sorted(name for name in sys.modules if name.startswith('sublet.')))"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-c",
            f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r});{script}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [
        "sublet._version",
        "sublet.seccomp",
        "sublet.seccomp._ready",
    ]


def test_the_generated_files_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "spec" / "syscalls.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
