"""The maps that people ask for by name, laid out as the field's tools do.

Each function makes one map, of users or of groups, from the caller's own ID outside and from the
ranges delegated to them, in the order of the file; nothing is read here. A caller's own ID is
always an extent by itself, which is how newuidmap(1) accepts it, and where it also lies in a
delegated range it is cut out of there, so that it is never mapped twice.
"""

from __future__ import annotations

from itertools import pairwise

from sublet._value import Value
from sublet.errors import MapError, NotDelegatedError
from sublet.ids.idmap import Extent, IdMap, extent, zip_sets
from sublet.ids.idset import IdSet, split_ranges
from sublet.ids.types import InsideId, OutsideId, Range

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SUGGESTED = Range.outside(100000, 65536)
"""What useradd(8) gives to a first user; named in a remedy where the caller knows none better."""


class Delegation(Value):
    """The IDs that a caller may borrow, and where that is written.

    ``caller``: the caller's own ID, outside. ``ranges``: what is delegated, in the order of the
    file. ``owner``: the name (or number) to write in the ``file`` (/etc/subuid or /etc/subgid).
    ``suggested``: a range that is free, for the line that a remedy names.
    """

    caller: OutsideId
    ranges: tuple[Range[OutsideId], ...]
    owner: str
    file: str
    suggested: Range[OutsideId] = SUGGESTED


def keep(caller: OutsideId, inside: InsideId | None = None) -> IdMap:
    """Map only the *caller*, to the same ID inside, or to *inside* where it is given."""
    return IdMap((extent(caller if inside is None else inside, caller, 1),))


def root(caller: OutsideId) -> IdMap:
    """Map only the *caller*, to 0: ``0 CALLER 1``."""
    return keep(caller, InsideId(0))


def full(delegation: Delegation) -> IdMap:
    """Map the caller to 0, and 1 and up to the delegated ranges, one after the other.

    As rootless Podman and Docker do. NotDelegatedError where nothing is delegated; MapError where
    ranges overlap.
    """
    ranges = _usable(delegation)
    return IdMap((*root(delegation.caller).extents, *_lay_out(1, ranges)))


def keep_id(delegation: Delegation, inside: InsideId | None = None) -> IdMap:
    """Map the caller to *inside* (default: their own ID), and the ranges to the IDs around it.

    Inside IDs 0 to N-1 come from the ranges, N is the caller, N+1 and up are what is left of the
    ranges: podman-run(1), ``--userns=keep-id:uid=N``. Where the ranges hold fewer than N IDs, the
    inside IDs between their end and N have no mapping, as with Podman. Errors as for :func:`full`.
    """
    at = int(delegation.caller if inside is None else inside)
    below, above = split_ranges(_usable(delegation), at)
    own = extent(at, delegation.caller, 1)
    return IdMap((*_lay_out(0, below), own, *_lay_out(at + 1, above)))


def nomap(delegation: Delegation) -> IdMap:
    """Map 0 and up to the delegated ranges, one after the other, and the caller not at all.

    podman-run(1), ``--userns=nomap``. Errors as for :func:`full`.
    """
    return IdMap(_lay_out(0, _usable(delegation)))


def _lay_out(first: int, ranges: Sequence[Range[OutsideId]]) -> tuple[Extent, ...]:
    total = sum(span.count for span in ranges)
    return zip_sets([Range.inside(first, total)], ranges).extents if total else ()


def _usable(delegation: Delegation) -> tuple[Range[OutsideId], ...]:
    """Return the delegated ranges, in order, without the caller's own ID."""
    ranges = delegation.ranges
    for one, two in pairwise(sorted(ranges, key=lambda span: span.start)):
        if one.overlaps(two):
            raise MapError(
                f"the ranges {one} and {two} of {delegation.owner} overlap",
                path=delegation.file,
                hint=f"Remove or shorten one of the two lines in {delegation.file}.",
            )
    own = IdSet((Range(delegation.caller, delegation.caller + 1),))
    usable = tuple(part for span in ranges for part in IdSet((span,)).difference(own))
    if not usable:
        raise NotDelegatedError(
            f"no subordinate IDs are delegated to {delegation.owner} in {delegation.file}",
            path=delegation.file,
            hint=f'As root, add the line "{delegation.owner}:{delegation.suggested}" to'
            f" {delegation.file}.",
        )
    return usable
