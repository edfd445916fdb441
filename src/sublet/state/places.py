"""Where things are kept: the XDG base directories, the caller's own and closed to all others."""

from __future__ import annotations

import os
import stat

from sublet.errors import StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def cache_directory(environment: Mapping[str, str], home: str, *, make: bool = True) -> str:
    """Return the directory of what can be made anew; created where missing. See directory()."""
    return directory(environment.get("XDG_CACHE_HOME", ""), home, ".cache", make=make)


def data_directory(environment: Mapping[str, str], home: str, *, make: bool = True) -> str:
    """Return the directory of what people want to keep; created where missing. See directory()."""
    return directory(environment.get("XDG_DATA_HOME", ""), home, ".local/share", make=make)


def directory(configured: str, home: str, default: str, *, make: bool = True) -> str:
    """Return ``<configured>/sublet``, or below *home* where *configured* is not an absolute path.

    The last component is made with mode 0700 and must be the caller's: trees below hold set-ID
    files of other IDs, which nobody else may reach. Raises StateError otherwise.
    """
    base = configured if configured.startswith("/") else f"{home}/{default}"
    path = f"{base}/sublet"
    if not make:
        return path
    try:
        found = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        try:
            os.makedirs(base, 0o700, exist_ok=True)
            os.makedirs(path, 0o700, exist_ok=True)  # another start may be quicker
            found = os.stat(path, follow_symlinks=False)
        except OSError as error:
            raise StateError(
                f"cannot make the directory {path}: {error.strerror}",
                path=path,
                errno=error.errno,
                hint="Set HOME, XDG_CACHE_HOME and XDG_DATA_HOME to directories that you may"
                " write.",
            ) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise StateError(
            f"{path} is not a directory of UID {os.geteuid()} (its owner is {found.st_uid})",
            path=path,
            hint="Move it away, or set XDG_CACHE_HOME and XDG_DATA_HOME to directories of your"
            " own.",
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        # by descriptor: what stands at the path by now may be a link to something else
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchmod(fd, 0o700)
        finally:
            os.close(fd)
    return path


def subdirectory(parent: str, name: str) -> str:
    """Return ``parent/name``, made with mode 0700 where missing."""
    path = f"{parent}/{name}"
    if not os.path.isdir(path):
        os.makedirs(path, 0o700, exist_ok=True)
    return path
