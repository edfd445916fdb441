"""What a path is, and which component of it denies."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from sublet.host import Host
from sublet.host.sources import Source, kind, look, realpath

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/a").write_text("")
    (tmp_path / "lib").symlink_to("/usr/lib")
    (tmp_path / "relative").symlink_to("usr/../lib/a")
    (tmp_path / "loop").symlink_to("/loop")
    (tmp_path / "dangling").symlink_to("nowhere/b")
    return Host(str(tmp_path))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("/", Source("/", "directory", "/")),
        ("/lib", Source("/lib", "directory", "/usr/lib")),
        ("/lib/a", Source("/lib/a", "file", "/usr/lib/a")),
        ("/relative", Source("/relative", "file", "/usr/lib/a")),
        ("/lib/..", Source("/lib/..", "directory", "/usr")),
        ("/../../lib/./a", Source("/../../lib/./a", "file", "/usr/lib/a")),
        ("/lib/b/c", Source("/lib/b/c", "missing", "/usr/lib/b", "/usr/lib/b")),
        ("/lib/a/c", Source("/lib/a/c", "missing", "/usr/lib/a", "/usr/lib/a")),
        ("/dangling", Source("/dangling", "missing", "/nowhere", "/nowhere")),
        ("/loop", Source("/loop", "loop", "/loop", "/loop")),
    ],
)
def test_looking(host: Host, path: str, source: Source) -> None:
    assert look(path, host) == source


def test_kinds(host: Host) -> None:
    found = [kind(path, host) for path in ("/lib", "/lib/a", "/lib/b", "/loop")]
    assert found == ["directory", "file", "missing", "missing"]


def test_this_machine(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert kind("/") == "directory"
    assert kind(__file__) == "file"
    assert kind("/no/such") == "missing"
    assert realpath(str(tmp_path / "link")) == os.path.realpath(tmp_path)


def test_who_denies(tmp_path: Path) -> None:
    closed = tmp_path / "open" / "closed"
    (closed / "below").mkdir(parents=True)
    closed.chmod(0)
    if os.access(closed, os.X_OK):
        pytest.skip("beyond this machine: root is denied nothing")
    assert look(str(closed / "below")).component == str(closed)
    assert kind(str(closed / "below")) == "denied"
