"""Maps at the edges of what the kernel takes."""

from __future__ import annotations

from sublet.ids import IdMap


def spread(count: int) -> IdMap:
    """Return *count* extents that do not touch, in as short a text as can be."""
    return IdMap.of(*((2 * n, 2 * n, 1) for n in range(count)))


def of_text_bytes(size: int) -> IdMap:
    """Return a map of fewer than 340 extents whose text has exactly *size* bytes."""
    lines, wider = divmod(size, len("100000 1000000 1\n"))
    starts = [1000000 if number < wider else 100000 for number in range(lines)]
    return IdMap.of(*((start + 2 * n, 1000000 + 2 * n, 1) for n, start in enumerate(starts)))
