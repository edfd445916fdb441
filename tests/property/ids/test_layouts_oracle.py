from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from property.ids.strategies import BASES, SIZE, pairs, ranges
from sublet.errors import MapError, NotDelegatedError
from sublet.ids import IdMap, InsideId, OutsideId, Range
from sublet.ids.layouts import Delegation, full, keep, keep_id, nomap, root

delegations = st.sampled_from(BASES).flatmap(
    lambda base: st.builds(
        Delegation,
        caller=st.integers(base, base + SIZE - 1).map(OutsideId),
        ranges=st.lists(ranges(OutsideId, base), max_size=4).map(tuple),
        owner=st.just("alice"),
        file=st.just("/etc/subuid"),
    )
)


def spelled(given_ranges: tuple[Range[OutsideId], ...]) -> list[int]:
    return [n for span in given_ranges for n in range(span.start, span.end)]


def usable(delegation: Delegation) -> list[int] | None:
    """The delegated IDs in order, without the caller's; None where they make no layout."""
    numbers = spelled(delegation.ranges)
    if len(set(numbers)) < len(numbers):
        with pytest.raises(MapError, match="overlap") as overlap:
            full(delegation)
        assert overlap.value.path == "/etc/subuid"
        return None
    numbers = [n for n in numbers if n != delegation.caller]
    if not numbers:
        with pytest.raises(NotDelegatedError, match="alice in /etc/subuid") as none:
            full(delegation)
        assert 'the line "alice:100000:65536" to /etc/subuid' in str(none.value.hint)
        return None
    return numbers


@given(delegations)
def test_full(delegation: Delegation) -> None:
    if numbers := usable(delegation):
        assert pairs(full(delegation)) == dict(enumerate([int(delegation.caller), *numbers]))


@given(delegations)
def test_nomap(delegation: Delegation) -> None:
    if numbers := usable(delegation):
        made = nomap(delegation)
        assert pairs(made) == dict(enumerate(numbers))
        assert made.to_inside(delegation.caller) is None


@given(delegations, st.integers(0, SIZE * 3).map(InsideId))
def test_keep_id(delegation: Delegation, inside: InsideId) -> None:
    if numbers := usable(delegation):
        below, above = numbers[:inside], numbers[inside:]
        oracle = dict(enumerate(below)) | {int(inside): int(delegation.caller)}
        oracle |= dict(enumerate(above, int(inside) + 1))
        made = keep_id(delegation, inside)
        assert pairs(made) == oracle
        assert made.inside_set().take(len(numbers) + 1)[1].ranges == ()


@given(delegations)
def test_keep_id_keeps_the_callers_own_id_by_default(delegation: Delegation) -> None:
    if usable(delegation):
        own = InsideId(delegation.caller)
        assert keep_id(delegation).to_outside(own) == delegation.caller


@given(delegations)
def test_the_callers_own_id_is_always_an_extent_by_itself(delegation: Delegation) -> None:
    if usable(delegation):
        for made in (full(delegation), keep_id(delegation), keep(delegation.caller)):
            own = [e for e in made.extents if delegation.caller in e.outside_range]
            assert [e.count for e in own] == [1]


@given(st.sampled_from([0, 1, 1001, 2**31, 4294967294]).map(OutsideId))
def test_keep_and_root(caller: OutsideId) -> None:
    assert keep(caller) == IdMap.of((caller, caller, 1))
    assert root(caller) == IdMap.of((0, caller, 1))
    assert keep(caller, InsideId(5)) == IdMap.of((5, caller, 1))
