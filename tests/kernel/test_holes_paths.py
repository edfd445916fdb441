"""Root file systems that lead astray: nothing outside of them is touched.

Which case is which: docs/security-tests.md.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

import pytest

from kernel.sublet_run import PROGRAMS, Sublet
from sublet._value import replace
from sublet.plan.codec import encode
from sublet.plan.jsonform import from_json
from support import probes
from support.hostile import KINDS, LINKS, Hostile, differences, make_victim, snapshot

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from support.users import User

pytestmark = [pytest.mark.requires("userns"), pytest.mark.usefixtures("leaving_nothing")]

PLACES = ("dev", "proc", "sys", "etc", "etc/resolv.conf", "etc/hosts", "dev/ptmx", "run", "tmp")
WAYS = ("--writable", "--read-only", "")

# What a program does that follows links: make the mount points, and write the files, by path.
NAIVE = (
    'cd "$1" && mkdir -p dev/pts proc/1 sys/fs run/lock tmp/made;'
    " echo >> dev/null; echo >> dev/ptmx; : > etc/resolv.conf; : > etc/hosts; : > dev/console;"
    " exit 0"
)


@pytest.fixture
def run(sublet_command: list[str], anyone: User) -> Sublet:
    """As root and as alice."""
    return Sublet(sublet_command, anyone)


@pytest.fixture
def run_as_alice(sublet_command: list[str], alice: User) -> Sublet:
    return Sublet(sublet_command, alice)


def ended_well_or_refused(done: subprocess.CompletedProcess[str]) -> bool:
    """Tell whether it ran, or ended with a sentence: no crash, no signal, no trace."""
    status, errors = done.returncode, done.stderr
    refused = status == 125 and errors.startswith("sublet: ") and "Traceback" not in errors
    return status == 0 or refused


def sound(errors: str) -> bool:
    return re.fullmatch(r"sublet: [^\n]+\n(  [^\n]+\n)*", errors) is not None


# ---------------------------------------------------------------- links and odd types


@pytest.mark.parametrize("where", PLACES)
def test_a_trap_leads_nowhere(run: Sublet, where: str) -> None:
    hostile = Hostile(run.user)
    words: tuple[str, ...] = ("run", "--rootfs", str(hostile.tree), *PROGRAMS)
    assert run(*words, "--", "true").returncode == 0, "the control: the same tree without a trap"
    if where.startswith("etc"):
        words += ("--net", "host")  # which binds resolv.conf
    for number, kind in enumerate(LINKS if run.user.uid == 0 else KINDS):
        hostile.trap(where, kind)
        way = WAYS[number % len(WAYS)]
        done = run("run", *([way] if way else []), *words[1:], "--", "true")
        assert ended_well_or_refused(done), (kind, way, done.returncode, done.stderr)
        assert not done.stderr or sound(done.stderr), (kind, done.stderr)
        assert not hostile.changes(), (kind, way)


@pytest.mark.parametrize("where", ["dev", "run", "tmp", "etc/resolv.conf", "dev/ptmx"])
def test_the_traps_catch_who_follows_links(alice: User, where: str) -> None:
    hostile = Hostile(alice)
    hostile.trap(where, "absolute")
    alice.run(["sh", "-c", NAIVE, "sh", str(hostile.tree)], check=True)
    assert hostile.changes(), "the decoy must be able to suffer"


@pytest.mark.parametrize("kind", ["absolute", "relative", "procfd"])
@pytest.mark.parametrize("way", ["--writable", ""])
def test_a_linked_mount_point_is_made_inside(run: Sublet, kind: str, way: str) -> None:
    hostile = Hostile(run.user)
    inside = run.user.mkdir("given")
    run.user.write("given/mine", "mine\n")
    hostile.trap("mnt", kind)
    words = [way] if way else []
    words += ["--rootfs", str(hostile.tree), *PROGRAMS, "-v", f"{inside}:/mnt/x/deeper"]
    done = run("run", *words, "--", "cat", "/mnt/x/deeper/mine")
    assert ended_well_or_refused(done), done.stderr
    if done.returncode == 0:
        assert done.stdout == "mine\n"
    assert not hostile.changes()


def test_a_link_through_the_old_root_is_none(run: Sublet) -> None:
    """CVE-2026-87766: bubblewrap made /oldroot/victim/x."""
    hostile = Hostile(run.user)
    for old in ("oldroot", "newroot", ".old", "put_old", "run/oldroot"):
        link = hostile.tree / "ws" / old.replace("/", "-")
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(f"/{old}{hostile.victim}")
        words = ("--writable", "--rootfs", str(hostile.tree), *PROGRAMS)
        given = f"/usr/share:/ws/{link.name}/x:ro"
        assert ended_well_or_refused(run("run", *words, "-v", given, "--", "true"))
    assert not hostile.changes()


def test_devices_are_the_machines(run: Sublet) -> None:
    """CVE-2025-31133, CVE-2025-52565: /dev/null, /dev/console as sources of masks."""
    hostile = Hostile(run.user)
    for name in ("null", "zero", "console", "pts", "tty", "full"):
        hostile.trap(f"dev/{name}", "absolute")
    script = "stat -c '%t:%T %n' -L /dev/null /dev/zero /dev/full; echo lost > /dev/null"
    shown = run.says("--rootfs", str(hostile.tree), *PROGRAMS, "--", "sh", "-c", script)
    assert shown == "1:3 /dev/null\n1:5 /dev/zero\n1:7 /dev/full\n"
    assert not hostile.changes()


@pytest.mark.parametrize("kind", ["absolute", "relative", "procfd", "file"])
def test_procfs_is_the_kernels(run: Sublet, kind: str) -> None:
    """CVE-2023-27561, CVE-2025-52881: what is read as /proc in there is none of the tree's."""
    hostile = Hostile(run.user)
    (hostile.tree / "fake" / "self").mkdir(parents=True)
    hostile.trap("proc", kind)
    script = "stat -f -c %t /proc; cat /proc/self/comm"
    done = run("run", "--rootfs", str(hostile.tree), *PROGRAMS, "--", "sh", "-c", script)
    if done.returncode:
        assert done.returncode == 125, done.stderr
        assert sound(done.stderr)
    else:
        assert done.stdout == "9fa0\ncat\n"
    assert not hostile.changes()


def test_the_working_directory_is_not_made_outside(run: Sublet) -> None:
    """CVE-2026-55686: a link in the working directory's path."""
    hostile = Hostile(run.user)
    hostile.trap("home/link", "absolute")
    words = ("--writable", "--rootfs", str(hostile.tree), *PROGRAMS, "-w", "/home/link/made")
    status, errors = run.fails(*words, "--", "true")
    assert status == 125
    assert sound(errors)
    assert not hostile.changes()
    (hostile.tree / "home/real").mkdir()
    run.user.own(hostile.tree / "home/real")
    assert run.says(*words[:-1], "/home/real", "--", "pwd") == "/home/real\n"


def test_a_trap_of_a_device_node(sublet_command: list[str], root: User) -> None:
    run = Sublet(sublet_command, root)
    hostile = Hostile(root)
    for place in ("dev", "proc", "sys", "etc/resolv.conf", "etc/hosts"):
        hostile.trap(place, "device")
        done = run("run", "--rootfs", str(hostile.tree), *PROGRAMS, "--", "true", timeout=20)
        assert ended_well_or_refused(done), (place, done.stderr)
        assert not hostile.changes()


# ---------------------------------------------------------------- races

RACE = """
import ctypes, json, os, subprocess, sys, time
command, a, b, times, seconds = sys.argv[1], *sys.argv[2:4], int(sys.argv[4]), float(sys.argv[5])
libc = ctypes.CDLL(None, use_errno=True)
swapper = os.fork()
if swapper == 0:
    old, new = a.encode(), b.encode()
    while True:
        libc.renameat2(-100, old, -100, new, 2)
end = time.monotonic() + seconds
statuses = {}
try:
    for _ in range(times):
        status = subprocess.run(command, shell=True, stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
        statuses[status] = statuses.get(status, 0) + 1
        if time.monotonic() > end or (len(sys.argv) > 6 and os.listdir(sys.argv[6])):
            break
finally:
    os.kill(swapper, 9)
    os.waitpid(swapper, 0)
print(json.dumps(statuses))
"""


def race(user: User, command: str, a: Path, b: Path, times: int, *until: Path) -> dict[int, int]:
    """Run *command* repeatedly while *a* and *b* are exchanged; return how often it ended how."""
    words = ["python3", "-c", RACE, command, str(a), str(b), str(times), "1.5", *map(str, until)]
    done = user.run(words)
    assert done.returncode == 0, done.stderr
    return {int(status): count for status, count in json.loads(done.stdout).items()}


@pytest.mark.parametrize("where", ["dev", "mnt"])
def test_a_mount_point_that_is_exchanged_all_the_time(
    run: Sublet, sublet_exec: Path, where: str
) -> None:
    """CVE-2021-30465, CVE-2024-45310: between the look and the mount it becomes a link."""
    user = run.user
    hostile = Hostile(user)
    given = user.mkdir("given")
    directory = hostile.tree / where
    directory.mkdir(exist_ok=True)
    user.own(directory)
    words = ("run", "--writable", "--rootfs", str(hostile.tree), *PROGRAMS)
    shown = run(*words, "-v", f"{given}:/{where}/x/y", "--plan", "--json", "--", "true")
    plan = from_json(shown.stdout)
    # Without a reporter, whose start would take longer than all else.
    plan = replace(plan, supervision=replace(plan.supervision, reporter=()))
    (user.home / "plan.bin").write_bytes(encode(plan))
    assert user.run([sublet_exec, "plan.bin"]).returncode == 0, "the control: nobody races"
    link = hostile.trap("link", "absolute")
    statuses = race(user, f"exec {sublet_exec} plan.bin", directory, link, 250)
    assert statuses.keys() <= {0, 125}, statuses
    assert sum(statuses.values()) > 20, statuses
    assert not hostile.changes()


def test_the_race_can_be_won(alice: User) -> None:
    """The same exchange, and somebody who looks first and makes the path afterwards."""
    tree, victim = alice.mkdir("tree"), alice.mkdir("empty-victim")
    directory = alice.mkdir("tree/mnt")
    link = tree / "link"
    link.symlink_to(victim)
    alice.own(link)
    naive = f"[ -L {directory} ] || {{ [ -d {directory} ] && mkdir -p {directory}/x; }}"
    race(alice, naive, directory, link, 4000, victim)
    if not os.listdir(victim):
        probes.beyond("this machine is too slow or too busy for the naive program to lose")


def test_a_source_that_is_exchanged_is_one_or_the_other(run: Sublet) -> None:
    """CVE-2026-34078, CVE-2024-42472: the mount shows one of the two, whole, at the caller's risk;
    read-only stays read-only whichever it is."""
    user = run.user
    share, victim = user.mkdir("share"), make_victim(user)
    user.write("share/x", "shared\n")
    link = user.home / "link"
    link.symlink_to(victim)
    before = snapshot(victim)
    script = f"{' '.join(run.command)} run -v {share}:/mnt/s:ro -- sh -c 'echo no > /mnt/s/x'"
    statuses = race(user, script, share, link, 12)
    assert 0 not in statuses
    assert not differences(before, snapshot(victim))


# ---------------------------------------------------------------- users and groups of the tree

LINE = "guest:x:405:100::/home/guest:/bin/sh\n"


def passwd_of(hostile: Hostile, content: bytes | None, file: str = "passwd") -> Path:
    path = hostile.tree / "etc" / file
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)
        hostile.user.own(path)
    return path


@pytest.mark.parametrize("file", ["passwd", "group"])
def test_users_and_groups_are_read_inside_and_in_bounds(
    sublet_command: list[str], alice: User, file: str
) -> None:
    """CVE-2024-9676: links, FIFOs and endless files in place of /etc/passwd and /etc/group."""
    run = Sublet(sublet_command, alice)
    hostile = Hostile(alice)
    (hostile.victim / "passwd").write_text("evil:x:0:0::/:/bin/sh\n")
    (hostile.victim / "group").write_text("evil:x:0:\n")
    hostile._before = snapshot(hostile.victim)
    who = "evil" if file == "passwd" else "405:evil"
    words = ("run", "--ids", "full", "--rootfs", str(hostile.tree), *PROGRAMS, "--user")
    control = run(*words, "guest:users", "--", "id", "-u")
    assert control.stdout == "405\n", control.stderr
    for kind in ("absolute", "relative", "dangling", "loop", "fifo", "socket", "directory"):
        hostile.trap(f"etc/{file}", kind)
        done = run(*words, who, "--", "id", "-u", timeout=20)
        assert done.returncode == 125, (kind, done.stdout)
        assert sound(done.stderr), done.stderr
        if kind != "directory":
            passwd_of(hostile, None, file)
    (hostile.tree / "etc" / file).rmdir()
    for endless in ("/dev/zero", "/proc/self/mem", "/proc/kmsg"):
        (hostile.tree / "etc" / file).symlink_to(endless)
        done = run(*words, who, "--", "id", "-u", timeout=20)
        assert done.returncode == 125, endless
        passwd_of(hostile, None, file)
    for content in (b"x" * (3 << 20), b"\0" * (2 << 20), b"\n" * (2 << 20)):
        passwd_of(hostile, content, file)
        done = run(*words, who, "--", "id", "-u", timeout=20)
        assert done.returncode == 125, content[:1]
        assert sound(done.stderr), done.stderr
    assert not hostile.changes()


@pytest.mark.requires("newuidmap")
def test_odd_lines_make_nobody_somebody_else(sublet_command: list[str], alice: User) -> None:
    run = Sublet(sublet_command, alice)
    hostile = Hostile(alice)
    lines = [
        "guest:x:405:100::/home/guest:/bin/sh",
        "guest:x:0:0::/:/bin/sh",  # a second one of that name
        "1000:x:0:0::/:/bin/sh",  # a name of digits
        "huge:x:4294967296:0::/:/bin/sh",
        "wrap:x:4294967295:0::/:/bin/sh",
        "minus:x:-1:0::/:/bin/sh",
        "hex:x:0x0:0::/:/bin/sh",
        "space:x: 0:0::/:/bin/sh",
        "empty:x::0::/:/bin/sh",
        "nul\0:x:0:0::/:/bin/sh",
        f"long:x:0:0:{'g' * 100_000}:/:/bin/sh",
        ":x:7:7::/:/bin/sh",
        "short:x:0",
    ]
    passwd_of(hostile, "\n".join(lines).encode())
    words = ("run", "--ids", "full", "--rootfs", str(hostile.tree), *PROGRAMS, "--user")
    assert run(*words, "guest", "--", "id", "-u").stdout == "405\n"
    assert run(*words, "1000", "--", "id", "-u").stdout == "1000\n"
    for name in ("huge", "wrap", "minus", "hex", "space", "empty", "nul", "long", "short"):
        done = run(*words, name, "--", "id", "-u")
        assert done.returncode == 125, (name, done.stdout)
        assert sound(done.stderr), (name, done.stderr)


def test_libraries_of_the_tree_are_loaded_by_nobody_outside(run: Sublet) -> None:
    """CVE-2019-14271: names are looked up without the tree's NSS, locale or Python files."""
    hostile = Hostile(run.user)
    for folder in ("usr/lib", "etc"):
        (hostile.tree / folder).mkdir(parents=True, exist_ok=True)
    (hostile.tree / "etc/nsswitch.conf").write_text("passwd: evil\n")
    (hostile.tree / "etc/ld.so.preload").write_text("/evil.so\n")
    for name in ("sublet", "encodings", "sitecustomize", "json"):
        (hostile.tree / f"{name}.py").write_text(f"open({str(hostile.victim / 'x')!r}, 'w')\n")
    words = ("run", "--rootfs", str(hostile.tree), "--", "/missing")
    done = run(*words, cwd=hostile.tree)
    assert done.returncode == 127, done.stderr
    assert not hostile.changes()
