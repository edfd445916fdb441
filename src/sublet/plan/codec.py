"""The wire form of a plan: ``encode`` for the executor, ``decode`` to read one back.

Both are driven by the tables that spec/generate.py makes from spec/wire.toml; all that is said here
is which attribute of the values goes to which field of ``settings``. The form itself is described
there: a header, a table of sections, and sections of fixed records that point into the sections
``strings``, ``data`` and ``words``.

Every run encodes, and few decode: that is in a module of its own, :mod:`sublet.plan.decoding`.
"""

from __future__ import annotations

import struct

from sublet.errors import PlanError
from sublet.plan import _wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from sublet.plan.model import Plan

NONE = _wire.NONE
HEADER = struct.Struct(f"<{len(_wire.MAGIC)}sII")
TABLE = struct.Struct(f"<{2 * len(_wire.SECTIONS)}I")
RECORDS = {name: struct.Struct(format_) for name, (format_, _) in _wire.RECORDS.items()}
SIZES = {"byte": 1, "u32": 4, "str": 4} | {name: s.size for name, s in RECORDS.items()}
LIMITS = {
    "settings": 1,
    "words": _wire.MAX_WORDS,
    "groups": _wire.MAX_GROUPS,
    "extents": _wire.MAX_EXTENTS,
    "slots": _wire.MAX_SLOTS,
    "operations": _wire.MAX_OPERATIONS,
}

# Yes-or-no settings, and the part of the plan that has each as a field.
SETTINGS = {
    "pivot": "",
    "loopback": "",
    "lock_namespaces": "",
    "new_session": "process",
    "terminal": "process",
    "init": "supervision",
    "die_with_parent": "supervision",
    "report_always": "supervision",
    "sync_start": "supervision",
}
# Fields of records.settings, by the part of the plan that has them under the same name.
PARTS: dict[str, tuple[str, ...]] = {
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


def encode(plan: Plan, *, checked: bool = False) -> bytes:
    """Return the wire form of *plan*, which is validated first; PlanError where it is not valid.

    *checked*: it is known to be valid, as the planners' and all decoded plans are.
    """
    if not checked:
        from sublet.plan.validate import validate

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
    place = HEADER.size + TABLE.size
    table: list[int] = []
    body = bytearray()
    for name, record in _wire.SECTIONS.items():
        content = b"".join(sections[name])
        table += (place, len(content) // SIZES[record])
        body += content + bytes(-len(content) % 8)
        place += len(content) + -len(content) % 8
    for name, limit in LIMITS.items():
        count = table[2 * tuple(_wire.SECTIONS).index(name) + 1]
        if count > limit:
            raise PlanError(f"the plan has {count} {name}; at most {limit} can be sent")
    if place > _wire.MAX_SIZE:
        raise PlanError(f"the plan takes {place} bytes; at most {_wire.MAX_SIZE} can be sent")
    return HEADER.pack(_wire.MAGIC, _wire.VERSION, place) + TABLE.pack(*table) + bytes(body)


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
        for field, kind, argument, absent in FIELDS[name]:
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
        return RECORDS[name].pack(*numbers)


def _settings_of(plan: Plan) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for part, fields in PARTS.items():
        owner = plan if not part else getattr(plan, part)
        if owner is not None:
            for field in fields:
                values[field] = getattr(owner, field)
    flags = [
        name
        for name, part in SETTINGS.items()
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


def _fields_of(record: str) -> tuple[tuple[str, str, str, tuple[int, ...]], ...]:
    """Return name, kind, argument and the absent value (one number, or two) of each field."""
    fields = []
    for name, type_ in _wire.RECORDS[record][1]:
        kind, _, argument = type_.partition(":")
        absent: tuple[int, ...] = (0,)
        if kind in {"id", "str", "slot", "map"}:
            absent = (NONE,)
        elif kind in {"run", "data"}:
            absent = (0, 0)
        fields.append((name, kind, argument, absent))
    return tuple(fields)


FIELDS = {record: _fields_of(record) for record in _wire.RECORDS}


def decode(wire: bytes) -> Plan:
    """Return the plan whose wire form is *wire*; PlanError names what is wrong, and where."""
    from sublet.plan.decoding import decode

    return decode(wire)
