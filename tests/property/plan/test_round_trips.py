"""What is written is read back as it was, and what was damaged is refused with a PlanError."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from property.plan.strategies import plans, spell_out
from sublet.errors import PlanError
from sublet.plan import _wire
from sublet.plan.codec import decode, encode
from sublet.plan.explain import explain
from sublet.plan.jsonform import from_json, to_json

if TYPE_CHECKING:
    from sublet.plan.model import Plan

unhurried = settings(deadline=None)  # a busy machine is no failure
HEADER = 16
SECTIONS = list(_wire.SECTIONS.items())
NUMBERS = st.integers(0, 40) | st.integers(0, 2**32 - 1) | st.just(_wire.NONE)


@unhurried
@given(plans())
def test_the_wire_form_holds_the_whole_plan(plan: Plan) -> None:
    wire = encode(plan)
    back = decode(wire)
    assert back == plan
    assert spell_out(back) == spell_out(plan)
    assert encode(back) == wire


@unhurried
@given(plans())
def test_the_json_twin_holds_the_whole_plan(plan: Plan) -> None:
    text = to_json(plan)
    back = from_json(text)
    assert back == plan
    assert spell_out(back) == spell_out(plan)
    assert to_json(back) == text
    assert text.encode(), "a text that can be written to a file"


@unhurried
@given(plans())
def test_every_plan_can_be_explained(plan: Plan) -> None:
    lines = explain(plan)
    assert len([line for line in lines if line.startswith("[")]) == len(plan.operations)
    assert all(line.endswith(".") for line in lines)


@unhurried
@given(plans())
def test_the_sections_follow_one_another_at_multiples_of_eight(plan: Plan) -> None:
    wire = encode(plan)
    magic, version, size = struct.unpack_from("<8sII", wire)
    assert (magic, version, size) == (b"SUBLPLAN", _wire.VERSION, len(wire))
    end = HEADER + 8 * len(SECTIONS)
    for index, (name, record) in enumerate(SECTIONS):
        place, count = struct.unpack_from("<II", wire, HEADER + 8 * index)
        width = {"byte": 1, "u32": 4, "str": 4}.get(record) or struct.calcsize(
            _wire.RECORDS[record][0]
        )
        assert place % 8 == 0, name
        assert 0 <= place - end < 8, name
        assert not any(wire[end:place]), f"{name}: padding is zero"
        end = place + count * width
    assert len(wire) - end < 8


@unhurried
@given(plans(), st.data())
def test_a_damaged_plan_is_refused_or_is_another_valid_plan(plan: Plan, data: Any) -> None:
    wire = bytearray(encode(plan))
    for _ in range(data.draw(st.integers(1, 3))):
        # Every number of a record lies at a multiple of 4; two-byte ones are hit in pairs.
        place = 4 * data.draw(st.integers(0, len(wire) // 4 - 1))
        wire[place : place + 4] = struct.pack("<I", data.draw(NUMBERS))
    try:
        read = decode(bytes(wire))
    except PlanError:
        return
    assert decode(encode(read)) == read


@unhurried
@given(plans(), st.data())
def test_a_plan_that_was_cut_off_is_refused(plan: Plan, data: Any) -> None:
    wire = encode(plan)
    short = data.draw(st.integers(0, len(wire) - 1))
    with pytest.raises(PlanError):
        decode(wire[:short])
    with pytest.raises(PlanError):
        decode(wire + b"\0")


def leaves(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the paths to everything in a JSON tree."""
    if not isinstance(tree, dict | list):
        return [path]
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree)
    return [path, *(leaf for key, one in inner for leaf in leaves(one, (*path, key)))]


JUNK = st.sampled_from(
    [None, True, -1, 2**70, 1.5, "", "x", "\ud800", "/", [], [None], {}, {"a": 1}]
)


@unhurried
@given(plans(), st.data())
def test_damaged_json_is_refused_or_is_another_valid_plan(plan: Plan, data: Any) -> None:
    tree = json.loads(to_json(plan))
    path = data.draw(st.sampled_from(leaves(tree)[1:]))
    owner = tree
    for key in path[:-1]:
        owner = owner[key]
    owner[path[-1]] = data.draw(JUNK)
    try:
        read = from_json(json.dumps(tree))
    except PlanError:
        return
    assert from_json(to_json(read)) == read
