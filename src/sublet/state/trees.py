"""Unpacked root file systems: each archive once for each map, in the caller's cache.

    <cache>/trees/<name>/root      the tree
    <cache>/trees/<name>/key       which archive and which map, in full
    <cache>/trees/<name>.lock      held while it is made (alone) or used (shared)
    <cache>/trees/<name>.partial/  being made; without a holder of the lock it is what a killed
    process left

A tree appears under its name by one rename, complete, or not at all.
"""

from __future__ import annotations

import os
from zlib import crc32

from sublet._value import Value
from sublet.errors import ArchiveError, InputError
from sublet.state.locks import Lock
from sublet.state.places import subdirectory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sublet.ids import IdMap
    from sublet.plan.model import Maps
    from sublet.state.inside import Inside

FORMAT = 1
MAX_MEMBERS = 5_000_000
RESERVE = 64 << 20  # bytes that an archive must leave free on the file system


class Tree(Value):
    """An unpacked tree: its ``path``, and the ``lock`` (shared) that keeps it from being removed."""

    path: str
    lock: Lock


class Archive(Value):
    """An open archive: ``descriptor``, the ``path`` for people, and what identifies its content."""

    path: str
    descriptor: int
    identity: str
    size: int


def open_archive(path: str) -> Archive:
    """Open the archive at *path* (a regular file). Raises InputError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise InputError(
            f"cannot open the archive {path}: {error.strerror}", path=path, errno=error.errno
        ) from None
    about = os.fstat(descriptor)
    if about.st_mode & 0o170000 != 0o100000:
        os.close(descriptor)
        raise InputError(f"{path} is neither a directory nor a regular file", path=path)
    identity = f"{about.st_dev:x}-{about.st_ino:x}-{about.st_size:x}-{about.st_mtime_ns:x}"
    return Archive(path, descriptor, identity, about.st_size)


def prepare(
    cache: str,
    archive: Archive,
    inside: Inside,
    progress: Callable[[int, int], None] | None = None,
) -> Tree:
    """Return the tree of *archive* with the owners that *inside* gives; unpacked where it is not
    there yet.

    A map of None leaves archive's owners as they are (a privileged caller without a user
    namespace). ``progress`` is called with bytes read and bytes in all. Another process that
    unpacks the same is waited for.

    Raises ArchiveError for a bad archive, StateError; nothing of a failed attempt is left.
    """
    trees = subdirectory(cache, "trees")
    name, key = _identify(archive, inside.maps)
    lock = Lock(f"{trees}/{name}.lock")
    try:
        lock.take(shared=True)
        if _matches(trees, name, key):
            return Tree(f"{trees}/{name}/root", lock)
        lock.take()  # alone; not atomic, so look again
        if not _matches(trees, name, key):
            sweep(trees, inside, own=name)
            _unpack(f"{trees}/{name}", key, archive, inside, progress)
        lock.take(shared=True)
        return Tree(f"{trees}/{name}/root", lock)
    except BaseException:
        lock.close()
        raise


def foresee(cache: str, archive: Archive, maps: Maps | None) -> str:
    """Return the path that prepare() would give; nothing is made."""
    return f"{cache}/trees/{_identify(archive, maps)[0]}/root"


def _identify(archive: Archive, maps: Maps | None) -> tuple[str, str]:
    """Return a name for the tree, and what it stands for in full."""
    key = f"{FORMAT} {archive.identity} {_text(maps)}"
    return f"{archive.identity}-{crc32(key.encode()):08x}", key


def sweep(trees: str, inside: Inside, own: str = "") -> None:
    """Remove what killed processes left half made. ``own``: a name whose lock the caller holds."""
    for entry in os.listdir(trees):
        name = entry.removesuffix(".partial")
        if name == entry:
            continue
        lock = None if name == own else Lock(f"{trees}/{name}.lock")
        try:
            if lock is None or lock.take(wait=False):
                inside.remove(f"{trees}/{entry}")
        finally:
            if lock is not None:
                lock.close()


def _unpack(
    path: str,
    key: str,
    archive: Archive,
    inside: Inside,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Unpack into ``path.partial`` and rename it to *path*; the lock is held alone."""
    import json

    maps = inside.maps
    partial = f"{path}.partial"
    os.mkdir(partial, 0o700)
    try:
        os.mkdir(f"{partial}/root", 0o755)
        free = os.statvfs(partial)
        options = {
            "uids": _ranges(maps.uid) if maps else [[0, 4294967295]],
            "gids": _ranges(maps.gid) if maps else [[0, 4294967295]],
            "squash": maps is not None and _count(maps.uid) == 1,
            "max_bytes": max(0, free.f_bavail * free.f_frsize - RESERVE),
            "max_members": min(MAX_MEMBERS, free.f_favail or MAX_MEMBERS),
        }
        os.lseek(archive.descriptor, 0, os.SEEK_SET)

        def tick() -> None:
            # the file description is shared: the reader's offset is ours
            if progress is not None:
                progress(os.lseek(archive.descriptor, 0, os.SEEK_CUR), archive.size)

        status, text = inside.run(
            "sublet.archive.unpack",
            f"{partial}/root",
            json.dumps(options),
            stdin=archive.descriptor,
            tick=tick,
        )
        _answer(archive, status, text)
        with open(f"{partial}/key", "x", encoding="utf-8") as file:
            file.write(key)
        if os.path.isdir(path):  # another key with the same checksum, or a damaged tree
            inside.remove(path)
        os.rename(partial, path)
    except BaseException:
        inside.remove(partial)
        raise


def _answer(archive: Archive, status: int, text: str) -> None:
    """Turn the unpacker's answer into silence or an ArchiveError."""
    import json

    try:
        answer = json.loads(text)
    except ValueError:
        answer = {"error": f"the unpacker failed with status {status}: {text.strip()[-2000:]}"}
    if status == 0 and "error" not in answer:
        return
    raise ArchiveError(
        f"{archive.path}: {answer['error']}",
        phase="unpack",
        path=answer.get("path"),
        errno=answer.get("errno"),
        hint=answer.get("hint"),
    )


def _matches(trees: str, name: str, key: str) -> bool:
    try:
        with open(f"{trees}/{name}/key", encoding="utf-8") as file:
            return file.read() == key
    except FileNotFoundError:
        return False


def _text(maps: Maps | None) -> str:
    """Write the map canonically, as part of a key."""
    if maps is None:
        return "host"
    return " ".join(
        f"{axis}{extent.inside}:{extent.outside}:{extent.count}"
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
