"""What `sublet run` looks up in and prepares for a root file system: tree, layer, users."""

from __future__ import annotations

import os

from sublet.cli.run import needed
from sublet.errors import InputError
from sublet.host import read_facts
from sublet.planners.identity import parse_ids, plan_identity
from sublet.planners.request import Account, RootFs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sublet.cli._options import Given
    from sublet.plan.facts import Facts
    from sublet.planners.request import Ids
    from sublet.state.names import Layer


def find(
    given: Given, ids_texts: Sequence[str], slots: dict[str, int]
) -> tuple[Ids, Facts, RootFs]:
    """Return the IDs, the facts and the root file system that the options ask for.

    A layer is locked, and an archive unpacked where it is not yet; their locks go to *slots*, for
    the supervisor to hold. With --plan nothing is made. InputError, StateError, ArchiveError.
    """
    values = given.values
    path = values.get("rootfs")
    if path is not None:
        path = os.path.realpath(path)
        _check(path, values["rootfs"], given)
    plans = "plan" in given.flags
    layer = None
    if "name" in values:
        layer = _layer(values["name"], path, ",".join(ids_texts) or None, slots, plans=plans)
        path, ids_texts = layer.rootfs, [layer.ids]
        _check(path, path, given)
    if path is None:
        raise InputError("--name and --rootfs are both missing")
    ids = parse_ids(ids_texts or ["keep"])
    facts = read_facts(need=needed(ids))
    tree = path if os.path.isdir(path) else _tree(path, facts, ids, slots, plans=plans)
    if layer is not None:
        if not plans:
            _furnish(layer, tree, facts, ids)
        return ids, facts, RootFs(tree, "kept", layer.upper, layer.work)
    if "writable" in given.flags:
        return ids, facts, RootFs(tree, "stay")
    return ids, facts, RootFs(tree, "refused" if "read-only" in given.flags else "vanish")


def _layer(
    name: str, rootfs: str | None, ids: str | None, slots: dict[str, int], *, plans: bool
) -> Layer:
    from sublet.state import names
    from sublet.state.places import data_directory

    home = read_facts(need=()).home
    # What is wrong with the request is found before anything is made.
    foreseen = names.foresee(data_directory(os.environ, home, make=False), name, rootfs, ids)
    if plans:
        return foreseen
    layer = names.use(data_directory(os.environ, home), name, rootfs, ids)
    if layer.lock is not None:
        slots["layer"] = layer.lock.descriptor
    return layer


def _furnish(layer: Layer, tree: str, facts: Facts, ids: Ids) -> None:
    from sublet.state import names
    from sublet.state.inside import Inside

    names.furnish(layer, tree, Inside(facts, plan_identity(ids, facts).maps))


def _tree(path: str, facts: Facts, ids: Ids, slots: dict[str, int], *, plans: bool) -> str:
    """Return the directory into which the archive was unpacked, now or earlier."""
    from sublet.state.places import cache_directory
    from sublet.state.trees import foresee, open_archive, prepare

    maps = plan_identity(ids, facts).maps
    cache = cache_directory(os.environ, facts.home, make=not plans)
    archive = open_archive(path)
    try:
        if plans:
            return foresee(cache, archive, maps)
        from sublet.state.inside import Inside
        from sublet.state.progress import Progress

        with Progress(f"unpacking {os.path.basename(path)}") as progress:
            tree = prepare(cache, archive, Inside(facts, maps), progress)
    finally:
        os.close(archive.descriptor)
    slots["tree"] = tree.lock.descriptor
    return tree.path


def look_up(text: str, root: RootFs | str) -> Account:
    """Return the account that --user names, by the root's own passwd and group files."""
    from sublet.host.passwd import lookup_user

    paths = ["/"]
    if isinstance(root, RootFs):
        paths = [root.path] if root.upper is None else [root.upper, root.path]
        # What is only planned may not have been made yet: then there are numbers and no names.
        paths = [path for path in paths if os.path.isdir(path)]
    roots: list[int] = []
    try:
        roots += (os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in paths)
        found = lookup_user(roots, text)
    except OSError as error:
        raise InputError(
            f"--user {text}: {error.filename}: {error.strerror}", errno=error.errno
        ) from None
    finally:
        for fd in roots:
            os.close(fd)
    return Account(found.uid, found.gid, found.groups, found.name, found.home)


def whoever(root: RootFs | str, ids: Ids, facts: Facts) -> Account | None:
    """Return who one is without --user, if the root file system's passwd file knows them."""
    identity = plan_identity(ids, facts)
    try:
        account = look_up(f"{identity.uid}:{identity.gid}", root)
    except InputError:
        # A file that cannot be read says nothing of home and name, and keeps nobody from running.
        return None
    return account if account.name is not None else None


def _check(path: str, shown: str, given: Given) -> None:
    if not os.path.exists(path):
        raise InputError(
            f"the root file system {shown} does not exist",
            path=path,
            hint="Give a directory or a tar archive, as debootstrap, mmdebstrap or `docker export`"
            " make one.",
        )
    if "writable" in given.flags and not os.path.isdir(path):
        raise InputError(
            f"--writable: {shown} is an archive, which cannot be written to",
            path=path,
            hint="--name NAME keeps what is written in a layer of that name.",
        )
