"""Who is who: the maps of the new user namespace, who writes them, and as whom the command runs."""

from __future__ import annotations

from sublet._value import Value, replace
from sublet.errors import HostError, InputError, NotDelegatedError
from sublet.ids import IdMap, IdSet, InsideId, OutsideId, Range
from sublet.ids.layouts import SUGGESTED, Delegation, full, keep, keep_id, nomap
from sublet.ids.layouts import root as root_only
from sublet.plan import capabilities
from sublet.plan.facts import CAP_SYS_ADMIN
from sublet.plan.model import Credentials, Maps, UserNamespace
from sublet.plan.writers import choose_writer
from sublet.planners.request import Ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sublet.plan.facts import Facts, Subordinate
    from sublet.planners.request import Account, Layout

LAYOUTS: dict[str, Layout] = {
    "keep": "keep",
    "root": "root",
    "full": "full",
    "nomap": "nomap",
    "host": "host",
}


class Identity(Value):
    """The maps (None: no user namespace), how they are set up, and the default IDs inside."""

    maps: Maps | None
    user_namespace: UserNamespace
    uid: int
    gid: int

    @property
    def single(self) -> bool:
        """Whether there is one user only inside, so that a setuid bit has nobody to lead to."""
        return self.maps is not None and _count(self.maps.uid) == 1


def parse_ids(texts: Sequence[str]) -> Ids:
    """Return what one or several values of ``--ids`` ask for. InputError for anything else."""
    if len(texts) == 1:
        if texts[0] in LAYOUTS:
            return Ids(LAYOUTS[texts[0]])
        word, _, rest = texts[0].partition(":")
        if word == "keep":
            from sublet.ids.notation.numbers import parse_id

            uid, colon, gid = rest.partition(":")
            inside = parse_id(uid, "the user of --ids keep:UID")
            return Ids("keep_id", inside, parse_id(gid, "the group") if colon else None)
    from sublet.ids.notation import explicit

    for text in texts:
        if text[:2] not in {"u:", "g:", "b:"}:
            several = len(texts) > 1
            raise InputError(
                f"--ids {text} {'cannot be combined with another' if several else 'is unknown'}",
                hint="There are keep, root, full, keep:UID[:GID], nomap and host; or spell a map"
                " out: --ids u:INSIDE:OUTSIDE:COUNT,g:... (b: for both).",
            )
    users, groups = explicit.parse(texts)
    return Ids("explicit", users=users, groups=groups)


def plan_identity(ids: Ids, facts: Facts) -> Identity:
    """Return the identity that *ids* asks for, as this caller can have it.

    NotDelegatedError and HostError name what is missing, and the remedy.
    """
    uid, gid = facts.euid or 0, facts.egid or 0
    if ids.layout == "host":
        if not facts.capable(CAP_SYS_ADMIN):
            raise HostError(
                f"--ids host makes no user namespace, which UID {uid} may not do",
                hint="Run as root, or leave --ids host out.",
            )
        return Identity(None, UserNamespace(), uid, gid)
    _check_possible(facts)
    maps = _maps(ids, facts, OutsideId(uid), OutsideId(gid))
    own = maps.uid.to_inside(OutsideId(uid)), maps.gid.to_inside(OutsideId(gid))
    default_uid = _default(maps.uid, own[0], prefer_own=ids.layout == "keep_id")
    default_gid = _default(maps.gid, own[1], prefer_own=ids.layout == "keep_id")
    namespace = replace(
        choose_writer(facts, maps),
        setup_uid=_setup(maps.uid, own[0], default_uid),
        setup_gid=_setup(maps.gid, own[1], default_gid),
    )
    if facts.setgroups_denied:  # and for good: it is inherited (user_namespaces(7))
        namespace = replace(namespace, setgroups="deny")
    return Identity(_nested(maps, facts), namespace, default_uid, default_gid)


def plan_credentials(
    identity: Identity,
    account: Account | None,
    facts: Facts,
    *,
    keeps: bool,
    cap_add: tuple[str, ...] = (),
    cap_drop: tuple[str, ...] = (),
    new_privs: bool | None = None,
) -> Credentials:
    """Return as whom the command runs, and with which privileges.

    *keeps*: the command is the caller as before, with no capability and no way to gain any;
    otherwise root inside has what containers usually have, and another user could gain it. A user
    other than root holds the capabilities that are added by name, and no other.
    InputError for an ID without a mapping and for a capability that cannot be given.
    """
    uid = identity.uid if account is None else account.uid
    gid = identity.gid if account is None else account.gid
    groups: tuple[int, ...] | None = () if account is None else account.groups
    maps = identity.maps
    if maps is not None:
        _check_mapped("UID", uid, maps.uid)
        _check_mapped("GID", gid, maps.gid)
        if identity.user_namespace.setgroups == "deny" or (keeps and account is None):
            groups = None
        for group in groups or ():
            _check_mapped("the supplementary GID", group, maps.gid)
    elif keeps:
        groups = None
    bounding, added = _capabilities(facts, cap_add, cap_drop, keeps=keeps, own=maps is None)
    held = bounding if uid == 0 else added
    handed_on = 0 if uid == 0 else added
    return Credentials(
        uid=uid,
        gid=gid,
        groups=groups,
        effective=held,
        permitted=held,
        inheritable=handed_on,
        ambient=handed_on,
        bounding=bounding,
        no_new_privs=keeps if new_privs is None else not new_privs,
    )


# ---------------------------------------------------------------- maps


def _maps(ids: Ids, facts: Facts, uid: OutsideId, gid: OutsideId) -> Maps:
    layout = ids.layout
    if layout == "keep":
        return Maps(keep(uid), keep(gid))
    if layout == "root":
        return Maps(root_only(uid), root_only(gid))
    if layout == "explicit":
        users_map = ids.users if ids.users.extents else keep(uid)
        groups_map = ids.groups if ids.groups.extents else keep(gid)
        return Maps(_apart(users_map, uid), _apart(groups_map, gid))
    users, groups = _delegation(uid, facts.subuids, facts), _delegation(gid, facts.subgids, facts)
    if layout in {"full", "nomap"}:
        if not users.ranges and not groups.ranges:
            raise _nothing_delegated(users, groups)
        lay_out = full if layout == "full" else nomap
        return Maps(lay_out(users), lay_out(groups))
    inside = None if ids.uid is None else InsideId(ids.uid)
    group = None if ids.gid is None else InsideId(ids.gid)
    if not users.ranges or not groups.ranges:
        # Nothing to fill the rest with; the caller as that one user works all the same.
        return Maps(keep(uid, inside), keep(gid, group))
    return Maps(keep_id(users, inside), keep_id(groups, group))


def _delegation(caller: OutsideId, subordinate: Subordinate, facts: Facts) -> Delegation:
    return Delegation(
        caller,
        subordinate.ranges,
        facts.owner,
        subordinate.file,
        subordinate.suggested or SUGGESTED,
    )


def _nothing_delegated(users: Delegation, groups: Delegation) -> NotDelegatedError:
    """Name both lines at once: mending one file would only lead to the next refusal."""
    lines = [f'"{one.owner}:{one.suggested}" to {one.file}' for one in (users, groups)]
    if users.suggested == groups.suggested:
        lines = [f'"{users.owner}:{users.suggested}" to {users.file} and {groups.file}']
    return NotDelegatedError(
        f"no subordinate IDs are delegated to {users.owner} in {users.file} and {groups.file}",
        path=users.file,
        hint=f"As root, add the line {', and the line '.join(lines)}.",
    )


def _apart(id_map: IdMap, own: OutsideId) -> IdMap:
    """Return the map with the caller's *own* ID as an extent by itself, as newuidmap wants it."""
    only = IdSet((Range(own, own + 1),))
    alone = id_map.restrict_outside(only)
    if not alone.extents:
        return id_map
    rest = id_map.restrict_outside(id_map.outside_set().difference(only))
    return IdMap((*alone.extents, *rest.extents))


def _nested(maps: Maps, facts: Facts) -> Maps:
    if facts.initial_user_namespace:
        return maps
    return Maps(maps.uid.fit_into(facts.uid_map), maps.gid.fit_into(facts.gid_map))


def _default(id_map: IdMap, own: InsideId | None, *, prefer_own: bool) -> int:
    """Who one is without --user: root where the map has it, the caller, or the lowest ID."""
    if not prefer_own and id_map.to_outside(InsideId(0)) is not None:
        return 0
    return int(own if own is not None else min(extent.inside for extent in id_map.extents))


def _setup(id_map: IdMap, own: InsideId | None, payload: int) -> int | None:
    """Return the ID to set up as: mount points and tmpfs shall be root's, where there is one."""
    if own == 0:
        return None
    if id_map.to_outside(InsideId(0)) is not None:
        return 0
    return payload if own is None else None


def _count(id_map: IdMap) -> int:
    return sum(extent.count for extent in id_map.extents)


# ---------------------------------------------------------------- what the machine allows


def _check_possible(facts: Facts) -> None:
    sysctls = facts.sysctls
    if sysctls.max_user_namespaces == 0:
        raise HostError(
            "user namespaces are disabled: user.max_user_namespaces is 0",
            hint="As root: sysctl user.max_user_namespaces=15000, and a line for it in"
            " /etc/sysctl.d/ to make it last.",
        )
    if sysctls.unprivileged_userns_clone == 0 and not facts.capable(CAP_SYS_ADMIN):
        raise HostError(
            "user namespaces are for root only: kernel.unprivileged_userns_clone is 0",
            hint="As root: sysctl kernel.unprivileged_userns_clone=1, and a line for it in"
            " /etc/sysctl.d/ to make it last.",
        )


# ---------------------------------------------------------------- privileges


def _check_mapped(what: str, number: int, id_map: IdMap) -> None:
    if id_map.to_outside(InsideId(number)) is None:
        raise InputError(
            f"{what} {number} has no mapping inside; the map is {id_map}",
            hint="Lines read INSIDE OUTSIDE COUNT. --ids full maps 0 to 65535 where 65536 IDs are"
            " delegated, and --ids keep:UID:GID makes the caller any one user.",
        )


def _capabilities(
    facts: Facts, add: tuple[str, ...], drop: tuple[str, ...], *, keeps: bool, own: bool
) -> tuple[int, int]:
    """Return the bounding set, and what of it was added by name or as "all".

    *own*: without a user namespace of its own, the command can have what the caller has.
    """
    most = (1 << facts.sysctls.cap_last_cap + 1) - 1
    if own:
        most &= facts.permitted & facts.bounding
    every = capabilities.ALL
    added, dropped = capabilities.mask(add), capabilities.mask(drop)
    lacking = 0 if added == every else added & ~most
    if lacking:
        names = ", ".join(capabilities.names(lacking))
        raise InputError(f"--cap-add: {names} is not to be had here")
    start = 0 if keeps else capabilities.CONTAINER
    if dropped == every:
        return added & most, added & most
    return (start | added) & ~dropped & most, added & ~dropped & most
