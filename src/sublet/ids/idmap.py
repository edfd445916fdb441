"""ID maps as first-class values: look up, invert, compose, restrict, compare, check.

A map is a list of extents; an extent is one line of /proc/PID/uid_map: inside, outside, count
(user_namespaces(7)). The work is always in proportion to the number of extents, never of IDs.

Extents are kept as they were given. Joining two that touch changes nothing of what the map means,
but it matters to who may write it: newuidmap lets a caller map their own ID as a line of its own
with count 1, and not as a part of a longer one.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise

from sublet._value import Value
from sublet.errors import MapError
from sublet.ids.idset import IdSet, everything
from sublet.ids.types import (
    MAX_EXTENTS,
    PAGE_BYTES,
    InsideId,
    OutsideId,
    Range,
    check_span,
    number_text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Extent(Value):
    """One line of a map: *count* consecutive IDs from *inside* are those from *outside*.

    MapError where the count is 0 or an ID would pass MAX_ID; TypeError where sides are mixed up.
    """

    inside: InsideId
    outside: OutsideId
    count: int

    def __post_init__(self) -> None:
        """Check the sides and the bounds."""
        if type(self.inside) is not InsideId or type(self.outside) is not OutsideId:
            raise TypeError(
                f"an extent has an InsideId and an OutsideId,"
                f" not {type(self.inside).__name__} and {type(self.outside).__name__}"
            )
        check_span(self.inside, self.count, "inside of extent ", self)
        check_span(self.outside, self.count, "outside of extent ", self)

    @property
    def inside_end(self) -> int:
        """One more than the last inside ID."""
        return self.inside + self.count

    @property
    def outside_end(self) -> int:
        """One more than the last outside ID."""
        return self.outside + self.count

    @property
    def inside_range(self) -> Range[InsideId]:
        """The inside IDs."""
        return Range(self.inside, self.inside_end)

    @property
    def outside_range(self) -> Range[OutsideId]:
        """The outside IDs."""
        return Range(self.outside, self.outside_end)

    def __str__(self) -> str:
        """Return the line as the kernel takes it, without the newline."""
        return f"{int(self.inside)} {int(self.outside)} {self.count}"


class IdMap(Value):
    """A one-to-one map between IDs inside of a namespace and IDs outside of it.

    ``extents``: kept in the order and the pieces given (see the module's docstring). They may
    touch, never overlap, on either side: MapError names the two that do. Two maps are equal when
    they map the same IDs alike, however they are cut into extents. The kernel's limits on number
    and text are left to :meth:`check_kernel`, since a map that is only looked at needs none.
    """

    extents: tuple[Extent, ...] = ()

    def __post_init__(self) -> None:
        """Refuse overlaps, and keep the two orders that lookups need."""
        by_inside = tuple(sorted(self.extents, key=lambda extent: extent.inside))
        by_outside = tuple(sorted(self.extents, key=lambda extent: extent.outside))
        for one, two in pairwise(by_inside):
            if two.inside < one.inside_end:
                raise _overlap("inside", one, two, two.inside, min(one.inside_end, two.inside_end))
        for one, two in pairwise(by_outside):
            if two.outside < one.outside_end:
                end = min(one.outside_end, two.outside_end)
                raise _overlap("outside", one, two, two.outside, end)
        object.__setattr__(self, "_sorted", (by_inside, by_outside))

    @property
    def _by_inside(self) -> tuple[Extent, ...]:
        order: tuple[Extent, ...] = self.__dict__["_sorted"][0]
        return order

    @property
    def _by_outside(self) -> tuple[Extent, ...]:
        order: tuple[Extent, ...] = self.__dict__["_sorted"][1]
        return order

    @staticmethod
    def of(*triples: tuple[int, int, int]) -> IdMap:
        """Return the map of (inside, outside, count) *triples*; MapError as for Extent, IdMap."""
        return IdMap(tuple(extent(*triple) for triple in triples))

    @staticmethod
    def identity(ids: IdSet[OutsideId] | None = None) -> IdMap:
        """Return the map of every ID of *ids* to itself; of all usable IDs where none are given.

        The latter, ``0 0 4294967295``, is the map of the initial user namespace.
        """
        return IdMap(
            tuple(
                Extent(InsideId(span.start), span.start, span.count)
                for span in (everything(OutsideId) if ids is None else ids)
            )
        )

    def to_outside(self, number: InsideId) -> OutsideId | None:
        """Return the outside ID of an inside ID, or None where it has no mapping."""
        if isinstance(number, OutsideId):
            raise TypeError(f"outside ID {int(number)} is looked up as an inside ID")
        index = bisect_right(self._by_inside, number, key=lambda extent: extent.inside)
        if not index or number >= self._by_inside[index - 1].inside_end:
            return None
        extent = self._by_inside[index - 1]
        return OutsideId(extent.outside + (number - extent.inside))

    def to_inside(self, number: OutsideId) -> InsideId | None:
        """Return the inside ID of an outside ID, or None where it has no mapping."""
        if isinstance(number, InsideId):
            raise TypeError(f"inside ID {int(number)} is looked up as an outside ID")
        index = bisect_right(self._by_outside, number, key=lambda extent: extent.outside)
        if not index or number >= self._by_outside[index - 1].outside_end:
            return None
        extent = self._by_outside[index - 1]
        return InsideId(extent.inside + (number - extent.outside))

    def inside_set(self) -> IdSet[InsideId]:
        """Return the inside IDs that have a mapping."""
        return IdSet(tuple(extent.inside_range for extent in self._by_inside))

    def outside_set(self) -> IdSet[OutsideId]:
        """Return the outside IDs that have a mapping."""
        return IdSet(tuple(extent.outside_range for extent in self._by_outside))

    def invert(self) -> IdMap:
        """Return the map that reads the other way round: inside and outside change places."""
        return IdMap(
            tuple(
                Extent(InsideId(extent.outside), OutsideId(extent.inside), extent.count)
                for extent in self.extents
            )
        )

    def compose(self, parent: IdMap) -> IdMap:
        """Return what this map and then the *parent* map make together.

        With this map child -> parent, and the other parent -> grandparent, the result is child ->
        grandparent: what a reader in the grandparent namespace sees in the child's uid_map. IDs
        that the parent does not map are not in the result. Its extents are sorted by inside.
        """
        parts = []
        index = 0
        uppers = parent._by_inside
        for lower in self._by_outside:
            while index < len(uppers) and uppers[index].inside_end <= lower.outside:
                index += 1
            at = index
            while at < len(uppers) and uppers[at].inside < lower.outside_end:
                upper = uppers[at]
                start = max(int(lower.outside), int(upper.inside))
                end = min(lower.outside_end, upper.inside_end)
                parts.append(
                    Extent(
                        InsideId(lower.inside + (start - lower.outside)),
                        OutsideId(upper.outside + (start - upper.inside)),
                        end - start,
                    )
                )
                at += 1
            # The last one met may reach into the next extent, so it is looked at again.
            index = max(index, at - 1)
        return IdMap(tuple(sorted(parts, key=lambda part: part.inside)))

    def fit_into(self, parent: IdMap) -> IdMap:
        """Return the same map, cut so that each extent lies within one extent of the *parent*.

        The kernel wants it so of a nested namespace: it looks each extent up in the parent's map
        as a whole, and refuses (EPERM) one that crosses from one extent of the parent's to another
        (map_id_range_down() in kernel/user_namespace.c). Sorted by inside. MapError, which names
        them, where the parent does not map all of the outside IDs.
        """
        known = IdSet(tuple(Range(OutsideId(e.inside), e.inside_end) for e in parent.extents))
        missing = self.outside_set().difference(known)
        if missing:
            raise MapError(
                f"the parent user namespace has no mapping for the outside IDs {missing}",
                hint="A namespace can only pass on IDs that it has itself.",
            )
        return self.compose(parent).compose(parent.invert())

    def restrict_inside(self, ids: IdSet[InsideId]) -> IdMap:
        """Return the part of the map whose inside IDs are in *ids*, sorted by inside."""
        keep = IdMap(tuple(Extent(s.start, OutsideId(s.start), s.count) for s in ids))
        return keep.compose(self)

    def restrict_outside(self, ids: IdSet[OutsideId]) -> IdMap:
        """Return the part of the map whose outside IDs are in *ids*, sorted by inside."""
        return self.compose(IdMap.identity(ids))

    def canonical(self) -> IdMap:
        """Return the same map in its one canonical form: sorted by inside, neighbours joined."""
        joined: list[Extent] = []
        for extent in self._by_inside:
            last = joined[-1] if joined else None
            if last and (extent.inside, extent.outside) == (last.inside_end, last.outside_end):
                joined[-1] = Extent(last.inside, last.outside, last.count + extent.count)
            else:
                joined.append(extent)
        return IdMap(tuple(joined))

    def check_kernel(self) -> None:
        """Raise MapError, naming the extent, where the kernel would refuse to take the map.

        Bounds, counts and overlaps were refused on the way to this value. What is left: a map has
        1 to 340 extents, and its text is shorter than one page (user_namespaces(7), and
        map_write() in kernel/user_namespace.c).
        """
        if not self.extents:
            raise MapError("the map has no extents", hint="The kernel takes 1 to 340 of them.")
        hint = "Map fewer, longer ranges; canonical() joins extents that touch."
        if len(self.extents) > MAX_EXTENTS:
            raise MapError(
                f"the map has {len(self.extents)} extents, and the kernel takes {MAX_EXTENTS}:"
                f" extent {MAX_EXTENTS + 1} ({self.extents[MAX_EXTENTS]}) is the first too many",
                hint=hint,
            )
        size = 0
        first_beyond = ""
        for number, extent in enumerate(self.extents, 1):
            size += len(str(extent)) + 1
            if size >= PAGE_BYTES and not first_beyond:
                first_beyond = f"extent {number} ({extent}) is the first beyond it"
        if first_beyond:
            raise MapError(
                f"the map's text has {size} bytes, and the kernel takes {PAGE_BYTES - 1}:"
                f" {first_beyond}",
                hint=hint,
            )

    def __eq__(self, other: object) -> bool:
        """Tell whether the other map means the same."""
        if not isinstance(other, IdMap):
            return NotImplemented
        return self.canonical().extents == other.canonical().extents

    def __hash__(self) -> int:
        """Return a hash of what the map means."""
        return hash(self.canonical().extents)

    def __str__(self) -> str:
        """Return the extents with commas between; "nothing mapped" for none."""
        return ", ".join(str(extent) for extent in self.extents) or "nothing mapped"


def extent(inside: int, outside: int, count: int) -> Extent:
    """Return the extent of three plain numbers; MapError names all three where it cannot be."""
    text = f"{number_text(inside)} {number_text(outside)} {number_text(count)}"
    check_span(inside, count, "inside of extent ", text)
    check_span(outside, count, "outside of extent ", text)
    return Extent(InsideId(inside), OutsideId(outside), count)


def zip_sets(inside: Iterable[Range[InsideId]], outside: Iterable[Range[OutsideId]]) -> IdMap:
    """Lay *outside* ranges one after the other over *inside* ranges, each in the order given.

    This is what rootless tools do with several subordinate ranges. Both may be IdSets (lowest
    first) or plain sequences of ranges. MapError where they do not hold the same number of IDs.
    """
    insides, outsides = list(inside), list(outside)
    totals = sum(span.count for span in insides), sum(span.count for span in outsides)
    if totals[0] != totals[1]:
        raise MapError(f"{totals[0]} inside IDs cannot be paired with {totals[1]} outside IDs")
    extents = []
    i, o = 0, 0  # which range on each side, and how many of its IDs are already paired
    i_done, o_done = 0, 0
    while i < len(insides):
        count = min(insides[i].count - i_done, outsides[o].count - o_done)
        extents.append(extent(insides[i].start + i_done, outsides[o].start + o_done, count))
        i_done += count
        o_done += count
        if i_done == insides[i].count:
            i, i_done = i + 1, 0
        if o_done == outsides[o].count:
            o, o_done = o + 1, 0
    return IdMap(tuple(extents))


def _overlap(side: str, one: Extent, two: Extent, start: int, end: int) -> MapError:
    shared = f"ID {int(start)}" if end - start == 1 else f"IDs {int(start)} to {end - 1}"
    return MapError(
        f"extents ({one}) and ({two}) overlap on the {side}: both have {shared}",
        hint="Each ID may be mapped once; lay the ranges out one after the other.",
    )
