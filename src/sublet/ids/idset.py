"""Sets of IDs, of one side each, and their algebra.

The work is always in proportion to the number of ranges, never to the number of IDs: a set of four
thousand million IDs is one range.
"""

from __future__ import annotations

from bisect import bisect_right

from sublet._value import Value
from sublet.errors import MapError
from sublet.ids.types import MAX_ID, Range

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Generic

    from sublet.ids.types import IdT
else:
    from sublet.ids.types import Generic, IdT


class IdSet(Value, Generic[IdT]):
    """A set of IDs of one side.

    ``ranges``: given in any order, touching or overlapping; kept sorted, disjoint and coalesced,
    so that two sets are equal exactly when they hold the same IDs. Iterating over a set gives its
    ranges; ``len`` gives the number of IDs. Mixing inside and outside IDs is a TypeError.
    """

    ranges: tuple[Range[IdT], ...] = ()

    def __post_init__(self) -> None:
        """Sort and coalesce the ranges."""
        object.__setattr__(self, "ranges", _coalesce(self.ranges))

    @staticmethod
    def of(ranges: Iterable[Range[IdT]]) -> IdSet[IdT]:
        """Return the set of all IDs that lie in any of the *ranges*."""
        return IdSet(tuple(ranges))

    def __iter__(self) -> Iterator[Range[IdT]]:
        """Iterate over the ranges, lowest first."""
        return iter(self.ranges)

    def __len__(self) -> int:
        """Return the number of IDs, not of ranges."""
        return sum(span.end - span.start for span in self.ranges)

    def __contains__(self, number: IdT) -> bool:
        """Tell whether the ID is in the set."""
        index = bisect_right(self.ranges, number, key=lambda span: span.start)
        return index > 0 and number < self.ranges[index - 1].end

    def __str__(self) -> str:
        """Return START:COUNT of each range, with commas between; "no IDs" for none."""
        return ", ".join(str(span) for span in self.ranges) or "no IDs"

    def union(self, other: IdSet[IdT]) -> IdSet[IdT]:
        """Return the IDs that are in either set."""
        return IdSet(self.ranges + other.ranges)

    def intersection(self, other: IdSet[IdT]) -> IdSet[IdT]:
        """Return the IDs that are in both sets."""
        _same_side(self.ranges[:1] + other.ranges[:1])
        found = []
        left, right = 0, 0
        while left < len(self.ranges) and right < len(other.ranges):
            a, b = self.ranges[left], other.ranges[right]
            if a.overlaps(b):
                found.append(Range(max(a.start, b.start), min(a.end, b.end)))
            if a.end <= b.end:
                left += 1
            else:
                right += 1
        return IdSet(tuple(found))

    def difference(self, other: IdSet[IdT]) -> IdSet[IdT]:
        """Return the IDs that are in this set and not in the other."""
        _same_side(self.ranges[:1] + other.ranges[:1])
        left_over = []
        index = 0
        for span in self.ranges:
            side = type(span.start)
            start = int(span.start)
            # Ranges of the other set that end before this one starts cannot matter any more.
            while index < len(other.ranges) and other.ranges[index].end <= start:
                index += 1
            at = index
            while at < len(other.ranges) and other.ranges[at].start < span.end:
                hole = other.ranges[at]
                if start < hole.start:
                    left_over.append(Range(side(start), int(hole.start)))
                start = hole.end
                at += 1
            if start < span.end:
                left_over.append(Range(side(start), span.end))
            # The last hole may reach into the next range, so it is looked at again.
            index = max(index, at - 1)
        return IdSet(tuple(left_over))

    def covers(self, other: IdSet[IdT]) -> bool:
        """Tell whether every ID of the other set is in this one."""
        return not other.difference(self).ranges

    def take(self, count: int) -> tuple[IdSet[IdT], IdSet[IdT]]:
        """Split into the lowest *count* IDs and the rest.

        MapError, which names how many are missing, where the set holds fewer.
        """
        available = len(self)
        if not 0 <= count <= available:
            raise MapError(
                f"{count} IDs are asked for, and {available} are there ({self}):"
                f" {count - available} are missing"
                if count > available
                else f"{count} IDs cannot be taken"
            )
        taken, rest = split_ranges(self.ranges, count)
        return IdSet(taken), IdSet(rest)


def everything(side: type[IdT]) -> IdSet[IdT]:
    """Return the set of all usable IDs, 0 to MAX_ID, of the *side* InsideId or OutsideId."""
    return IdSet((Range(side(0), MAX_ID + 1),))


def split_ranges(
    ranges: Iterable[Range[IdT]], count: int
) -> tuple[tuple[Range[IdT], ...], tuple[Range[IdT], ...]]:
    """Split *ranges*, in the order given, after *count* IDs or at their end if that is sooner."""
    before: list[Range[IdT]] = []
    after: list[Range[IdT]] = []
    for span in ranges:
        head = min(span.count, count)
        if head:
            before.append(Range(span.start, span.start + head))
        if head < span.count:
            after.append(Range(type(span.start)(span.start + head), span.end))
        count -= head
    return tuple(before), tuple(after)


def _same_side(ranges: tuple[Range[IdT], ...]) -> None:
    if len({type(span.start) for span in ranges}) > 1:
        raise TypeError("inside and outside IDs cannot be in one set")


def _coalesce(ranges: tuple[Range[IdT], ...]) -> tuple[Range[IdT], ...]:
    _same_side(ranges)
    joined: list[Range[IdT]] = []
    for span in sorted(ranges, key=lambda span: span.start):
        if joined and span.start <= joined[-1].end:
            if span.end > joined[-1].end:
                joined[-1] = Range(joined[-1].start, span.end)
        else:
            joined.append(span)
    return tuple(joined)
