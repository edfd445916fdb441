"""What a path of the machine is, for planning and explaining: its kind, who denies it."""

from __future__ import annotations

import errno
import os
import stat

from sublet._value import Value
from sublet.host.machine import Host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

MOST_LINKS = 40
"""The kernel's own limit on symbolic links in one path (path_resolution(7))."""


class Source(Value):
    """What stands at a ``path``.

    ``kind``: ``directory``; ``file`` (anything else that exists); ``missing``; ``denied``;
    ``loop``, too many symbolic links. ``real``: the path without symbolic links, as far as it
    could be followed. ``component``: the first part of it that is missing, is no directory, or
    may not be searched; None where the path was followed to its end.
    """

    path: str
    kind: Literal["directory", "file", "missing", "denied", "loop"]
    real: str
    component: str | None = None


def look(path: str, host: Host | None = None) -> Source:
    """Return what stands at the absolute *path*, every symbolic link followed.

    With the caller's effective IDs. A directory that may not be searched is the ``component`` of
    a ``denied`` source, so that a sentence can name it.
    """
    host = Host() if host is None else host
    todo = [part for part in reversed(path.split("/")) if part and part != "."]
    done = ""
    links = 0
    kind: Literal["directory", "file"] = "directory"
    while todo:
        part = todo.pop()
        if part == "..":
            done = done.rpartition("/")[0]
            kind = "directory"
            continue
        here = f"{done}/{part}"
        if kind != "directory":
            return Source(path, "missing", done, done)
        try:
            about = os.lstat(host.path(here))
        except OSError as error:
            if error.errno == errno.EACCES:
                return Source(path, "denied", here, done or "/")
            return Source(path, "missing", here, here)
        if stat.S_ISLNK(about.st_mode):
            links += 1
            text = host.readlink(here)
            if links > MOST_LINKS or text is None:
                return Source(path, "loop", here, here)
            if text.startswith("/"):
                done = ""
            todo.extend(piece for piece in reversed(text.split("/")) if piece and piece != ".")
        else:
            kind = "directory" if stat.S_ISDIR(about.st_mode) else "file"
            done = here
    return Source(path, kind, done or "/")


def kind(path: str, host: Host | None = None) -> Literal["directory", "file", "missing", "denied"]:
    """Return in one word what stands at the absolute *path*, symbolic links followed."""
    host = Host() if host is None else host
    try:
        about = os.stat(host.path(path)) if host.real else None
    except OSError as error:
        return "denied" if error.errno == errno.EACCES else "missing"
    if about is None:
        found = look(path, host).kind
        return "missing" if found == "loop" else found
    return "directory" if stat.S_ISDIR(about.st_mode) else "file"


def realpath(path: str, host: Host | None = None) -> str:
    """Return the absolute *path* without symbolic links, as far as it can be followed."""
    return look(path, host).real
