"""Erase everything below the working directory, by descriptor; a program of its own.

It runs inside the namespaces of the map that the tree was written with (see state/trees.py):
outside, an ordinary user may not remove what belongs to their subordinate IDs.
"""

from __future__ import annotations

import os
import shutil
import sys


def erase(root: int) -> None:
    """Remove all entries of the directory *root* (a descriptor), symlinks themselves and not what
    they point to.

    Raises OSError for what cannot be removed.
    """
    for entry in os.scandir(root):
        if entry.is_dir(follow_symlinks=False):
            _open_up(entry.name, root)
            shutil.rmtree(entry.name, dir_fd=root)
        else:
            os.unlink(entry.name, dir_fd=root)


def _open_up(name: str, parent: int) -> None:
    """Give the owner access to a directory and all below: overlayfs keeps its work directory at
    mode 0000.
    """
    descriptor = os.open(
        name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent
    )
    try:
        if os.fstat(descriptor).st_mode & 0o700 != 0o700:
            os.chmod(name, 0o700, dir_fd=parent)
    finally:
        os.close(descriptor)
    inner = os.open(
        name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent
    )
    try:
        for entry in os.scandir(inner):
            if entry.is_dir(follow_symlinks=False):
                _open_up(entry.name, inner)
    finally:
        os.close(inner)


def main() -> int:
    """Run as a program: 0, or 1 with the reason on standard error."""
    try:
        root = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        erase(root)
    except OSError as error:
        print(f"cannot remove {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
