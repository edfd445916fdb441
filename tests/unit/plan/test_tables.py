"""The value classes and the description of the wire form say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sublet.mounts.operations import OPERATIONS, Operation
from sublet.plan import _wire, codec
from sublet.plan.message import Message
from sublet.plan.model import (
    Credentials,
    Descriptor,
    Join,
    Maps,
    Plan,
    Process,
    Rlimit,
    Supervision,
    UserNamespace,
)

if TYPE_CHECKING:
    from sublet._value import Value

# Sections and flags of their own in the wire form, and not fields of `settings`.
ELSEWHERE: dict[type[Value], set[str]] = {
    Plan: {"process", "joins", "maps", "user_namespace", "operations", "credentials"}
    | {"supervision", "slots"},
    Process: {"rlimits", "descriptors"},
}


def fields_of(record: str) -> set[str]:
    """Name the fields of a record that mean something."""
    return {name for name, _ in _wire.RECORDS[record][1]} - {"reserved"}


def test_there_is_a_class_for_every_kind_of_operation() -> None:
    assert list(OPERATIONS) == list(_wire.OPERATIONS)
    assert set(Operation.__subclasses__()) == set(OPERATIONS.values())


@pytest.mark.parametrize("kind", OPERATIONS)
def test_an_operation_has_the_fields_that_its_rule_names(kind: str) -> None:
    _, required, allowed, _ = _wire.OPERATIONS[kind]
    named = {name for rule in required for name in rule.split("|")} | set(allowed)
    assert set(OPERATIONS[kind]._fields) == named | {"flags"}
    assert named <= fields_of("operation")


@pytest.mark.parametrize("kind", OPERATIONS)
def test_an_operation_s_docstring_names_its_flags(kind: str) -> None:
    text = OPERATIONS[kind].__doc__ or ""
    flags = _wire.OPERATIONS[kind][3]
    plain = {"parents", "existing"}  # what every mount knows
    assert [flag for flag in flags if flag not in plain and flag not in text] == []


@pytest.mark.parametrize(
    ("record", "class_"),
    [("map", Maps), ("join", Join), ("rlimit", Rlimit), ("descriptor", Descriptor)],
)
def test_a_part_has_the_fields_of_its_record(record: str, class_: type[Value]) -> None:
    assert set(class_._fields) == fields_of(record)


def test_a_message_has_the_fields_of_its_record() -> None:
    assert ["version", *Message._fields] == [name for name, _ in _wire.RECORDS["message"][1]]


def test_the_parts_of_a_plan_have_the_fields_of_settings_and_no_others() -> None:
    classes: list[type[Value]] = [Plan, Process, UserNamespace, Credentials, Supervision]
    attributes = [name for c in classes for name in set(c._fields) - ELSEWHERE.get(c, set())]
    assert len(set(attributes)) == len(attributes), "two parts have the same name"
    settings = set(_wire.ENUMS["setting"]) - {"set_groups", "set_credentials"}
    assert set(attributes) == fields_of("settings") - {"flags"} | settings


def test_the_codec_sends_every_setting_from_the_part_that_has_it() -> None:
    owners: dict[str, type[Value]] = {
        "": Plan,
        "process": Process,
        "user_namespace": UserNamespace,
        "credentials": Credentials,
        "supervision": Supervision,
    }
    for part, names in codec.PARTS.items():
        assert set(names) <= set(owners[part]._fields)
    for name, part in codec.SETTINGS.items():
        assert name in owners[part]._fields
    sent = {name for names in codec.PARTS.values() for name in names}
    assert sent == fields_of("settings") - {"flags"}
    credentials = {"set_groups", "set_credentials", "no_new_privs"}
    assert set(codec.SETTINGS) == set(_wire.ENUMS["setting"]) - credentials


def test_defaults_are_what_an_absent_field_means() -> None:
    absent: set[object] = {None, 0, "", b"", (), frozenset(), "keep"}
    for class_ in OPERATIONS.values():
        assert set(class_._defaults.values()) <= absent, class_
