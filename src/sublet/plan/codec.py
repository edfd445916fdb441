"""The wire form of a plan: ``encode`` for the executor, ``decode`` to read one back.

Both are driven by the tables that spec/generate.py makes from spec/wire.toml; all that is said here
is which attribute of the values goes to which field of ``settings``. The form itself is described
there: a header, a table of sections, and sections of fixed records that point into the sections
``strings``, ``data`` and ``words``.

Decoding trusts nothing: every reference, bound, enum and flag is checked as the executor's decoder
does it, and then all that :func:`sublet.plan.validate.validate` checks. A PlanError names section,
record and field.
"""

from __future__ import annotations

import struct

from sublet.errors import MapError, PlanError
from sublet.mounts.operations import OPERATIONS
from sublet.plan import _wire
from sublet.plan.validate import validate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from sublet.mounts.operations import Operation
    from sublet.plan.model import Plan

_NONE = _wire.NONE
_HEADER = struct.Struct(f"<{len(_wire.MAGIC)}sII")
_TABLE = struct.Struct(f"<{2 * len(_wire.SECTIONS)}I")
_RECORDS = {name: struct.Struct(format_) for name, (format_, _) in _wire.RECORDS.items()}
_SIZES = {"byte": 1, "u32": 4, "str": 4} | {name: s.size for name, s in _RECORDS.items()}
_LIMITS = {
    "settings": 1,
    "words": _wire.MAX_WORDS,
    "groups": _wire.MAX_GROUPS,
    "extents": _wire.MAX_EXTENTS,
    "slots": _wire.MAX_SLOTS,
    "operations": _wire.MAX_OPERATIONS,
}

# Yes-or-no settings, and the part of the plan that has each as a field.
_SETTINGS = {
    "pivot": "",
    "loopback": "",
    "lock_namespaces": "",
    "new_session": "process",
    "terminal": "process",
    "init": "supervision",
    "die_with_parent": "supervision",
    "report_always": "supervision",
    "best_effort": "supervision",
    "sync_start": "supervision",
}
# Fields of records.settings, by the part of the plan that has them under the same name.
_PARTS: dict[str, tuple[str, ...]] = {
    "": ("namespaces", "root_propagation", "hostname", "domainname", "seccomp"),
    "user_namespace": (
        "writer",
        "setgroups",
        "setup_uid",
        "setup_gid",
        "newuidmap",
        "newgidmap",
    ),
    "credentials": (
        "uid",
        "gid",
        "groups",
        "effective",
        "permitted",
        "inheritable",
        "ambient",
        "bounding",
        "securebits",
    ),
    "process": ("umask", "directory", "search_path", "argv", "environment", "command"),
    "supervision": ("reporter", "timeout_ms"),
}


# ---------------------------------------------------------------- encoding


def encode(plan: Plan) -> bytes:
    """Return the wire form of *plan*, which is validated first; PlanError where it is not valid."""
    validate(plan)
    writer = _Writer(plan.slots)
    values = _settings_of(plan)
    sections: dict[str, Iterable[bytes | bytearray]] = {
        "settings": (writer.record("settings", values),),
        "slots": (struct.pack(f"<{len(plan.slots)}I", *map(writer.string, plan.slots)),),
        "maps": [
            writer.record("map", {"uid": maps.uid.extents, "gid": maps.gid.extents})
            for maps in plan.maps
        ],
        "joins": [writer.record("join", join.__dict__) for join in plan.joins],
        "operations": [
            writer.record("operation", {"kind": operation.kind, **operation.__dict__})
            for operation in plan.operations
        ],
        "rlimits": [writer.record("rlimit", rlimit.__dict__) for rlimit in plan.process.rlimits],
        "descriptors": [
            writer.record("descriptor", descriptor.__dict__)
            for descriptor in plan.process.descriptors
        ],
    }
    sections["strings"] = (writer.string_bytes,)
    sections["data"] = (writer.data_bytes,)
    sections["words"] = (struct.pack(f"<{len(writer.words)}I", *writer.words),)
    sections["groups"] = (struct.pack(f"<{len(writer.groups)}I", *writer.groups),)
    sections["extents"] = writer.extents
    return _assemble(sections)


def _assemble(sections: Mapping[str, Iterable[bytes | bytearray]]) -> bytes:
    """Lay the sections out, each at a multiple of 8, under header and table."""
    place = _HEADER.size + _TABLE.size
    table: list[int] = []
    body = bytearray()
    for name, record in _wire.SECTIONS.items():
        content = b"".join(sections[name])
        table += (place, len(content) // _SIZES[record])
        body += content + bytes(-len(content) % 8)
        place += len(content) + -len(content) % 8
    for name, limit in _LIMITS.items():
        count = table[2 * tuple(_wire.SECTIONS).index(name) + 1]
        if count > limit:
            raise PlanError(f"the plan has {count} {name}; at most {limit} can be sent")
    if place > _wire.MAX_SIZE:
        raise PlanError(f"the plan takes {place} bytes; at most {_wire.MAX_SIZE} can be sent")
    return _HEADER.pack(_wire.MAGIC, _wire.VERSION, place) + _TABLE.pack(*table) + bytes(body)


class _Writer:
    """The sections that records point into, growing; strings and data are kept once each."""

    def __init__(self, slots: Sequence[str]) -> None:
        self.string_bytes = bytearray()
        self.data_bytes = bytearray()
        self.words: list[int] = []
        self.groups: list[int] = []
        self.extents: list[bytes] = []
        self._strings: dict[str, int] = {}
        self._data: dict[bytes, int] = {}
        self._slots = {name: index for index, name in enumerate(slots)}

    def string(self, text: str) -> int:
        """Return the offset of a string; undecodable bytes travel as they came (PEP 383)."""
        place = self._strings.get(text)
        if place is None:
            place = self._strings[text] = len(self.string_bytes)
            self.string_bytes += text.encode("utf-8", "surrogateescape") + b"\0"
        return place

    def data(self, content: bytes) -> tuple[int, int]:
        """Return offset and length; offsets are multiples of 8, to read arrays in place."""
        if not content:
            return 0, 0
        place = self._data.get(content)
        if place is None:
            self.data_bytes += bytes(-len(self.data_bytes) % 8)
            place = self._data[content] = len(self.data_bytes)
            self.data_bytes += content
        return place, len(content)

    def run(self, section: str, items: Sequence[Any]) -> tuple[int, int]:
        """Return first and count of a run in the section."""
        if not items:
            return 0, 0
        target: list[Any] = getattr(self, section)
        first = len(target)
        if section == "words":
            target.extend(map(self.string, items))
        elif section == "extents":
            target.extend(self.record("extent", extent.__dict__) for extent in items)
        else:
            target.extend(items)
        return first, len(items)

    def record(self, name: str, values: Mapping[str, Any]) -> bytes:
        """Return one record; a field without a value is absent."""
        numbers: list[int] = []
        for field, kind, argument, absent in _FIELDS[name]:
            value = values.get(field)
            if value is None:
                numbers += absent
            elif kind == "str":
                numbers.append(self.string(value))
            elif kind == "flags":
                bits = 0
                for flag in value:
                    bits |= _wire.ENUMS[argument][flag]
                numbers.append(bits)
            elif kind == "enum":
                numbers.append(_wire.ENUMS[argument][value])
            elif kind == "run":
                numbers += self.run(argument, value)
            elif kind == "data":
                numbers += self.data(value)
            elif kind == "slot":
                numbers.append(self._slots[value])
            else:
                numbers.append(value)
        return _RECORDS[name].pack(*numbers)


def _settings_of(plan: Plan) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for part, fields in _PARTS.items():
        owner = plan if not part else getattr(plan, part)
        if owner is not None:
            for field in fields:
                values[field] = getattr(owner, field)
    flags = [
        name
        for name, part in _SETTINGS.items()
        if getattr(getattr(plan, part) if part else plan, name)
    ]
    if plan.credentials is not None:
        flags.append("set_credentials")
        if plan.credentials.no_new_privs:
            flags.append("no_new_privs")
        if plan.credentials.groups is not None:
            flags.append("set_groups")
    values["flags"] = flags
    return values


# ---------------------------------------------------------------- decoding


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
    parts = {part: {name: settings[name] for name in names} for part, names in _PARTS.items()}
    for name, part in _SETTINGS.items():
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
        if len(wire) < _HEADER.size + _TABLE.size:
            raise PlanError(f"the plan is cut off: {len(wire)} bytes")
        magic, version, size = _HEADER.unpack_from(wire)
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
        table = _TABLE.unpack_from(self._wire, _HEADER.size)
        end = _HEADER.size + _TABLE.size
        for index, (name, record) in enumerate(_wire.SECTIONS.items()):
            place, count = table[2 * index : 2 * index + 2]
            if place % 8 or place < end or place + count * _SIZES[record] > len(self._wire):
                raise PlanError(f"section {name}: offset {place} with {count} records is no place")
            if count > _LIMITS.get(name, count):
                raise PlanError(f"section {name}: {count} records; at most {_LIMITS[name]}")
            end = place + count * _SIZES[record]
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
        place = self._places[section][0] + index * _SIZES[name]
        numbers = iter(_RECORDS[name].unpack_from(self._wire, place))
        values: dict[str, Any] = {}
        for field, kind, argument, absent in _FIELDS[name]:
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
        if number == _NONE:
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


def _fields_of(record: str) -> tuple[tuple[str, str, str, tuple[int, ...]], ...]:
    """Return name, kind, argument and the absent value (one number, or two) of each field."""
    fields = []
    for name, type_ in _wire.RECORDS[record][1]:
        kind, _, argument = type_.partition(":")
        absent: tuple[int, ...] = (0,)
        if kind in {"id", "str", "slot", "map"}:
            absent = (_NONE,)
        elif kind in {"run", "data"}:
            absent = (0, 0)
        fields.append((name, kind, argument, absent))
    return tuple(fields)


_FIELDS = {record: _fields_of(record) for record in _wire.RECORDS}

# What an absent field is once it is decoded: a record has a place for it all the same.
_EMPTY = {"run": (), "data": b"", "flags": frozenset(), "enum": "keep"} | dict.fromkeys(
    ("id", "str", "slot", "map")
)
_ABSENT: dict[str, dict[str, Any]] = {
    record: {name: _EMPTY.get(kind, 0) for name, kind, _, _ in _FIELDS[record]}
    for record in ("settings", "operation")
}
