"""Archives as root file systems: owners on disk, kills at any moment, and the cache of trees."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernel.sublet_run import PROGRAMS, Sublet
from support import installed, leaks
from support.tars import END, directory, file, hardlink, header, pax, symlink

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.users import User

    Ask = Callable[..., tuple[list[dict[str, object]], list[str]]]

pytestmark = [
    pytest.mark.requires("userns", "newuidmap", "overlay_userns"),
    pytest.mark.usefixtures("leaving_nothing"),
]

APT, GUEST = 42, 405
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")


@pytest.fixture
def run(sublet_command: list[str], anyone: User) -> Sublet:
    return Sublet(sublet_command, anyone)


@pytest.fixture
def alice_run(sublet_command: list[str], alice: User) -> Sublet:
    return Sublet(sublet_command, alice)


@pytest.fixture
def root_run(sublet_command: list[str], root: User) -> Sublet:
    return Sublet(sublet_command, root)


def root_archive(user: User, *more: bytes, mode: int = 0o755, name: str = "root.tar") -> Path:
    """Write an archive that PROGRAMS make usable, with members of several owners."""
    nobody = (0, 0)
    names = ("dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "var")
    members = [directory(b".", mode=mode, owner=nobody)]
    members += [directory(name.encode(), owner=nobody) for name in names]
    members += [
        symlink(name.encode(), f"usr/{name}".encode(), owner=nobody)
        for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
        if os.path.isdir(f"/usr/{name}")
    ]
    members += [
        file(b"etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n_apt:x:42:65534::/:\n", owner=nobody),
        directory(b"var/partial", mode=0o700, owner=(APT, 0)),
        file(b"var/suid", b"x", mode=0o4755, owner=(GUEST, 100)),
        hardlink(b"var/other", b"var/suid", owner=(GUEST, 100)),
        pax([(b"SCHILY.xattr.security.capability", CAPABILITY)]),
        file(b"var/ping", b"x", mode=0o755, owner=nobody),
        header(b"dev/null", b"3", owner=nobody),
    ]
    path = user.home / name
    path.write_bytes(b"".join([*members, *more]) + END)
    return user.own(path)


def words(archive: Path, ids: str = "full") -> tuple[str, ...]:
    return ("--ids", ids, "--rootfs", str(archive), *PROGRAMS, "--")


def trees(user: User) -> Path:
    return user.home / ".cache/sublet/trees"


def only_tree(user: User) -> Path:
    (found,) = [path for path in trees(user).iterdir() if "." not in path.name]
    return found / "root"


def on_disk(path: Path) -> tuple[int, int]:
    about = path.lstat()
    return about.st_uid, about.st_gid


# ---------------------------------------------------------------- owners


def test_owners_stay_distinct_in_the_full_map(run: Sublet) -> None:
    archive = root_archive(run.user)
    shown = run.says(*words(archive), "stat", "-c", "%u:%g %a", "/", "/var/partial", "/var/suid")
    assert shown.splitlines() == ["0:0 755", f"{APT}:0 700", f"{GUEST}:100 4755"]
    tree = only_tree(run.user)
    start, own = run.user.sub_ids.start, run.user.uid
    assert on_disk(tree) == on_disk(tree / "etc/passwd") == (own, run.user.gid)
    assert on_disk(tree / "var/partial") == (start + APT - 1, run.user.gid)
    assert on_disk(tree / "var/suid") == (start + GUEST - 1, start + 99)
    assert (tree / "var/suid").stat().st_ino == (tree / "var/other").stat().st_ino


@pytest.mark.parametrize("ids", ["keep", "root"])
def test_a_single_identity_owns_everything(run: Sublet, ids: str) -> None:
    archive = root_archive(run.user)
    seen = run.user.uid if ids == "keep" else 0
    shown = run.says(*words(archive, ids), "stat", "-c", "%u", "/", "/var/partial", "/var/suid")
    assert shown.split() == [str(seen)] * 3
    tree = only_tree(run.user)
    for path in (tree, *tree.rglob("*")):
        assert on_disk(path) == (run.user.uid, run.user.gid)


def test_root_writes_a_tree_in_other_ids_than_its_own(root_run: Sublet) -> None:
    archive = root_archive(root_run.user)
    ids = "b:0:300000:65536"
    shown = root_run.says(*words(archive, ids), "stat", "-c", "%u:%g", "/", "/var/partial")
    assert shown.split() == ["0:0", f"{APT}:0"]
    tree = only_tree(root_run.user)
    assert on_disk(tree) == (300_000, 300_000)
    assert on_disk(tree / "var/partial") == (300_000 + APT, 300_000)
    assert on_disk(tree.parent) == (0, 0)


def test_the_machines_own_ids(root_run: Sublet) -> None:
    archive = root_archive(root_run.user)
    shown = root_run.says(*words(archive, "host"), "stat", "-c", "%u:%g", "/", "/var/suid")
    assert shown.split() == ["0:0", f"{GUEST}:100"]
    assert on_disk(only_tree(root_run.user) / "var/suid") == (GUEST, 100)


def test_file_capabilities_count_inside_only(alice_run: Sublet) -> None:
    archive = root_archive(alice_run.user)
    alice_run.says(*words(archive), "true")
    value = os.getxattr(only_tree(alice_run.user) / "var/ping", "security.capability")
    if os.geteuid() == 0:
        # version 3: good for the namespaces whose root is alice
        assert value[3] == 3
        assert int.from_bytes(value[20:24], "little") == alice_run.user.uid


def test_nobody_else_reaches_a_set_id_file(alice_run: Sublet) -> None:
    alice_run.says(*words(root_archive(alice_run.user)), "true")
    for path in (trees(alice_run.user).parent, trees(alice_run.user)):
        assert path.stat().st_mode & 0o077 == 0
    assert only_tree(alice_run.user).parent.stat().st_mode & 0o077 == 0


def test_an_owner_that_is_not_delegated_is_named_and_nothing_is_left(run: Sublet) -> None:
    archive = root_archive(run.user, file(b"var/alien", owner=(70_000, 0)))
    status, said = run.fails(*words(archive), "true")
    assert status == 125
    assert "var/alien belongs to UID 70000" in said
    assert "--ids" in said
    assert [path.name for path in trees(run.user).iterdir() if path.suffix != ".lock"] == []


# ---------------------------------------------------------------- what an archive may not do


def test_a_hostile_archive_leaves_victims_alone(run: Sublet, leaving_nothing: leaks.Leaks) -> None:
    victim = run.user.mkdir("victim")
    secret = run.user.write("victim/secret", "untouched")
    leaving_nothing.watch(victim)
    deep = os.fsencode(victim)
    for number, hostile in enumerate(
        (
            symlink(b"l", deep, owner=(0, 0)) + file(b"l/new", b"x", owner=(0, 0)),
            file(b"../../../../../victim/new", b"x", owner=(0, 0)),
            hardlink(b"h", deep + b"/secret", owner=(0, 0)),
            symlink(b"l", deep + b"/secret", owner=(0, 0)) + file(b"l", b"mine", owner=(0, 0)),
        )
    ):
        archive = root_archive(run.user, hostile, name=f"{number}.tar")
        done = run("run", *words(archive), "cat", "/etc/passwd")
        if number == 3:  # the positive control: a link that is replaced is no attack
            assert done.returncode == 0, done.stderr
        else:
            assert done.returncode == 125, done.stdout
    assert secret.read_text() == "untouched"


@pytest.mark.parametrize("kind", ["directory of another", "pipe", "device", "empty", "text"])
def test_what_is_no_archive(run: Sublet, kind: str) -> None:
    path = run.user.home / "it.tar"
    if kind == "pipe":
        os.mkfifo(path)
        run.user.own(path)
    elif kind == "device":
        path = Path("/dev/null")
    elif kind == "directory of another":
        path = run.user.home / "missing.tar"
    else:
        run.user.write("it.tar", "" if kind == "empty" else "<html>\n" * 999)
    status, said = run.fails(*words(path), "true", timeout=20)
    assert status == 125
    assert str(path) in said


def test_an_archive_that_changes_meanwhile_is_not_kept(run: Sublet) -> None:
    archive = many_files(run.user)
    process = run.user.popen([*run.command, "run", *words(archive), "true"])
    partial = wait_for_partial(run.user)
    os.utime(archive, (1, 1))
    _, said = process.communicate(timeout=60)
    assert process.returncode == 125
    assert "was changed while it was being unpacked" in said
    assert not partial.exists()
    assert run.says(*words(archive), "cat", "/var/d0/f0") == "0"


# ---------------------------------------------------------------- kills, and several at once


def many_files(user: User, count: int = 6000) -> Path:
    members = [
        file(b"var/d%d/f%d" % (number // 100, number), b"%d" % number, owner=(number % 100, 0))
        for number in range(count)
    ]
    return root_archive(user, *members)


def wait_for_partial(user: User) -> Path:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for path in trees(user).glob("*.partial/root/var/d0"):
            return path.parents[2]
        time.sleep(0.002)
    raise AssertionError("nothing is being unpacked")


def children(pid: int) -> list[int]:
    """Return all descendants of a process, nearest first."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    direct = [int(word) for word in text.split()]
    return direct + [below for child in direct for below in children(child)]


def soon_gone(user: User) -> None:
    """See that no half-made tree stays, even without a further run."""
    deadline = time.monotonic() + 30
    while list(trees(user).glob("*.partial")):
        assert time.monotonic() < deadline, "a half-made tree stays"
        time.sleep(0.02)


@pytest.mark.parametrize("victim", ["parent", "executor", "init", "unpacker"])
def test_a_kill_leaves_nothing_that_the_next_run_would_use(run: Sublet, victim: str) -> None:
    archive = many_files(run.user)
    killed = 0
    for attempt in range(3):
        process = run.user.popen([*run.command, "run", *words(archive), "true"])
        wait_for_partial(run.user)
        time.sleep(attempt * 0.04)
        family = [process.pid, *children(process.pid)]
        # the janitor is started before the executor
        depth = {"parent": 0, "executor": 2, "init": 3, "unpacker": len(family) - 1}[victim]
        if depth >= len(family):  # it has just ended
            process.communicate(timeout=60)
            continue
        os.kill(family[depth], signal.SIGKILL)
        killed += 1
        process.communicate(timeout=60)
        assert process.returncode != 0
        assert [path for path in trees(run.user).iterdir() if "." not in path.name] == []
        soon_gone(run.user)
    assert killed
    last = "/var/d59/f5999"
    assert run.says(*words(archive), "sh", "-c", f"cat {last}; stat -c %u {last}") == "599999\n"
    assert not list(trees(run.user).glob("*.partial"))


def test_leftovers_of_another_map_are_swept(alice_run: Sublet) -> None:
    archive = many_files(alice_run.user)
    process = alice_run.user.popen([*alice_run.command, "run", *words(archive), "true"])
    partial = wait_for_partial(alice_run.user)
    janitor = children(process.pid)[0]
    assert b"janitor" in Path(f"/proc/{janitor}/cmdline").read_bytes()
    os.kill(janitor, signal.SIGKILL)
    process.kill()
    process.communicate(timeout=60)
    assert partial.exists()
    owners = {path.lstat().st_uid for path in partial.rglob("*")}
    assert owners - {alice_run.user.uid}
    other = root_archive(alice_run.user, name="other.tar")
    assert alice_run.says(*words(other, "keep"), "cat", "/etc/passwd").startswith("root:")
    assert not partial.exists()


def test_an_interrupt_undoes_what_was_begun(run: Sublet) -> None:
    archive = many_files(run.user)
    process = run.user.popen([*run.command, "run", *words(archive), "true"])
    partial = wait_for_partial(run.user)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert not partial.exists()
    assert run.says(*words(archive), "cat", "/var/d0/f0") == "0"


def test_two_at_once_unpack_once(run: Sublet) -> None:
    archive = many_files(run.user, 3000)
    command = [*run.command, "run", *words(archive), "stat", "-c", "%i", "/var/d0/f0"]
    both = [run.user.popen(command) for _ in range(3)]
    inodes = set()
    for process in both:
        out, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
        inodes.add(out)
    assert len(inodes) == 1
    assert len([path for path in trees(run.user).iterdir() if "." not in path.name]) == 1


# ---------------------------------------------------------------- the cache


LISTING = """
import json, os, sys
from sublet.errors import SubletError
from sublet.host import read_facts
from sublet.state import trees
from sublet.state.inside import Inside
from sublet.state.places import cache_directory
facts = read_facts()
cache = cache_directory(os.environ, facts.home)
said = []
for name in sys.argv[1:]:
    try:
        trees.drop(cache, name, Inside(facts, None))
    except SubletError as error:
        said.append(str(error))
kept = [{field: getattr(tree, field) for field in tree._fields} for tree in trees.listing(cache)]
print(json.dumps([kept, said]))
"""


@pytest.fixture
def cache(run: Sublet) -> Ask:
    """List the cache, as the library's functions have it, after dropping trees by name."""
    library = Path(run.command[0]).parents[1] / "lib"
    program = f"import sys; sys.path.insert(0, {str(library)!r})\n{LISTING}"

    def ask(*names: str) -> tuple[list[dict[str, object]], list[str]]:
        command = [installed.interpreter(), "-I", "-c", program, *names]
        done = run.user.run(command)
        assert done.returncode == 0, done.stderr
        kept, said = json.loads(done.stdout)
        return kept, said

    return ask


def test_the_cache_is_listed_and_trees_are_dropped(run: Sublet, cache: Ask) -> None:
    archive = root_archive(run.user)
    before = int(time.time())
    for ids in ("full", "root"):
        run.says(*words(archive, ids), "true")
    kept, _ = cache()
    assert [tree["archive"] for tree in kept] == [str(archive)] * 2
    for tree in kept:
        assert before - 1 <= int(str(tree["made"])) <= int(str(tree["used"])) + 1
        assert (tree["stale"], int(str(tree["bytes"])) > 50) == (False, True)
    command = [*run.command, "run", *words(archive), "sh", "-c", "echo ready; read line"]
    full = next(str(tree["name"]) for tree in kept if f":{run.user.sub_ids.start}:" in str(tree))
    with run.user.popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        kept, said = cache(full)
        assert len(kept) == 2
        assert "is in use" in said[0]
        process.stdin.close()
        process.wait(20)
    kept, said = cache(full, "missing")
    assert said == ["there is no tree missing in the cache"]
    assert len(kept) == 1
    archive.unlink()
    kept, _ = cache()
    assert kept[0]["stale"] is True
    assert cache(str(kept[0]["name"])) == ([], [])
    assert list(trees(run.user).iterdir()) == []


def test_a_changed_archive_is_another_one(run: Sublet) -> None:
    archive = root_archive(run.user, file(b"var/v", b"old", owner=(0, 0)))
    assert run.says(*words(archive), "cat", "/var/v") == "old"
    archive.unlink()
    archive = root_archive(run.user, file(b"var/v", b"new", owner=(0, 0)))
    assert run.says(*words(archive), "cat", "/var/v") == "new"
