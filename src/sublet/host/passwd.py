"""Users and groups of a root file system, as its own passwd and group files name them.

The files belong to whoever made the root file system, and are treated so: never through NSS, whose
libraries would come from there; opened component by component strictly inside of the root, with
symbolic links followed there and nowhere else; regular files only, of a bounded size.

Where the root is an overlay that is not mounted yet, its layers are looked at together as overlayfs
would merge them (Documentation/filesystems/overlayfs.rst): upper first, whiteouts and opaque
directories hide what is below. Redirected directories are not followed.
"""

from __future__ import annotations

import errno
import os
import stat

from sublet._value import Value
from sublet.errors import InputError, NotationError
from sublet.ids.notation.numbers import parse_id, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

LIMIT_BYTES = 1 << 20
LIMIT_LINE = 65536
MOST_LINKS = 40

USERS = "/etc/passwd"
GROUPS = "/etc/group"


class Account(Value):
    """A user as seen inside: IDs are inside IDs.

    ``name``: None for a number that passwd does not know. ``groups``: the supplementary groups by
    membership, in the order of the group file; none where the group was chosen explicitly, as the
    OCI engines have it.
    """

    uid: int
    gid: int
    name: str | None = None
    home: str = "/"
    shell: str = "/bin/sh"
    groups: tuple[int, ...] = ()


def lookup_user(roots: int | Sequence[int], text: str) -> Account:
    """Return the account that *text*, USER or USER:GROUP, names in a root file system.

    *roots*: a descriptor of the root's directory, or one for each layer, topmost first. USER and
    GROUP are names or numbers; what consists of digits is a number and never a name. A number that
    passwd does not know is taken as it is, with group 0. NotationError for a text that can be
    neither; InputError for an unknown name, and for a file that is no bounded regular file.
    """
    layers = (roots,) if isinstance(roots, int) else tuple(roots)
    user_text, colon, group_text = text.partition(":")
    if colon and not group_text:
        raise NotationError(f"{shown(text)} names no group after the colon")
    user = _check(user_text, "user")
    chosen = _group(layers, group_text) if group_text else None
    fields = _find(_lines(layers, USERS), user, number_at=2, count=7)
    if fields is None:
        if isinstance(user, str):
            raise InputError(
                f"there is no user {user!r} in {USERS} of the root file system",
                path=USERS,
                hint="Name one that is there, or give its number, as in --user 1000:1000.",
            )
        return Account(user, 0 if chosen is None else chosen)
    uid = _own_number(fields, 2, USERS)
    gid = _own_number(fields, 3, USERS) if chosen is None else chosen
    groups = _memberships(layers, fields[0], gid) if chosen is None else ()
    return Account(uid, gid, fields[0], fields[5] or "/", fields[6] or "/bin/sh", groups)


def lookup_group(roots: int | Sequence[int], text: str) -> int:
    """Return the group ID, inside, that the name or number *text* means; errors as above."""
    return _group((roots,) if isinstance(roots, int) else tuple(roots), text)


def _group(layers: tuple[int, ...], text: str) -> int:
    group = _check(text, "group")
    if isinstance(group, int):
        return group
    fields = _find(_lines(layers, GROUPS), group, number_at=2, count=4)
    if fields is None:
        raise InputError(
            f"there is no group {group!r} in {GROUPS} of the root file system",
            path=GROUPS,
            hint="Name one that is there, or give its number.",
        )
    return _own_number(fields, 2, GROUPS)


def _check(text: str, what: str) -> int | str:
    """Return the number or the name that *text* is."""
    if text.isascii() and text.isdigit():
        return parse_id(text, what)
    odd = not text or text[0] in "+-." or any(c.isspace() or c in "/:,\0" for c in text)
    if odd or len(text) > 256:
        raise NotationError(
            f"{shown(text)} is not a {what}", hint="Give a name, or a number from 0 to 4294967294."
        )
    return text


def _find(lines: list[str], wanted: int | str, *, number_at: int, count: int) -> list[str] | None:
    """Return the fields of the first line that has this name or number."""
    at, key = (0, wanted) if isinstance(wanted, str) else (number_at, str(wanted))
    for line in lines:
        fields = line.split(":")
        if len(fields) >= count and fields[at] == key and fields[0]:
            return fields
    return None


def _own_number(fields: list[str], at: int, path: str) -> int:
    try:
        return parse_id(fields[at])
    except NotationError as error:
        raise InputError(
            f"{path} of the root file system, at {shown(fields[0])}: {error.what}",
            path=path,
            hint=f"Mend the line in {path} inside, or give the user as UID:GID.",
        ) from None


def _memberships(layers: tuple[int, ...], name: str, gid: int) -> tuple[int, ...]:
    groups: list[int] = []
    for line in _lines(layers, GROUPS):
        fields = line.split(":")
        if len(fields) >= 4 and name in fields[3].split(","):
            try:
                number = parse_id(fields[2])
            except NotationError:
                # No such group can be joined; the kernel would have no number for it.
                continue
            if number != gid and number not in groups:
                groups.append(number)
    return tuple(groups)


# ---------------------------------------------------------------- reading, strictly inside


def _lines(layers: tuple[int, ...], path: str) -> list[str]:
    """Return the lines of the file; none where it does not exist."""
    try:
        data = read_inside(layers, path, LIMIT_BYTES)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR}:
            return []
        raise InputError(
            f"{path} of the root file system cannot be read: {error.strerror}",
            path=path,
            errno=error.errno,
            hint="It must be a readable regular file of at most 1 MiB, inside of the root.",
        ) from error
    lines = data.decode(errors="surrogateescape").split("\n")
    return [line for line in lines if len(line) <= LIMIT_LINE]


def read_inside(layers: Sequence[int], path: str, limit: int) -> bytes:
    """Return the contents of the regular file *path* of the root that the *layers* make.

    Never leaves the root, never blocks, never opens what is no regular file. OSError: ENOENT,
    ENOTDIR, EACCES as the kernel has it; ELOOP; EINVAL for what is no regular file; EFBIG beyond
    *limit* bytes.
    """
    opened: list[int] = []
    try:
        directory, name = _resolve(tuple(layers), path, opened)
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
        fd = os.open(name, flags, dir_fd=directory)
        opened.append(fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise _error(errno.EINVAL, path)
        data = b""
        while len(data) <= limit and (more := os.read(fd, limit + 1 - len(data))):
            data += more
        if len(data) > limit:
            raise _error(errno.EFBIG, path)
        return data
    finally:
        for fd in opened:
            os.close(fd)


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


def _resolve(layers: tuple[int, ...], path: str, opened: list[int]) -> tuple[int, str]:
    """Return the directory's descriptor and the name of the regular file that *path* is.

    Each directory on the way is the list of its parts in the layers, topmost first. What is opened
    is added to *opened*, for the caller to close.
    """
    parents = [layers]
    todo = [part for part in reversed(path.split("/")) if part and part != "."]
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            if len(parents) > 1:
                parents.pop()
            continue
        parts, where, mode = _enter(parents[-1], part, opened)
        if parts:
            parents.append(parts)
        elif stat.S_ISLNK(mode):
            links += 1
            if links > MOST_LINKS:
                raise _error(errno.ELOOP, path)
            text = os.readlink(part, dir_fd=where)
            if text.startswith("/"):
                del parents[1:]
            todo.extend(piece for piece in reversed(text.split("/")) if piece and piece != ".")
            if len(todo) > 4096:
                raise _error(errno.ENAMETOOLONG, path)
        elif todo:
            raise _error(errno.ENOTDIR, path)
        elif stat.S_ISREG(mode):
            return where, part
        else:
            raise _error(errno.EINVAL, path)
    raise _error(errno.EISDIR, path)


def _enter(
    parts: tuple[int, ...], name: str, opened: list[int]
) -> tuple[tuple[int, ...], int, int]:
    """Look *name* up in a merged directory.

    Return the parts of the directory that it is, or none and the part in which it is something
    else, with its mode. ENOENT where it is nowhere, or hidden.
    """
    found: list[int] = []
    for part in parts:
        try:
            about = os.stat(name, dir_fd=part, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if not stat.S_ISDIR(about.st_mode):
            whiteout = stat.S_ISCHR(about.st_mode) and about.st_rdev == 0
            if not found and not whiteout:
                return (), part, about.st_mode
            break
        flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, dir_fd=part)
        opened.append(fd)
        found.append(fd)
        if len(parts) > 1 and _opaque(fd):
            break
    if not found:
        raise _error(errno.ENOENT, name)
    return tuple(found), -1, 0


def _opaque(fd: int) -> bool:
    for name in ("user.overlay.opaque", "trusted.overlay.opaque"):
        try:
            # An O_PATH descriptor has no attributes of its own (open(2)); its path has.
            if os.getxattr(f"/proc/self/fd/{fd}", name) == b"y":
                return True
        except OSError:
            continue
    return False
