"""`sublet run` for tests, and a small root file system to run it on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from support.users import User

USERS = """\
root:x:0:0:root:/root:/bin/sh
guest:x:405:100:guest:/home/guest:/bin/sh
_apt:x:42:65534::/nonexistent:/bin/false
"""
GROUPS = "root:x:0:\nusers:x:100:\nntp:x:123:guest\nnogroup:x:65534:\n"
PROGRAMS = ("-v", "/usr:/usr:ro")
"""Options that give a small root file system its programs: the machine's."""


class Sublet:
    """The installed command, as one user runs it."""

    def __init__(self, command: list[str], user: User) -> None:
        self.command = command
        self.user = user

    def __call__(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run `sublet WORDS` to its end."""
        return self.user.run([*self.command, *words], **options)

    def says(self, *words: str, **options: Any) -> str:
        """Return what `sublet run WORDS` prints, having seen it succeed."""
        done = self("run", *words, **options)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout

    def fails(self, *words: str, **options: Any) -> tuple[int, str]:
        """Return the exit status and the standard error of a `sublet run WORDS` that failed."""
        done = self("run", *words, **options)
        assert done.returncode != 0, done.stdout
        return done.returncode, done.stderr


def make_tree(user: User, name: str = "rootfs") -> Path:
    """Make a root file system that is all the user's; PROGRAMS are to be mounted into it."""
    tree = user.mkdir(name)
    for folder in ("dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "usr", "var"):
        (tree / folder).mkdir()
        user.own(tree / folder)
    (tree / "tmp").chmod(0o1777)
    for folder in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        if os.path.isdir(f"/usr/{folder}"):
            (tree / folder).symlink_to(f"usr/{folder}")
            user.own(tree / folder)
    for path, text in (
        ("etc/passwd", USERS),
        ("etc/group", GROUPS),
        ("etc/os-release", "ID=little\n"),
    ):
        user.write(f"{name}/{path}", text)
    return tree


def lines_of_map(text: str) -> list[list[int]]:
    """Return the numbers of a uid_map."""
    return [[int(number) for number in line.split()] for line in text.splitlines()]
