"""Named writable layers: what runs with ``--name NAME`` wrote, kept for later runs.

<data>/names/<name>/upper, work   the overlay's layer and its work directory
<data>/names/<name>/settings      one line each: rootfs, ids (what the first run was given)
<data>/names/<name>.lock          held while a run uses the layer: an upper directory serves one
overlay at a time
"""

from __future__ import annotations

import os

from sublet._value import Value
from sublet.errors import InputError, StateError
from sublet.state.locks import Lock
from sublet.state.places import subdirectory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sublet.state.inside import Inside

LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
IN_USE = "Wait until that run has ended, or choose another name with --name."


class Layer(Value):
    """A named layer, locked. ``rootfs`` and ``ids`` as the first run gave them."""

    name: str
    rootfs: str
    ids: str
    upper: str
    work: str
    lock: Lock


def check(name: str) -> None:
    """Raise InputError unless *name* can be a file's name and an argument: letters, digits, ``_``,
    ``.``, ``-``.
    """
    if (
        not 0 < len(name) <= 64
        or not LETTERS.issuperset(name)
        or name[0] in ".-"
        or name.endswith(".lock")
    ):
        raise InputError(
            f"{name!r} is not a usable name",
            hint="A name has 1 to 64 letters, digits, '_', '.' or '-', and begins with none of '.' and '-'.",
        )


def use(data: str, name: str, rootfs: str | None, ids: str | None) -> Layer:
    """Return the layer *name*, locked for this run; made where it is new, which takes a *rootfs*.

    ``rootfs`` (an absolute path) and ``ids`` must agree with those of the first run where they are
    given: the layer's files fit no other. Raises InputError, and StateError where another run uses
    it.
    """
    check(name)
    names = subdirectory(data, "names")
    lock = Lock(f"{names}/{name}.lock")
    try:
        lock.take_or_refuse(f"the name {name}", IN_USE)
        known = _settings(f"{names}/{name}")
        if known is None:
            known = _first(name, rootfs, ids)
            _make(f"{names}/{name}", known)
        _agree(name, known, rootfs, ids)
        directory = f"{names}/{name}"
        return Layer(
            name, known["rootfs"], known["ids"], f"{directory}/upper", f"{directory}/work", lock
        )
    except BaseException:
        lock.close()
        raise


def foresee(data: str, name: str, rootfs: str | None, ids: str | None) -> tuple[str, ...]:
    """Return what use() would: rootfs, ids, upper and work; nothing is made or locked.

    Raises InputError as use() does.
    """
    check(name)
    directory = f"{data}/names/{name}"
    known = _settings(directory) or _first(name, rootfs, ids)
    _agree(name, known, rootfs, ids)
    return known["rootfs"], known["ids"], f"{directory}/upper", f"{directory}/work"


def listing(data: str) -> list[tuple[str, dict[str, str]]]:
    """Return all names with their settings, sorted."""
    names = subdirectory(data, "names")
    found = ((entry, _settings(f"{names}/{entry}")) for entry in sorted(os.listdir(names)))
    return [(name, settings) for name, settings in found if settings is not None]


def settings(data: str, name: str) -> dict[str, str]:
    """Return what the layer *name* was made with. Raises InputError where there is none."""
    check(name)
    known = _settings(f"{subdirectory(data, 'names')}/{name}")
    if known is None:
        raise InputError(
            f"there is no layer named {name}", hint="`sublet list` shows what there is."
        )
    return known


def drop(data: str, name: str, inside: Inside) -> None:
    """Remove the layer *name*, inside the map that it was made with. Raises InputError, StateError."""
    settings(data, name)
    names = subdirectory(data, "names")
    with Lock(f"{names}/{name}.lock") as lock:
        lock.take_or_refuse(f"the name {name}", IN_USE)
        directory = f"{names}/{name}"
        # first under a name that nobody uses: a removal that is interrupted leaves no half of a
        # layer
        doomed = f"{names}/.{name}.removed"
        if os.path.isdir(doomed):
            inside.remove(doomed)
        os.rename(directory, doomed)
        inside.remove(doomed)
        os.unlink(lock.path)


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


def _make(directory: str, known: dict[str, str]) -> None:
    """Make a new layer, complete under its name at once."""
    fresh = f"{os.path.dirname(directory)}/.{os.path.basename(directory)}.new"
    for path in (f"{fresh}/upper", f"{fresh}/work"):
        os.makedirs(path, 0o700, exist_ok=True)
    os.chmod(f"{fresh}/upper", 0o755)  # noqa: S103  (it is the "/" of what runs)
    for key, value in known.items():
        if "\n" in value:
            raise InputError(f"--{key} {value!r} contains a line break")
    with open(f"{fresh}/settings", "w", encoding="utf-8", errors="surrogateescape") as file:
        file.writelines(f"{key}={value}\n" for key, value in known.items())
    os.rename(fresh, directory)


def _settings(directory: str) -> dict[str, str] | None:
    try:
        with open(f"{directory}/settings", encoding="utf-8", errors="surrogateescape") as file:
            text = file.read(1 << 16)
    except (FileNotFoundError, NotADirectoryError):
        return None
    known = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if known.keys() != {"rootfs", "ids"}:
        raise StateError(
            f"the settings of the layer in {directory} are damaged",
            path=f"{directory}/settings",
            hint="It has two lines, rootfs=PATH and ids=IDS; mend it, or remove the directory.",
        )
    return known
