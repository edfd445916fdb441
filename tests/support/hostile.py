"""Hostile trees: root file systems full of traps, and a victim that must stay as it is.

The victim lies beside the tree, outside of every root. It holds what a program that is led astray
would overwrite (``ptmx``, ``resolv.conf``, ``passwd``), so that a change of any kind shows: bytes,
owner, mode, times, a new name.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
from typing import TYPE_CHECKING

from kernel.sublet_run import make_tree

if TYPE_CHECKING:
    from pathlib import Path

    from support.users import User

DECOYS = ("console", "hosts", "null", "passwd", "ptmx", "resolv.conf", "self", "status", "x")
"""What the victim holds."""

LINKS = ("absolute", "relative", "dangling", "loop", "procfd")
OTHERS = ("fifo", "socket", "file", "directory")
KINDS = (*LINKS, *OTHERS)


class Hostile:
    """A user's root file system, and the victim beside it."""

    def __init__(self, user: User, name: str = "hostile") -> None:
        """Make both, in the user's home; the tree is harmless until a trap is set."""
        self.user = user
        self.tree = make_tree(user, name)
        self.victim = make_victim(user, f"{name}-victim")
        self._before = snapshot(self.victim)

    def trap(self, place: str, kind: str) -> Path:
        """Replace *place* of the tree by a trap of that kind; its directory is made if missing."""
        path = self.tree / place
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif os.path.lexists(path):
            path.unlink()
        set_trap(path, kind, self.victim)
        return self.user.own(path)

    def changes(self) -> list[str]:
        """Say what has happened to the victim: nothing, one hopes."""
        return differences(self._before, snapshot(self.victim))


def make_victim(user: User, name: str = "victim") -> Path:
    """Make a victim in the user's home."""
    victim = user.mkdir(name)
    for decoy in DECOYS:
        user.write(f"{name}/{decoy}", f"the victim's {decoy}\n")
    return victim


def set_trap(path: Path, kind: str, victim: Path) -> None:
    """Make *path*, which must not exist, a trap that leads to *victim*, or nowhere."""
    named = path.name if path.name in DECOYS else ""
    aim = victim / named if named else victim
    if kind == "absolute":
        path.symlink_to(aim)
    elif kind == "relative":
        up = "../" * 40
        path.symlink_to(f"{up}{str(aim).lstrip('/')}")
    elif kind == "dangling":
        path.symlink_to(victim / "missing" / "deeper")
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "procfd":
        path.symlink_to("/proc/self/fd/3")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            here = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
            try:  # a socket's whole path may have no more than 107 bytes
                listener.bind(f"/proc/self/fd/{here}/{path.name}")
            finally:
                os.close(here)
    elif kind == "file":
        path.write_text("a plain file\n")
    elif kind == "directory":
        path.mkdir()
    elif kind == "device":
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    else:
        raise ValueError(kind)


def snapshot(folder: Path) -> dict[str, tuple[object, ...]]:
    """Note everything below *folder*, itself included, that somebody could have changed."""
    noted: dict[str, tuple[object, ...]] = {}
    for path in (folder, *sorted(folder.rglob("*"))):
        about = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(about.st_mode) else b""
        noted[str(path)] = (
            stat.filemode(about.st_mode),
            about.st_uid,
            about.st_gid,
            about.st_ino,
            about.st_mtime_ns,
            about.st_ctime_ns,
            content,
        )
    return noted


def differences(
    before: dict[str, tuple[object, ...]], after: dict[str, tuple[object, ...]]
) -> list[str]:
    """Compare two snapshots."""
    made = [f"made: {path}" for path in after.keys() - before.keys()]
    gone = [f"gone: {path}" for path in before.keys() - after.keys()]
    both = before.keys() & after.keys()
    changed = [f"{p}: {before[p]} -> {after[p]}" for p in both if before[p] != after[p]]
    return sorted(made + gone + changed)
