from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from sublet.errors import InputError, StateError
from sublet.state import names
from sublet.state.places import cache_directory, data_directory
from sublet.state.trees import open_archive

if TYPE_CHECKING:
    from pathlib import Path


def test_the_directories_are_closed_to_others(tmp_path: Path) -> None:
    home = str(tmp_path)
    assert cache_directory({}, home) == f"{home}/.cache/sublet"
    assert data_directory({"XDG_DATA_HOME": f"{home}/d"}, home) == f"{home}/d/sublet"
    assert cache_directory({"XDG_CACHE_HOME": "relative"}, home) == f"{home}/.cache/sublet"
    for place in (".cache/sublet", "d/sublet"):
        assert stat.S_IMODE((tmp_path / place).stat().st_mode) == 0o700
    (tmp_path / "d/sublet").chmod(0o755)
    data_directory({"XDG_DATA_HOME": f"{home}/d"}, home)
    assert stat.S_IMODE((tmp_path / "d/sublet").stat().st_mode) == 0o700


def test_nothing_is_made_where_it_is_only_asked(tmp_path: Path) -> None:
    cache_directory({}, str(tmp_path), make=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_planted_directory_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / ".cache").mkdir()
    (tmp_path / "victim").mkdir(0o755)
    if kind == "link":
        (tmp_path / ".cache/sublet").symlink_to(tmp_path / "victim")
    else:
        (tmp_path / ".cache/sublet").touch()
    with pytest.raises(StateError, match="is not a directory of UID"):
        cache_directory({}, str(tmp_path))
    assert stat.S_IMODE((tmp_path / "victim").stat().st_mode) == 0o755


@pytest.mark.requires("root")
def test_the_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".cache/sublet").mkdir(parents=True)
    os.chown(tmp_path / ".cache/sublet", 1234, 1234)
    with pytest.raises(StateError, match="its owner is 1234"):
        cache_directory({}, str(tmp_path))


def test_archives_are_regular_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "missing"):
        with pytest.raises(InputError):
            open_archive(str(path))
    (tmp_path / "file").write_bytes(b"x")
    archive = open_archive(str(tmp_path / "file"))
    os.close(archive.descriptor)
    os.utime(tmp_path / "file", (1, 1))
    changed = open_archive(str(tmp_path / "file"))
    os.close(changed.descriptor)
    assert archive.size == 1
    assert archive.identity != changed.identity


def test_a_layer_is_locked_and_its_settings_hold(tmp_path: Path) -> None:
    data = str(tmp_path)
    with pytest.raises(InputError, match="no layer named n"):
        names.use(data, "n", None, None)
    assert list((tmp_path / "names").iterdir()) == []
    layer = names.use(data, "n", "/tree", "full")
    assert layer.lock is not None
    with pytest.raises(StateError, match="n is in use"):
        names.use(data, "n", "/tree", "full")
    layer.lock.close()
    assert names.listing(data) == []
    directory = tmp_path / "names/n"
    directory.mkdir()
    (directory / "settings").write_text("rootfs=/tree\nids=full\n")
    assert names.listing(data) == [("n", {"rootfs": "/tree", "ids": "full"})]
    with pytest.raises(InputError, match="was made with --ids full, not keep"):
        names.use(data, "n", None, "keep")
    again = names.use(data, "n", None, None)
    assert (again.rootfs, again.ids) == ("/tree", "full")
    assert again.lock is not None
    again.lock.close()
    (directory / "settings").write_text("rootfs=/tree\n")
    with pytest.raises(StateError, match="damaged"):
        names.use(data, "n", None, None)
