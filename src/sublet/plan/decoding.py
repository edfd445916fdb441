"""Decode the wire form of a plan.

Nothing is trusted: every reference, bound, enum and flag is checked as the executor's decoder does
it, and then all that :func:`sublet.plan.validate.validate` checks. A PlanError names section,
record and field.
"""

from __future__ import annotations

import struct

from sublet.errors import MapError, PlanError
from sublet.mounts.operations import OPERATIONS
from sublet.plan import _wire
from sublet.plan.codec import FIELDS, HEADER, LIMITS, NONE, PARTS, RECORDS, SETTINGS, SIZES, TABLE
from sublet.plan.validate import validate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from sublet.ids import IdMap
    from sublet.mounts.operations import Operation
    from sublet.plan.model import Plan

# What an absent field is once it is decoded: a record has a place for it all the same.
_EMPTY = {"run": (), "data": b"", "flags": frozenset(), "enum": "keep"} | dict.fromkeys(
    ("id", "str", "slot", "map")
)
_ABSENT: dict[str, dict[str, Any]] = {
    record: {name: _EMPTY.get(kind, 0) for name, kind, _, _ in FIELDS[record]}
    for record in ("settings", "operation")
}


def decode(wire: bytes) -> Plan:
    """Return the plan whose wire form is *wire*; PlanError names what is wrong, and where."""
    from sublet.ids import IdMap, extent
    from sublet.plan import model

    reader = _Reader(wire)
    settings = reader.record("settings", 0)
    extents = [(one["inside"], one["outside"], one["count"]) for one in reader.records("extents")]

    def id_map(index: int, side: str, run: tuple[int, int]) -> IdMap:
        try:
            return IdMap(tuple(extent(*one) for one in extents[run[0] : sum(run)]))
        except MapError as error:
            raise PlanError(f"maps[{index}].{side}: {error}", hint=error.hint) from error

    maps = tuple(
        model.Maps(id_map(index, "uid", one["uid"]), id_map(index, "gid", one["gid"]))
        for index, one in enumerate(reader.records("maps"))
    )
    flags: frozenset[str] = settings["flags"]
    parts = _parts_from(settings, flags)
    plan = model.Plan(
        **parts[""],
        process=model.Process(
            **parts["process"],
            rlimits=tuple(
                model.Rlimit(one["resource"], one["soft"], one["hard"])
                for one in reader.records("rlimits")
            ),
            descriptors=tuple(model.Descriptor(**one) for one in reader.records("descriptors")),
        ),
        user_namespace=model.UserNamespace(**parts["user_namespace"]),
        supervision=model.Supervision(**parts["supervision"]),
        credentials=model.Credentials(**parts["credentials"]) if parts["credentials"] else None,
        joins=tuple(model.Join(**one) for one in reader.records("joins")),
        maps=maps,
        operations=tuple(
            _operation_from(index, one) for index, one in enumerate(reader.records("operations"))
        ),
        slots=reader.slots,
    )
    validate(plan)
    return plan


def _parts_from(settings: Mapping[str, Any], flags: frozenset[str]) -> dict[str, dict[str, Any]]:
    """Return the constructor arguments of each part of the plan."""
    parts = {part: {name: settings[name] for name in names} for part, names in PARTS.items()}
    for name, part in SETTINGS.items():
        parts[part][name] = name in flags
    credentials = parts["credentials"]
    if "set_credentials" not in flags:
        for name in ("set_groups", "no_new_privs"):
            if name in flags:
                raise PlanError(f"settings.flags: {name} without set_credentials")
        for name, value in credentials.items():
            if value != _ABSENT["settings"][name]:
                raise PlanError(f"settings.{name}: a value without the flag set_credentials")
        parts["credentials"] = {}
        return parts
    if "set_groups" not in flags:
        if credentials["groups"]:
            raise PlanError("settings.groups: groups without the flag set_groups")
        credentials["groups"] = None
    credentials["no_new_privs"] = "no_new_privs" in flags
    return parts


def _operation_from(index: int, values: dict[str, Any]) -> Operation:
    kind = values.pop("kind")
    class_ = OPERATIONS[kind]
    for field in _wire.OPERATIONS[kind][1]:
        if "|" not in field and values[field] is None:
            raise PlanError(f"operations[{index}].{field}: {kind} needs it")
    arguments = {field: values.pop(field) for field in class_._fields}
    for field, value in values.items():
        if value != _ABSENT["operation"][field]:
            raise PlanError(f"operations[{index}].{field}: {kind} has no such field")
    return class_(**arguments)


class _Reader:
    """A plan's bytes, taken apart; nothing is believed before it is checked."""

    def __init__(self, wire: bytes) -> None:
        self._wire = wire
        if len(wire) < HEADER.size + TABLE.size:
            raise PlanError(f"the plan is cut off: {len(wire)} bytes")
        magic, version, size = HEADER.unpack_from(wire)
        if magic != _wire.MAGIC:
            raise PlanError("this is no plan: it does not start with SUBLPLAN")
        if version != _wire.VERSION:
            raise PlanError(f"the plan has version {version}, not {_wire.VERSION}")
        if size != len(wire) or size > _wire.MAX_SIZE:
            raise PlanError(f"the plan has {len(wire)} bytes and says {size}")
        self._places: dict[str, tuple[int, int]] = {}
        self._find_sections()
        self._enums: dict[str, dict[int, str]] = {}
        self._words = self._unpack("words")
        self._groups = self._unpack("groups")
        self.slots: tuple[str, ...] = ()
        self.slots = tuple(
            self._text(reference, f"slots[{index}]")
            for index, reference in enumerate(self._unpack("slots"))
        )

    def _find_sections(self) -> None:
        table = TABLE.unpack_from(self._wire, HEADER.size)
        end = HEADER.size + TABLE.size
        for index, (name, record) in enumerate(_wire.SECTIONS.items()):
            place, count = table[2 * index : 2 * index + 2]
            if place % 8 or place < end or place + count * SIZES[record] > len(self._wire):
                raise PlanError(f"section {name}: offset {place} with {count} records is no place")
            if count > LIMITS.get(name, count):
                raise PlanError(f"section {name}: {count} records; at most {LIMITS[name]}")
            end = place + count * SIZES[record]
            self._places[name] = (place, count)
        if self._places["settings"][1] != 1:
            raise PlanError("section settings: there must be exactly one record")
        start, length = self._places["strings"]
        if length and self._wire[start + length - 1]:
            raise PlanError("section strings: the last string is not terminated")

    def _unpack(self, section: str) -> tuple[int, ...]:
        """Return a section of plain numbers."""
        place, count = self._places[section]
        return struct.unpack_from(f"<{count}I", self._wire, place)

    def records(self, name: str) -> list[dict[str, Any]]:
        """Return all records of a section, as values by field."""
        return [self.record(name, index) for index in range(self._places[name][1])]

    def record(self, section: str, index: int) -> dict[str, Any]:
        """Return one record as values by field, without the reserved ones."""
        name = _wire.SECTIONS[section]
        place = self._places[section][0] + index * SIZES[name]
        numbers = iter(RECORDS[name].unpack_from(self._wire, place))
        values: dict[str, Any] = {}
        for field, kind, argument, absent in FIELDS[name]:
            where = f"{section}[{index}].{field}"
            number = next(numbers)
            second = next(numbers) if len(absent) == 2 else 0
            if field == "reserved":
                if number:
                    raise PlanError(f"{where}: {number} in a reserved field")
                continue
            values[field] = self._value(kind, argument, number, second, where)
            if values[field] is None and kind == "slot" and name != "operation":
                raise PlanError(f"{where}: no slot is named")
        return values

    def _value(self, kind: str, argument: str, number: int, second: int, where: str) -> Any:
        if kind == "enum":
            return self._enum(argument, number, where)
        if kind == "flags":
            return self._flags(argument, number, where)
        if kind == "run":
            return self._run(argument, number, second, where)
        if kind == "data":
            return self._data(number, second, where)
        if kind not in {"id", "str", "slot", "map"}:
            return number
        if number == NONE:
            return None
        if kind == "str":
            return self._text(number, where)
        if kind == "slot":
            if number >= len(self.slots):
                raise PlanError(f"{where}: slot {number} of {len(self.slots)}")
            return self.slots[number]
        if kind == "map" and number >= self._places["maps"][1]:
            raise PlanError(f"{where}: map {number} of {self._places['maps'][1]}")
        return number

    def _text(self, reference: int, where: str) -> str:
        start, length = self._places["strings"]
        if reference >= length:
            raise PlanError(f"{where}: string at {reference} of {length} bytes")
        end = self._wire.index(b"\0", start + reference)
        return self._wire[start + reference : end].decode("utf-8", "surrogateescape")

    def _run(self, section: str, first: int, count: int, where: str) -> Any:
        total = self._places[section][1]
        if first + count > total:
            raise PlanError(f"{where}: {section} {first} to {first + count} of {total}")
        if section == "extents":
            return first, count
        if section == "groups":
            return self._groups[first : first + count]
        return tuple(self._text(word, where) for word in self._words[first : first + count])

    def _data(self, offset: int, length: int, where: str) -> bytes:
        start, total = self._places["data"]
        if offset % 8:
            raise PlanError(f"{where}: offset {offset} is no multiple of 8")
        if offset + length > total:
            raise PlanError(f"{where}: bytes {offset} to {offset + length} of {total}")
        return self._wire[start + offset : start + offset + length]

    def _names(self, enum: str) -> dict[int, str]:
        names = self._enums.get(enum)
        if names is None:
            names = {number: name for name, number in _wire.ENUMS[enum].items()}
            self._enums[enum] = names
        return names

    def _enum(self, enum: str, number: int, where: str) -> str:
        name = self._names(enum).get(number)
        if name is None:
            raise PlanError(f"{where}: {number} is no {enum}")
        return name

    def _flags(self, enum: str, number: int, where: str) -> frozenset[str]:
        found = frozenset(name for bit, name in self._names(enum).items() if number & bit)
        left = number
        for name in found:
            left &= ~_wire.ENUMS[enum][name]
        if left:
            raise PlanError(f"{where}: {left:#x} is no {enum}")
        return found
