"""Users and groups of root file systems, friendly and hostile."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from sublet.errors import InputError, NotationError
from sublet.host.passwd import Account, lookup_group, lookup_user, read_inside

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USERS = """\
root:x:0:0:root:/root:/bin/bash
guest:x:405:100:guest:/dev/null:/sbin/nologin
alice:x:1001:1001::/home/alice:/bin/ash
big:x:4294967295:0::/:/bin/sh
huge:x:99999999999999999999:0::/:/bin/sh
1002:x:0:0:a number for a name:/root:/bin/sh
short:x:7
"""
GROUPS = """\
root:x:0:
users:x:100:guest,alice
nogroup:x:65533:
wheel:x:10:bob,alice
alice:x:1001:
broken:x:4294967295:alice
"""


class Tree:
    """Root file systems below a temporary directory, opened layer by layer."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.opened: list[int] = []

    def layer(self, name: str, files: dict[str, str]) -> Path:
        for path, text in files.items():
            file = self.base / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        (self.base / name).mkdir(exist_ok=True)
        return self.base / name

    def open(self, *names: str) -> list[int]:
        fds = [os.open(self.base / name, os.O_PATH | os.O_DIRECTORY) for name in names]
        self.opened += fds
        return fds


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    tree = Tree(tmp_path)
    tree.layer("plain", {"etc/passwd": USERS, "etc/group": GROUPS})
    before = len(os.listdir("/proc/self/fd"))
    yield tree
    for fd in tree.opened:
        os.close(fd)
    assert len(os.listdir("/proc/self/fd")) == before, "a descriptor was left open"


@pytest.mark.parametrize(
    ("text", "account"),
    [
        ("405", Account(405, 100, "guest", "/dev/null", "/sbin/nologin")),
        ("guest", Account(405, 100, "guest", "/dev/null", "/sbin/nologin")),
        ("1001", Account(1001, 1001, "alice", "/home/alice", "/bin/ash", (100, 10))),
        ("1001:1001", Account(1001, 1001, "alice", "/home/alice", "/bin/ash")),
        ("guest:10", Account(405, 10, "guest", "/dev/null", "/sbin/nologin")),
        ("alice:nogroup", Account(1001, 65533, "alice", "/home/alice", "/bin/ash")),
        ("5000", Account(5000, 0)),
        ("5000:users", Account(5000, 100)),
        ("4294967294", Account(4294967294, 0)),
        ("1002", Account(1002, 0)),  # and not the user *named* 1002
    ],
)
def test_what_a_text_means(tree: Tree, text: str, account: Account) -> None:
    found = lookup_user(tree.open("plain"), text)
    groups = tuple(group for group in found.groups if group != found.gid)
    expected = tuple(group for group in account.groups if group != account.gid)
    assert (found, groups) == (account, expected)


@pytest.mark.parametrize(
    "text",
    ["4294967295", "4294967296", "99999999999999999999", "0001", "-1", "+5", "", ":5", "guest:",
     "guest:4294967295", "guest:-1", "a:b:c", "a/b", "guest ", "x" * 300],
)  # fmt: skip
def test_a_text_that_is_neither_name_nor_number_is_refused(tree: Tree, text: str) -> None:
    with pytest.raises(NotationError):
        lookup_user(tree.open("plain"), text)


@pytest.mark.parametrize("text", ["mallory", "guest:mallory", "big", "huge", "short"])
def test_unknown_names_and_unusable_lines_are_errors(tree: Tree, text: str) -> None:
    with pytest.raises(InputError, match="root file system") as caught:
        lookup_user(tree.open("plain"), text)
    assert caught.value.hint


def test_groups_by_name_and_number(tree: Tree) -> None:
    (root,) = tree.open("plain")
    assert lookup_group(root, "wheel") == 10
    assert lookup_group(root, "77") == 77


def test_numbers_do_without_files(tree: Tree) -> None:
    tree.layer("empty", {})
    assert lookup_user(tree.open("empty"), "7:8") == Account(7, 8)


def test_links_are_followed_inside_and_never_out(tree: Tree) -> None:
    tree.layer("victim", {"passwd": "root:x:66:66::/:/bin/sh\n"})
    root = tree.layer("linked", {"usr/etc/passwd": "root:x:5:5::/:/bin/sh\n"})
    (root / "etc").symlink_to("/usr/../usr/./etc")
    assert lookup_user(tree.open("linked"), "root").uid == 5

    escaping = tree.layer("escaping", {"etc/group": ""})
    for target in (
        str(tree.base / "victim/passwd"),
        "../../victim/passwd",
        "../../../../victim/passwd",
    ):
        (escaping / "etc/passwd").unlink(missing_ok=True)
        (escaping / "etc/passwd").symlink_to(target)
        assert lookup_user(tree.open("escaping"), "66").name is None, target
    # The same link, below a root where it leads somewhere, is followed: the refusal is no accident.
    tree.layer("escaping", {"victim/passwd": "inner:x:66:66::/:/bin/sh\n"})
    assert lookup_user(tree.open("escaping"), "66").name == "inner"


def test_a_loop_of_links_ends(tree: Tree) -> None:
    root = tree.layer("loop", {"etc/group": ""})
    (root / "etc/passwd").symlink_to("passwd")
    with pytest.raises(InputError, match="symbolic links"):
        lookup_user(tree.open("loop"), "root")


def test_only_bounded_regular_files_are_read(tree: Tree) -> None:
    root = tree.layer("odd", {"etc/group": ""})
    os.mkfifo(root / "etc/passwd")
    with pytest.raises(InputError, match="cannot be read"):
        lookup_user(tree.open("odd"), "root")
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").symlink_to("/dev/zero")
    tree.layer("odd", {"dev/zero": "root:x:1:1::/:/bin/sh\n"})
    assert lookup_user(tree.open("odd"), "root").uid == 1
    (root / "etc/passwd").unlink()
    with open(root / "etc/passwd", "w") as file:
        file.truncate((1 << 20) + 1)
    with pytest.raises(InputError, match="File too large"):
        lookup_user(tree.open("odd"), "root")
    os.truncate(root / "etc/passwd", 1 << 20)
    with pytest.raises(InputError, match="no user 'root'"):
        lookup_user(tree.open("odd"), "root")


def test_upper_layers_hide_lower_ones(tree: Tree) -> None:
    tree.layer("upper", {"etc/passwd": "root:x:9:9::/:/bin/sh\n"})
    assert lookup_user(tree.open("upper", "plain"), "root").uid == 9
    assert lookup_user(tree.open("plain", "upper"), "root").uid == 0
    # etc is merged: the group file still comes from below
    assert lookup_user(tree.open("upper", "plain"), "root:wheel").gid == 10


def test_a_file_hides_a_directory_below(tree: Tree) -> None:
    tree.layer("upper", {"etc": "a file"})
    assert lookup_user(tree.open("upper", "plain"), "405").name is None


@pytest.mark.requires("root")
def test_whiteouts_and_opaque_directories(tree: Tree) -> None:
    upper = tree.layer("upper", {"etc/other": ""})
    assert lookup_user(tree.open("upper", "plain"), "405").name == "guest"
    os.mknod(upper / "etc/passwd", 0o600 | 0o020000, os.makedev(0, 0))
    assert lookup_user(tree.open("upper", "plain"), "405").name is None
    assert lookup_group(tree.open("upper", "plain")[0:2], "wheel") == 10
    (upper / "etc/passwd").unlink()
    os.setxattr(upper / "etc", "trusted.overlay.opaque", b"y")
    assert lookup_user(tree.open("upper", "plain"), "405").name is None


def test_reading_a_directory_is_an_error(tree: Tree) -> None:
    with pytest.raises(OSError, match="Is a directory"):
        read_inside(tree.open("plain"), "/etc", 10)
