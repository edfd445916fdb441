"""Unpack a tar archive below a directory, everything by descriptor; a program of its own.

It runs inside the namespaces of the map whose owners it writes (see state/trees.py), so that chown
there does what the archive says and no archive, however hostile, sees more of the machine than its
own directory:

    python -m sublet.archive.unpack '{"uids": [[0, 65537]], "gids": [[0, 65537]], "squash": false,
    ...}'

with the archive as standard input and the directory as working directory. One JSON line on standard
output says how it ended. Devices are left out (they are never allowed in a user namespace, and /dev
is made anew for each start).
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys

from sublet.archive.reader import Member, members
from sublet.archive.streams import Stream, open_stream
from sublet.errors import ArchiveError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OPEN_DIRECTORIES = 128
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
KEPT_XATTRS = ("user.", "security.capability", "system.posix_acl_")


class Unpacker:
    """Writes members below ``root``.

    ``uids``, ``gids``: half-open ranges of inside IDs that the map has. ``squash``: everything
    belongs to the caller, for maps of one ID. ``max_bytes``, ``max_members``: what an archive may
    grow to.
    """

    def __init__(
        self,
        root: int,
        *,
        uids: list[list[int]],
        gids: list[list[int]],
        squash: bool,
        max_bytes: int,
        max_members: int,
    ) -> None:
        self.root = root
        self.uids = uids
        self.gids = gids
        self.squash = squash
        self.room = max_bytes
        self.max_members = max_members
        self.owner = (os.geteuid(), os.getegid())
        self.counts = {"members": 0, "bytes": 0, "devices": 0, "xattrs": 0}
        self._open: dict[tuple[bytes, ...], int] = {(): root}
        self._late: dict[tuple[bytes, ...], Member] = {}

    def unpack(self, stream: Stream) -> dict[str, int]:
        """Unpack all of it; return the counts. Raises ArchiveError, and OSError with the path as
        filename.
        """
        for member in members(stream):
            self.counts["members"] += 1
            if self.counts["members"] > self.max_members:
                raise ArchiveError(f"the archive has more than {self.max_members} members")
            path = self._parts(member, member.path)
            try:
                self._member(member, path, stream)
            except OSError as error:
                error.filename = member.name
                raise
        self._finish_directories()
        return self.counts

    def _member(self, member: Member, path: tuple[bytes, ...], stream: Stream) -> None:
        if member.kind == "device":
            self.counts["devices"] += 1
            return
        if not self.squash:
            self._check_owner(member)
        if member.kind == "directory":
            self._directory(member, path)
            return
        if not path:
            raise ArchiveError(f"the member {member.name} is not a directory but names the root")
        parent = self._parent(member, path)
        name = path[-1]
        if member.kind == "file":
            self._file(member, parent, name, stream)
            return
        for attempt in (1, 2):
            try:
                if member.kind == "symlink":
                    os.symlink(member.link, name, dir_fd=parent)
                elif member.kind == "fifo":
                    os.mkfifo(name, member.mode, dir_fd=parent)
                else:
                    self._hardlink(member, parent, name)
                    return
                break
            except FileExistsError:
                self._replace(member, parent, name, attempt)
        if not self.squash and (member.uid, member.gid) != self.owner:
            os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
        os.utime(name, ns=(member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)

    def _file(self, member: Member, parent: int, name: bytes, stream: Stream) -> None:
        self.room -= member.size
        if self.room < 0:
            raise ArchiveError(
                f"the archive unpacks to more than there is room for, at {member.name}",
                errno=errno.ENOSPC,
                hint="Free disk space, or set XDG_CACHE_HOME to a directory on a larger file system.",
            )
        # without set-ID bits, which a later chown would clear
        mode = member.mode & 0o777
        try:
            descriptor = os.open(name, FILE, mode, dir_fd=parent)
        except FileExistsError:
            self._replace(member, parent, name, 1)
            descriptor = os.open(name, FILE, mode, dir_fd=parent)
        try:
            if not stream.copy(descriptor, member.size):
                raise ArchiveError(f"the archive ends inside {member.name}: it is truncated")
            if not self.squash and (member.uid, member.gid) != self.owner:
                os.fchown(descriptor, member.uid, member.gid)
            if mode != member.mode:
                os.fchmod(descriptor, member.mode)
            if member.xattrs:
                self._xattrs(member, descriptor)
            os.utime(descriptor, ns=(member.mtime, member.mtime))
        finally:
            os.close(descriptor)
        self.counts["bytes"] += member.size

    def _hardlink(self, member: Member, parent: int, name: bytes) -> None:
        target = self._parts(member, member.link)
        if not target:
            raise ArchiveError(f"the hard link {member.name} points to the root")
        try:
            os.link(
                target[-1],
                name,
                src_dir_fd=self._parent(member, target, create=False),
                dst_dir_fd=parent,
                follow_symlinks=False,
            )
        except FileNotFoundError:
            link = member.link.decode("utf-8", "backslashreplace")
            raise ArchiveError(
                f"the hard link {member.name} points to {link}, which is not there"
            ) from None

    def _directory(self, member: Member, path: tuple[bytes, ...]) -> None:
        if path:
            parent = self._parent(member, path)
            try:
                os.mkdir(path[-1], 0o700, dir_fd=parent)
            except FileExistsError:
                found = os.stat(path[-1], dir_fd=parent, follow_symlinks=False)
                if not stat.S_ISDIR(found.st_mode):
                    self._replace(member, parent, path[-1], 1)
                    os.mkdir(path[-1], 0o700, dir_fd=parent)
        descriptor = self._enter(member, path)
        if not self.squash and (member.uid, member.gid) != self.owner:
            os.fchown(descriptor, member.uid, member.gid)
        if member.xattrs:
            self._xattrs(member, descriptor)
        # mode and time come last: a set-group-ID bit would be inherited, a read-only directory
        # would refuse
        self._late[path] = member

    def _finish_directories(self) -> None:
        for path, member in sorted(self._late.items(), key=lambda item: -len(item[0])):
            descriptor = self._enter(member, path)
            os.fchmod(descriptor, member.mode)
            os.utime(descriptor, ns=(member.mtime, member.mtime))

    def _xattrs(self, member: Member, descriptor: int) -> None:
        for key, value in member.xattrs:
            if not key.startswith(KEPT_XATTRS):
                continue
            try:
                os.setxattr(descriptor, key, value)
                self.counts["xattrs"] += 1
            except OSError as error:
                # a single identity has no right to file capabilities, and needs none
                if not (self.squash and error.errno == errno.EPERM):
                    raise

    def _check_owner(self, member: Member) -> None:
        for kind, value, ranges in (("UID", member.uid, self.uids), ("GID", member.gid, self.gids)):
            if not any(start <= value < end for start, end in ranges):
                held = ", ".join(f"{start}..{end - 1}" for start, end in ranges)
                raise ArchiveError(
                    f"{member.name} belongs to {kind} {value}, which the ID map does not have (it has {held})",
                    path=member.name,
                    errno=errno.EINVAL,
                    hint="Delegate more subordinate IDs to the caller, or choose a map that contains this ID with --ids.",
                )

    def _parts(self, member: Member, path: bytes) -> tuple[bytes, ...]:
        """Split a path of the archive; the leading slash of an absolute one is dropped, as tar
        does.
        """
        parts = tuple(part for part in path.split(b"/") if part not in {b"", b"."})
        if b".." in parts:
            text = path.decode("utf-8", "backslashreplace")
            raise ArchiveError(
                f"the member {member.name} names {text}, which leads out of the tree by '..'",
                path=member.name,
                hint="The archive is malformed or hostile; nothing of it is kept.",
            )
        return parts

    def _parent(self, member: Member, path: tuple[bytes, ...], *, create: bool = True) -> int:
        return self._enter(member, path[:-1], create=create)

    def _enter(self, member: Member, path: tuple[bytes, ...], *, create: bool = True) -> int:
        """Return a descriptor of the directory *path*, made where missing; no symlink is ever
        followed.
        """
        found = self._open.get(path)
        if found is not None:
            return found
        parent = self._enter(member, path[:-1], create=create)
        try:
            descriptor = os.open(path[-1], DIRECTORY, dir_fd=parent)
        except FileNotFoundError:
            if not create:
                raise
            os.mkdir(path[-1], 0o755, dir_fd=parent)
            descriptor = os.open(path[-1], DIRECTORY, dir_fd=parent)
        except OSError as error:
            if error.errno not in {errno.ELOOP, errno.ENOTDIR}:
                raise
            through = b"/".join(path).decode("utf-8", "backslashreplace")
            raise ArchiveError(
                f"the member {member.name} passes through {through}, which is not a directory",
                path=member.name,
                errno=error.errno,
                hint="A symbolic link is never followed while unpacking; nothing of the archive is kept.",
            ) from None
        if len(self._open) >= OPEN_DIRECTORIES:
            self._forget()
        self._open[path] = descriptor
        return descriptor

    def _forget(self) -> None:
        for path in list(self._open):
            if path:
                os.close(self._open.pop(path))

    def _replace(self, member: Member, parent: int, name: bytes, attempt: int) -> None:
        """Remove what an earlier member put at this name: the later one counts."""
        if attempt > 1:
            raise ArchiveError(f"the member {member.name} cannot be replaced")
        try:
            os.unlink(name, dir_fd=parent)
        except IsADirectoryError:
            raise ArchiveError(f"the member {member.name} would replace a directory") from None


def main(arguments: list[str]) -> int:
    """Run as a program; see the module's docstring. Returns 0, or 1 after a failure was reported."""
    options: dict[str, Any] = json.loads(arguments[0])
    os.umask(0)
    try:
        # a descriptor of its own: the working directory's own name is never used again
        root = os.open(".", DIRECTORY)
        counts = Unpacker(root, **options).unpack(open_stream(0))
    except ArchiveError as error:
        report = {"error": error.what, "path": error.path, "errno": error.errno, "hint": error.hint}
    except OSError as error:
        what = f"cannot unpack {error.filename}: {error.strerror}"
        report = {"error": what, "path": error.filename, "errno": error.errno, "hint": None}
    else:
        print(json.dumps(counts))
        return 0
    print(json.dumps(report))
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
