"""Small universes of twelve IDs, at both ends of the 32 bits, with sets and dicts as the oracle."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from hypothesis import strategies as st

from sublet.ids import MAX_ID, Extent, IdMap, IdSet, InsideId, OutsideId, Range

if TYPE_CHECKING:
    from collections.abc import Iterable

SIZE = 12
BASES = (0, MAX_ID - SIZE + 1)
IdT = TypeVar("IdT", InsideId, OutsideId)


def ranges(side: type[IdT], base: int) -> st.SearchStrategy[Range[IdT]]:
    """Any range within the universe that starts at *base*."""
    pairs = st.tuples(st.integers(0, SIZE - 1), st.integers(1, SIZE)).filter(lambda p: p[0] < p[1])
    return pairs.map(lambda pair: Range(side(base + pair[0]), base + pair[1]))


def id_sets(side: type[IdT], base: int) -> st.SearchStrategy[IdSet[IdT]]:
    """Any set, built from ranges that may overlap and come in any order."""
    return st.lists(ranges(side, base), max_size=5).map(IdSet.of)


def triples(inside: int, outside: int) -> st.SearchStrategy[list[tuple[int, int, int]]]:
    """Extents as numbers, each within the universe; they may overlap one another."""
    triple = st.tuples(
        st.integers(0, SIZE - 1), st.integers(0, SIZE - 1), st.integers(1, SIZE)
    ).map(lambda t: (inside + t[0], outside + t[1], min(t[2], SIZE - t[0], SIZE - t[1])))
    return st.lists(triple, max_size=8)


def overlapping(extents: Iterable[tuple[int, int, int]]) -> bool:
    """Whether some ID has two mappings, counted one by one."""
    inside = [i + k for i, _, count in extents for k in range(count)]
    outside = [o + k for _, o, count in extents for k in range(count)]
    return len(set(inside)) < len(inside) or len(set(outside)) < len(outside)


def id_maps(inside: int, outside: int) -> st.SearchStrategy[IdMap]:
    """Any map between the universes that start at *inside* and *outside*."""

    def build(candidates: list[tuple[int, int, int]]) -> IdMap:
        chosen: list[tuple[int, int, int]] = []
        for candidate in candidates:
            if not overlapping([*chosen, candidate]):
                chosen.append(candidate)
        return IdMap.of(*chosen)

    return triples(inside, outside).map(build)


def members(ids: IdSet[IdT]) -> set[int]:
    """Spell a set out, ID by ID."""
    return {number for span in ids for number in range(span.start, span.end)}


def pairs(id_map: IdMap) -> dict[int, int]:
    """Spell a map out, ID by ID."""
    return spell_out(id_map.extents)


def spell_out(extents: Iterable[Extent]) -> dict[int, int]:
    """Spell extents out, ID by ID."""
    return {int(e.inside) + k: int(e.outside) + k for e in extents for k in range(e.count)}
