from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from property.ids.strategies import BASES, SIZE, id_sets, members, ranges
from sublet.errors import MapError
from sublet.ids import IdSet, InsideId, OutsideId, Range, split_ranges

bases = st.shared(st.sampled_from(BASES), key="base")
spans = bases.flatmap(lambda base: ranges(OutsideId, base))
sets = bases.flatmap(lambda base: id_sets(OutsideId, base))
# one ID beyond either side of the universe, where such an ID exists
numbers = bases.flatmap(lambda base: st.integers(max(base - 1, 0), min(base + SIZE, 4294967294)))


@given(sets)
def test_a_set_is_sorted_disjoint_and_coalesced(ids: IdSet[OutsideId]) -> None:
    for one, two in pairwise(ids.ranges):
        assert one.end < two.start


@given(st.lists(spans, max_size=6))
def test_a_set_holds_what_its_ranges_hold(given_ranges: list[Range[OutsideId]]) -> None:
    ids = IdSet.of(given_ranges)
    oracle = {n for span in given_ranges for n in range(span.start, span.end)}
    assert members(ids) == oracle
    assert len(ids) == len(oracle)
    assert list(ids) == list(ids.ranges)


@given(sets, numbers)
def test_contains(ids: IdSet[OutsideId], number: int) -> None:
    assert (OutsideId(number) in ids) == (number in members(ids))


@given(sets, sets)
def test_union_intersection_and_difference(a: IdSet[OutsideId], b: IdSet[OutsideId]) -> None:
    assert members(a.union(b)) == members(a) | members(b)
    assert members(a.intersection(b)) == members(a) & members(b)
    assert members(a.difference(b)) == members(a) - members(b)


@given(sets, sets)
def test_equal_sets_are_those_with_equal_members(a: IdSet[OutsideId], b: IdSet[OutsideId]) -> None:
    assert (a == b) == (members(a) == members(b))
    rebuilt = a.difference(b).union(a.intersection(b))
    assert rebuilt == a
    assert hash(rebuilt) == hash(a)


@given(sets, sets)
def test_covers(a: IdSet[OutsideId], b: IdSet[OutsideId]) -> None:
    assert a.covers(b) == (members(a) >= members(b))
    assert a.union(b).covers(b)


@given(sets, st.integers(0, SIZE + 2))
def test_take_gives_the_lowest_and_the_rest(ids: IdSet[OutsideId], count: int) -> None:
    oracle = sorted(members(ids))
    if count > len(oracle):
        with pytest.raises(MapError, match=f"{count - len(oracle)} are missing"):
            ids.take(count)
    else:
        taken, rest = ids.take(count)
        assert sorted(members(taken)) == oracle[:count]
        assert sorted(members(rest)) == oracle[count:]


@given(st.lists(spans, max_size=5), st.integers(0, 5 * SIZE))
def test_ranges_are_split_in_the_order_given(
    given_ranges: list[Range[OutsideId]], count: int
) -> None:
    oracle = [n for span in given_ranges for n in range(span.start, span.end)]
    before, after = split_ranges(given_ranges, count)
    assert [n for span in before for n in range(span.start, span.end)] == oracle[:count]
    assert [n for span in after for n in range(span.start, span.end)] == oracle[count:]


@given(sets, sets)
def test_every_result_keeps_its_side(a: IdSet[OutsideId], b: IdSet[OutsideId]) -> None:
    taken, rest = a.take(len(a) // 2)
    for result in (a.union(b), a.intersection(b), a.difference(b), taken, rest):
        assert all(type(span.start) is OutsideId for span in result)
        assert all(type(span.last) is OutsideId for span in result)


@given(spans, spans)
def test_ranges_overlap_when_they_share_an_id(a: Range[OutsideId], b: Range[OutsideId]) -> None:
    assert a.overlaps(b) == bool(set(range(a.start, a.end)) & set(range(b.start, b.end)))
    assert len(a) == a.count == len(range(a.start, a.end))
    assert (b.start in a) == (b.start in range(a.start, a.end))


@given(spans)
def test_the_sides_do_not_mix(span: Range[OutsideId]) -> None:
    outside = IdSet((span,))
    inside = IdSet((Range(InsideId(span.start), span.end),))
    with pytest.raises(TypeError, match="inside and outside"):
        outside.union(inside)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="inside and outside"):
        outside.intersection(inside)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="inside and outside"):
        outside.difference(inside)  # type: ignore[arg-type]
