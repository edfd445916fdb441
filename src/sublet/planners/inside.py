"""A program of Sublet's own that works on one directory inside a map: unpacking and erasing trees.

It sees the machine's programs and libraries read-only, an empty tmpfs, the one directory, and no
network; whatever an archive makes it do, nothing else is in reach.
"""

from __future__ import annotations

from sublet.mounts.operations import Bind, Operation, Remount, Symlink, Tmpfs
from sublet.plan.facts import CAP_SETFCAP, CAP_SYS_ADMIN
from sublet.plan.model import Credentials, Plan, Process, Supervision, UserNamespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sublet.mounts.operations import Attribute
    from sublet.plan.facts import Facts
    from sublet.plan.model import Maps, Namespace

DIRECTORY = "/tree"
PROGRAMS = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix", "gnu")

# CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, SETFCAP: writing a tree as its archive says
CAPABILITIES = 0b11111 | 1 << CAP_SETFCAP


def plan_inside(
    facts: Facts,
    maps: Maps | None,
    user_namespace: UserNamespace,
    *,
    argv: tuple[str, ...],
    directory: str,
    readable: tuple[str, ...] = (),
) -> Plan:
    """Plan *argv* with *directory* (a path on the machine) as its working directory, writable, at
    /tree.

    ``maps`` None: no user namespace (privileged callers). ``readable``: further paths that the
    program needs, at the same place. The program runs as inside root where the map has one, with
    the capabilities that writing foreign owners takes; otherwise as the one ID there is.
    """
    outside = frozenset({"outside"}) if facts.capable(CAP_SYS_ADMIN) else frozenset()
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
    for path in readable:
        flags = outside | {"recursive", "parents"}
        operations.append(Bind(path, flags, source=path, attributes_set=read_only))
    operations.append(
        Bind(DIRECTORY, outside, source=directory, attributes_set=frozenset({"nosuid", "nodev"}))
    )
    operations.append(Remount("/", attributes_set=frozenset({"read_only"})))
    namespaces: set[Namespace] = {"mount", "pid", "net", "ipc", "uts"}
    if maps is not None:
        namespaces.add("user")
    uid, gid = _identity(facts, maps)
    return Plan(
        process=Process(
            argv, environment=("LANG=C.UTF-8", "PATH=/usr/bin:/bin"), directory=DIRECTORY
        ),
        namespaces=frozenset(namespaces),
        maps=(maps,) if maps is not None else (),
        user_namespace=user_namespace,
        operations=tuple(operations),
        root_propagation="private",
        pivot=True,
        credentials=Credentials(
            uid=uid,
            gid=gid,
            groups=() if user_namespace.setgroups == "allow" else None,
            effective=CAPABILITIES,
            permitted=CAPABILITIES,
            inheritable=CAPABILITIES,
            ambient=CAPABILITIES,
            bounding=CAPABILITIES,
            no_new_privs=True,
        ),
        supervision=Supervision(init=True, die_with_parent=True),
    )


def _identity(facts: Facts, maps: Maps | None) -> tuple[int, int]:
    """Inside root where it is mapped, else the first ID of the map."""
    if maps is None:
        return facts.euid or 0, facts.egid or 0
    lowest = (min(extent.inside for extent in chosen.extents) for chosen in (maps.uid, maps.gid))
    uid, gid = lowest
    return int(uid), int(gid)
