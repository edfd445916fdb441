"""Validation: what makes a plan one that the executor can carry out.

The checks are those that need nothing but the plan itself. They stand between planners and
executor, so that a mistake is named in the planner's words (operation, field) and not by an errno
out of a half-made sandbox. What the machine allows is the kernel's to say.

A check of one field returns the rest of a sentence, or "" where all is well: sentences are only
put together for the plan that is wrong.
"""

from __future__ import annotations

from sublet.errors import MapError, PlanError
from sublet.plan import _wire, rlimits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sublet.ids import IdMap
    from sublet.mounts.operations import Operation
    from sublet.plan.model import Plan

_MAX_ID = 4294967294
_MAX_U32 = 0xFFFFFFFF
_MAX_U64 = 0xFFFFFFFFFFFFFFFF
_MAX_MAJOR = 0xFFF  # the kernel's dev_t: 12 bits and 20 bits
_MAX_MINOR = 0xFFFFF
_MAX_NAME = 64  # of host and domain names, in bytes: __NEW_UTS_LEN
_MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS
_INSTRUCTION_BYTES = 8  # struct sock_filter

_ATTRIBUTES = frozenset(_wire.ENUMS["attribute"])
_FLAGS = {kind: frozenset(rule[3]) for kind, rule in _wire.OPERATIONS.items()}
_PLACES = frozenset(  # what can be done to, or mounted on, the root itself
    ("bind", "overlay", "tmpfs", "proc", "sysfs", "mqueue", "cgroup2", "devpts", "remount", "chmod")
)
_ROOTS = frozenset(("bind", "overlay", "tmpfs"))


def validate(plan: Plan) -> None:
    """Raise PlanError where *plan* cannot be carried out, naming the operation or field."""
    slots = _check_slots(plan)
    _check_namespaces(plan, slots)
    _check_user_namespace(plan)
    _check_process(plan, slots)
    if plan.credentials is not None:
        _check_credentials(plan)
    _check_supervision(plan)
    count = len(plan.maps)
    for index, operation in enumerate(plan.operations):
        problem = _operation_problem(operation, slots, count)
        if problem:
            kind = operation.kind or type(operation).__name__
            raise PlanError(
                f"operation {index} ({kind} {operation.target}): {problem}", path=operation.target
            )
    if plan.pivot and not any(
        operation.target == "/" and operation.kind in _ROOTS for operation in plan.operations
    ):
        raise PlanError("pivot: no operation mounts a new root at /")


# ---------------------------------------------------------------- fields


def _text(value: str) -> str:
    if "\0" in value:
        return "has a NUL in it"
    if value.isascii():
        return ""
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return "has half of a surrogate pair in it"
    return ""


def _word(value: str) -> str:
    return _text(value) if value else "is empty"


def _words(values: tuple[str, ...]) -> str:
    for value in values:
        problem = _word(value)
        if problem:
            return f"{value!r} {problem}"
    return ""


def _absolute(value: str) -> str:
    if not value.startswith("/"):
        return f"{value!r} is not absolute"
    return _text(value)


def _absolutes(values: tuple[str, ...]) -> str:
    for value in values:
        problem = _absolute(value)
        if problem:
            return problem
    return ""


def _target(value: str) -> str:
    if value == "/":
        return ""
    if not value.startswith("/"):
        return f"{value!r} is not absolute"
    return _normalised(value, value[1:])


def _normalised(value: str, relative: str) -> str:
    # Slashes around it let one search find a component at either end.
    bounded = f"/{relative}/"
    if "/../" in bounded:
        return f"{value!r} has .. in it"
    if "//" in bounded or "/./" in bounded:
        return f"{value!r} is not normalised"
    return _text(value)


def _mode(value: int) -> str:
    return "" if 0 <= value <= 0o7777 else f"{value:#o} is no mode"


def _id(value: int) -> str:
    return "" if 0 <= value <= _MAX_ID else f"{value} is no usable ID"


def _u64(value: int) -> str:
    return "" if 0 <= value <= _MAX_U64 else f"{value} is no 64-bit number"


def _propagation(value: str) -> str:
    return "" if value in _wire.ENUMS["propagation"] else f"{value!r} is no propagation"


def _attributes(value: frozenset[str]) -> str:
    if value <= _ATTRIBUTES:
        if "noatime" in value and "strictatime" in value:
            return "noatime and strictatime exclude one another"
        return ""
    return f"{', '.join(sorted(value - _ATTRIBUTES))}: no such attribute"


def _content(_value: bytes) -> str:
    return ""


def _major(value: int) -> str:
    return "" if 0 <= value <= _MAX_MAJOR else f"{value} is no major number"


def _minor(value: int) -> str:
    return "" if 0 <= value <= _MAX_MINOR else f"{value} is no minor number"


_FIELDS: dict[str, Callable[[Any], str]] = {
    "source": _absolute,
    "work": _absolute,
    "lower": _absolutes,
    "options": _words,
    "text": _word,
    "mode": _mode,
    "uid": _id,
    "gid": _id,
    "size": _u64,
    "device_major": _major,
    "device_minor": _minor,
    "attributes_set": _attributes,
    "attributes_clear": _attributes,
    "propagation": _propagation,
    "content": _content,
}


# ---------------------------------------------------------------- operations


def _operation_problem(operation: Operation, slots: frozenset[str], maps: int) -> str:
    kind = operation.kind
    if kind not in _FLAGS:
        return "there is no such kind"
    target = operation.target
    values = operation.__dict__
    problem = _normalised(target, target) if kind == "sysctl" else _target(target)
    if problem:
        return f"target: {problem}"
    if target == "/" and kind not in _PLACES:
        return "target: this cannot be done to the root itself"
    if not operation.flags <= _FLAGS[kind]:
        unknown = ", ".join(sorted(operation.flags - _FLAGS[kind]))
        return f"flags: {unknown} means nothing here"
    for field, value in values.items():
        if value is None or field in {"target", "flags"}:
            continue
        if field == "slot":
            if value not in slots:
                return f"slot: the plan has no slot {value!r}"
        elif field == "map":
            if not 0 <= value < maps:
                return f"map: there is no map {value}; the plan has {maps}"
        else:
            problem = _FIELDS[field](value)
            if problem:
                return f"{field}: {problem}"
    special = _SPECIAL.get(kind)
    return special(values, operation.flags, maps) if special else ""


def _bind(values: dict[str, Any], flags: frozenset[str], maps: int) -> str:
    if (values["source"] is None) == (values["slot"] is None):
        return "exactly one of source and slot must be given"
    both = values["attributes_set"] & values["attributes_clear"]
    if both:
        return f"attributes: {', '.join(sorted(both))} both set and cleared"
    if "own_map" in flags:
        if values["map"] is not None:
            return "flags: own_map and a map exclude one another"
        if not maps:
            return "flags: own_map, but the plan has no map"
    return ""


def _overlay(values: dict[str, Any], flags: frozenset[str], _maps: int) -> str:
    if not values["lower"]:
        return "lower: there must be one at least"
    if (values["source"] is None) != (values["work"] is None):
        return "source and work must be given together"
    if "scratch" in flags:
        if values["source"] is not None:
            return "flags: scratch makes its own upper directory, so no source may be given"
    elif values["size"]:
        return "size: only scratch has a size"
    return ""


def _file(values: dict[str, Any], flags: frozenset[str], _maps: int) -> str:
    if values["content"] and values["slot"] is not None:
        return "content and slot exclude one another"
    return _creation(values, flags, _maps)


def _creation(_values: dict[str, Any], flags: frozenset[str], _maps: int) -> str:
    if "exclusive" in flags and "if_missing" in flags:
        return "flags: exclusive and if_missing exclude one another"
    return ""


def _remount(values: dict[str, Any], _flags: frozenset[str], _maps: int) -> str:
    both = values["attributes_set"] & values["attributes_clear"]
    if both:
        return f"attributes: {', '.join(sorted(both))} both set and cleared"
    return ""


def _chmod(values: dict[str, Any], _flags: frozenset[str], _maps: int) -> str:
    return "mode: it must be given" if values["mode"] is None else ""


_SPECIAL: dict[str, Callable[[dict[str, Any], frozenset[str], int], str]] = {
    "bind": _bind,
    "overlay": _overlay,
    "file": _file,
    "bind_file": _file,
    "directory": _creation,
    "symlink": _creation,
    "remount": _remount,
    "chmod": _chmod,
}


# ---------------------------------------------------------------- the plan's own fields


def _require(field: str, problem: str) -> None:
    if problem:
        raise PlanError(f"{field}: {problem}")


def _check_slots(plan: Plan) -> frozenset[str]:
    slots = frozenset(plan.slots)
    if len(slots) != len(plan.slots):
        raise PlanError("slots: a name is there twice")
    for name in plan.slots:
        _require(f"slots: {name!r}", _word(name))
        if "=" in name:
            raise PlanError(f"slots: {name!r} has = in it")
    return slots


def _check_namespaces(plan: Plan, slots: frozenset[str]) -> None:
    known = _wire.ENUMS["namespace"]
    made = plan.namespaces
    joined = set()
    for join in plan.joins:
        if join.namespace not in known:
            raise PlanError(f"joins: {join.namespace!r} is no namespace")
        if join.namespace in made or join.namespace in joined:
            raise PlanError(f"joins: the {join.namespace} namespace is made or joined twice")
        if join.slot not in slots:
            raise PlanError(f"joins: {join.namespace}: the plan has no slot {join.slot!r}")
        joined.add(join.namespace)
    unknown = made - known.keys()
    if unknown:
        raise PlanError(f"namespaces: {', '.join(sorted(unknown))}: no such namespace")
    _require("root_propagation", _propagation(plan.root_propagation))
    for field, wanted, kind in (
        ("pivot", plan.pivot, "mount"),
        ("loopback", plan.loopback, "net"),
        ("lock_namespaces", plan.lock_namespaces, "user"),
        ("supervision.init", plan.supervision.init, "pid"),
    ):
        if wanted and kind not in made:
            raise PlanError(f"{field}: the plan makes no {kind} namespace")
    if plan.root_propagation != "keep" and "mount" not in made | joined:
        raise PlanError("root_propagation: it would change the machine's own mounts")
    for field, name in (("hostname", plan.hostname), ("domainname", plan.domainname)):
        if name is None:
            continue
        _require(field, _text(name))
        if "uts" not in made | joined:
            raise PlanError(f"{field}: the plan has no uts namespace")
        if len(name.encode("utf-8", "surrogateescape")) > _MAX_NAME:
            raise PlanError(f"{field}: it is longer than {_MAX_NAME} bytes")


def _check_user_namespace(plan: Plan) -> None:
    user = plan.user_namespace
    for index, maps in enumerate(plan.maps):
        for side, map_ in (("uid", maps.uid), ("gid", maps.gid)):
            try:
                map_.check_kernel()
            except MapError as error:
                raise PlanError(f"maps[{index}].{side}: {error}", hint=error.hint) from error
    if user.writer not in _wire.ENUMS["writer"]:
        raise PlanError(f"user_namespace.writer: {user.writer!r} is no writer")
    if user.setgroups not in _wire.ENUMS["setgroups"]:
        raise PlanError(f"user_namespace.setgroups: {user.setgroups!r} is neither allow nor deny")
    makes = "user" in plan.namespaces
    if makes and user.writer == "none":
        raise PlanError("user_namespace.writer: nobody writes the new user namespace's maps")
    if not makes and user.writer != "none":
        raise PlanError(f"user_namespace.writer: {user.writer}, but no user namespace is made")
    if makes and not plan.maps:
        raise PlanError("maps: the new user namespace has no map")
    if user.writer == "self":
        if any(
            len(map_.extents) != 1 or map_.extents[0].count != 1
            for map_ in (plan.maps[0].uid, plan.maps[0].gid)
        ):
            raise PlanError("maps[0]: a process may map one ID itself, its own")
        if user.setgroups != "deny":
            raise PlanError("user_namespace.setgroups: deny it is, where a process maps itself")
    for field, helper in (("newuidmap", user.newuidmap), ("newgidmap", user.newgidmap)):
        if helper is not None:
            _require(f"user_namespace.{field}", _absolute(helper))
        elif user.writer == "helpers":
            raise PlanError(f"user_namespace.{field}: the writer is helpers, and there is no path")
    _check_inside(plan, "user_namespace.setup_uid", user.setup_uid, "uid")
    _check_inside(plan, "user_namespace.setup_gid", user.setup_gid, "gid")


def _check_inside(plan: Plan, field: str, number: int | None, side: str) -> None:
    """Raise PlanError where an inside ID is none, or the map of the new namespace lacks it."""
    if number is None:
        return
    _require(field, _id(number))
    if "user" in plan.namespaces:
        map_: IdMap = getattr(plan.maps[0], side)
        if not any(one.inside <= number < one.inside_end for one in map_.extents):
            raise PlanError(f"{field}: {number} has no mapping in the new user namespace")


def _check_process(plan: Plan, slots: frozenset[str]) -> None:
    process = plan.process
    if not process.argv:
        raise PlanError("process.argv: there is no command")
    for index, word in enumerate(process.argv):
        _require(f"process.argv[{index}]", _text(word))
    for index, entry in enumerate(process.environment):
        if entry.find("=") < 1:
            raise PlanError(f"process.environment[{index}]: {entry!r} is not NAME=VALUE")
        _require(f"process.environment[{index}]", _text(entry))
    command = process.argv[0] if process.command is None else process.command
    _require("process.command", _word(command))
    if process.search_path is not None:
        _require("process.search_path", _text(process.search_path))
    elif "/" not in command:
        raise PlanError(f"process.command: {command!r} has no slash, and there is no search_path")
    if process.directory is not None:
        _require("process.directory", _absolute(process.directory))
    if process.umask is not None and not 0 <= process.umask <= 0o777:
        raise PlanError(f"process.umask: {process.umask:#o} is no umask")
    seen = set()
    for limit in process.rlimits:
        if not 0 <= limit.resource < len(rlimits.NAMES) or limit.resource in seen:
            raise PlanError(f"process.rlimits: {limit.resource} is no resource, or there twice")
        if not 0 <= limit.soft <= limit.hard <= _MAX_U64:
            raise PlanError(f"process.rlimits: {limit.soft}:{limit.hard} is no soft and hard limit")
        seen.add(limit.resource)
    numbers = set()
    for descriptor in process.descriptors:
        number = descriptor.number
        if descriptor.slot not in slots:
            raise PlanError(f"process.descriptors: the plan has no slot {descriptor.slot!r}")
        if not 0 <= number <= _wire.MAX_DESCRIPTOR or number in numbers:
            raise PlanError(f"process.descriptors: {number} is no number, or there twice")
        if process.terminal and number < 3:
            raise PlanError(f"process.descriptors: {number} is the terminal's")
        numbers.add(number)
    if len(plan.seccomp) % _INSTRUCTION_BYTES:
        raise PlanError(f"seccomp: {len(plan.seccomp)} bytes are no whole number of instructions")
    if len(plan.seccomp) > _INSTRUCTION_BYTES * _MAX_INSTRUCTIONS:
        raise PlanError(f"seccomp: the kernel takes {_MAX_INSTRUCTIONS} instructions at most")


def _check_credentials(plan: Plan) -> None:
    who = plan.credentials
    if who is None:
        return
    _check_inside(plan, "credentials.uid", who.uid, "uid")
    _check_inside(plan, "credentials.gid", who.gid, "gid")
    if who.groups is not None:
        if "user" in plan.namespaces and plan.user_namespace.setgroups != "allow":
            raise PlanError("credentials.groups: setgroups is denied in the new user namespace")
        for group in who.groups:
            _check_inside(plan, "credentials.groups", group, "gid")
    for field in ("effective", "permitted", "inheritable", "ambient", "bounding"):
        _require(f"credentials.{field}", _u64(getattr(who, field)))
    if who.effective & ~who.permitted:
        raise PlanError("credentials.effective: more than is permitted")
    if who.ambient & ~(who.permitted & who.inheritable):
        raise PlanError("credentials.ambient: more than is permitted and inheritable")
    if not 0 <= who.securebits <= _MAX_U32:
        raise PlanError(f"credentials.securebits: {who.securebits} is no 32-bit number")


def _check_supervision(plan: Plan) -> None:
    supervision = plan.supervision
    _require("supervision.timeout_ms", _u64(supervision.timeout_ms))
    for index, word in enumerate(supervision.reporter):
        _require(f"supervision.reporter[{index}]", _text(word) if index else _absolute(word))
    if supervision.report_always and not supervision.reporter:
        raise PlanError("supervision.report_always: there is no reporter")
