"""Named writable layers: what runs with ``--name NAME`` wrote, kept for later runs.

    <data>/names/<name>/upper, work   the overlay's layer and its work directory
    <data>/names/<name>/settings      rootfs and ids, as the first run was given them (settings.py)
    <data>/names/<name>.lock          held while a run uses the layer: an upper directory serves one
                                      overlay at a time

A layer appears under its name by one rename, complete; names with a dot before them are what is
being made or removed.
"""

from __future__ import annotations

import os
import stat

from sublet._value import Value
from sublet.errors import InputError, StateError
from sublet.ids import InsideId, OutsideId
from sublet.planners.inside import lowest, owns_everything
from sublet.state import settings as files
from sublet.state.locks import Lock
from sublet.state.places import subdirectory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sublet.ids import IdMap
    from sublet.state.inside import Inside

LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
IN_USE = "Wait until that run has ended, or choose another name with --name."


class Layer(Value):
    """A named layer, locked. ``rootfs`` and ``ids`` as the first run gave them.

    ``upper`` and ``work`` are there once furnish() has made them. ``lock``: None where the layer is
    only foreseen.
    """

    name: str
    rootfs: str
    ids: str
    upper: str
    work: str
    lock: Lock | None = None


def check(name: str) -> None:
    """Raise InputError unless *name* can be a file's name and an argument.

    That is letters, digits, ``_``, ``.`` and ``-``, the first none of the last two.
    """
    if (
        not 0 < len(name) <= 64
        or not LETTERS.issuperset(name)
        or name[0] in ".-"
        or name.endswith(".lock")
    ):
        raise InputError(
            f"{name!r} is not a usable name",
            hint="A name has 1 to 64 letters, digits, '_', '.' or '-', begins with neither '.' nor"
            " '-', and does not end with '.lock'.",
        )


def use(data: str, name: str, rootfs: str | None, ids: str | None) -> Layer:
    """Return the layer *name*, locked for this run; a new one takes a *rootfs*, and furnish().

    ``rootfs`` (an absolute path) and ``ids`` must agree with those of the first run where they are
    given: the layer's files fit no other. Whoever runs in the layer hands the lock's descriptor on
    to what runs. Raises InputError, and StateError where another run uses it.
    """
    check(name)
    names = subdirectory(data, "names")
    lock = Lock(f"{names}/{name}.lock")
    try:
        lock.take_or_refuse(f"the name {name}", IN_USE)
        directory = f"{names}/{name}"
        try:
            known = _settings(directory) or _first(name, rootfs, ids)
            _agree(name, known, rootfs, ids)
        except InputError:
            if not os.path.isdir(directory):
                os.unlink(lock.path)
            raise
        return _layer(directory, known, lock)
    except BaseException:
        lock.close()
        raise


def furnish(layer: Layer, lower: str, inside: Inside) -> None:
    """Make the directories of *layer* where it is new, for an overlay on the directory *lower*.

    The upper directory is the "/" of what runs: it gets the owner and mode of lower's, or root
    inside where that owner is not in the map. Raises StateError.
    """
    directory = os.path.dirname(layer.upper)
    if os.path.isdir(directory):
        return
    fresh = f"{os.path.dirname(directory)}/.{layer.name}.new"
    inside.remove(fresh)
    os.mkdir(fresh, 0o700)
    about = os.stat(lower)
    users, groups = (inside.maps.uid, inside.maps.gid) if inside.maps else (None, None)
    owner = _inside(users, about.st_uid), _inside(groups, about.st_gid)
    root = (lowest(users), lowest(groups)) if users and groups else (0, 0)
    _make(
        fresh,
        [("upper", *owner, stat.S_IMODE(about.st_mode)), ("work", *root, 0o700)],
        inside,
    )
    files.write(f"{fresh}/settings", {"rootfs": layer.rootfs, "ids": layer.ids})
    os.rename(fresh, directory)


def foresee(data: str, name: str, rootfs: str | None, ids: str | None) -> Layer:
    """Return what use() would; nothing is made or locked.

    Raises InputError as use() does.
    """
    check(name)
    directory = f"{data}/names/{name}"
    known = _settings(directory) or _first(name, rootfs, ids)
    _agree(name, known, rootfs, ids)
    return _layer(directory, known)


def listing(data: str) -> list[tuple[str, dict[str, str]]]:
    """Return all names with their settings, sorted."""
    names = subdirectory(data, "names")
    entries = [entry for entry in sorted(os.listdir(names)) if not entry.startswith(".")]
    found = ((entry, _settings(f"{names}/{entry}")) for entry in entries)
    return [(name, settings) for name, settings in found if settings is not None]


def drop(data: str, name: str, inside: Inside) -> None:
    """Remove the layer *name*; the map of *inside* does not matter.

    Raises InputError where there is none, StateError while a run uses it.
    """
    check(name)
    names = subdirectory(data, "names")
    directory = f"{names}/{name}"
    # an earlier removal may have been interrupted
    doomed = f"{names}/.{name}.removed"
    if not os.path.isdir(directory) and not os.path.isdir(doomed):
        raise InputError(
            f"there is no layer named {name}", hint="`sublet list` shows what there is."
        )
    with Lock(f"{names}/{name}.lock") as lock:
        lock.take_or_refuse(f"the name {name}", IN_USE)
        inside.remove(doomed)
        if os.path.isdir(directory):
            # first under a name that nobody uses: an interrupted removal leaves no half of a layer
            os.rename(directory, doomed)
            inside.remove(doomed)
        inside.remove(f"{names}/.{name}.new")
        os.unlink(lock.path)


def _layer(directory: str, known: dict[str, str], lock: Lock | None = None) -> Layer:
    return Layer(
        os.path.basename(directory),
        known["rootfs"],
        known["ids"],
        f"{directory}/upper",
        f"{directory}/work",
        lock,
    )


def _make(parent: str, wanted: list[tuple[str, int, int, int]], inside: Inside) -> None:
    """Make directories: name, owner (inside IDs) and mode of each."""
    from sublet.archive.make import make

    maps = inside.maps
    users, groups = (maps.uid, maps.gid) if maps else (None, None)
    outside = [
        (name, _outside(users, uid), _outside(groups, gid), mode) for name, uid, gid, mode in wanted
    ]
    own = inside.facts.euid, inside.facts.egid
    if owns_everything(inside.facts) or all((uid, gid) == own for _, uid, gid, _ in outside):
        # a program that need not be started is time won
        descriptor = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for order in outside:
                make(descriptor, *order)
        finally:
            os.close(descriptor)
        return
    import json

    status, text = inside.run("sublet.archive.make", parent, json.dumps(wanted))
    if status:
        raise StateError(f"cannot make a layer in {parent}: {text.strip()}", path=parent)


def _inside(id_map: IdMap | None, outside: int) -> int:
    """Return the inside ID of an owner; root, or the lowest there is, for one without mapping."""
    if id_map is None:
        return outside
    found = id_map.to_inside(OutsideId(outside))
    return lowest(id_map) if found is None else int(found)


def _outside(id_map: IdMap | None, inside: int) -> int:
    found = inside if id_map is None else id_map.to_outside(InsideId(inside))
    return -1 if found is None else int(found)


def _first(name: str, rootfs: str | None, ids: str | None) -> dict[str, str]:
    if rootfs is None:
        raise InputError(
            f"there is no layer named {name}",
            hint=f"Make it by a first run with --name {name} --rootfs PATH;"
            " `sublet list` shows what there is.",
        )
    return {"rootfs": rootfs, "ids": ids or "keep"}


def _agree(name: str, known: dict[str, str], rootfs: str | None, ids: str | None) -> None:
    for option, given in (("rootfs", rootfs), ("ids", ids)):
        if given is not None and given != known[option]:
            raise InputError(
                f"the layer {name} was made with --{option} {known[option]}, not {given}",
                hint=f"Leave --{option} out, choose another name, or drop the layer:"
                f" sublet rm {name}",
            )


def _settings(directory: str) -> dict[str, str] | None:
    known = files.read(f"{directory}/settings")
    if known is not None and known.keys() != {"rootfs", "ids"}:
        raise StateError(
            f"the settings of the layer in {directory} are damaged",
            path=f"{directory}/settings",
            hint="It has two lines, rootfs=PATH and ids=IDS; mend it, or remove the directory.",
        )
    return known
