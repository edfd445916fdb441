"""Make directories with owners in the working directory; a program of its own.

It runs inside the map whose IDs the owners are (see state/names.py):

    python -m sublet.archive.make '[["upper", 0, 0, 493]]'

with name, UID, GID and mode of each.
"""

from __future__ import annotations

import json
import os
import sys


def make(parent: int, name: str, uid: int, gid: int, mode: int) -> None:
    """Make the directory *name* in *parent* (a descriptor). Raises OSError."""
    os.mkdir(name, 0o700, dir_fd=parent)
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        os.fchown(descriptor, uid, gid)
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def main(arguments: list[str]) -> int:
    """Run as a program: 0, or 1 with the reason on standard error."""
    parent = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name, uid, gid, mode in json.loads(arguments[0]):
            make(parent, name, uid, gid, mode)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
