"""The JSON twin of a plan: for people to read, diff and keep, and for programs to write.

An object with ``"sublet-plan": 1`` first. Only what differs from a value's defaults is written, in
the order in which the classes define their fields, so that two plans can be compared line by line.
Modes and umasks are octal strings, capability sets are lists of names, extents are
"INSIDE:OUTSIDE:COUNT", resources have their names, and bytes that are text stay text.
"""

from __future__ import annotations

from sublet.errors import MapError, PlanError
from sublet.mounts.operations import OPERATIONS
from sublet.plan import _wire, capabilities, rlimits
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
from sublet.plan.validate import validate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sublet._value import AnyValue, Value
    from sublet.ids import IdMap
    from sublet.mounts.operations import Operation

VERSION = 1
"""The version of this form; a plan that says another is refused."""

_KEY = "sublet-plan"
_COLUMNS = 98
_OCTAL = frozenset(("mode", "umask"))
_MASKS = frozenset(("effective", "permitted", "inheritable", "ambient", "bounding"))
_PARTS: dict[str, type[Value]] = {
    "process": Process,
    "user_namespace": UserNamespace,
    "credentials": Credentials,
    "supervision": Supervision,
}
_LISTS: dict[str, type[Value]] = {
    "joins": Join,
    "rlimits": Rlimit,
    "descriptors": Descriptor,
}
# How each field travels is what the wire form says of it; booleans are the bits of `setting`.
_TYPES: dict[str, str] = {
    **{
        field: type_
        for record in ("rlimit", "descriptor", "join", "settings", "operation")
        for field, type_ in _wire.RECORDS[record][1]
    },
    **dict.fromkeys(_wire.ENUMS["setting"], "bool"),
    "slots": "run:words",
}


# ---------------------------------------------------------------- writing


def to_json(plan: Plan) -> str:
    """Return the plan as JSON text that ends in a newline.

    What is not ASCII stays readable; what cannot be printed is escaped, and so are bytes that are
    not UTF-8, as lone surrogates (PEP 383): :func:`from_json` makes the same bytes of them.
    """
    import json

    text = _laid_out({_KEY: VERSION, **_fields_to_json(plan)}, "", 0)
    printable = (c if c == "\n" or c.isprintable() else json.dumps(c)[1:-1] for c in text)
    return "".join(printable) + "\n"


def _laid_out(tree: Any, indent: str, before: int) -> str:
    """Return JSON with one member a line, except for objects and lists that fit on their line.

    *before*: characters of the line that the member's own name takes.
    """
    import json

    flat = json.dumps(tree, ensure_ascii=False)
    scalar = not isinstance(tree, dict | list) or not tree
    if scalar or (indent and len(indent) + before + len(flat) <= _COLUMNS):
        return flat
    deeper = indent + "  "
    if isinstance(tree, list):
        lines = [deeper + _laid_out(one, deeper, 0) for one in tree]
        return "[\n" + ",\n".join(lines) + f"\n{indent}]"
    names = [json.dumps(name) + ": " for name in tree]
    lines = [
        deeper + name + _laid_out(one, deeper, len(name))
        for name, one in zip(names, tree.values(), strict=True)
    ]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


def _fields_to_json(value: Value) -> dict[str, Any]:
    defaults = value._defaults  # noqa: SLF001 - a Value's description of itself
    return {
        name: _field_to_json(name, field)
        for name, field in ((name, getattr(value, name)) for name in value._fields)
        if name not in defaults or field != defaults[name]
    }


def _field_to_json(name: str, value: Any) -> Any:
    if name in _PARTS:
        return _fields_to_json(value)
    if name in _LISTS:
        return [_fields_to_json(one) for one in value]
    if name == "operations":
        return [{"kind": one.kind, **_fields_to_json(one)} for one in value]
    if name == "maps":
        return [{"uid": _map_to_json(one.uid), "gid": _map_to_json(one.gid)} for one in value]
    if name == "seccomp":
        return {"instructions": len(value) // 8, "base64": _base64(value)}
    if name == "content":
        return _content_to_json(value)
    if name in _OCTAL:
        return f"{value:04o}"
    if name in _MASKS:
        return ["all"] if value == capabilities.ALL else list(capabilities.names(value))
    if name == "resource":
        return rlimits.NAMES[value]
    if name in {"soft", "hard"} and value == rlimits.UNLIMITED:
        return "unlimited"
    if isinstance(value, frozenset):
        return sorted(value)
    return list(value) if isinstance(value, tuple) else value


def _map_to_json(map_: IdMap) -> list[str]:
    return [f"{int(one.inside)}:{int(one.outside)}:{one.count}" for one in map_.extents]


def _content_to_json(content: bytes) -> str | dict[str, str]:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return {"base64": _base64(content)}
    return text


def _base64(content: bytes) -> str:
    from base64 import b64encode

    return b64encode(content).decode()


# ---------------------------------------------------------------- reading


def from_json(text: str) -> Plan:
    """Return the plan that JSON *text* describes, validated; PlanError names the place in it."""
    import json

    try:
        tree = json.loads(text, object_pairs_hook=_unique)
    except (json.JSONDecodeError, RecursionError) as error:
        raise PlanError(f"the plan is not JSON: {error}") from error
    _expect(tree, dict, "$")
    version = tree.pop(_KEY, None)
    if type(version) is not int or version != VERSION:
        raise PlanError(
            f'$["{_KEY}"]: version {version!r}, not {VERSION}',
            hint=f'A plan in JSON starts with "{_KEY}": {VERSION}.',
        )
    plan: Plan = _object_from(Plan, tree, "$")
    validate(plan)
    return plan


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object; JSON lets a key be there twice, and then nobody knows which one counts."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise PlanError(f"the key {twice!r} is there twice in one object")
    return found


def _expect(value: Any, type_: type, where: str) -> None:
    # JSON's true is a Python int, which is not what a number is.
    if not isinstance(value, type_) or (type_ is int and isinstance(value, bool)):
        raise PlanError(f"{where}: {_NOUNS[type_]} is expected, not {_shown(value)}")


_NOUNS: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a string",
    int: "a number",
    bool: "true or false",
}


def _shown(value: Any) -> str:
    for type_, noun in _NOUNS.items():
        if isinstance(value, type_) and type_ in {dict, list}:
            return noun
    shown = "null" if value is None else repr(value)
    return shown if len(shown) < 80 else f"{shown[:77]}..."


def _object_from(class_: type[AnyValue], tree: Any, where: str) -> AnyValue:
    _expect(tree, dict, where)
    arguments: dict[str, Any] = {}
    for name, value in tree.items():
        if name not in class_._fields:
            raise PlanError(
                f"{where}.{name}: there is no such field",
                hint=f"There are: {', '.join(class_._fields)}.",
            )
        arguments[name] = _field_from(name, value, f"{where}.{name}")
    for name in class_._fields:
        if name not in arguments and name not in class_._defaults:  # noqa: SLF001
            raise PlanError(f"{where}.{name}: it is missing")
    return class_(**arguments)


def _field_from(name: str, value: Any, where: str) -> Any:
    if name in _PARTS:
        return _object_from(_PARTS[name], value, where)
    if name in _SPECIAL:
        return _SPECIAL[name](value, where)
    if name in _LISTS:
        return tuple(_object_from(_LISTS[name], one, at) for one, at in _items(value, where))
    if name in _OCTAL:
        return _octal_from(value, where)
    if name in _MASKS:
        return _mask_from(value, where)
    kind, _, argument = _TYPES[name].partition(":")
    if kind == "bool":
        _expect(value, bool, where)
        return value
    if kind == "flags":
        return frozenset(_name_from(one, argument, at) for one, at in _items(value, where))
    if kind == "enum":
        return _name_from(value, argument, where)
    if kind == "run":
        item = int if argument == "groups" else str
        for one, at in _items(value, where):
            _expect(one, item, at)
        return tuple(value)
    _expect(value, str if kind in {"str", "slot"} else int, where)
    return value


def _items(value: Any, where: str) -> list[tuple[Any, str]]:
    _expect(value, list, where)
    return [(one, f"{where}[{index}]") for index, one in enumerate(value)]


def _name_from(value: Any, enum: str, where: str) -> str:
    _expect(value, str, where)
    name: str = value
    if name not in _wire.ENUMS[enum]:
        raise PlanError(
            f"{where}: {_shown(name)} is no {enum}",
            hint=f"There are: {', '.join(_wire.ENUMS[enum])}.",
        )
    return name


def _octal_from(value: Any, where: str) -> int:
    _expect(value, str, where)
    if not 1 <= len(value) <= 5 or value.strip("01234567"):
        raise PlanError(f'{where}: an octal number such as "0755" is expected, not {_shown(value)}')
    return int(value, 8)


def _mask_from(value: Any, where: str) -> int:
    bits = 0
    for one, at in _items(value, where):
        _expect(one, str, at)
        try:
            bits |= capabilities.parse(one)
        except ValueError as error:
            raise PlanError(f"{at}: {error}") from error
    return bits


def _limit_from(value: Any, where: str) -> int:
    if value == "unlimited":
        return rlimits.UNLIMITED
    _expect(value, int, where)
    number: int = value
    return number


def _resource_from(value: Any, where: str) -> int:
    _expect(value, str, where)
    if value not in rlimits.NAMES:
        raise PlanError(
            f"{where}: {_shown(value)} is no resource",
            hint=f"There are: {', '.join(rlimits.NAMES)}.",
        )
    return rlimits.NAMES.index(value)


def _operations_from(value: Any, where: str) -> tuple[Operation, ...]:
    operations = []
    for one, at in _items(value, where):
        _expect(one, dict, at)
        kind = one.pop("kind", None)
        if not isinstance(kind, str) or kind not in OPERATIONS:
            raise PlanError(
                f"{at}.kind: {_shown(kind)} is no operation",
                hint=f"There are: {', '.join(OPERATIONS)}.",
            )
        operations.append(_object_from(OPERATIONS[kind], one, at))
    return tuple(operations)


def _maps_from(value: Any, where: str) -> tuple[Maps, ...]:
    maps = []
    for one, at in _items(value, where):
        _expect(one, dict, at)
        if set(one) != {"uid", "gid"}:
            raise PlanError(f"{at}: uid and gid are expected, and nothing else")
        maps.append(Maps(*(_map_from(one[side], f"{at}.{side}") for side in ("uid", "gid"))))
    return tuple(maps)


def _map_from(value: Any, where: str) -> IdMap:
    from sublet.ids import IdMap

    triples = []
    for one, at in _items(value, where):
        _expect(one, str, at)
        parts = one.split(":")
        if len(parts) != 3 or not all(_is_number(part) for part in parts):
            raise PlanError(f"{at}: INSIDE:OUTSIDE:COUNT is expected, not {_shown(one)}")
        triples.append((int(parts[0]), int(parts[1]), int(parts[2])))
    try:
        return IdMap.of(*triples)
    except MapError as error:
        raise PlanError(f"{where}: {error}", hint=error.hint) from error


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10


def _seccomp_from(value: Any, where: str) -> bytes:
    _expect(value, dict, where)
    if set(value) != {"instructions", "base64"}:
        raise PlanError(f"{where}: instructions and base64 are expected, and nothing else")
    content = _unbase64(value["base64"], f"{where}.base64")
    _expect(value["instructions"], int, f"{where}.instructions")
    if value["instructions"] * 8 != len(content):
        raise PlanError(
            f"{where}: {len(content)} bytes are not {value['instructions']} instructions"
        )
    return content


def _content_from(value: Any, where: str) -> bytes:
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise PlanError(f"{where}: {error.reason}") from error
    _expect(value, dict, where)
    if set(value) != {"base64"}:
        raise PlanError(f"{where}: base64 is expected, and nothing else")
    return _unbase64(value["base64"], f"{where}.base64")


def _unbase64(value: Any, where: str) -> bytes:
    from base64 import b64decode

    _expect(value, str, where)
    try:
        return b64decode(value, validate=True)
    except ValueError as error:
        raise PlanError(f"{where}: {error}") from error


_SPECIAL: dict[str, Callable[[Any, str], Any]] = {
    "operations": _operations_from,
    "maps": _maps_from,
    "seccomp": _seccomp_from,
    "content": _content_from,
    "resource": _resource_from,
    "soft": _limit_from,
    "hard": _limit_from,
}
