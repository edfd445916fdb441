"""Unpack a tar archive below a directory, everything by descriptor; a program of its own.

It runs inside the namespaces of the map whose owners it writes (see state/trees.py), so that chown
there does what the archive says and no archive, however hostile, sees more of the machine than its
own directory:

    python -m sublet.archive.unpack '{"uids": [[0, 65537]], "gids": [[0, 65537]], "squash": false,
        "max_bytes": 10000000000, "max_members": 1000000}'

with the archive as standard input and the directory as working directory. One JSON line on standard
output says how it ended: the counts of what was written, or error, path, errno and hint.

What is left out, and counted: devices (they are never allowed in a user namespace, and /dev is made
anew for each start), ACLs in text form (their names would have to be looked up in the tree), and
attributes that the kernel keeps for itself.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys

from sublet.archive.numbers import quoted
from sublet.archive.reader import members
from sublet.archive.resolve import DIRECTORY, open_directory
from sublet.archive.streams import AFTERMATH, Stream, open_stream
from sublet.errors import ArchiveError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sublet.archive.reader import Member

OPEN_DIRECTORIES = 64
FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
KEPT_XATTRS = ("user.", "security.capability", "system.posix_acl_")
# would be instructions to an overlay that is laid over the tree
OVERLAY_XATTRS = "user.overlay."
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
ROOM_HINT = "Free disk space, or set XDG_CACHE_HOME to a directory on a larger file system."


class Unpacker:
    """Writes members below ``root``, a descriptor of an empty directory.

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
        self.counts = {"members": 0, "bytes": 0, "devices": 0, "xattrs": 0, "left_out": 0}
        self._open: dict[bytes, int] = {b"": root}
        # directories by inode: path, mode, time and attributes, which are set at the end
        self._late: dict[int, tuple[bytes, int, int, tuple[tuple[str, bytes], ...]]] = {}
        self._devices: set[bytes] = set()

    def unpack(self, stream: Stream) -> dict[str, int]:
        """Unpack all of it; return the counts.

        Raises ArchiveError, and OSError with the member's path as its filename.
        """
        os.fchmod(self.root, 0o755)
        found = os.fstat(self.root)
        if not self.squash and (found.st_uid, found.st_gid) != self.owner:
            os.fchown(self.root, *self.owner)
        for member in members(stream):
            self.counts["members"] += 1
            if self.counts["members"] > self.max_members:
                raise ArchiveError(f"the archive has more than {self.max_members} members")
            path = self._normal(member, member.path)
            try:
                self._member(member, path, stream)
            except OSError as error:
                error.filename = member.name
                raise
        if not self.counts["members"]:
            raise ArchiveError("the archive has no members")
        self._finish_directories()
        # the rest is padding; reading it proves that what was compressed is whole
        stream.skip(AFTERMATH)
        return self.counts

    def close(self) -> None:
        """Close the descriptors of directories that are still open; not the root's."""
        self._forget()

    def _member(self, member: Member, path: bytes, stream: Stream) -> None:
        if member.kind == "device":
            self.counts["devices"] += 1
            self._devices.add(path)
            return
        if member.acl:
            self.counts["left_out"] += 1
        if not self.squash:
            self._check_owner(member)
        if member.kind == "directory":
            self._directory(member, path)
            return
        if not path:
            raise ArchiveError(f"the member {member.name} is not a directory but names the root")
        directory, _, name = path.rpartition(b"/")
        if member.kind == "hardlink":
            self._hardlink(member, directory, name)
            return
        parent = self._enter(member, directory)
        if member.kind == "file":
            self._file(member, parent, name, stream)
        else:
            self._special(member, parent, name)

    def _file(self, member: Member, parent: int, name: bytes, stream: Stream) -> None:
        self.room -= member.size
        if self.room < 0:
            raise ArchiveError(
                f"the archive unpacks to more than there is room for, at {member.name}",
                errno=errno.ENOSPC,
                hint=ROOM_HINT,
            )
        # without set-ID bits, which a later chown would clear
        mode = member.mode & 0o777
        try:
            descriptor = os.open(name, FILE, mode, dir_fd=parent)
        except FileExistsError:
            self._replace(member, parent, name)
            descriptor = os.open(name, FILE, mode, dir_fd=parent)
        try:
            whole = ((0, member.size),)
            for start, count in member.layout.pieces if member.layout else whole:
                if start:
                    os.lseek(descriptor, start, os.SEEK_SET)
                if not stream.copy(descriptor, count):
                    raise ArchiveError(f"the archive ends inside {member.name}: it is truncated")
            if member.layout:
                os.ftruncate(descriptor, member.layout.length)
            if not self.squash and (member.uid, member.gid) != self.owner:
                os.fchown(descriptor, member.uid, member.gid)
            if mode != member.mode:
                os.fchmod(descriptor, member.mode)
            if member.xattrs:
                self._xattrs(member.name, member.xattrs, descriptor)
            os.utime(descriptor, ns=(member.mtime, member.mtime))
        finally:
            os.close(descriptor)
        self.counts["bytes"] += member.size

    def _special(self, member: Member, parent: int, name: bytes) -> None:
        """Make a symbolic link or a named pipe."""

        def make() -> None:
            if member.kind == "symlink":
                os.symlink(member.link, name, dir_fd=parent)
            else:
                os.mkfifo(name, member.mode & 0o777, dir_fd=parent)

        try:
            make()
        except FileExistsError:
            self._replace(member, parent, name)
            make()
        if not self.squash and (member.uid, member.gid) != self.owner:
            os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
        os.utime(name, ns=(member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)

    def _hardlink(self, member: Member, directory: bytes, name: bytes) -> None:
        target = self._normal(member, member.link)
        if target in self._devices:
            self.counts["devices"] += 1
            return
        above, _, last = target.rpartition(b"/")
        try:
            # a copy, since entering the other directory may close it
            source = os.dup(self._enter(member, above, create=False))
        except FileNotFoundError:
            raise _no_target(member) from None
        try:
            try:
                found = os.stat(last, dir_fd=source, follow_symlinks=False)
            except FileNotFoundError:
                raise _no_target(member) from None
            if stat.S_ISDIR(found.st_mode):
                raise _no_target(member)
            parent = self._enter(member, directory)
            try:
                os.link(last, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            except FileExistsError:
                present = os.stat(name, dir_fd=parent, follow_symlinks=False)
                if os.path.samestat(found, present):
                    return
                self._replace(member, parent, name)
                os.link(last, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)

    def _directory(self, member: Member, path: bytes) -> None:
        if path:
            directory, _, name = path.rpartition(b"/")
            parent = self._enter(member, directory)
            try:
                os.mkdir(name, 0o700, dir_fd=parent)
            except FileExistsError:
                found = os.stat(name, dir_fd=parent, follow_symlinks=False)
                if not stat.S_ISDIR(found.st_mode):
                    self._replace(member, parent, name)
                    os.mkdir(name, 0o700, dir_fd=parent)
        descriptor = self._enter(member, path)
        if not self.squash and (member.uid, member.gid) != self.owner:
            os.fchown(descriptor, member.uid, member.gid)
        # the rest comes last: a set-group-ID bit and a default ACL would be inherited, a read-only
        # directory would refuse entries, and these would change its time
        inode = os.fstat(descriptor).st_ino
        self._late[inode] = (path, member.mode, member.mtime, member.xattrs)

    def _finish_directories(self) -> None:
        self._forget()
        # the deepest first: a directory without search permission hides those below
        for inode in sorted(self._late, key=lambda inode: -self._late[inode][0].count(b"/")):
            path, mode, mtime, xattrs = self._late[inode]
            try:
                descriptor = open_directory(self.root, path)
            except OSError as error:
                error.filename = quoted(path)
                raise
            try:
                if os.fstat(descriptor).st_ino != inode:
                    raise ArchiveError(
                        f"{quoted(path)} is reached through a symbolic link that a later member"
                        " replaces"
                    )
                self._xattrs(quoted(path), xattrs, descriptor)
                os.fchmod(descriptor, mode)
                os.utime(descriptor, ns=(mtime, mtime))
            finally:
                os.close(descriptor)

    def _xattrs(self, name: str, xattrs: tuple[tuple[str, bytes], ...], descriptor: int) -> None:
        for key, value in xattrs:
            if not key.startswith(KEPT_XATTRS) or key.startswith(OVERLAY_XATTRS):
                self.counts["left_out"] += 1
                continue
            try:
                os.setxattr(descriptor, key, value)
                self.counts["xattrs"] += 1
            except OSError as error:
                # a single identity has no IDs for an ACL or a file capability to name, and a file
                # system without attributes has no loss in those that only people read
                if (self.squash and error.errno in {errno.EPERM, errno.EINVAL}) or (
                    key.startswith("user.") and error.errno == errno.ENOTSUP
                ):
                    self.counts["left_out"] += 1
                    continue
                raise ArchiveError(
                    f"{name}: the attribute {key} cannot be set: {error.strerror}",
                    path=name,
                    errno=error.errno,
                    hint="It may name IDs that the map does not have, or the file system of the"
                    " cache may have no such attributes.",
                ) from None

    def _check_owner(self, member: Member) -> None:
        for kind, value, ranges in (("UID", member.uid, self.uids), ("GID", member.gid, self.gids)):
            if not any(start <= value < end for start, end in ranges):
                held = ", ".join(f"{start}..{end - 1}" for start, end in ranges)
                raise ArchiveError(
                    f"{member.name} belongs to {kind} {value}, which the ID map does not have"
                    f" (it has {held})",
                    path=member.name,
                    errno=errno.EINVAL,
                    hint="Delegate more subordinate IDs to the caller, or choose a map that"
                    " contains this ID with --ids.",
                )

    def _normal(self, member: Member, path: bytes) -> bytes:
        """Return a path of the archive without ``.``, double and outer slashes, as tar does."""
        parts = [part for part in path.split(b"/") if part not in {b"", b"."}]
        if b".." in parts:
            raise ArchiveError(
                f"the member {member.name} names {quoted(path)}, which leads out of the tree"
                " by '..'",
                path=member.name,
                hint="The archive is malformed or hostile; nothing of it is kept.",
            )
        return b"/".join(parts)

    def _enter(self, member: Member, directory: bytes, *, create: bool = True) -> int:
        """Return a descriptor of a directory of the tree, made with all above it where missing.

        Symbolic links on the way mean what they will mean inside: they cannot lead out of the tree.
        The descriptor stays this object's, and is good until the next call.
        """
        found = self._open.get(directory)
        if found is not None:
            return found
        try:
            found = open_directory(self.root, directory)
        except FileNotFoundError:
            if not create:
                raise
            found = self._create(member, directory)
        except OSError as error:
            if error.errno not in {errno.ELOOP, errno.ENOTDIR}:
                raise
            raise _passing(member, directory, error) from None
        if len(self._open) >= OPEN_DIRECTORIES:
            self._forget()
        self._open[directory] = found
        return found

    def _create(self, member: Member, directory: bytes) -> int:
        """Make a directory that is not there, and what is missing above it; return a descriptor."""
        parts = directory.split(b"/")
        found, present, missing = os.dup(self.root), 0, len(parts)
        # by halves: going up or down one by one would take time in proportion to the depth squared
        while missing - present > 1:
            middle = (present + missing) // 2
            try:
                deeper = open_directory(self.root, b"/".join(parts[:middle]))
            except FileNotFoundError:
                missing = middle
            else:
                os.close(found)
                found, present = deeper, middle
        for count, name in enumerate(parts[present:], present + 1):
            try:
                os.mkdir(name, 0o755, dir_fd=found)
                deeper = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=found)
            except FileExistsError as error:  # a link whose target is not there
                raise _passing(member, b"/".join(parts[:count]), error) from None
            finally:
                os.close(found)
            found = deeper
        return found

    def _forget(self) -> None:
        for directory in list(self._open):
            if directory:
                os.close(self._open.pop(directory))

    def _replace(self, member: Member, parent: int, name: bytes) -> None:
        """Remove what an earlier member put at this name: the later one counts."""
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode):
            os.unlink(name, dir_fd=parent)
        else:
            try:
                os.rmdir(name, dir_fd=parent)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
                raise ArchiveError(
                    f"the member {member.name} would replace a directory that is not empty",
                    path=member.name,
                ) from None
            self._late.pop(found.st_ino, None)
        if stat.S_ISDIR(found.st_mode) or stat.S_ISLNK(found.st_mode):
            # other descriptors may have been found through it
            for directory in [key for key, value in self._open.items() if key and value != parent]:
                os.close(self._open.pop(directory))


def _passing(member: Member, directory: bytes, error: OSError) -> ArchiveError:
    return ArchiveError(
        f"the member {member.name} passes through {quoted(directory)}, which is no directory of"
        " the archive",
        path=member.name,
        errno=error.errno,
        hint="A symbolic link on the way must lead to a directory that an earlier member made.",
    )


def _no_target(member: Member) -> ArchiveError:
    return ArchiveError(
        f"the hard link {member.name} points to {quoted(member.link)}, which is no file that an"
        " earlier member made",
        path=member.name,
    )


def main(arguments: list[str]) -> int:
    """Run as a program; see the module's docstring. Returns 0, or 1 after reporting a failure."""
    options: dict[str, Any] = json.loads(arguments[0])
    os.umask(0)
    try:
        # a descriptor of its own: the working directory's own name is never used again
        root = open_directory(os.open(".", os.O_PATH), b"")
        counts = Unpacker(root, **options).unpack(open_stream(0))
    except ArchiveError as error:
        report = {"error": error.what, "path": error.path, "errno": error.errno, "hint": error.hint}
    except OSError as error:
        what = f"cannot unpack {error.filename or 'the archive'}: {error.strerror}"
        hint = ROOM_HINT if error.errno in FULL else None
        report = {"error": what, "path": error.filename, "errno": error.errno, "hint": hint}
    else:
        print(json.dumps(counts))
        return 0
    print(json.dumps(report))
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
