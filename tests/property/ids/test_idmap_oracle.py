from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from property.ids.strategies import (
    BASES,
    SIZE,
    id_maps,
    id_sets,
    members,
    overlapping,
    pairs,
    ranges,
    triples,
)
from sublet.errors import MapError
from sublet.ids import (
    MAX_ID,
    Extent,
    IdMap,
    IdSet,
    InsideId,
    OutsideId,
    Range,
    extent,
    zip_sets,
)


def base(key: str) -> st.SearchStrategy[int]:
    return st.shared(st.sampled_from(BASES), key=key)


def between(one: str, two: str) -> st.SearchStrategy[IdMap]:
    """Any map from the universe called *one* to the universe called *two*."""
    return st.tuples(base(one), base(two)).flatmap(lambda bases: id_maps(*bases))


maps = between("inside", "outside")
inside_sets = base("inside").flatmap(lambda start: id_sets(InsideId, start))
outside_sets = base("outside").flatmap(lambda start: id_sets(OutsideId, start))
inside_ranges = base("inside").flatmap(lambda start: ranges(InsideId, start))
outside_ranges = base("outside").flatmap(lambda start: ranges(OutsideId, start))


def universe(start: int) -> range:
    return range(max(start - 1, 0), min(start + SIZE, MAX_ID) + 1)


@given(st.tuples(base("inside"), base("outside")).flatmap(lambda bases: triples(*bases)))
def test_a_map_is_built_unless_an_id_has_two_mappings(
    given_triples: list[tuple[int, int, int]],
) -> None:
    if overlapping(given_triples):
        with pytest.raises(MapError, match=r"overlap on the (inside|outside)") as caught:
            IdMap.of(*given_triples)
        named = [t for t in given_triples if "({} {} {})".format(*t) in str(caught.value)]
        assert overlapping(named) or given_triples.count(named[0]) > 1
    else:
        built = IdMap.of(*given_triples)
        assert [(e.inside, e.outside, e.count) for e in built.extents] == given_triples


@given(maps, base("inside"), base("outside"))
def test_lookup_both_ways(id_map: IdMap, inside: int, outside: int) -> None:
    oracle = pairs(id_map)
    inverse = {o: i for i, o in oracle.items()}
    for number in universe(inside):
        assert id_map.to_outside(InsideId(number)) == oracle.get(number)
    for number in universe(outside):
        assert id_map.to_inside(OutsideId(number)) == inverse.get(number)


@given(maps)
def test_what_is_looked_up_has_a_side(id_map: IdMap) -> None:
    for part in id_map.extents:
        assert type(id_map.to_outside(part.inside)) is OutsideId
        assert type(id_map.to_inside(part.outside)) is InsideId
        with pytest.raises(TypeError, match="as an inside ID"):
            id_map.to_outside(part.outside)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="as an outside ID"):
            id_map.to_inside(part.inside)  # type: ignore[arg-type]


@given(maps)
def test_sets_of_either_side(id_map: IdMap) -> None:
    assert members(id_map.inside_set()) == set(pairs(id_map))
    assert members(id_map.outside_set()) == set(pairs(id_map).values())


@given(maps)
def test_invert(id_map: IdMap) -> None:
    assert pairs(id_map.invert()) == {o: i for i, o in pairs(id_map).items()}
    assert id_map.invert().invert() == id_map


@given(between("a", "b"), between("b", "c"))
def test_compose(child: IdMap, parent: IdMap) -> None:
    upper = pairs(parent)
    oracle = {i: upper[o] for i, o in pairs(child).items() if o in upper}
    assert pairs(child.compose(parent)) == oracle


@given(between("a", "b"), between("b", "c"))
def test_fitted_into_a_parent_each_extent_lies_within_one_of_the_parents(
    child: IdMap, parent: IdMap
) -> None:
    missing = set(pairs(child).values()) - set(pairs(parent))
    if missing:
        with pytest.raises(MapError, match=f"no mapping for the outside IDs {min(missing)}:"):
            child.fit_into(parent)
        child = child.restrict_outside(
            IdSet.of(Range(OutsideId(e.inside), e.inside_end) for e in parent.extents)
        )
    fitted = child.fit_into(parent)
    assert pairs(fitted) == pairs(child)
    for part in fitted.extents:
        assert any(
            upper.inside <= part.outside and part.outside_end <= upper.inside_end
            for upper in parent.extents
        )


@given(between("a", "b"), between("b", "c"), between("c", "d"))
def test_compose_is_associative(a: IdMap, b: IdMap, c: IdMap) -> None:
    assert a.compose(b).compose(c) == a.compose(b.compose(c))


@given(maps)
def test_identity_is_neutral_and_inverse_cancels(id_map: IdMap) -> None:
    assert id_map.compose(IdMap.identity()) == id_map
    assert IdMap.identity().compose(id_map) == id_map
    around = id_map.compose(id_map.invert())
    assert pairs(around) == {i: i for i in pairs(id_map)}


@given(between("a", "b"), between("b", "c"))
def test_inverting_a_composition_turns_its_order_round(a: IdMap, b: IdMap) -> None:
    assert a.compose(b).invert() == b.invert().compose(a.invert())


@given(maps, inside_sets)
def test_restrict_inside(id_map: IdMap, ids: IdSet[InsideId]) -> None:
    oracle = {i: o for i, o in pairs(id_map).items() if i in members(ids)}
    assert pairs(id_map.restrict_inside(ids)) == oracle


@given(maps, outside_sets)
def test_restrict_outside(id_map: IdMap, ids: IdSet[OutsideId]) -> None:
    oracle = {i: o for i, o in pairs(id_map).items() if o in members(ids)}
    assert pairs(id_map.restrict_outside(ids)) == oracle


@given(outside_sets)
def test_identity_of_a_set(ids: IdSet[OutsideId]) -> None:
    assert pairs(IdMap.identity(ids)) == {n: n for n in members(ids)}


@given(maps)
def test_canonical_form_is_sorted_joined_and_means_the_same(id_map: IdMap) -> None:
    canonical = id_map.canonical()
    assert pairs(canonical) == pairs(id_map)
    for one, two in pairwise(canonical.extents):
        assert one.inside < two.inside
        assert (one.inside_end, one.outside_end) != (two.inside, two.outside)
    assert canonical.canonical().extents == canonical.extents


@given(maps, st.randoms(use_true_random=False))
def test_equal_maps_are_those_that_mean_the_same(id_map: IdMap, random: object) -> None:
    single = [Extent(e.inside, e.outside, e.count) for e in id_map.extents]
    pieces = [extent(i, o, 1) for i, o in pairs(IdMap(tuple(single))).items()]
    random.shuffle(pieces)  # type: ignore[attr-defined]
    in_pieces = IdMap(tuple(pieces))
    assert in_pieces == id_map
    assert hash(in_pieces) == hash(id_map)


@given(maps, maps)
def test_maps_with_other_meanings_differ(a: IdMap, b: IdMap) -> None:
    assert (a == b) == (pairs(a) == pairs(b))


@given(st.lists(inside_ranges, max_size=4), st.lists(outside_ranges, max_size=4))
def test_zip_pairs_ranges_one_after_the_other(
    insides: list[Range[InsideId]], outsides: list[Range[OutsideId]]
) -> None:
    left = [n for span in insides for n in range(span.start, span.end)]
    right = [n for span in outsides for n in range(span.start, span.end)]
    if len(left) != len(right):
        with pytest.raises(MapError, match=rf"{len(left)} inside IDs .* {len(right)} outside"):
            zip_sets(insides, outsides)
    elif len(set(left)) < len(left) or len(set(right)) < len(right):
        with pytest.raises(MapError, match="overlap"):
            zip_sets(insides, outsides)
    else:
        assert pairs(zip_sets(insides, outsides)) == dict(zip(left, right, strict=True))


@given(inside_sets, outside_sets)
def test_zip_of_sets_of_one_size(insides: IdSet[InsideId], outsides: IdSet[OutsideId]) -> None:
    size = min(len(insides), len(outsides))
    one, two = insides.take(size)[0], outsides.take(size)[0]
    zipped = zip_sets(one, two)
    assert pairs(zipped) == dict(zip(sorted(members(one)), sorted(members(two)), strict=True))
    assert (zipped.inside_set(), zipped.outside_set()) == (one, two)
