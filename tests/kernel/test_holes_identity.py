"""IDs, groups and capabilities: nobody is more inside than was asked for.

Which case is which: docs/security-tests.md.
"""

from __future__ import annotations

import copy
import os
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernel.sublet_run import PROGRAMS, Sublet, lines_of_map, make_tree

if TYPE_CHECKING:
    from support.users import User

pytestmark = [pytest.mark.requires("userns"), pytest.mark.usefixtures("leaving_nothing")]

LAYOUTS = ("keep", "root", "full", "keep:405:100", "nomap")
SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
FILTER = ("--seccomp", "none")


@pytest.fixture
def run(sublet_command: list[str], anyone: User) -> Sublet:
    """As root and as alice."""
    return Sublet(sublet_command, anyone)


@pytest.fixture
def run_as_alice(sublet_command: list[str], alice: User) -> Sublet:
    return Sublet(sublet_command, alice)


def status_of(text: str) -> dict[str, str]:
    """Return the fields of a /proc/PID/status."""
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def status(run: Sublet, *words: str) -> dict[str, str]:
    return status_of(run.says(*words, "-w", "/", "--", "cat", "/proc/self/status"))


CAPABLE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
uid, gid = int(sys.argv[1]), int(sys.argv[2])
libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
os.setgroups([])
os.setresgid(gid, gid, gid)
os.setresuid(uid, uid, uid)
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
data = (ctypes.c_uint32 * 6)()
assert libc.capget(header, data) == 0
low, high = data[1], data[4]
data = (ctypes.c_uint32 * 6)(low, low, low, high, high, high)
assert libc.capset(header, data) == 0
for one in range(64):
    if (high << 32 | low) >> one & 1:
        assert libc.prctl(47, 2, one, 0, 0) == 0  # PR_CAP_AMBIENT_RAISE
os.execvp(sys.argv[3], sys.argv[3:])
"""


def still_root(user: User) -> User:
    """Return the same user, whose commands start as root and become the user by themselves."""
    twin = copy.copy(user)
    twin._prefix = [*user._prefix[:-2], "0", "0"]
    return twin


def capable(user: User) -> list[str]:
    """Return a command prefix of still_root(): everything is permitted, inheritable, ambient."""
    return ["python3", "-c", CAPABLE, str(user.uid), str(user.gid)]


# ---------------------------------------------------------------- capabilities


@pytest.mark.requires("newuidmap")
@pytest.mark.parametrize("ids", LAYOUTS)
def test_nothing_is_inheritable_or_ambient(run: Sublet, ids: str) -> None:
    """CVE-2022-27650, CVE-2022-29162."""
    fields = status(run, "--ids", ids)
    assert int(fields["CapInh"], 16) == 0
    assert int(fields["CapAmb"], 16) == 0
    kept = int(fields["CapBnd"], 16)
    for name in ("CapPrm", "CapEff"):
        assert int(fields[name], 16) & ~kept == 0, name
    dangerous = sum(1 << one for one in (16, 17, 18 + 1, 21, 12, 22, 25))  # MODULE RAWIO PTRACE ...
    assert kept & dangerous == 0, hex(kept)


@pytest.mark.requires("root", "newuidmap")
@pytest.mark.parametrize("ids", ["keep", "root", "full", "host"])
def test_the_callers_capabilities_do_not_leak(run: Sublet, ids: str) -> None:
    """The caller has all of them, inheritable and ambient: an ordinary user just as root."""
    user = still_root(run.user)
    prefix = capable(user)
    shown = user.run([*prefix, "cat", "/proc/self/status"])
    assert shown.returncode == 0, shown.stderr
    control = status_of(shown.stdout)
    assert int(control["CapInh"], 16) == int(control["CapAmb"], 16) != 0
    words = ["run", "--ids", ids, "-w", "/", "--", "cat", "/proc/self/status"]
    done = user.run([*prefix, *run.command, *words])
    fields = status_of(done.stdout)
    assert int(fields["CapInh"], 16) == int(fields["CapAmb"], 16) == 0, done.stderr
    if ids == "keep":
        assert [int(fields[name], 16) for name in SETS] == [0] * 5


@pytest.mark.parametrize("words", [("--cap-add", "all"), ("--cap-drop", "all"), ()])
def test_what_is_asked_of_capabilities_is_in_force(run: Sublet, words: tuple[str, ...]) -> None:
    """CVE-2025-65105: read every option back."""
    fields = status(run, "--ids", "root", *words)
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    everything = (1 << last + 1) - 1
    if "--cap-add" in words:
        assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == everything
    elif "--cap-drop" in words:
        assert [int(fields[name], 16) for name in SETS] == [0] * 5
    else:
        assert 0 < int(fields["CapEff"], 16) < everything
        assert int(fields["CapEff"], 16) & 1 << 21 == 0  # CAP_SYS_ADMIN


def test_options_of_security_are_read_back(run: Sublet) -> None:
    given = run.user.mkdir("scratch")
    other = run.user.mkdir("scratch2")
    words = ["-v", f"{given}:{given}:ro", "--rw", str(other), "--ulimit", "nofile=77:99"]
    words += ["--hostname", "inside", "--no-new-privs", "-w", "/"]
    script = (
        "cat /proc/self/status /proc/self/limits; cat /proc/self/mountinfo; hostname;"
        f" ls /sys/class/net /proc/net/dev; : > {other}/made; : > {given}/made"
    )
    done = run("run", *words, "--", "bash", "-c", script)
    shown = done.stdout
    fields = status_of(shown)
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
    assert "Max open files            77                   99" in shown
    assert "\ninside\n" in shown
    mounts = {line.split()[4]: line.split() for line in shown.splitlines() if " - " in line}
    assert {"ro", "nosuid", "nodev"} <= set(mounts[str(given)][5].split(","))
    assert {"rw", "nosuid", "nodev"} <= set(mounts[str(other)][5].split(","))
    for path, line in mounts.items():
        flags = line[5].split(",")
        device = path.startswith(("/dev", "/proc/")) and "nosuid" in flags
        assert device or {"nosuid", "nodev"} <= set(flags), (path, flags)
        assert not any(word.startswith(("shared:", "master:")) for word in line[6:]), line
    assert (other / "made").exists()
    assert not (given / "made").exists(), "a path is no prefix of another's name"
    assert "made: Read-only" in done.stderr


def test_what_cannot_be_enforced_is_refused(run_as_alice: Sublet) -> None:
    for words in (
        ("--ids", "host"),
        ("--user", "12345"),
        ("--ids", "root", "--user", "5:5"),
        ("--ulimit", "nofile=99999999:999999999"),
        ("--ids", "u:0:0:1"),
        ("--ids", "b:0:5000:10"),
    ):
        code, errors = run_as_alice.fails(*words, "--", "id")
        assert code == 125, words
        assert errors.startswith("sublet: "), errors


# ---------------------------------------------------------------- numbers


ODD_NUMBERS = (
    "4294967295",
    "4294967296",
    "18446744073709551616",
    "99999999999999999999999",
    "-1",
    "+1",
    "0x0",
    "1e3",
    "1 ",
    " 1",
    "٣",  # a digit, but none of ASCII's
    "²",
    "",
    ":",
    "1:",
    "1:4294967295",
    "1:-1",
    "1:2:3",
    "/",
    "root\n",
)


@pytest.mark.requires("newuidmap")
@pytest.mark.parametrize("text", ODD_NUMBERS)
def test_a_user_is_a_number_or_nobody(run_as_alice: Sublet, text: str) -> None:
    """CVE-2026-30892, CVE-2026-46680, CVE-2016-3697: neither wrapped around nor looked up as 0."""
    done = run_as_alice("run", "--ids", "full", "--user", text, "-w", "/", "--", "id", "-u")
    assert done.returncode == 125, done.stdout
    assert done.stderr.startswith("sublet: ")
    assert done.stdout == ""


@pytest.mark.requires("newuidmap")
@pytest.mark.parametrize(
    "text",
    [
        "u:0:4294967295:1",
        "u:4294967295:0:1",
        "u:4294967294:100000:2",
        "b:0:100000:4294967295",
        "b:0:100000:4294967296",
        "b:1:4294967290:10",
        "b:0:100000:0",
        "b:0:100000:-1",
        "b:0:100000:65537",
        "b:0:99999:2",
        "b:0:100000:10,b:5:100020:10",
        "b:0:100000:10,b:20:100005:10",
        "full",
        "keep:4294967295",
        "keep:-1",
        "keep:4294967296:1",
    ],
)
def test_ranges_near_the_end_and_beyond(run_as_alice: Sublet, text: str) -> None:
    """CVE-2016-6252, CVE-2018-18955: no arithmetic wraps; what is not delegated is refused."""
    done = run_as_alice("run", "--ids", text, "-w", "/", "--", "cat", "/proc/self/uid_map")
    if text == "full":
        assert lines_of_map(done.stdout)[1:] == [[1, 100000, 65536]], "the control"
    else:
        assert done.returncode == 125, done.stdout
        assert done.stderr.startswith("sublet: ")


@pytest.mark.requires("newuidmap")
@pytest.mark.parametrize("count", [5, 6, 300])
def test_many_extents_are_all_there(run: Sublet, count: int) -> None:
    """CVE-2021-43784, CVE-2018-18955: beyond five the kernel keeps and sorts them otherwise."""
    start = run.user.sub_ids.start
    wanted = [[2 * one, start + 3 * one, 1] for one in range(count)]
    spelt = ",".join(f"b:{a}:{b}:{c}" for a, b, c in wanted)
    words = ("--ids", spelt, "--user", "0:0", "-w", "/")
    shown = run.says(*words, "--", "sh", "-c", "cat /proc/self/uid_map /proc/self/gid_map")
    assert sorted(lines_of_map(shown)) == sorted(wanted * 2)


@pytest.mark.parametrize("count", [341, 5000])
def test_too_many_extents_are_refused(run_as_alice: Sublet, count: int) -> None:
    spelt = ",".join(f"b:{2 * n}:{100000 + 3 * n}:1" for n in range(count))
    code, errors = run_as_alice.fails("--ids", spelt, "--user", "0:0", "--", "id")
    assert code == 125
    assert "340" in errors, errors


# ---------------------------------------------------------------- groups


@pytest.mark.requires("newuidmap")
def test_the_whole_list_of_groups(run: Sublet) -> None:
    """CVE-2022-36109, CVE-2023-25173, CVE-2022-2989."""
    tree = make_tree(run.user)
    groups = (
        "root:x:0:\nusers:x:100:\na:x:7:guest\nb:x:9:other,guest\nc:x:11:guests\nd:x:12:xguest\n"
    )
    run.user.write("rootfs/etc/group", groups)
    words = ("--ids", "full", "--rootfs", str(tree), *PROGRAMS)
    show = ("--", "grep", "Groups", "/proc/self/status")

    def groups_of(user: str) -> list[str]:
        return run.says(*words, "--user", user, *show).split()[1:]

    assert groups_of("guest") == ["7", "9"]
    assert groups_of("guest:users") == []
    assert groups_of("405:100") == []
    assert groups_of("12345:5") == []
    assert run.says(*words, *show).split()[1:] == []


@pytest.mark.requires("root", "newuidmap")
@pytest.mark.parametrize("mode", [0o604, 0o704])
def test_what_a_group_is_denied_stays_denied(
    sublet_command: list[str], alice: User, mode: int
) -> None:
    """CVE-2018-7169, CVE-2014-8989: who drops a group must not get what only it is denied.

    keep and root leave the groups as they are, for the kernel denies setgroups(2) there. full is
    set up by newgidmap, which permits it: docs/security-tests.md says what that means.
    """
    group = 54321
    file = alice.write("denied", "secret\n", mode)
    os.chown(file, 0, group)
    member = ["setpriv", "--reuid", str(alice.uid), "--regid", str(alice.gid)]
    member += ["--groups", str(group), "--"]
    alice = still_root(alice)
    assert "Permission denied" in alice.run([*member, "cat", file]).stderr, "the control: outside"
    free = [*member[:5], "--clear-groups", "--"]
    assert alice.run([*free, "cat", file]).stdout == "secret\n", "the control: without the group"
    for ids in ("keep", "root"):
        words = ["run", "--ids", ids, "--view", "host", *FILTER, "--", "sh", "-c"]
        script = f"cat {file}; python3 -c 'import os; os.setgroups([])'; cat {file}"
        done = alice.run([*member, *sublet_command, *words, script])
        assert done.stdout == "", ids
        assert done.stderr.count("Permission denied") == 2, done.stderr
        assert "Operation not permitted" in done.stderr or "PermissionError" in done.stderr
    # Documented: with delegated IDs the list is emptied, which gives up the denial as well.
    done = alice.run(
        [*member, *sublet_command, "run", "--ids", "full", "--view", "host", "--", "id", "-G"]
    )
    assert str(group) not in done.stdout.split()


# ---------------------------------------------------------------- what lies about


def test_kept_trees_are_nobody_elses(
    sublet_command: list[str], root: User, alice: User, nosub: User
) -> None:
    """CVE-2021-21284, CVE-2021-41091: set-ID files in a layer are reachable by their owner only."""
    del root
    run = Sublet(sublet_command, alice)
    make_tree(alice)
    words = ("--name", "kept", "--rootfs", "rootfs", *PROGRAMS)
    run.says(*words, "--", "sh", "-c", "cp /usr/bin/id /id && chmod 4755 /id")
    data = alice.home / ".local/share/sublet"
    found = [path for path in data.rglob("id") if path.is_file()]
    assert found, "the control: it was kept"
    assert data.stat().st_mode & 0o077 == 0
    assert "Permission denied" in nosub.run([found[0]]).stderr + nosub.run(["ls", data]).stderr
    assert run("rm", "kept").returncode == 0


@pytest.mark.parametrize("variable", ["XDG_DATA_HOME", "XDG_CACHE_HOME"])
def test_a_directory_of_somebody_else_is_not_trusted(
    sublet_command: list[str], alice: User, root: User, place: Path, variable: str
) -> None:
    """Where everybody may write, somebody may have been first."""
    del root
    run = Sublet(sublet_command, alice)
    make_tree(alice)
    shutil.make_archive(str(alice.home / "tree"), "tar", alice.home / "rootfs")
    alice.own(alice.home / "tree.tar")
    shared = place / "users" / f"shared-{variable}-{os.getpid()}"
    shared.mkdir()
    shared.chmod(0o1777)
    planted = shared / "sublet"
    named = ("--name", "x", "--rootfs", "rootfs")
    what = named if variable == "XDG_DATA_HOME" else ("--rootfs", "tree.tar")
    words = ("run", *what, *PROGRAMS, "--", "true")
    try:
        for linked in (False, True):
            if linked:
                planted.symlink_to(alice.home)
            else:
                planted.mkdir()
            done = run(*words, env={variable: str(shared)})
            assert done.returncode == 125, done.stdout
            assert str(planted) in done.stderr
            if planted.is_symlink():
                planted.unlink()
            else:
                assert not os.listdir(planted)
                planted.rmdir()
        assert run(*words, env={variable: str(shared)}).returncode == 0, "the control"
        assert planted.stat().st_mode & 0o077 == 0
    finally:
        shutil.rmtree(shared)


def test_sub_ids_that_hold_ones_own_id(sublet_command: list[str], alice: User, root: User) -> None:
    """shadow#1157: a delegation that meets real accounts. Nobody outside is two people inside."""
    del root
    run = Sublet(sublet_command, alice)
    for name in ("subuid", "subgid"):
        (alice.home.parent / "etc" / name).write_text("alice:1000:65536\n")
    done = run("run", "--ids", "full", "-w", "/", "--", "cat", "/proc/self/uid_map")
    if done.returncode:
        assert done.returncode == 125
        assert done.stderr.startswith("sublet: ")
        return
    outside = [number for _, at, n in lines_of_map(done.stdout) for number in range(at, at + n)]
    assert len(outside) == len(set(outside))
    assert lines_of_map(done.stdout)[0] == [0, alice.uid, 1]


# ---------------------------------------------------------------- the network

LISTEN = "\0sublet-test-{}"


def connect(name: str, kind: str) -> str:
    family = {"abstract": f"'\\0{name}'", "loopback": f"('127.0.0.1', {name})"}[kind]
    socket_kind = "AF_UNIX" if kind == "abstract" else "AF_INET"
    return (
        f"import socket; s = socket.socket(socket.{socket_kind})\n"
        f"try:\n    s.connect({family}); print('reached')\n"
        "except OSError as error:\n    print('not', error.errno)\n"
    )


@pytest.mark.parametrize("kind", ["abstract", "loopback"])
def test_the_machines_sockets(run: Sublet, kind: str) -> None:
    """CVE-2020-15257, CVE-2021-20199: unreachable with a network of its own, reachable with the
    machine's, as SECURITY.md says."""
    name = f"sublet-test-{os.getpid()}-{run.user.uid}"
    if kind == "abstract":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"\0{name}")
    else:
        listener = socket.socket(socket.AF_INET)
        listener.bind(("127.0.0.1", 0))
        name = str(listener.getsockname()[1])
    with listener:
        listener.listen(8)
        program = connect(name, kind)
        control = run.user.run(["python3", "-c", program])
        assert control.stdout == "reached\n"
        assert run.says("--", "python3", "-c", program).startswith("not ")
        assert run.says(*FILTER, "--ids", "root", "--", "python3", "-c", program).startswith("not ")
        assert run.says("--net", "host", "--", "python3", "-c", program) == "reached\n"
