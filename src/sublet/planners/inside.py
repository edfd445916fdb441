"""A program of Sublet's own that works on one directory in a user namespace.

It sees the machine's programs and libraries read-only, an empty tmpfs, the one directory, and no
network; whatever an archive makes it do, nothing else is in reach.
"""

from __future__ import annotations

from sublet._value import replace
from sublet.ids import Extent, IdMap, InsideId, OutsideId
from sublet.ids.layouts import Delegation, full, root
from sublet.mounts.operations import Bind, Operation, Remount, Symlink, Tmpfs
from sublet.plan.facts import CAP_SETFCAP
from sublet.plan.model import (
    Credentials,
    Descriptor,
    Maps,
    Plan,
    Process,
    Supervision,
    UserNamespace,
)
from sublet.plan.writers import choose_writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sublet.mounts.operations import Attribute
    from sublet.plan.facts import Facts, Subordinate
    from sublet.plan.model import Namespace

DIRECTORY = "/tree"
PROGRAMS = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix", "gnu")
# where the dynamic loaders (glibc's, and musl's of either machine) look up further directories
LOADER = ("/etc/ld.so.cache", "/etc/ld-musl-x86_64.path", "/etc/ld-musl-aarch64.path")

CAP_CHOWN = 0
CAP_DAC_OVERRIDE = 1
CAP_FOWNER = 3
# and DAC_READ_SEARCH, FSETID: writing and removing a tree with the owners that an archive names
OWNING = 0b11111 | 1 << CAP_SETFCAP


def owns_everything(facts: Facts) -> bool:
    """Tell whether the caller can give away and remove the files of all IDs without a namespace."""
    return facts.capable(CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER)


def whole_maps(facts: Facts) -> Maps:
    """Return the map of all IDs that the caller may have, the caller's own as root.

    Whatever map a file was written with before, its owner is in this one (as long as nobody has
    taken sub-IDs from the caller since).
    """
    return Maps(
        _whole(OutsideId(facts.euid or 0), facts.subuids, facts),
        _whole(OutsideId(facts.egid or 0), facts.subgids, facts),
    )


def plan_inside(
    facts: Facts,
    maps: Maps | None,
    *,
    argv: tuple[str, ...],
    directory: str,
    readable: tuple[str, ...] = (),
    held: str | None = None,
) -> Plan:
    """Plan *argv* with *directory* (a path on the machine) as its working directory, writable.

    ``maps`` None: no user namespace (privileged callers). An ordinary caller who is not in the map
    is added to it, at an inside ID that it leaves free: the directory is theirs. ``readable``:
    further paths that the program needs, at the same place. ``held``: a slot whose descriptor the
    program keeps open as long as it lives. It runs as inside root where the map has one, otherwise
    as the lowest ID, with the capabilities that writing foreign owners takes.

    Raises what choose_writer() raises.
    """
    outside = frozenset({"outside"}) if facts.can_mount else frozenset()
    namespaces: set[Namespace] = {"mount", "pid", "net", "ipc", "uts"}
    uid, gid = facts.euid or 0, facts.egid or 0
    user_namespace = UserNamespace()
    if maps is not None:
        namespaces.add("user")
        uid, gid = lowest(maps.uid), lowest(maps.gid)
        if not owns_everything(facts):
            maps = Maps(
                _with(maps.uid, OutsideId(facts.euid or 0)),
                _with(maps.gid, OutsideId(facts.egid or 0)),
            )
        user_namespace = replace(choose_writer(facts, maps), setup_uid=uid, setup_gid=gid)
        if not facts.initial_user_namespace:
            maps = Maps(maps.uid.fit_into(facts.uid_map), maps.gid.fit_into(facts.gid_map))
    return Plan(
        process=Process(
            argv,
            environment=("LANG=C.UTF-8", "PATH=/usr/bin:/bin"),
            directory=DIRECTORY,
            descriptors=(Descriptor(held, 3),) if held else (),
        ),
        namespaces=frozenset(namespaces),
        maps=(maps,) if maps is not None else (),
        user_namespace=user_namespace,
        operations=_operations(facts, outside, directory, readable),
        root_propagation="private",
        pivot=True,
        credentials=Credentials(
            uid=uid,
            gid=gid,
            groups=() if user_namespace.setgroups == "allow" else None,
            effective=OWNING,
            permitted=OWNING,
            inheritable=OWNING,
            ambient=OWNING,
            bounding=OWNING,
            no_new_privs=True,
        ),
        supervision=Supervision(init=True, die_with_parent=True),
        slots=(held,) if held else (),
    )


def lowest(id_map: IdMap) -> int:
    """Return the lowest inside ID of a map: root, where it has one."""
    return int(min(extent.inside for extent in id_map.extents))


def _operations(
    facts: Facts, outside: frozenset[str], directory: str, readable: tuple[str, ...]
) -> tuple[Operation, ...]:
    read_only: frozenset[Attribute] = frozenset({"read_only", "nosuid", "nodev"})
    operations: list[Operation] = [
        Tmpfs("/", mode=0o755, attributes_set=frozenset({"nosuid", "nodev"}))
    ]
    for entry in facts.root_entries:
        path = f"/{entry.name}"
        if entry.name not in PROGRAMS:
            continue
        if entry.kind == "symlink":
            operations.append(Symlink(path, text=entry.link or ""))
        elif entry.kind == "directory":
            operations.append(
                Bind(path, outside | {"recursive"}, source=path, attributes_set=read_only)
            )
    operations.extend(
        Bind(path, outside | {"parents", "optional"}, source=path, attributes_set=read_only)
        for path in LOADER
    )
    operations.extend(
        Bind(path, outside | {"recursive", "parents"}, source=path, attributes_set=read_only)
        for path in readable
    )
    operations.append(
        Bind(DIRECTORY, outside, source=directory, attributes_set=frozenset({"nosuid", "nodev"}))
    )
    operations.append(Remount("/", attributes_set=frozenset({"read_only"})))
    return tuple(operations)


def _with(id_map: IdMap, own: OutsideId) -> IdMap:
    """Return the map with the caller's *own* ID, at the first inside ID that is free for it."""
    if id_map.to_inside(own) is not None:
        return id_map
    free = InsideId(0)
    for span in id_map.inside_set():
        if free < span.start:
            break
        free = InsideId(span.end)
    return IdMap((*id_map.extents, Extent(free, own, 1)))


def _whole(own: OutsideId, subordinate: Subordinate, facts: Facts) -> IdMap:
    """Return the caller's *own* ID as 0, and all that is delegated after it."""
    if not any(span.count for span in subordinate.ranges):
        return root(own)
    return full(Delegation(own, subordinate.ranges, facts.owner, subordinate.file))
