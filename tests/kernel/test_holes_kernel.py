"""The kernel's ways out of a sandbox: mounts, namespaces, devices, cgroups, set-ID files.

Which case is which: docs/security-tests.md.
"""

from __future__ import annotations

import errno
import os
import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernel.sublet_run import PROGRAMS, Sublet, make_tree
from support import probes

if TYPE_CHECKING:
    from support.users import User

pytestmark = [pytest.mark.requires("userns"), pytest.mark.usefixtures("leaving_nothing")]

EVERYTHING = ("--ids", "root", "--cap-add", "all")


@pytest.fixture
def run(sublet_command: list[str], anyone: User) -> Sublet:
    """As root and as alice."""
    return Sublet(sublet_command, anyone)


@pytest.fixture
def run_as_alice(sublet_command: list[str], alice: User) -> Sublet:
    return Sublet(sublet_command, alice)


# Each call with arguments with which it would succeed, or fail for another reason than a filter.
CALLS = r"""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
NUMBERS = dict(
    open_tree=428, move_mount=429, fsopen=430, fsconfig=431, fsmount=432, fspick=433,
    mount_setattr=442, clone3=435, unshare=272, setns=308, mount=165, umount2=166, pivot_root=155,
    bpf=321, userfaultfd=323, keyctl=250, add_key=248, request_key=249, perf_event_open=298,
    kexec_load=246, init_module=175, delete_module=176, open_by_handle_at=304, io_uring_setup=425,
    acct=163, swapon=167, reboot=169, iopl=172, personality=135, open_tree_attr=467,
)
def call(name, *arguments):
    if libc.syscall(NUMBERS[name], *arguments) >= 0:
        print(name, 0, flush=True)
    else:
        print(name, ctypes.get_errno(), flush=True)
c = ctypes.c_char_p
call("open_tree", -100, c(b"/"), 1)
call("move_mount", -1, c(b""), -1, c(b""), 0)
call("fsopen", c(b"tmpfs"), 1)
call("fsconfig", -1, 6, None, None, 0)
call("fsmount", -1, 0, 0)
call("fspick", -100, c(b"/"), 0)
call("mount_setattr", -1, c(b""), 0, None, 0)
call("open_tree_attr", -1, c(b""), 0, None, 0)
call("clone3", None, 0)
for flag, name in ((0x10000000, "user"), (0x20000, "mount")):
    pid = os.fork()
    if pid == 0:
        NUMBERS[name] = NUMBERS["unshare"]
        call(name, flag)
        os._exit(0)
    os.waitpid(pid, 0)
call("setns", -1, 0)
call("mount", c(b"none"), c(b"/tmp"), c(b"tmpfs"), 0, None)
call("umount2", c(b"/nowhere"), 0)
call("pivot_root", c(b"/nowhere"), c(b"/nowhere"))
call("bpf", 0, None, 0)
call("userfaultfd", 1 << 20)
call("keyctl", 0, -3, 0)
call("add_key", None, None, None, 0, 0)
call("request_key", None, None, None, 0)
call("perf_event_open", None, 0, -1, -1, 0)
call("kexec_load", 0, 0, None, 0)
call("init_module", None, 0, c(b""))
call("delete_module", c(b"nothing"), 0)
call("open_by_handle_at", -1, None, 0)
call("io_uring_setup", 0, None)
call("acct", c(b"/nowhere"))
call("swapon", c(b"/nowhere"), 0)
call("iopl", 4)
call("personality", 0x1234)
import socket
for family, name in ((40, "vsock"), (38, "alg"), (16, "netlink")):
    try:
        socket.socket(family, socket.SOCK_STREAM if family == 40 else socket.SOCK_RAW)
        print(name, 0, flush=True)
    except OSError as error:
        print(name, error.errno, flush=True)
"""
X86_64 = platform.machine() == "x86_64"
only_x86_64 = pytest.mark.skipif(
    not X86_64, reason=f"{probes.BEYOND}the numbers of these calls are those of x86-64"
)


def answers(text: str) -> dict[str, int]:
    return {line.split()[0]: int(line.split()[1]) for line in text.splitlines()}


@only_x86_64
@pytest.mark.parametrize("ids", ["keep", "root"])
def test_the_filter_refuses_what_reaches_deep(run: Sublet, ids: str) -> None:
    """CVE-2021-41133: the new mount API was forgotten in filters; clone3 hides its flags."""
    words = ("--ids", ids, "--view", "host")
    free = answers(run.says(*words, "--seccomp", "none", "--", "python3", "-c", CALLS))
    filtered = answers(run.says(*words, "--", "python3", "-c", CALLS))
    assert filtered["clone3"] == errno.ENOSYS
    assert free["clone3"] == errno.EINVAL, "the control: without a filter it is there"
    refused = "open_tree move_mount fsopen fsconfig fsmount fspick mount_setattr open_tree_attr"
    refused += " setns mount umount2 pivot_root bpf keyctl add_key request_key perf_event_open"
    refused += " kexec_load init_module delete_module user mount userfaultfd acct swapon"
    for name in refused.split():
        assert filtered[name] in {errno.EPERM, errno.ENOSYS}, (name, filtered[name])
    unlike = [name for name in refused.split() if free[name] not in {errno.EPERM, errno.ENOSYS}]
    assert len(unlike) >= 5, (free, "the control: the kernel itself answers otherwise")
    assert filtered["vsock"] != 0


ALIEN = r"""
import ctypes, mmap, os, signal, sys
code = {
    # int 0x80: i386's getpid is 20; x32: getpid is 39 with bit 30 set
    "i386": b"\xb8\x14\x00\x00\x00\xcd\x80\xc3",
    "x32": b"\xb8\x27\x00\x00\x40\x0f\x05\xc3",
    "native": b"\xb8\x27\x00\x00\x00\x0f\x05\xc3",
}
memory = mmap.mmap(-1, 4096, prot=7)
for name, bytes_ in code.items():
    pid = os.fork()
    if pid == 0:
        memory[: len(bytes_)] = bytes_
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        got = ctypes.CFUNCTYPE(ctypes.c_long)(address)()
        os._exit(0 if got == os.getpid() else 7)
    status = os.waitpid(pid, 0)[1]
    print(name, -(status & 127) if status & 127 else status >> 8)
"""


@only_x86_64
def test_other_call_tables_are_no_way_around(run_as_alice: Sublet) -> None:
    """x32 and i386 have numbers of their own: what the filter does not know, it refuses."""
    outside = answers(run_as_alice.user.run(["python3", "-c", ALIEN]).stdout)
    assert outside["native"] == 0
    inside = answers(run_as_alice.says("--", "python3", "-c", ALIEN))
    assert inside["native"] == 0
    assert inside["x32"] != 0
    if outside["i386"] == 0:
        # As Docker's profile: i386 calls are filtered by their own numbers, or not at all.
        program = ALIEN.replace("\\x14\\x00\\x00\\x00\\xcd", "\\x15\\x00\\x00\\x00\\xcd")
        assert answers(run_as_alice.says("--", "python3", "-c", program))["i386"] != 0


# ---------------------------------------------------------------- namespaces within


def test_no_namespace_is_made_with_the_filter(run: Sublet) -> None:
    for option in ("--user", "--mount", "--net", "--pid", "--uts"):
        outside = run.user.run(["unshare", "--user", "--map-root-user", option, "true"])
        assert outside.returncode == 0, ("the control", option, outside.stderr)
        done = run(
            "run", *EVERYTHING[:2], "--", "unshare", "--user", "--map-root-user", option, "true"
        )
        assert done.returncode == 1, option


def test_locked_mounts_stay_locked(run_as_alice: Sublet) -> None:
    """With a namespace of one's own below, nothing that is covered comes to light."""
    script = (
        "mount -o remount,bind,rw /usr; umount /proc; umount /usr;"
        " mount -t proc proc /tmp; ls /proc/1/exe; touch /usr/made; findmnt -no OPTIONS /usr"
    )
    inner = ("unshare", "--user", "--map-root-user", "--mount", "--", "sh", "-c", script)
    words = ("--ids", "root", "--seccomp", "none", "--new-privs")
    done = run_as_alice("run", *words, "--", *inner)
    assert "Operation not permitted" in done.stderr or "permission denied" in done.stderr
    assert not Path("/usr/made").exists()
    assert done.stdout.startswith("ro") or "ro," in done.stdout, (done.stdout, done.stderr)


# ---------------------------------------------------------------- set-ID files and capabilities


def set_id(user: User, tree: Path) -> Path:
    """Put a set-user-ID and set-group-ID copy of id, owned by user and group 0, into a tree."""
    program = tree / "sid"
    shutil.copy(shutil.which("id") or "/usr/bin/id", program)
    os.chown(program, 0, 0)
    program.chmod(0o6755)
    del user
    return program


@pytest.mark.requires("root")
@pytest.mark.parametrize("ids", ["keep", "root", "full"])
def test_set_id_files_of_the_machine_are_plain(run_as_alice: Sublet, ids: str) -> None:
    """CVE-2023-0386, CVE-2021-3493: through a bind, and through an overlay."""
    user = run_as_alice.user
    tree = make_tree(user)
    program = set_id(user, tree)
    if os.statvfs(program).f_flag & os.ST_NOSUID:
        probes.beyond("the tests' directory is on a nosuid mount")
    assert "euid=0(" in user.run([program]).stdout, "the control: outside the bit works"
    words = ("--ids", ids, "--new-privs")
    ways = [
        (*words, "-v", f"{tree}:/mnt", "--", "/mnt/sid"),
        (*words, "--view", "host", "--rw", str(tree), "--", str(program)),
        (*words, "--rootfs", str(tree), *PROGRAMS, "--", "/sid"),
        (*words, "--rootfs", str(tree), "--writable", *PROGRAMS, "--", "/sid"),
    ]
    for way in ways:
        done = run_as_alice("run", *way)
        assert "euid=" not in done.stdout, (way, done.stdout)
        mine = f"uid={user.uid}" if ids == "keep" else "uid=0("
        assert done.returncode == 126 or done.stdout.startswith(mine), (done.stdout, done.stderr)


@pytest.mark.parametrize("way", ["--writable", ""])
def test_a_set_id_file_that_is_made_inside_gives_nothing_outside(run: Sublet, way: str) -> None:
    """What root inside makes set-ID is the caller's, and set-ID to the caller."""
    tree = make_tree(run.user)
    words = ["--ids", "root", "--rootfs", str(tree), *PROGRAMS, *([way] if way else [])]
    script = "cp /usr/bin/id /made && chmod 6755 /made && mknod /dev0 b 1 1; ls -l /made"
    done = run("run", *words, "--", "sh", "-c", script)
    assert "rwsr-sr-x" in done.stdout, done.stderr
    made = tree / "made"
    assert made.exists() == bool(way)
    if made.exists():
        assert made.stat().st_uid == run.user.uid
    node = tree / "dev0"
    if node.exists():
        assert run.user.uid == 0, "only root's own tree may get a node, and only if not nodev"
        assert not os.path.exists(f"{node}"), "mknod(2) needs the initial user namespace"


def test_device_nodes_are_dead(run: Sublet, root: User) -> None:
    """A node in what is bound, or in the tree, is none: nodev."""
    del root
    tree = make_tree(run.user)
    node = tree / "zero"
    os.mknod(node, 0o20666, os.makedev(1, 5))
    node.chmod(0o666)
    if os.statvfs(node).f_flag & os.ST_NODEV:
        probes.beyond("the tests' directory is on a nodev mount")
    read = "import sys; print(open(sys.argv[1], 'rb', 0).read(3))"
    assert run.user.run(["python3", "-c", read, node]).stdout == "b'\\x00\\x00\\x00'\n"
    for words in (
        ("-v", f"{tree}:/mnt", "--", "python3", "-c", read, "/mnt/zero"),
        ("--rootfs", str(tree), *PROGRAMS, "--", "python3", "-c", read, "/zero"),
        ("--rootfs", str(tree), "--writable", *PROGRAMS, "--", "python3", "-c", read, "/zero"),
        ("--ids", "root", "-v", f"{tree}:/mnt", "--", "python3", "-c", read, "/mnt/zero"),
    ):
        done = run("run", *words)
        assert done.returncode == 1, words
        assert "Permission" in done.stderr, done.stderr
    shown = run.says("--dev-bind", f"{tree}:/mnt", "--", "python3", "-c", read, "/mnt/zero")
    assert shown == "b'\\x00\\x00\\x00'\n", "the control: --dev-bind is for that"


# ---------------------------------------------------------------- cgroups, sysctls, devices


@pytest.mark.parametrize("ids", ["keep", "root", "host"])
@pytest.mark.parametrize("view", ["system", "host"])
def test_the_machines_knobs_cannot_be_turned(run: Sublet, ids: str, view: str) -> None:
    """CVE-2023-25809, CVE-2022-0492, CVE-2019-19921: cgroups, release_agent, /proc/sys, /sys."""
    if ids == "host" and run.user.uid != 0:
        probes.beyond("--ids host is for root")
    script = r"""
import os
for path in (
    "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/vm/panic_on_oom",
    "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity", "/sys/kernel/uevent_helper",
    "/proc/sys/fs/binfmt_misc/register", "/sys/fs/cgroup/cgroup.procs",
    "/sys/fs/cgroup/release_agent", "/sys/fs/cgroup/cgroup.subtree_control",
    "/sys/power/state", "/proc/kcore", "/dev/mem", "/dev/kmsg", "/proc/acpi/wakeup",
    "/sys/kernel/debug/sched_features", "/sys/firmware/efi/efivars", "/proc/1/oom_score_adj",
):
    try:
        fd = os.open(path, os.O_WRONLY)
    except OSError:
        continue
    print(path)
    os.close(fd)
try:
    os.mkdir("/sys/fs/cgroup/sublet-made-inside")
    print("mkdir")
except OSError:
    pass
"""
    shown = run.says("--ids", ids, "--view", view, "--", "python3", "-c", script)
    opened = set(shown.split())
    assert opened <= {"/proc/1/oom_score_adj"}, opened
    if run.user.uid == 0:
        control = run.user.run(["python3", "-c", script.replace("os.mkdir", "os.stat")])
        assert "/proc/sys/kernel/core_pattern" in control.stdout, "the control: outside"


def test_the_keyring_of_the_caller_is_not_searched(run: Sublet) -> None:
    script = (
        "import ctypes; l = ctypes.CDLL(None, use_errno=True);"
        "print(l.syscall(250, 0, -3, 0), ctypes.get_errno())"
    )
    outside = run.user.run(["python3", "-c", script]).stdout.split()
    if outside[0] == "-1":
        probes.beyond("there are no keyrings here")
    assert run.says("--", "python3", "-c", script).split()[0] == "-1"


def test_the_session_keyring_of_the_caller_stays_outside(run: Sublet) -> None:
    """Without a filter too: a key that the caller's session holds is not found inside."""
    add = (
        "import ctypes, sys; l = ctypes.CDLL(None, use_errno=True);"
        "l.syscall(250, 1, None) > 0 or sys.exit(9);"  # a session keyring of its own
        "l.syscall(248, b'user', b'sublet-test', b'secret', 6, -3) > 0 or sys.exit(9);"
        "import os; os.execvp(sys.argv[1], sys.argv[1:])"
    )
    find = (
        "import ctypes; l = ctypes.CDLL(None);"
        "print(l.syscall(250, 10, -3, b'user', b'sublet-test', 0) > 0)"
    )
    control = run.user.run(["python3", "-c", add, "python3", "-c", find])
    if control.returncode == 9:
        probes.beyond("there are no keyrings here, or the quota of keys is used up")
    assert control.stdout == "True\n"
    words = ["run", "--seccomp", "none", "--", "python3", "-c", find]
    inside = run.user.run(["python3", "-c", add, *run.command, *words])
    assert (inside.stdout, inside.stderr) == ("False\n", "")
