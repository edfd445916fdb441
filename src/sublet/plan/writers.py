"""Who writes uid_map and gid_map: the new process itself, the executor from outside, or helpers.

docs/adr/0004-map-writer-order.md says why in this order. The rules are the kernel's
(user_namespaces(7), "Defining user and group ID mappings"; new_idmap_permitted() and
verify_root_map() in kernel/user_namespace.c) and those of newuidmap(1) and newgidmap(1).
"""

from __future__ import annotations

from sublet.errors import HostError, NotDelegatedError
from sublet.ids import IdMap, IdSet, OutsideId, Range
from sublet.plan.facts import CAP_SETFCAP, CAP_SETGID, CAP_SETUID
from sublet.plan.model import UserNamespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sublet.plan.facts import Facts, Helper, Subordinate
    from sublet.plan.model import Maps


def choose_writer(facts: Facts, maps: Maps) -> UserNamespace:
    """Return who can write these *maps*, as the plan says it: writer, setgroups, helpers.

    MapError where the kernel takes no such map from anyone. NotDelegatedError where it reaches
    beyond what the caller may use, naming inside and outside IDs, and the line to add. HostError
    where the helpers are needed and cannot work.
    """
    maps.uid.check_kernel()
    maps.gid.check_kernel()
    _in_own_namespace(maps.uid, facts.uid_map, "user")
    _in_own_namespace(maps.gid, facts.gid_map, "group")
    if _may_write(facts, maps):
        return UserNamespace(writer="direct")
    if _only(maps.uid, facts.uid) and _only(maps.gid, facts.gid):
        # The kernel wants setgroups given up here: else a caller could shed a group that a file
        # denies something to.
        return UserNamespace(writer="self", setgroups="deny")
    _delegated(maps.uid, facts.uid, facts.subuids, facts.owner, "user")
    _delegated(maps.gid, facts.gid, facts.subgids, facts.owner, "group")
    # newgidmap itself gives setgroups up where nothing but the caller's own group is mapped.
    borrowed = not _only(maps.gid, facts.gid)
    return UserNamespace(
        writer="helpers",
        setgroups="allow" if borrowed else "deny",
        newuidmap=_usable(facts.newuidmap, "newuidmap", facts.subuids),
        newgidmap=_usable(facts.newgidmap, "newgidmap", facts.subgids),
    )


def _may_write(facts: Facts, maps: Maps) -> bool:
    """Tell whether the executor may write any map from outside, in the parent namespace.

    Since Linux 5.12 mapping the parent's user 0 takes CAP_SETFCAP too.
    """
    if not facts.capable(CAP_SETUID, CAP_SETGID):
        return False
    return facts.capable(CAP_SETFCAP) or maps.uid.to_inside(OutsideId(0)) is None


def _only(id_map: IdMap, own: int) -> bool:
    """Tell whether the map is what anyone may write: one extent, of one's own ID."""
    extents = id_map.extents
    return len(extents) == 1 and extents[0].count == 1 and extents[0].outside == own


def _in_own_namespace(id_map: IdMap, own: IdMap, what: str) -> None:
    """Refuse outside IDs that the caller's own user namespace does not have."""
    if not own.extents:
        return
    present = IdSet(tuple(Range(OutsideId(e.inside), e.inside_end) for e in own.extents))
    absent = id_map.outside_set().difference(present)
    if absent.ranges:
        raise NotDelegatedError(
            f"{_named(id_map.restrict_outside(absent), what)}: the user namespace that this runs"
            f" in has no such {what} IDs",
            hint=f"It has {present} (/proc/self/{what[0]}id_map). Ask for these, or run it outside"
            " of the container.",
        )


def _delegated(id_map: IdMap, own: int, subordinate: Subordinate, owner: str, what: str) -> None:
    """Refuse what newuidmap or newgidmap would refuse."""
    delegated = IdSet(subordinate.ranges)
    missing: IdSet[OutsideId] = IdSet()
    for extent in id_map.extents:
        if extent.count == 1 and extent.outside == own:
            continue
        missing = missing.union(IdSet((extent.outside_range,)).difference(delegated))
    if not missing.ranges:
        return
    raise NotDelegatedError(
        f"{_named(id_map.restrict_outside(missing), what)}, which {_is_not(subordinate, owner)}",
        path=subordinate.file,
        hint=_remedy(missing, own, subordinate, owner),
    )


def _is_not(subordinate: Subordinate, owner: str) -> str:
    place = "by getsubids" if subordinate.source == "getsubids" else f"in {subordinate.file}"
    if subordinate.ranges:
        ranges = ", ".join(str(span) for span in subordinate.ranges)
        return f"are not delegated to {owner} {place} (START:COUNT {ranges} are)"
    return f"are not delegated to {owner} {place} (nothing is)"


def _remedy(missing: IdSet[OutsideId], own: int, subordinate: Subordinate, owner: str) -> str:
    if missing.ranges == (Range.outside(own, 1),):
        return f"Write the caller's own ID as an extent of its own, with count 1: INSIDE {own} 1."
    if subordinate.source == "getsubids":
        return f"Ask whoever runs the directory service to delegate {missing} to {owner}."
    lines = ", ".join(f'"{owner}:{span}"' for span in missing.ranges[:4])
    line = "the line" if len(missing.ranges) == 1 else "the lines"
    return f"As root, add {line} {lines} to {subordinate.file}, or map fewer IDs."


def _named(id_map: IdMap, what: str) -> str:
    """Say of which IDs a sentence speaks: inside and outside, the first few extents."""
    extents = id_map.canonical().extents
    shown = [
        f"{_span(extent.inside, extent.count)} inside to {_span(extent.outside, extent.count)}"
        " outside"
        for extent in extents[:3]
    ]
    if len(extents) > 3:
        shown.append(f"{len(extents) - 3} more")
    return f"the map takes {what} IDs {', '.join(shown)}"


def _span(start: int, count: int) -> str:
    return str(int(start)) if count == 1 else f"{int(start)}-{int(start) + count - 1}"


def _usable(helper: Helper, name: str, subordinate: Subordinate) -> str:
    if helper.path is not None and helper.problem is None:
        return helper.path
    other = "Or run with --ids keep or --ids root, which need no helper."
    if helper.path is None:
        raise HostError(
            f"{name} is needed to map the IDs that {subordinate.file} delegates, and it was not"
            " found in PATH",
            hint="Install it: the package is uidmap (Debian, Ubuntu), shadow-utils (Fedora, RHEL),"
            f" shadow (Arch, openSUSE) or shadow-uidmap (Alpine). {other}",
        )
    reason, remedy = {
        "unprivileged": (
            "has neither a setuid bit nor a file capability",
            f"As root: chmod u+s {helper.path}.",
        ),
        "nosuid": (
            "is on a mount with nosuid, where its setuid bit has no effect",
            "Put it on a mount without nosuid.",
        ),
        "no_new_privs": (
            "cannot gain its privilege here: this process runs with no_new_privs",
            "Start it from a session without no_new_privs (not from inside another sandbox).",
        ),
    }[helper.problem or "unprivileged"]
    raise HostError(f"{helper.path} {reason}", path=helper.path, hint=f"{remedy} {other}")
