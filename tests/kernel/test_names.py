"""Named layers: what "/" looks like in them, and what becomes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kernel.sublet_run import PROGRAMS, Sublet, make_tree
from kernel.test_trees import root_archive

if TYPE_CHECKING:
    from pathlib import Path

    from support.users import User

pytestmark = [
    pytest.mark.requires("userns", "newuidmap", "overlay_userns"),
    pytest.mark.usefixtures("leaving_nothing"),
]


@pytest.fixture
def run(sublet_command: list[str], anyone: User) -> Sublet:
    return Sublet(sublet_command, anyone)


def layers(user: User) -> Path:
    return user.home / ".local/share/sublet/names"


@pytest.mark.parametrize("mode", [0o755, 0o700, 0o1777, 0o2775])
def test_the_root_directory_looks_as_in_the_tree_below(run: Sublet, mode: int) -> None:
    archive = root_archive(run.user, mode=mode)
    options = ("--ids", "full", "--rootfs", str(archive), *PROGRAMS)
    command = ("stat", "-c", "%u:%g %a", "/")
    below = run.says(*options, "--", *command)
    assert below == f"0:0 {mode:o}\n"
    assert run.says(*options, "--name", "n", "--", *command) == below
    run.says(*options, "--name", "n", "--", "sh", "-c", "echo kept > /var/file")
    assert run.says("--name", "n", *PROGRAMS, "--", "cat", "/var/file") == "kept\n"


def test_a_root_directory_of_another_user(run: Sublet) -> None:
    tree = make_tree(run.user)
    tree.chmod(0o751)
    give = ("--ids", "full", "--rootfs", str(tree), "--writable", *PROGRAMS, "--")
    run.says(*give, "chown", "42:405", "/")
    options = ("--ids", "full", "--rootfs", str(tree), "--name", "n", *PROGRAMS, "--")
    assert run.says(*options, "stat", "-c", "%u:%g %a", "/") == "42:405 751\n"
    start = run.user.sub_ids.start
    upper = (layers(run.user) / "n/upper").stat()
    assert (upper.st_uid, upper.st_gid) == (start + 41, start + 404)
    dropped = run("rm", "n")
    assert dropped.returncode == 0, dropped.stderr
    assert list(layers(run.user).iterdir()) == []
    run.says(*give, "chown", "0:0", "/")


def test_what_others_own_in_a_layer_is_dropped_too(run: Sublet) -> None:
    archive = root_archive(run.user)
    options = ("--ids", "full", "--rootfs", str(archive), "--name", "n", *PROGRAMS, "--")
    script = (
        "mkdir -p /var/a/b && echo x > /var/a/b/f && chown -R 42:42 /var/a && chmod 0 /var/a"
        " && rm -r /var/partial && rm /var/suid && chmod 555 /var"
    )
    run.says(*options, "sh", "-c", script)
    assert run("rm", "n").returncode == 0
    assert list(layers(run.user).iterdir()) == []


def test_a_removal_that_was_cut_short_is_finished(run: Sublet) -> None:
    archive = root_archive(run.user)
    options = ("--ids", "full", "--rootfs", str(archive), "--name", "n", *PROGRAMS, "--")
    run.says(*options, "sh", "-c", "mkdir -p /var/a && chown 42:42 /var/a")
    place = layers(run.user)
    (place / "n").rename(place / ".n.removed")
    assert run("rm", "n").returncode == 0
    assert list(place.iterdir()) == []
    assert run("rm", "n").returncode == 125


def test_a_first_run_that_fails_makes_no_layer(run: Sublet) -> None:
    run.user.write("bad.tar", "no archive\n" * 100)
    bad = ("--rootfs", str(run.user.home / "bad.tar"), "--name", "n")
    status, _ = run.fails(*bad, *PROGRAMS, "--", "true")
    assert status == 125
    assert run("list").stdout == ""
    good = root_archive(run.user)
    assert run.says("--rootfs", str(good), "--name", "n", *PROGRAMS, "--", "echo", "x") == "x\n"


def test_another_rootfs_or_map_is_refused(run: Sublet) -> None:
    archive = root_archive(run.user)
    options = ("--rootfs", str(archive), "--name", "n", *PROGRAMS, "--")
    run.says("--ids", "full", *options, "true")
    for wrong in (("--ids", "root", *options), ("--rootfs", "/usr", "--name", "n", "--")):
        status, said = run.fails(*wrong, "true")
        assert status == 125
        assert "the layer n was made with" in said
        assert "sublet rm n" in said


@pytest.mark.parametrize(
    "name", ["", ".hidden", "-x", "a/b", "a b", "x" * 65, "a.lock", "ä", "a\n"]
)
def test_unusable_names(run: Sublet, name: str) -> None:
    status, said = run.fails("--name", name, "--rootfs", "/", "--", "true")
    assert status == 125
    assert "is not a usable name" in said
