"""The values of a seccomp profile, and the parser of Docker's JSON form.

The form is described by the OCI runtime specification (config-linux.md, "Seccomp"), which Docker
and Podman extend with ``archMap``, ``includes``, ``excludes``, ``defaultErrno`` and ``errno``.
"""

from __future__ import annotations

import errno

from sublet._value import Value
from sublet.errors import NotationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

    # masked_ne is ours: it says what an allow-list must say to refuse one value of a 32-bit
    # argument, whatever stands in the other half of the register. The JSON form cannot say it.
    Operator = Literal["eq", "ne", "lt", "le", "ge", "gt", "masked_eq", "masked_ne"]

# What a filter returns (linux/seccomp.h): the action in the high half, its datum in the low one.
KILL_THREAD = 0x00000000
TRAP = 0x00030000
ERRNO = 0x00050000
NOTIFY = 0x7FC00000
TRACE = 0x7FF00000
LOG = 0x7FFC0000
ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
# The largest errno that the kernel passes on (MAX_ERRNO, linux/err.h); a larger one is lowered to
# it.
MAX_ERRNO = 4095
MAX_U64 = (1 << 64) - 1

ACTIONS = {
    "SCMP_ACT_KILL": KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_TRAP": TRAP,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_TRACE": TRACE,
    "SCMP_ACT_ALLOW": ALLOW,
    "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_NOTIFY": NOTIFY,
}
OPERATORS: dict[str, Operator] = {
    "SCMP_CMP_EQ": "eq",
    "SCMP_CMP_NE": "ne",
    "SCMP_CMP_LT": "lt",
    "SCMP_CMP_LE": "le",
    "SCMP_CMP_GE": "ge",
    "SCMP_CMP_GT": "gt",
    "SCMP_CMP_MASKED_EQ": "masked_eq",
}
ARCHITECTURES = frozenset(
    f"SCMP_ARCH_{name}"
    for name in (
        *("NATIVE", "X86", "X86_64", "X32", "ARM", "AARCH64", "M68K", "PARISC", "PARISC64"),
        *("MIPS", "MIPS64", "MIPS64N32", "MIPSEL", "MIPSEL64", "MIPSEL64N32", "SH", "SHEB"),
        *("PPC", "PPC64", "PPC64LE", "S390", "S390X", "RISCV64", "LOONGARCH64"),
    )
)
FLAGS = frozenset(
    f"SECCOMP_FILTER_FLAG_{name}" for name in ("TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV")
)


class Condition(Value):
    """What one argument must be: compared as an unsigned 64-bit number.

    ``index``: which argument, 0 to 5. ``value``: what it is compared with. ``mask``: for the masked
    operators, the bits that are compared.
    """

    index: int
    op: Operator
    value: int
    mask: int = MAX_U64


class Rule(Value):
    """Some system calls, and what becomes of them.

    ``action``: what the filter returns, datum included. ``conditions``: all must hold. The others
    say where the rule applies at all: ``capabilities`` (all of them held),
    ``without_capabilities`` (none of them held), ``arches`` and ``without_arches`` (as Go names
    them: amd64, arm64; empty: any), ``min_kernel`` (this version or later), ``before_kernel``
    (earlier than this version).
    """

    names: tuple[str, ...]
    action: int
    conditions: tuple[Condition, ...] = ()
    capabilities: tuple[str, ...] = ()
    without_capabilities: tuple[str, ...] = ()
    arches: tuple[str, ...] = ()
    without_arches: tuple[str, ...] = ()
    min_kernel: tuple[int, int] | None = None
    before_kernel: tuple[int, int] | None = None


class Profile(Value):
    """A whole profile.

    ``architectures``: those that it was written for, as it lists them; sub-architectures too.
    ``flags``: SECCOMP_FILTER_FLAG_* to install it with. ``listener_path``: the socket that is sent
    the notification descriptor, where an action is to notify.
    """

    default_action: int
    rules: tuple[Rule, ...]
    architectures: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    listener_path: str | None = None
    listener_metadata: str | None = None


def parse_profile(document: object) -> Profile:
    """Return the profile in *document*: Docker's or OCI's JSON form, already decoded.

    Raises NotationError, naming the place in the document, for what is not in the form.
    """
    top = _fields(
        document,
        "the profile",
        "defaultAction defaultErrnoRet defaultErrno archMap architectures syscalls flags "
        "listenerPath listenerMetadata",
    )
    rules: list[Rule] = []
    for i, entry in enumerate(_list(top, "syscalls", "")):
        rules += _parse_rule(entry, f"syscalls[{i}]")
    flags = _strings(top, "flags", "")
    for i, flag in enumerate(flags):
        _known(flag, FLAGS, f"flags[{i}]", "flag")
    return Profile(
        default_action=_parse_action(
            top, "", action="defaultAction", number="defaultErrnoRet", name="defaultErrno"
        ),
        rules=tuple(rules),
        architectures=_parse_architectures(top),
        flags=flags,
        listener_path=_optional_string(top, "listenerPath"),
        listener_metadata=_optional_string(top, "listenerMetadata"),
    )


def _parse_architectures(top: dict[str, Any]) -> tuple[str, ...]:
    names = list(_strings(top, "architectures", ""))
    places = [f"architectures[{i}]" for i in range(len(names))]
    entries = _list(top, "archMap", "")
    if names and entries:
        raise NotationError("archMap: architectures is there too", hint="Keep one of the two.")
    for i, entry in enumerate(entries):
        place = f"archMap[{i}]"
        fields = _fields(entry, place, "architecture subArchitectures")
        found = [_string(fields, "architecture", place)]
        found += _strings(fields, "subArchitectures", place)
        names += found
        places += [place] * len(found)
    for name, place in zip(names, places, strict=True):
        _known(name, ARCHITECTURES, place, "architecture")
    return tuple(names)


def _parse_rule(entry: object, place: str) -> list[Rule]:
    """Return the rules of one element of ``syscalls``: one, or one for each condition.

    A rule that says several things about the same argument would be refused by libseccomp. The OCI
    engines have always read it as that many rules, of which any may match; so do we, since a
    profile must not mean one thing there and another here.
    """
    fields = _fields(
        entry, place, "names name action errnoRet errno args comment includes excludes"
    )
    names = _strings(fields, "names", place)
    if fields.get("name"):
        if names:
            raise NotationError(f"{place}.name: names is there too", hint="Keep one of the two.")
        names = (_string(fields, "name", place),)
    if not names:
        raise NotationError(f"{place}.names: it names no system call")
    conditions = [
        _parse_condition(condition, f"{place}.args[{i}]")
        for i, condition in enumerate(_list(fields, "args", place))
    ]
    includes = _parse_filter(fields, "includes", place)
    excludes = _parse_filter(fields, "excludes", place)
    indexes = {condition.index for condition in conditions}
    several = len(indexes) < len(conditions)
    action = _parse_action(fields, place, action="action", number="errnoRet", name="errno")
    return [
        Rule(
            names=names,
            action=action,
            conditions=choice,
            capabilities=includes[0],
            arches=includes[1],
            min_kernel=includes[2],
            without_capabilities=excludes[0],
            without_arches=excludes[1],
            before_kernel=excludes[2],
        )
        for choice in ([(one,) for one in conditions] if several else [tuple(conditions)])
    ]


def _parse_condition(entry: object, place: str) -> Condition:
    fields = _fields(entry, place, "index value valueTwo op")
    op = OPERATORS[_known(_string(fields, "op", place), OPERATORS, f"{place}.op", "operator")]
    index = _number(fields, "index", place, 5)
    value = _number(fields, "value", place, MAX_U64)
    second = _number(fields, "valueTwo", place, MAX_U64)
    if op == "masked_eq":
        # the form has the mask first; bits outside it never matter (seccomp_rule_add(3))
        return Condition(index, op, second & value, value)
    return Condition(index, op, value)


def _parse_action(
    fields: dict[str, Any], place: str, *, action: str, number: str, name: str
) -> int:
    """Return an action with its datum, an errno or a message to the tracer; EPERM by default."""
    word = _string(fields, action, place)
    value = ACTIONS[_known(word, ACTIONS, _join(place, action), "action")]
    datum = errno.EPERM
    if fields.get(name):
        codes = {symbol: code for code, symbol in errno.errorcode.items()}
        text = _string(fields, name, place)
        datum = codes[_known(text, codes, _join(place, name), "errno")]
    if fields.get(number) is not None:
        datum = _number(fields, number, place, MAX_ERRNO)
    return value | datum if value in {ERRNO, TRACE} else value


def _parse_filter(
    fields: dict[str, Any], key: str, place: str
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[int, int] | None]:
    """Return the capabilities, architectures and kernel of ``includes`` or ``excludes``."""
    place = f"{place}.{key}"
    inner = _fields(fields.get(key) or {}, place, "caps arches minKernel")
    caps = _strings(inner, "caps", place)
    for i, cap in enumerate(caps):
        if not cap.startswith("CAP_"):
            raise NotationError(
                f"{place}.caps[{i}]: {cap!r} is no capability",
                hint="They are written CAP_SYS_ADMIN.",
            )
    kernel = None
    if inner.get("minKernel"):
        text = _string(inner, "minKernel", place)
        major, _, minor = text.partition(".")
        if not (text.isascii() and major.isdigit() and minor.isdigit()):
            raise NotationError(
                f"{place}.minKernel: {text!r} is no kernel version", hint="It is written 4.8."
            )
        kernel = (int(major), int(minor))
    return caps, _strings(inner, "arches", place), kernel


def _join(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def _known(word: str, words: dict[str, Any] | frozenset[str], place: str, kind: str) -> str:
    if word not in words:
        raise NotationError(f"{place}: {word!r} is no {kind} that Sublet knows")
    return word


def _fields(value: object, place: str, allowed: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise NotationError(f"{place}: an object was expected, not {type(value).__name__}")
    for key in value:
        if key not in allowed.split():
            inside = key if place == "the profile" else f"{place}.{key}"
            raise NotationError(
                f"{inside}: no such field in a seccomp profile",
                hint=f"The fields here are: {', '.join(allowed.split())}.",
            )
    return value


def _list(fields: dict[str, Any], key: str, place: str) -> list[Any]:
    # engines write null for an empty list
    value = fields.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise NotationError(f"{_join(place, key)}: a list was expected")
    return value


def _strings(fields: dict[str, Any], key: str, place: str) -> tuple[str, ...]:
    values = _list(fields, key, place)
    for i, value in enumerate(values):
        if not isinstance(value, str) or not value:
            raise NotationError(f"{_join(place, key)}[{i}]: a word was expected")
    return tuple(values)


def _string(fields: dict[str, Any], key: str, place: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str) or not value:
        raise NotationError(f"{_join(place, key)}: a word was expected")
    return value


def _optional_string(fields: dict[str, Any], key: str) -> str | None:
    return _string(fields, key, "") if fields.get(key) else None


def _number(fields: dict[str, Any], key: str, place: str, largest: int) -> int:
    # Go leaves a zero out
    value = fields.get(key, 0)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= largest:
        raise NotationError(f"{_join(place, key)}: a number from 0 to {largest} was expected")
    return value
