"""`sublet run --rootfs`: a root file system, its users, and what becomes of what is written."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernel.sublet_run import PROGRAMS, Sublet, lines_of_map, make_tree

if TYPE_CHECKING:
    from support.leaks import Leaks
    from support.users import User

pytestmark = [
    pytest.mark.requires("userns", "newuidmap", "overlay_userns"),
    pytest.mark.usefixtures("leaving_nothing"),
]

DEV = sorted(
    "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero".split()
)


@pytest.fixture
def run(sublet_command: list[str], anyone: User) -> Sublet:
    """As root and as alice."""
    return Sublet(sublet_command, anyone)


@pytest.fixture
def tree(run: Sublet) -> Path:
    return make_tree(run.user)


@pytest.fixture
def alice_run(sublet_command: list[str], alice: User) -> Sublet:
    return Sublet(sublet_command, alice)


def full(tree: Path, *words: str) -> tuple[str, ...]:
    return ("--ids", "full", "--rootfs", str(tree), *PROGRAMS, *words, "--")


# ---------------------------------------------------------------- who is who


def test_all_is_roots_and_only_the_kernels_trees_are_not(alice_run: Sublet) -> None:
    tree = make_tree(alice_run.user)
    words = full(tree)
    shown = alice_run.says(
        *words, "stat", "-c", "%n %U %G", *sorted(f"/{e.name}" for e in tree.iterdir())
    )
    owners = {line.split()[0]: line.split()[1:] for line in shown.splitlines()}
    for place in ("/proc", "/sys"):
        assert owners.pop(place)[1] == "nogroup"
    owners.pop("/usr")  # the machine's, in this test
    assert set(map(tuple, owners.values())) == {("root", "root")}, owners
    assert alice_run.says(*words, "stat", "-c", "%u", "/proc/1") == "0\n"
    users = alice_run.says(*words, "cat", "/proc/self/uid_map")
    start = alice_run.user.sub_ids.start
    assert lines_of_map(users) == [[0, alice_run.user.uid, 1], [1, start, 65536]]


@pytest.mark.parametrize(
    ("user", "uid", "gid", "groups"),
    [
        ("1000:1000", "1000", "1000", "1000"),
        ("guest", "405", "100", "100 123"),
        ("405", "405", "100", "100 123"),
        ("guest:ntp", "405", "123", "123"),
        ("405:100", "405", "100", "100"),
        ("_apt", "42", "65534", "65534"),
    ],
)
def test_the_command_runs_as_the_user_that_was_chosen(
    run: Sublet, tree: Path, user: str, uid: str, gid: str, groups: str
) -> None:
    shown = run.says(*full(tree, "--user", user), "sh", "-c", "id -u; id -g; id -G")
    assert shown.splitlines() == [uid, gid, groups]


def test_names_are_those_of_the_root_file_system(run: Sublet, tree: Path) -> None:
    status, said = run.fails(*full(tree, "--user", "daemon"), "id")
    assert status == 125
    assert "no user 'daemon' in /etc/passwd of the root file system" in said


@pytest.mark.parametrize("hostile", ["/etc/passwd", "/dev/zero"])
def test_a_hostile_passwd_file_is_neither_followed_out_nor_read_for_ever(
    run: Sublet, tree: Path, hostile: str
) -> None:
    (tree / "etc/passwd").unlink()
    (tree / "etc/passwd").symlink_to(hostile)
    status, said = run.fails(*full(tree, "--user", "guest"), "id")
    assert status == 125
    assert "/etc/passwd" in said
    assert run.says(*full(tree), "id", "-u") == "0\n"


def test_a_fifo_in_place_of_passwd_blocks_nobody(run: Sublet, tree: Path) -> None:
    (tree / "etc/passwd").unlink()
    os.mkfifo(tree / "etc/passwd", 0o644)
    assert run.fails(*full(tree, "--user", "guest"), "id")[0] == 125
    assert run.says(*full(tree), "id", "-u") == "0\n"


def owner_of_a_file_written(run: Sublet, tree: Path, *words: str) -> int:
    place = run.user.mkdir("shared")
    place.chmod(0o777)
    run.says(
        "--rootfs", str(tree), *PROGRAMS, "-v", f"{place}:/data", *words, "--", "touch", "/data/f"
    )
    return (place / "f").stat().st_uid


@pytest.mark.parametrize(("user", "owner"), [("0:0", 0), ("1000:1000", 1000)])
def test_with_the_machines_ids_owners_are_the_same_outside(
    sublet_command: list[str], root: User, user: str, owner: int
) -> None:
    run = Sublet(sublet_command, root)
    words = ("--ids", "host", "--user", user)
    assert owner_of_a_file_written(run, make_tree(root), *words) == owner


@pytest.mark.parametrize("user", [0, 1000])
def test_in_the_full_map_owners_are_oneself_and_the_sub_ids(alice_run: Sublet, user: int) -> None:
    alice = alice_run.user
    words = ("--ids", "full", "--user", f"{user}:{user}")
    expected = alice.uid if user == 0 else alice.sub_ids.start + user - 1
    assert owner_of_a_file_written(alice_run, make_tree(alice), *words) == expected


def test_real_root_has_no_more_than_containers_have(sublet_command: list[str], root: User) -> None:
    run = Sublet(sublet_command, root)
    words = ("--ids", "host", "--rootfs", str(make_tree(root)), *PROGRAMS, "--", "sh", "-c")
    done = run(
        "run", *words, "echo 1 > /proc/sys/kernel/panic; echo 1 > /proc/irq/default_smp_affinity"
    )
    assert done.stderr.count("Read-only file system") == 2
    assert run.says(*words, "cat /proc/keys /proc/timer_list 2>/dev/null | wc -c").strip() == "0"
    assert int(run.says(*words, "grep CapEff /proc/self/status").split()[1], 16) == 0x800405FB
    nodes = run.says(*words, "test ! -e /dev/kmsg; head -c4 /dev/zero | wc -c; ls -A /dev")
    assert nodes.split() == ["4", *DEV]


# ---------------------------------------------------------------- what one sees


def test_dev_has_what_programs_expect(run: Sublet, tree: Path) -> None:
    assert run.says(*full(tree), "ls", "-A", "/dev").split() == DEV


def test_the_environment_is_a_clean_one(run: Sublet, tree: Path) -> None:
    shown = run.says(*full(tree, "--user", "guest", "-e", "A=1"), "env")
    got = dict(line.split("=", 1) for line in shown.splitlines())
    got.pop("PWD", None)
    assert got == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "container": "sublet",
        "HOME": "/home/guest",
        "USER": "guest",
        "LOGNAME": "guest",
        "A": "1",
    }


def test_nothing_of_the_machine_is_there(run: Sublet, tree: Path) -> None:
    assert run.says(*full(tree), "cat", "/etc/os-release") == "ID=little\n"
    shown = run.says(*full(tree), "ls", "-A", "/").split()
    assert sorted(shown) == sorted(entry.name for entry in tree.iterdir())


def test_the_machines_name_service_comes_with_its_network(run: Sublet, tree: Path) -> None:
    machines = Path("/etc/resolv.conf").read_text()
    words = full(tree, "--net", "host")
    assert run.says(*words, "cat", "/etc/resolv.conf") == machines
    (tree / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    assert run.says(*words, "cat", "/etc/resolv.conf") == machines
    assert not (tree / "run/systemd").exists()


@pytest.mark.parametrize("folder", ["dev", "proc", "sys", "etc"])
@pytest.mark.parametrize("absolute", [False, True])
def test_a_link_out_of_the_tree_leads_nowhere(
    run: Sublet, tree: Path, leaving_nothing: Leaks, folder: str, *, absolute: bool
) -> None:
    victim = run.user.mkdir("victim")
    run.user.write("victim/ptmx", "precious")
    target = str(victim) if absolute else "../victim"
    for entry in (tree / folder).iterdir():
        entry.unlink()
    (tree / folder).rmdir()
    (tree / folder).symlink_to(target)
    leaving_nothing.watch(victim)
    run("run", "--ids", "full", "--writable", "--rootfs", str(tree), *PROGRAMS, "--", "true")
    assert (victim / "ptmx").read_text() == "precious"


# ---------------------------------------------------------------- what becomes of writes


SCRIPT = "echo new > /new; rm /etc/os-release; chown 42:42 /etc/group; stat -c %u:%g /etc/group"


def test_by_default_writes_vanish(run: Sublet, tree: Path, leaving_nothing: Leaks) -> None:
    leaving_nothing.watch(tree)
    assert run.says(*full(tree), "sh", "-c", SCRIPT) == "42:42\n"
    assert (tree / "etc/os-release").exists()
    assert (tree / "etc/group").stat().st_uid == run.user.uid


def test_writable_writes_to_the_directory(run: Sublet, tree: Path) -> None:
    assert run.says(*full(tree, "--writable"), "sh", "-c", SCRIPT) == "42:42\n"
    assert (tree / "new").read_text() == "new\n"
    assert not (tree / "etc/os-release").exists()
    start = run.user.sub_ids.start
    assert (tree / "etc/group").stat().st_uid == start + 41


def test_read_only_refuses(run: Sublet, tree: Path) -> None:
    done = run(
        "run",
        *full(tree, "--read-only", "--tmpfs", "/scratch"),
        "sh",
        "-c",
        "touch /scratch/f; touch /new",
    )
    assert "Read-only file system" in done.stderr
    assert not (tree / "new").exists()


def test_a_name_keeps_writes_until_it_is_dropped(run: Sublet, tree: Path) -> None:
    assert run.says(*full(tree, "--name", "web"), "sh", "-c", SCRIPT) == "42:42\n"
    assert not (tree / "new").exists()
    again = ("--name", "web", *PROGRAMS, "--")
    shown = run.says(
        *again, "sh", "-c", "cat /new; ls /etc/os-release 2>&1; stat -c %u:%g /etc/group"
    )
    assert shown.startswith("new\n")
    assert shown.endswith("42:42\n")
    assert "No such file" in shown
    listed = run("list").stdout
    assert listed.split() == ["NAME", "IDS", "ROOTFS", "web", "full", str(tree)]
    dropped = run("rm", "web")
    assert dropped.returncode == 0, dropped.stderr
    assert run("list").stdout == ""
    status, said = run.fails(*again, "true")
    assert status == 125
    assert "no layer named web" in said


def test_users_written_in_a_layer_are_found(run: Sublet, tree: Path) -> None:
    line = "new:x:77:88::/:/bin/sh"
    run.says(*full(tree, "--name", "web"), "sh", "-c", f"echo {line} >> /etc/passwd")
    again = ("--name", "web", "--user", "new", *PROGRAMS, "--", "sh", "-c", "id -u; id -g")
    assert run.says(*again) == "77\n88\n"


def test_a_name_is_used_by_one_run_at_a_time(run: Sublet, tree: Path) -> None:
    words = [*run.command, "run", *full(tree, "--name", "web")]
    script = "echo ready; read line"
    with run.user.popen([*words, "sh", "-c", script], stdin=-1) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        for other in (("run", "--name", "web", *PROGRAMS, "--", "true"), ("rm", "web")):
            done = run(*other)
            assert done.returncode == 125
            assert "web is in use" in done.stderr
        process.stdin.write("\n")
        process.stdin.close()
        assert process.wait(10) == 0
    assert run("run", "--name", "web", *PROGRAMS, "--", "true").returncode == 0


# ---------------------------------------------------------------- archives


LAYOUTS = {
    "keep": None,
    "root": (0, 0),
    "full": (0, 0),
    "keep:405:100": (405, 100),
    "nomap": (0, 0),
    "b:0:{start}:1000": (0, 0),
    "b:7:{start}:1000": (7, 7),
}


def run_in(run: Sublet, layout: str, path: Path, *words: str) -> None:
    ids = layout.format(start=run.user.sub_ids.start)
    options = ("--ids", ids, "--rootfs", str(path), *PROGRAMS, *words, "--")
    uid, gid = LAYOUTS[layout] or (run.user.uid, run.user.gid)
    shown = run.says(*options, "sh", "-c", "id -u; id -g; cat /etc/os-release")
    assert shown.split() == [str(uid), str(gid), "ID=little"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("way", ["vanish", "read-only", "writable"])
def test_every_layout_runs_on_a_directory(run: Sublet, tree: Path, layout: str, way: str) -> None:
    run_in(run, layout, tree, *(() if way == "vanish" else (f"--{way}",)))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["directory", "archive"])
def test_every_layout_runs_on_what_is_kept(run: Sublet, tree: Path, layout: str, kind: str) -> None:
    path = tree
    if kind == "archive":
        path = archive_of(run, tree)
    words = ("--name", "web")
    if kind == "archive" and layout.startswith("b:7"):
        ids = layout.format(start=run.user.sub_ids.start)
        status, said = run.fails("--ids", ids, "--rootfs", str(path), "--", "true")
        assert status == 125
        assert "belongs to UID 0, which the ID map does not have" in said
        return
    run_in(run, layout, path, *words)
    dropped = run("rm", "web")
    assert dropped.returncode == 0, dropped.stderr


def archive_of(run: Sublet, tree: Path, kind: str = "") -> Path:
    """Make a tar archive of the tree: /home is the guest's, all else is root's."""
    archive = run.user.home / f"root.tar{'.' if kind else ''}{kind}"

    def owned(member: tarfile.TarInfo) -> tarfile.TarInfo:
        guests = os.path.basename(member.name) == "home"
        member.uid, member.gid = (405, 100) if guests else (0, 0)
        return member

    with tarfile.open(archive, f"w:{kind}") as file:  # type: ignore[call-overload]
        file.add(tree, ".", filter=owned)
    run.user.own(archive)
    return archive


@pytest.mark.parametrize("kind", ["", "gz", "xz"])
def test_an_archive_is_unpacked_once_with_its_owners(run: Sublet, tree: Path, kind: str) -> None:
    archive = archive_of(run, tree, kind)
    words = ("--ids", "full", "--rootfs", str(archive), *PROGRAMS, "--")
    for _ in range(2):
        assert (
            run.says(*words, "stat", "-c", "%U:%G", "/home", "/etc") == "guest:users\nroot:root\n"
        )
    trees = run.user.home / ".cache/sublet/trees"
    (unpacked,) = (entry for entry in trees.iterdir() if entry.is_dir())
    start = run.user.sub_ids.start
    made = (unpacked / "root/home").stat()
    assert (made.st_uid, made.st_gid) == (start + 404, start + 99)
    assert str(archive) in run("list").stdout
    (listed,) = json.loads(run("list", "--json").stdout)["trees"]
    assert (listed["archive"], listed["stale"]) == (str(archive), False)
    dropped = run("rm", "--trees")
    assert dropped.returncode == 0, dropped.stderr
    assert not [entry for entry in trees.iterdir() if entry.is_dir()]
    assert run("list").stdout == ""


def test_a_tree_in_use_is_not_dropped(run: Sublet, tree: Path) -> None:
    archive = archive_of(run, tree)
    words = ("run", "--ids", "full", "--rootfs", str(archive), *PROGRAMS, "--", "sh", "-c")
    script = "echo ready; read line; cat /etc/os-release"
    with run.user.popen([*run.command, *words, script], stdin=-1) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        done = run("rm", "--trees")
        assert done.returncode == 1
        assert "in use" in done.stderr
        process.stdin.write("\n")
        process.stdin.close()
        assert process.stdout.read() == "ID=little\n"
        assert process.wait(10) == 0
    assert run("rm", "--trees").returncode == 0


def test_a_plan_unpacks_and_makes_nothing(run: Sublet, tree: Path, leaving_nothing: Leaks) -> None:
    archive = archive_of(run, tree)
    leaving_nothing.watch(run.user.home)
    for path in (archive, tree):
        text = run.says("--plan", *full(path, "--name", "web"), "true")
        assert f"{run.user.home}/.local/share/sublet/names/web/upper" in text
