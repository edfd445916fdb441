"""The unpacker as a program, with the caller's own rights and no map.

Beside every tree stands a decoy, the "victim", which must stay as it was; and every hostile archive
has a harmless first member, whose arrival proves that the archive was being unpacked at all.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
import resource
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support.tars import (
    END,
    SOURCES,
    directory,
    file,
    hardlink,
    header,
    octal,
    padded,
    pax,
    symlink,
    unpack,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CONTROL = file(b"control", b"harmless")
as_root = pytest.mark.requires("root")


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A directory beside the tree, and a file in it, that nothing may change."""
    place = tmp_path / "victim"
    place.mkdir()
    secret = place / "secret"
    secret.write_text("untouched")
    secret.chmod(0o600)
    os.utime(secret, (5, 5))
    os.utime(place, (7, 7))
    before = [(path.stat(), path.stat().st_nlink) for path in (place, secret)]
    yield place
    after = [(path.stat(), path.stat().st_nlink) for path in (place, secret)]
    for (old, _), (new, _) in zip(before, after, strict=True):
        for field in ("st_mode", "st_uid", "st_gid", "st_nlink", "st_mtime_ns", "st_size"):
            assert getattr(old, field) == getattr(new, field)
    assert os.listdir(place) == ["secret"]
    assert secret.read_text() == "untouched"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tmp_path / "tree"


UP = b"../victim"
HOSTILE = {
    "dotdot": (file(b"../victim/new"), "leads out of the tree"),
    "dotdot in the middle": (file(b"a/../../victim/new"), "leads out of the tree"),
    "dotdot at the end": (directory(b"a/.."), "leads out of the tree"),
    "dotdot from pax": (pax([(b"path", b"../victim/secret")]) + file(b"f"), "leads out"),
    "hard link by dotdot": (hardlink(b"h", b"../victim/secret"), "leads out of the tree"),
    "hard link to nothing": (hardlink(b"h", b"/victim/secret"), "points to /victim/secret"),
    "hard link to a directory": (directory(b"d") + hardlink(b"h", b"d"), "points to d"),
    "hard link to the root": (hardlink(b"h", b"./"), "points to"),
    "through a link up": (symlink(b"l", UP) + file(b"l/new"), "passes through l"),
    "directory through a link up": (symlink(b"l", UP) + directory(b"l/d"), "passes through l"),
    "through two links": (
        symlink(b"a", b"..") + symlink(b"b", b"a/victim") + file(b"b/new"),
        "passes through b",
    ),
    "hard link through a link up": (
        symlink(b"l", UP) + hardlink(b"h", b"l/secret"),
        "points to l/secret",
    ),
    "through a loop": (symlink(b"l", b"l") + file(b"l/new"), "passes through l"),
    "through a file": (file(b"f") + file(b"f/new"), "passes through f"),
    "through a magic link": (symlink(b"l", b"/proc/self/cwd") + file(b"l/x"), "passes through l"),
    "replacing a full directory": (
        directory(b"d") + file(b"d/f") + file(b"d"),
        "would replace a directory that is not empty",
    ),
    "the root as a file": (file(b"."), "names the root"),
    "the root as a link": (symlink(b".", UP), "names the root"),
    "too many members": (b"".join(file(b"f%d" % n) for n in range(60)), "more than 50 members"),
    "too long a component": (pax([(b"path", b"n" * 300)]) + file(b"f"), "name too long"),
    "no owner": (file(b"f", owner=(4294967295, 0)), "outside|above|owner"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives(tree: Path, victim: Path, name: str) -> None:
    members, match = HOSTILE[name]
    outcome = unpack(CONTROL + members + END, tree, max_members=50)
    assert outcome.status == 1
    assert any(part in outcome.error.lower() for part in match.lower().split("|")), outcome
    assert (tree / "control").read_text() == "harmless"
    assert victim.is_dir()


def test_an_absolute_link_means_the_tree_itself(tree: Path, victim: Path) -> None:
    target = os.fsencode(victim)
    archive = CONTROL + symlink(b"l", target) + directory(target) + file(b"l/secret", b"inside")
    outcome = unpack(archive + END, tree)
    assert outcome.status == 0, outcome
    assert (tree / str(victim).lstrip("/") / "secret").read_text() == "inside"


def test_absolute_paths_lose_their_slash(tree: Path, victim: Path) -> None:
    outcome = unpack(CONTROL + file(os.fsencode(victim / "new"), b"x") + END, tree)
    assert outcome.status == 0
    assert (tree / str(victim).lstrip("/") / "new").read_text() == "x"


def test_an_overwritten_link_is_not_followed(tree: Path, victim: Path) -> None:
    for kind in (file(b"l", b"mine"), symlink(b"l", b"x"), directory(b"l"), header(b"l", b"6")):
        archive = CONTROL + symlink(b"l", UP + b"/secret") + kind
        assert unpack(archive + END, tree).status == 0
        subprocess.run(["rm", "-r", str(tree)], check=True)
    assert victim.is_dir()


def test_attributes_of_links_are_not_those_of_their_targets(tree: Path, victim: Path) -> None:
    link = symlink(b"l", UP + b"/secret", mtime=99, owner=(os.geteuid(), os.getegid()))
    assert unpack(CONTROL + link + END, tree).status == 0
    assert (tree / "l").lstat().st_mtime == 99
    assert victim.is_dir()


def test_links_inside_the_tree_are_followed(tree: Path) -> None:
    archive = (
        directory(b"usr")
        + directory(b"usr/lib", mtime=50)
        + symlink(b"lib", b"usr/lib")
        + symlink(b"usr/up", b"../../../../usr/lib")
        + symlink(b"abs", b"/usr/lib")
        + file(b"lib/one", b"1")
        + file(b"usr/up/two", b"2")
        + file(b"abs/deep/three", b"3")
        + hardlink(b"four", b"lib/one")
        + directory(b"lib/five", mode=0o700, mtime=60)
    )
    assert unpack(archive + END, tree).status == 0
    found = sorted(path.name for path in (tree / "usr/lib").iterdir())
    assert found == ["deep", "five", "one", "two"]
    assert (tree / "usr/lib/deep/three").read_text() == "3"
    assert (tree / "four").stat().st_nlink == 2
    assert (tree / "usr/lib").stat().st_mtime == 50
    assert stat.S_IMODE((tree / "usr/lib/five").stat().st_mode) == 0o700


def test_the_later_member_wins(tree: Path) -> None:
    archive = (
        file(b"a", b"old", mode=0o600)
        + file(b"a", b"new", mode=0o640)
        + file(b"b", b"file")
        + directory(b"b", mode=0o711)
        + file(b"b/inner", b"x")
        + directory(b"c", mode=0o700)
        + file(b"c", b"was empty", mode=0o604)
        + directory(b"d", mode=0o700)
        + directory(b"d", mode=0o750)
        + hardlink(b"a", b"a")
        + file(b"e")
        + hardlink(b"e", b"a")
        + symlink(b"s", b"d")
        + file(b"s/through")
        + directory(b"s")
        + file(b"s/direct")
    )
    outcome = unpack(archive + END, tree)
    assert outcome.status == 0, outcome
    assert (tree / "a").read_text() == (tree / "e").read_text() == "new"
    assert (tree / "b/inner").read_text() == "x"
    assert (tree / "c").read_text() == "was empty"
    modes = {name: stat.S_IMODE((tree / name).lstat().st_mode) for name in "abcd"}
    assert modes == {"a": 0o640, "b": 0o711, "c": 0o604, "d": 0o750}
    assert os.listdir(tree / "d") == ["through"]
    assert os.listdir(tree / "s") == ["direct"]


def test_a_directory_that_moves_away_below_its_name(tree: Path) -> None:
    archive = (
        directory(b"one")
        + directory(b"two")
        + symlink(b"l", b"one")
        + directory(b"l/sub", mode=0o700)
        + symlink(b"l", b"two")
        + directory(b"two/sub", mode=0o755)
    )
    outcome = unpack(archive + END, tree)
    assert outcome.status == 1
    assert "a later member" in outcome.error


def test_set_id_bits_sticky_bits_and_read_only_directories(tree: Path) -> None:
    archive = (
        directory(b".", mode=0o1777, mtime=11)
        + directory(b"ro", mode=0o555, mtime=12)
        + file(b"ro/suid", b"x", mode=0o6755, mtime=13)
        + directory(b"ro/sgid", mode=0o2775)
        + file(b"ro/sgid/f", mode=0)
    )
    assert unpack(archive + END, tree).status == 0
    found = {
        path: (oct(stat.S_IMODE((tree / path).stat().st_mode)), (tree / path).stat().st_mtime)
        for path in (".", "ro", "ro/suid", "ro/sgid")
    }
    assert found == {
        ".": ("0o1777", 11),
        "ro": ("0o555", 12),
        "ro/suid": ("0o6755", 13),
        "ro/sgid": ("0o2775", 1),
    }
    assert stat.S_IMODE((tree / "ro/sgid/f").stat().st_mode) == 0
    (tree / "ro").chmod(0o755)


def test_devices_and_their_hard_links_are_left_out(tree: Path) -> None:
    archive = header(b"dev/null", b"3") + header(b"dev/sda", b"4") + hardlink(b"n", b"./dev/null")
    outcome = unpack(archive + CONTROL + END, tree)
    assert (outcome.status, outcome.answer["devices"]) == (0, 3)
    assert sorted(os.listdir(tree)) == ["control"]


def test_whiteout_names_are_plain_files(tree: Path) -> None:
    archive = file(b"d/gone", b"x") + file(b"d/.wh.gone") + file(b"d/.wh..wh..opq")
    assert unpack(archive + END, tree).status == 0
    assert sorted(os.listdir(tree / "d")) == [".wh..wh..opq", ".wh.gone", "gone"]


def test_names_that_are_no_text(tree: Path) -> None:
    name = bytes(range(1, 256)).replace(b"/", b"")[:100]
    assert unpack(file(name, b"x") + END, tree).status == 0
    assert os.listdir(os.fsencode(tree)) == [name]
    outcome = unpack(file(b"f") + file(b"f/\xff\xfe") + END, tree.with_name("t2"))
    assert "f/\\xff\\xfe" in outcome.error


def test_times_are_kept_or_as_near_as_the_disk_can(tree: Path) -> None:
    archive = b"".join(file(b"%d" % time, mtime=time) for time in (0, -5, 2**31, 2**34 + 1))
    archive += b"".join(file(b"far%d" % sign, mtime=sign * 2**62) for sign in (-1, 1))
    archive += pax([(b"mtime", b"99999999999.5")]) + file(b"pax")
    assert unpack(archive + END, tree).status == 0
    assert (tree / "0").stat().st_mtime == 0
    assert (tree / "-5").stat().st_mtime == -5
    assert (tree / str(2**31)).stat().st_mtime == 2**31


def test_deep_paths_need_no_recursion_and_few_descriptors(tree: Path) -> None:
    deep = b"d/" * 2000 + b"f"
    many = b"".join(
        directory(b"m%d/n%d" % (n, n)) + file(b"m%d/n%d/f" % (n, n)) for n in range(300)
    )
    archive = pax([(b"path", deep)]) + file(b"x", b"deep") + many
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    try:
        outcome = unpack(archive + END, tree)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert outcome.status == 0, outcome
    root = os.open(tree, os.O_RDONLY)
    try:
        with os.fdopen(os.open(deep, os.O_RDONLY, dir_fd=root)) as found:
            assert found.read() == "deep"
    finally:
        os.close(root)
    erase(tree)


def test_nesting_without_end_can_be_erased(tree: Path) -> None:
    # each link leads 1500 directories deeper, so the tree gets deeper than any path can say
    archive = b""
    here = b""
    for number in range(3):
        archive += pax([(b"path", here + b"d/" * 1500)]) + directory(b"x")
        archive += pax([(b"path", b"l%d" % number), (b"linkpath", here + b"d/" * 1500)])
        archive += symlink(b"x", b"y")
        here = b"l%d/" % number
    outcome = unpack(archive + END, tree)
    assert outcome.status == 0, outcome
    (tree / ".erase-1").write_text("in the way")
    (tree / ".erase-2").mkdir(0)
    erase(tree)


def erase(tree: Path) -> None:
    from sublet.archive import erase as program

    root = os.open(tree, os.O_RDONLY)
    try:
        program.erase(root)
    finally:
        os.close(root)
    assert os.listdir(tree) == []


def test_erasing_follows_no_link_and_opens_what_is_closed(tree: Path, victim: Path) -> None:
    archive = (
        symlink(b"l", UP)
        + directory(b"d/closed", mode=0)
        + symlink(b"d/l", b"../" + UP)
        + header(b"p", b"6")
        + directory(b"other", mode=0)
    )
    assert unpack(archive + END, tree).status == 0
    erase(tree)
    assert victim.is_dir()


@pytest.mark.parametrize("size", [1 << 20, 1 << 45])
def test_bombs_stop_at_the_limit(tree: Path, size: int) -> None:
    outcome = unpack(CONTROL + header(b"bomb", size=size) + bytes(5000), tree, max_bytes=100_000)
    assert (outcome.status, outcome.answer["errno"]) == (1, errno.ENOSPC)
    assert "room" in outcome.error
    assert "XDG_CACHE_HOME" in outcome.answer["hint"]


def test_many_small_files_stop_at_the_limit(tree: Path) -> None:
    archive = b"".join(file(b"f%d" % number, b"x" * 600) for number in range(20))
    assert "room for, at f10" in unpack(archive + END, tree, max_bytes=6000).error


def test_sparse_files_take_no_room(tree: Path) -> None:
    length = 1 << 40
    fields = {386: octal(1 << 39, 12) + octal(3, 12), 483: octal(length, 12)}
    member = header(b"s", b"S", size=3, magic=b"ustar  \0", fields=fields) + padded(b"abc")
    assert unpack(member + END, tree, max_bytes=10_000).status == 0
    found = (tree / "s").stat()
    assert (found.st_size, found.st_blocks < 100) == (length, True)
    with open(tree / "s", "rb") as opened:
        opened.seek((1 << 39) - 1)
        assert opened.read(5) == b"\0abc\0"


@pytest.mark.requires("command:tar")
@pytest.mark.parametrize(
    "form",
    [["--format=gnu"], *(["--format=pax", f"--sparse-version={v}"] for v in ("0.0", "0.1", "1.0"))],
    ids=lambda form: form[-1],
)
def test_sparse_files_of_gnu_tar(tmp_path: Path, tree: Path, form: list[str]) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with open(source / "sparse", "wb") as made:
        for number in range(40):
            made.seek(number * 200_000)
            made.write(b"%d" % number * 100)
        made.truncate(10_000_000)
    (source / "next").write_text("after it")
    packed = tmp_path / "packed.tar"
    command = ["tar", "-C", str(source), "-S", *form, "-cf", str(packed), "sparse", "next"]
    subprocess.run(command, check=True)
    outcome = unpack(packed, tree)
    assert outcome.status == 0, outcome
    assert (tree / "sparse").read_bytes() == (source / "sparse").read_bytes()
    assert (tree / "next").read_text() == "after it"


# ---------------------------------------------------------------- owners and attributes


def test_owners_outside_the_map_are_named(tree: Path) -> None:
    ranges = {"uids": [[0, 10], [20, 30]], "gids": [[0, 5]]}
    outcome = unpack(CONTROL_0 + file(b"f", owner=(15, 0)) + END, tree, squash=False, **ranges)
    assert "f belongs to UID 15" in outcome.error
    assert "0..9, 20..29" in outcome.error
    assert "--ids" in outcome.answer["hint"]


CONTROL_0 = file(b"control", owner=(0, 0)) if os.geteuid() == 0 else b""


@as_root
def test_owners_and_set_id_bits_survive_together(tree: Path) -> None:
    archive = (
        directory(b".", owner=(3, 4))
        + file(b"f", b"x", mode=0o6755, owner=(10, 20))
        + symlink(b"s", b"f", owner=(30, 40))
        + header(b"p", b"6", owner=(50, 60))
        + directory(b"d", mode=0o2770, owner=(70, 80))
        + file(b"d/inner", owner=(0, 0))
    )
    assert unpack(archive + END, tree).status == 0
    found = {name: (tree / name).lstat() for name in (".", "f", "s", "p", "d", "d/inner")}
    owners = {name: (about.st_uid, about.st_gid) for name, about in found.items()}
    assert owners == {
        ".": (3, 4),
        "f": (10, 20),
        "s": (30, 40),
        "p": (50, 60),
        "d": (70, 80),
        "d/inner": (0, 0),
    }
    assert stat.S_IMODE(found["f"].st_mode) == 0o6755


def test_squashed_trees_belong_to_the_caller(tree: Path) -> None:
    archive = file(b"f", owner=(4_000_000, 5)) + symlink(b"s", b"f", owner=(9, 9))
    assert unpack(archive + END, tree, squash=True).status == 0
    for name in ("f", "s"):
        about = (tree / name).lstat()
        assert (about.st_uid, about.st_gid) == (os.geteuid(), os.getegid())


CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")  # cap_net_raw=ep, version 2


def attribute(name: bytes, value: bytes) -> bytes:
    return pax([(b"SCHILY.xattr." + name, value)])


@as_root
def test_attributes(tree: Path) -> None:
    archive = (
        attribute(b"security.capability", CAPABILITY)
        + file(b"ping", b"x", mode=0o755, owner=(0, 7))
        + attribute(b"user.note", b"\0\xff")
        + directory(b"d")
        + attribute(b"trusted.overlay.opaque", b"y")
        + file(b"t")
        + attribute(b"user.overlay.opaque", b"y")
        + directory(b"o")
        + pax([(b"SCHILY.acl.access", b"user::rw-,group::r--,other::r--")])
        + file(b"acl")
    )
    outcome = unpack(archive + END, tree)
    assert outcome.status == 0, outcome
    assert (outcome.answer["xattrs"], outcome.answer["left_out"]) == (2, 3)
    assert os.getxattr(tree / "ping", "security.capability") == CAPABILITY
    assert os.getxattr(tree / "d", "user.note") == b"\0\xff"
    assert os.listxattr(tree / "t") == os.listxattr(tree / "o") == []


@as_root
def test_a_default_acl_does_not_reach_what_the_archive_puts_below(tree: Path) -> None:
    # version 2; user::rwx, user:5:rwx, group::rwx, mask::rwx, other::---
    entries = ((1, 7, -1), (2, 7, 5), (4, 7, -1), (0x10, 7, -1), (0x20, 0, -1))
    acl = (2).to_bytes(4, "little") + b"".join(
        tag.to_bytes(2, "little") + bits.to_bytes(2, "little") + (who % 2**32).to_bytes(4, "little")
        for tag, bits, who in entries
    )
    archive = attribute(b"system.posix_acl_default", acl) + directory(b"d") + file(b"d/f")
    outcome = unpack(archive + END, tree)
    assert outcome.status == 0, outcome
    assert os.getxattr(tree / "d", "system.posix_acl_default") == acl
    assert os.listxattr(tree / "d/f") == []


@as_root
def test_an_attribute_that_cannot_be_set_is_named(tree: Path) -> None:
    archive = attribute(b"security.capability", b"nonsense") + file(b"f", b"x")
    outcome = unpack(archive + END, tree)
    assert "f: the attribute security.capability cannot be set" in outcome.error
    assert unpack(archive + END, tree.with_name("t2"), squash=True).status == 0


# ---------------------------------------------------------------- the whole archive


def test_empty_archives(tree: Path) -> None:
    assert unpack(b"", tree).error.startswith("the archive is empty")
    assert unpack(END, tree).error == "the archive has no members"


def test_trailing_garbage_is_ignored_after_the_end(tree: Path) -> None:
    assert unpack(CONTROL + END + b"garbage" * 999, tree).status == 0


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress, bz2.compress])
def test_damage_behind_the_end_marker_is_noticed(
    tree: Path, compress: Callable[[bytes], bytes]
) -> None:
    packed = compress(CONTROL + END + bytes(10240))
    assert unpack(packed, tree).status == 0
    assert "truncated" in unpack(packed[:-3], tree.with_name("t2")).error


def test_a_text_with_the_wrong_name(tree: Path) -> None:
    assert "not a tar" in unpack(b"<html>404 not found</html>" * 100, tree).error
    assert "not a tar" in unpack(gzip.compress(b"0" * 5000), tree.with_name("t2")).error


@as_root
def test_a_full_disk_is_said_to_be_one(tmp_path: Path) -> None:
    packed = tmp_path / "packed.tar"
    packed.write_bytes(CONTROL + file(b"big", bytes(3 << 20)) + END)
    script = (
        'mount -t tmpfs -o size=1m small "$1" && cd "$1" &&'
        ' exec "$2" -c "import sys; sys.path.insert(0, sys.argv[1]);'
        ' from sublet.archive.unpack import main; sys.exit(main(sys.argv[2:]))" "$3" "$4"'
    )
    options = (
        '{"uids": [[0, 9]], "gids": [[0, 9]], "squash": false, "max_bytes": 9999999,'
        ' "max_members": 9}'
    )
    target = tmp_path / "small"
    target.mkdir()
    with open(packed, "rb") as source:
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", script, "-", target, sys.executable, SOURCES, options],
            stdin=source,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "cannot unpack big: No space left on device" in done.stdout
    assert "XDG_CACHE_HOME" in done.stdout
