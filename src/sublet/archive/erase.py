"""Erase everything below the working directory, by descriptor; a program of its own.

It runs inside a user namespace that has all of the caller's IDs (see state/inside.py): outside, an
ordinary user may not remove what belongs to their subordinate IDs.
"""

from __future__ import annotations

import os
import sys

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
LIFTED = ".erase-"


def erase(root: int) -> None:
    """Remove all entries of the directory *root* (a descriptor); no symbolic link is followed.

    A directory within a directory is first lifted to the top: an archive can nest them deeper than
    any recursion or path could follow. Raises OSError for what cannot be removed.
    """
    lifted = 0
    while entries := list(os.scandir(root)):
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=root)
                continue
            directory = _open(entry, root)
            try:
                for inner in list(os.scandir(directory)):
                    if not inner.is_dir(follow_symlinks=False):
                        os.unlink(inner.name, dir_fd=directory)
                        continue
                    os.close(_open(inner, directory))
                    lifted = _lift(inner.name, directory, root, lifted)
            finally:
                os.close(directory)
            os.rmdir(entry.name, dir_fd=root)


def _open(entry: os.DirEntry[str], parent: int) -> int:
    """Open a directory, after giving its owner access: overlayfs keeps one at mode 0000."""
    if entry.stat(follow_symlinks=False).st_mode & 0o700 != 0o700:
        os.chmod(entry.name, 0o700, dir_fd=parent)
    return os.open(entry.name, DIRECTORY, dir_fd=parent)


def _lift(name: str, directory: int, root: int, number: int) -> int:
    """Move a directory to the root under a free name; return the next number to try."""
    while True:
        number += 1
        try:
            os.rename(name, f"{LIFTED}{number}", src_dir_fd=directory, dst_dir_fd=root)
        except OSError:
            # taken by an entry of the tree that looks the same
            if not _exists(f"{LIFTED}{number}", root):
                raise
        else:
            return number


def _exists(name: str, root: int) -> bool:
    try:
        os.stat(name, dir_fd=root, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def main() -> int:
    """Run as a program: 0, or 1 with the reason on standard error."""
    try:
        root = os.open(".", DIRECTORY)
        erase(root)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
