"""Unpacked root file systems: each archive once for each map, in the caller's cache.

    <cache>/trees/<name>/root      the tree
    <cache>/trees/<name>/about     which archive and which map, and what came of it (settings.py)
    <cache>/trees/<name>.lock      held while it is made (alone) or used (shared)
    <cache>/trees/<name>.partial/  being made or removed; where nobody holds the lock, it is what a
                                   killed process left

A tree appears under its name by one rename, complete, or not at all. The program that unpacks holds
the lock too, so that it is free only when nobody writes any more, whoever was killed. All lies in a
directory of mode 0700: set-ID files of other IDs are reached by nobody else.
"""

from __future__ import annotations

import os
import time
from zlib import crc32

from sublet._value import Value
from sublet.errors import ArchiveError, InputError, StateError
from sublet.planners.inside import owns_everything
from sublet.state import settings
from sublet.state.janitor import Janitor
from sublet.state.locks import Lock
from sublet.state.places import subdirectory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sublet.ids import IdMap
    from sublet.plan.model import Maps
    from sublet.state.inside import Inside

    Progress = Callable[[int, int], None]

FORMAT = 1
MAX_MEMBERS = 5_000_000
RESERVE = 64 << 20  # bytes that an archive must leave free on the file system
IN_USE = "Wait until what runs in it has ended."


class Tree(Value):
    """An unpacked tree: its ``path``, and the ``lock`` (shared) that keeps it from being removed.

    Whoever runs in the tree hands the lock's descriptor on to what runs.
    """

    path: str
    lock: Lock


class Archive(Value):
    """An open archive: ``descriptor``, the ``path`` for people, ``size`` in bytes.

    ``identity`` stands for its content: device, inode, size, and the times of its last changes.
    """

    path: str
    descriptor: int
    identity: str
    size: int


class Kept(Value):
    """What listing() tells of a tree.

    ``name``: for drop(). ``archive``: the path it came from. ``ids``: the map, as in uid_map with
    colons, "host" for none. ``bytes``, ``members``: the files' content, and how many members.
    ``made``, ``used``: seconds since 1970. ``stale``: the archive has gone or changed since.
    """

    name: str
    archive: str
    ids: str
    bytes: int
    members: int
    made: int
    used: int
    stale: bool


def open_archive(path: str) -> Archive:
    """Open the archive at *path*, a regular file. Raises InputError."""
    try:
        # a named pipe would keep open() waiting
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise InputError(
            f"cannot open the archive {path}: {error.strerror}", path=path, errno=error.errno
        ) from None
    about = os.fstat(descriptor)
    if about.st_mode & 0o170000 != 0o100000:
        os.close(descriptor)
        raise InputError(
            f"{path} is no archive: it is not a regular file",
            path=path,
            hint="Give a directory, or a file in one of the formats .tar, .tar.gz, .tar.xz,"
            " .tar.bz2 and .tar.zst.",
        )
    return Archive(path, descriptor, _identity(about), about.st_size)


def prepare(cache: str, archive: Archive, inside: Inside, progress: Progress | None = None) -> Tree:
    """Return the tree of *archive* with the owners that *inside* gives; unpacked if it is new.

    A map of None leaves the archive's owners as they are (a privileged caller without a user
    namespace). ``progress`` is called some times a second with bytes read and bytes in all. Another
    process that unpacks the same is waited for.

    Raises ArchiveError for a bad archive, StateError; nothing of a failed attempt is left.
    """
    trees = subdirectory(cache, "trees")
    name, key = _name(archive, inside.maps)
    lock = Lock(f"{trees}/{name}.lock")
    try:
        while True:
            lock.take(shared=True)
            if _is_there(trees, name, key):
                os.utime(lock.descriptor)  # when it was last used
                return Tree(f"{trees}/{name}/root", lock)
            lock.take()
            if not _is_there(trees, name, key):
                sweep(cache, inside)
                with Janitor(cache, f"{trees}/{name}.partial"):
                    _unpack(f"{trees}/{name}", key, archive, inside, lock, progress)
    except BaseException:
        lock.close()
        raise


def foresee(cache: str, archive: Archive, maps: Maps | None) -> str:
    """Return the path that prepare() would give; nothing is made."""
    return f"{cache}/trees/{_name(archive, maps)[0]}/root"


def listing(cache: str) -> list[Kept]:
    """Return what is in the cache, the longest unused first."""
    trees = subdirectory(cache, "trees")
    found = [_kept(trees, entry) for entry in os.listdir(trees) if "." not in entry]
    return sorted((kept for kept in found if kept is not None), key=lambda kept: kept.used)


def drop(cache: str, name: str, inside: Inside) -> None:
    """Remove the tree *name* (as listing() says it); the map of *inside* does not matter.

    Raises InputError where there is none, StateError while something runs in it.
    """
    trees = subdirectory(cache, "trees")
    if "/" in name or "." in name or not os.path.isdir(f"{trees}/{name}"):
        raise InputError(f"there is no tree {name} in the cache")
    with Lock(f"{trees}/{name}.lock") as lock:
        lock.take_or_refuse(f"the tree {name}", IN_USE)
        _discard(f"{trees}/{name}", inside)
        os.unlink(lock.path)


def sweep(cache: str, inside: Inside) -> list[str]:
    """Remove what killed processes left half made or half removed; return what would not go.

    The map of *inside* does not matter.
    """
    trees = subdirectory(cache, "trees")
    stuck = []
    for entry in os.listdir(trees):
        name = entry.removesuffix(".partial")
        if name == entry:
            continue
        with Lock(f"{trees}/{name}.lock") as lock:
            if not lock.take(wait=False):
                continue
            try:
                inside.remove(f"{trees}/{entry}")
            except StateError:
                stuck.append(f"{trees}/{entry}")
                continue
            if not os.path.isdir(f"{trees}/{name}"):
                os.unlink(lock.path)
    return stuck


def _unpack(
    path: str,
    key: str,
    archive: Archive,
    inside: Inside,
    lock: Lock,
    progress: Progress | None,
) -> None:
    """Unpack into ``path.partial`` and rename it to *path*; the lock is held alone."""
    partial = f"{path}.partial"
    inside.remove(partial)
    os.mkdir(partial, 0o700)
    try:
        _make_root(f"{partial}/root", inside)
        os.lseek(archive.descriptor, 0, os.SEEK_SET)

        def tick() -> None:
            # the file description is shared: the reader's offset is ours
            if progress is not None:
                progress(os.lseek(archive.descriptor, 0, os.SEEK_CUR), archive.size)

        status, text = inside.run(
            "sublet.archive.unpack",
            f"{partial}/root",
            _options(partial, inside.maps),
            stdin=archive.descriptor,
            held=lock.descriptor,
            tick=None if progress is None else tick,
        )
        counts = _answer(archive, status, text)
        if _identity(os.fstat(archive.descriptor)) != archive.identity:
            raise ArchiveError(
                f"{archive.path} was changed while it was being unpacked",
                phase="unpack",
                path=archive.path,
                hint="Try again when nobody writes to it any more.",
            )
        about = {
            "key": key,
            "archive": os.path.abspath(archive.path),
            "ids": _text(inside.maps),
            "bytes": str(counts.get("bytes", 0)),
            "members": str(counts.get("members", 0)),
            "made": str(int(time.time())),
        }
        settings.write(f"{partial}/about", about)
        if os.path.isdir(path):
            # another key of the same name, or one that somebody damaged: out of the way first
            os.rename(path, f"{partial}/old")
        os.rename(partial, path)
        inside.remove(f"{path}/old")
    except BaseException:
        inside.remove(partial)
        raise


def _make_root(path: str, inside: Inside) -> None:
    """Make the tree's own directory, where the program that unpacks can write."""
    os.mkdir(path, 0o700)
    if inside.maps is not None and owns_everything(inside.facts):
        # it runs as an ID of the map, which need not be the caller's
        os.chown(path, *outside_owner(inside.maps))


def outside_owner(maps: Maps) -> tuple[int, int]:
    """Return what root inside (or else the lowest ID) is outside: user and group."""
    outside = [chosen.canonical().extents[0].outside for chosen in (maps.uid, maps.gid)]
    return int(outside[0]), int(outside[1])


def _options(partial: str, maps: Maps | None) -> str:
    """Return what archive/unpack.py is told."""
    import json

    free = os.statvfs(partial)
    everybody = [[0, 4294967295]]
    return json.dumps(
        {
            "uids": _ranges(maps.uid) if maps else everybody,
            "gids": _ranges(maps.gid) if maps else everybody,
            "squash": maps is not None and 1 in {_count(maps.uid), _count(maps.gid)},
            "max_bytes": max(0, free.f_bavail * free.f_frsize - RESERVE),
            "max_members": min(MAX_MEMBERS, free.f_favail or MAX_MEMBERS),
        }
    )


def _answer(archive: Archive, status: int, text: str) -> dict[str, Any]:
    """Return the counts of the unpacker's answer, or raise its error as an ArchiveError."""
    import json

    try:
        answer: dict[str, Any] = json.loads(text)
    except ValueError:
        answer = {"error": f"the unpacker failed with status {status}: {text.strip()[-2000:]}"}
    if status == 0 and "error" not in answer:
        return answer
    raise ArchiveError(
        f"{archive.path}: {answer.get('error', f'the unpacker failed with status {status}')}",
        phase="unpack",
        path=answer.get("path"),
        errno=answer.get("errno"),
        hint=answer.get("hint"),
    )


def _discard(path: str, inside: Inside) -> None:
    """Take a tree away from its name at once, and then remove it."""
    partial = f"{path}.partial"
    inside.remove(partial)
    os.rename(path, partial)
    inside.remove(partial)


def _identity(about: os.stat_result) -> str:
    numbers = (
        about.st_dev,
        about.st_ino,
        about.st_size,
        about.st_mtime_ns,
        about.st_ctime_ns,
    )
    return "-".join(f"{number:x}" for number in numbers)


def _name(archive: Archive, maps: Maps | None) -> tuple[str, str]:
    """Return a name for the tree, and what it stands for in full."""
    key = f"{FORMAT} {archive.identity} {_text(maps)}"
    return f"{archive.identity}-{crc32(key.encode()):08x}", key


def _is_there(trees: str, name: str, key: str) -> bool:
    about = settings.read(f"{trees}/{name}/about")
    return about is not None and about.get("key") == key


def _kept(trees: str, name: str) -> Kept | None:
    about = settings.read(f"{trees}/{name}/about")
    if about is None:
        return None
    archive = about.get("archive", "")
    try:
        stale = _identity(os.stat(archive)) not in about.get("key", "")
    except OSError:
        stale = True
    try:
        used = int(os.stat(f"{trees}/{name}.lock").st_mtime)
    except FileNotFoundError:
        used = 0
    numbers = {}
    for field in ("bytes", "members", "made"):
        text = about.get(field, "")
        numbers[field] = int(text) if text.isdigit() else 0
    return Kept(name, archive, about.get("ids", ""), used=used, stale=stale, **numbers)


def _text(maps: Maps | None) -> str:
    """Write the map canonically, as part of a key."""
    if maps is None:
        return "host"
    return " ".join(
        f"{axis}:{int(extent.inside)}:{int(extent.outside)}:{extent.count}"
        for axis, chosen in (("u", maps.uid), ("g", maps.gid))
        for extent in chosen.canonical().extents
    )


def _ranges(chosen: IdMap) -> list[list[int]]:
    return [
        [int(extent.inside), int(extent.inside) + extent.count]
        for extent in chosen.canonical().extents
    ]


def _count(chosen: IdMap) -> int:
    return sum(extent.count for extent in chosen.extents)
