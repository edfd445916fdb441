"""The texts of mounts, sizes, limits and times."""

from __future__ import annotations

import pytest

from sublet.errors import InputError
from sublet.plan.model import Rlimit
from sublet.plan.rlimits import UNLIMITED
from sublet.planners.binds import (
    parse_bind,
    parse_device_bind,
    parse_size,
    parse_tmpfs,
    parse_writable,
    plan_mounts,
)
from sublet.planners.limits import parse_seconds, parse_ulimit
from sublet.planners.request import BindMount, TmpfsMount

HERE = "/home/alice"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/srv", BindMount("/srv", "/srv")),
        ("/srv:/data", BindMount("/data", "/srv")),
        ("/srv:/data:ro", BindMount("/data", "/srv", read_only=True)),
        ("/srv:/data:rw", BindMount("/data", "/srv")),
        ("/srv:ro", BindMount("/srv", "/srv", read_only=True)),
        ("/srv:/data:ro,rw", BindMount("/data", "/srv")),
        ("data:/data", BindMount("/data", "/home/alice/data")),
        (".", BindMount("/home/alice", "/home/alice/.")),
        ("a/../b", BindMount("/home/alice/b", "/home/alice/a/../b")),
        ("/srv:/a/../b/", BindMount("/b", "/srv")),
        ("/srv://data", BindMount("/data", "/srv")),
    ],
)
def test_binds(text: str, expected: BindMount) -> None:
    assert parse_bind(text, HERE) == expected


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "source is empty"),
        (":/data", "source is empty"),
        ("/srv:data", "not absolute"),
        ("/srv:", "not absolute"),
        ("/srv:/", "root itself"),
        ("/srv:/..", "root itself"),
        ("/srv:/data:r0", "'r0' is unknown"),
        ("/srv:/data:ro,idmap=1:2", "'idmap=1:2' is unknown"),
        ("/srv:/data:ro:x", "'ro:x' is unknown"),
        ("/srv:ro:/data", "'/data' is unknown"),
    ],
)
def test_binds_that_are_refused(text: str, what: str) -> None:
    with pytest.raises(InputError, match=what):
        parse_bind(text, HERE)


def test_a_writable_path_may_hold_colons() -> None:
    assert parse_writable("a:b", HERE) == BindMount("/home/alice/a:b", "/home/alice/a:b")
    with pytest.raises(InputError, match="empty"):
        parse_writable("", HERE)


def test_device_binds() -> None:
    assert parse_device_bind("/dev/kvm", HERE) == BindMount("/dev/kvm", "/dev/kvm", devices=True)
    with pytest.raises(InputError, match="no options"):
        parse_device_bind("/dev/kvm:/dev/kvm:ro", HERE)


def test_tmpfs() -> None:
    assert parse_tmpfs("/x") == TmpfsMount("/x", 0)
    assert parse_tmpfs("/x:size=64m") == TmpfsMount("/x", 64 << 20)
    for text in ("/x:", "/x:64m", "/x:mode=0700", "/x:size=", "x", "/", "/x:size=0"):
        with pytest.raises(InputError):
            parse_tmpfs(text)


def test_sizes() -> None:
    assert [parse_size(text, "") for text in ("1", "2k", "3M", "4g", "1T")] == [
        1,
        2048,
        3 << 20,
        4 << 30,
        1 << 40,
    ]
    for text in ("", "k", "1kk", "-1", "1.5m", "9" * 19, "9999999999t", "\u0663"):
        with pytest.raises(InputError):
            parse_size(text, "")


def test_mounts_inside_of_others_come_after_them() -> None:
    mounts: list[BindMount | TmpfsMount] = [
        BindMount("/a/b/c", "/1"),
        TmpfsMount("/a"),
        BindMount("/a/b", "/2"),
    ]
    assert [one.target for one in plan_mounts(mounts, frozenset())] == ["/a", "/a/b", "/a/b/c"]


def test_what_people_mount_brings_no_privilege() -> None:
    mounts: list[BindMount | TmpfsMount] = [
        BindMount("/a", "/a"),
        BindMount("/b", "/b", read_only=True),
        BindMount("/c", "/c", devices=True),
        TmpfsMount("/d"),
    ]
    planned = plan_mounts(mounts, frozenset({"outside"}))
    got = [set(one.__dict__["attributes_set"]) for one in planned]
    assert got == [
        {"nosuid", "nodev"},
        {"nosuid", "nodev", "read_only"},
        {"nosuid"},
        {"nosuid", "nodev"},
    ]
    assert all("outside" in one.flags for one in planned[:3])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nofile=1024", Rlimit(7, 1024, 1024)),
        ("RLIMIT_NOFILE=1024:2048", Rlimit(7, 1024, 2048)),
        ("core=0:unlimited", Rlimit(4, 0, UNLIMITED)),
        ("stack=-1", Rlimit(3, UNLIMITED, UNLIMITED)),
    ],
)
def test_limits(text: str, expected: Rlimit) -> None:
    assert parse_ulimit(text) == expected


@pytest.mark.parametrize(
    "text", ["", "files=3", "nofile", "nofile=", "nofile=1:", "nofile=2:1", "nofile=1k", "cpu=1.5"]
)
def test_limits_that_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--ulimit"):
        parse_ulimit(text)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("1", 1000), ("0.25", 250), (".5", 500), ("2.", 2000), ("1.0009", 1000)],
)
def test_times(text: str, milliseconds: int) -> None:
    assert parse_seconds(text) == milliseconds


@pytest.mark.parametrize(
    "text", ["", ".", "0", "0.0001", "-1", "1e3", "1m", "99999999999", "1.2.3"]
)
def test_times_that_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--timeout"):
        parse_seconds(text)
