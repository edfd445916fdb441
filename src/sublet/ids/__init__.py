"""ID maps, and what they are made of, as pure values.

    InsideId, OutsideId   a number, and which side of a user namespace it is meant on
    Range                 a half-open interval of IDs of one side
    IdSet                 any set of IDs of one side
    Extent                one line of a map: inside, outside, count
    IdMap                 the whole map: lookup, invert, compose, restrict, compare

:mod:`sublet.ids.layouts` makes the maps that people ask for by name (keep, root, full, keep-id,
nomap); :mod:`sublet.ids.notation` has one module for each way in which maps are written down.
"""

from __future__ import annotations

from sublet.ids.idmap import Extent, IdMap, extent, zip_sets
from sublet.ids.idset import IdSet, everything, split_ranges
from sublet.ids.types import (
    INVALID_ID,
    MAX_EXTENTS,
    MAX_ID,
    OVERFLOW_ID,
    PAGE_BYTES,
    InsideId,
    OutsideId,
    Range,
)

__all__ = [
    "INVALID_ID",
    "MAX_EXTENTS",
    "MAX_ID",
    "OVERFLOW_ID",
    "PAGE_BYTES",
    "Extent",
    "IdMap",
    "IdSet",
    "InsideId",
    "OutsideId",
    "Range",
    "everything",
    "extent",
    "split_ranges",
    "zip_sets",
]
