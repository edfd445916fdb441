"""Operations as values."""

from __future__ import annotations

import pytest

from sublet._value import replace
from sublet.mounts.operations import OPERATIONS, Bind, Operation, Proc, Sysfs, Tmpfs


def test_each_class_is_found_by_its_kind() -> None:
    assert all(class_.kind == kind for kind, class_ in OPERATIONS.items())
    assert OPERATIONS["bind"] is Bind
    assert "" not in OPERATIONS


def test_the_target_comes_first_and_flags_second() -> None:
    assert all(class_._fields[:2] == ("target", "flags") for class_ in OPERATIONS.values())


def test_operations_are_equal_by_kind_and_value() -> None:
    assert Tmpfs("/tmp", size=1) == Tmpfs("/tmp", size=1)
    assert Tmpfs("/tmp", size=1) != Tmpfs("/tmp", size=2)
    assert Sysfs("/x") != Proc("/x")
    assert len({Bind("/a", source="/b"), Bind("/a", source="/b"), Bind("/a", source="/c")}) == 2


def test_operations_are_frozen() -> None:
    operation: Operation = Bind("/a", source="/b")
    with pytest.raises(AttributeError, match="frozen"):
        operation.target = "/c"  # type: ignore[misc]
    assert replace(operation, target="/c") == Bind("/c", source="/b")
