"""Where facts are read: the machine's own /, or a directory that stands in for it."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

LIMIT_BYTES = 1 << 20
"""Configuration is read up to this size; what is longer is cut at a line's end."""


class Host:
    """A machine, as files below ``root`` and an environment.

    ``root``: "/" for this machine. ``environ``: os.environ when not given. Every method answers
    None or False where there is nothing to read; who needs it says so in an error of their own.
    """

    __slots__ = ("environ", "prefix", "real")

    def __init__(self, root: str = "/", environ: Mapping[str, str] | None = None) -> None:
        self.prefix = root.rstrip("/")
        self.real = not self.prefix
        self.environ: Mapping[str, str] = os.environ if environ is None else environ

    def path(self, path: str) -> str:
        """Return where the absolute *path* of the machine is found."""
        return self.prefix + path

    def read(self, path: str, limit: int = LIMIT_BYTES) -> str | None:
        """Return what the file holds, at most *limit* bytes of whole lines; None without it."""
        try:
            # Never blocks, not even where somebody put a FIFO.
            fd = os.open(self.prefix + path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            data = os.read(fd, 65536)
            # A short read of a regular file is its end; /proc hands out a page or so at a time.
            if len(data) == 65536 or path.startswith("/proc/"):
                while len(data) <= limit and (more := os.read(fd, 65536)):
                    data += more
        except OSError:
            return None
        finally:
            os.close(fd)
        if len(data) > limit:
            data = data[: data.rfind(b"\n", 0, limit) + 1]
        return data.decode(errors="surrogateescape")

    def number(self, path: str) -> int | None:
        """Return the number that the file holds, None without it."""
        text = (self.read(path, 64) or "").strip()
        return int(text) if text.isascii() and text.isdigit() else None

    def readlink(self, path: str) -> str | None:
        """Return what the symbolic link reads, None where there is none."""
        try:
            return os.readlink(self.prefix + path)
        except OSError:
            return None

    def access(self, path: str, mode: int) -> bool:
        """Tell whether the caller's effective IDs may do *mode* (os.R_OK, W_OK, X_OK)."""
        return os.access(self.prefix + path, mode, effective_ids=True)
