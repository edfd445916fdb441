"""Maps spelled out in full, as ``--ids`` takes them: u:INSIDE:OUTSIDE:COUNT, g:..., b:...

``u`` is for users, ``g`` for groups, ``b`` for both. Entries are separated by commas, and the
option may be repeated; the order of the entries is the order of the extents.
"""

from __future__ import annotations

from sublet.errors import MapError, NotationError
from sublet.ids.idmap import IdMap, extent
from sublet.ids.notation.numbers import parse_count, parse_id, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from sublet.ids.idmap import Extent

HINT = "Write u:INSIDE:OUTSIDE:COUNT for users, g:... for groups or b:... for both."


def parse(texts: Iterable[str]) -> tuple[IdMap, IdMap]:
    """Return the user map and the group map that the *texts*, one for each option, spell.

    Either is empty where no entry speaks of it. NotationError names the entry that does not parse;
    MapError the extents that make no map, and whether they are of users or of groups.
    """
    users: list[Extent] = []
    groups: list[Extent] = []
    number = 0
    for text in texts:
        for entry in text.split(","):
            number += 1
            place = f"entry {number}, {shown(entry)}"
            kind, *fields = entry.split(":")
            if kind not in ("u", "g", "b") or len(fields) != 3:
                raise NotationError(f"{place}, is no entry of an ID map", hint=HINT)
            inside = parse_id(fields[0], f"{place}: inside ID")
            outside = parse_id(fields[1], f"{place}: outside ID")
            count = parse_count(fields[2], f"{place}: count")
            try:
                parsed = extent(inside, outside, count)
            except MapError as error:
                raise MapError(f"{place}: {error.what}", hint=error.hint) from None
            if kind != "g":
                users.append(parsed)
            if kind != "u":
                groups.append(parsed)
    return _build("user", users), _build("group", groups)


def render(users: IdMap, groups: IdMap) -> str:
    """Return the one text that spells both maps; "" where both are empty, which parses to none."""
    if users.extents == groups.extents:
        return ",".join(_entry("b", extent) for extent in users.extents)
    return ",".join(
        [_entry("u", extent) for extent in users.extents]
        + [_entry("g", extent) for extent in groups.extents]
    )


def _entry(kind: str, part: Extent) -> str:
    return f"{kind}:{int(part.inside)}:{int(part.outside)}:{part.count}"


def _build(side: str, extents: list[Extent]) -> IdMap:
    try:
        return IdMap(tuple(extents))
    except MapError as error:
        raise MapError(f"the {side} map: {error.what}", hint=error.hint) from None
