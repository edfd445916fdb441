"""From a profile to a program of classic BPF.

What a program does, in this order:

* another architecture than its own is refused. So are, on x86_64, 32-bit calls (they report another
  architecture) and x32 calls (bit 30 of the number): no rule speaks of them, and each would be a
  way around the rules. Refused means ENOSYS, as on a kernel built without them, or death where the
  profile's default is death;
* the number is looked up by halving; neighbours with the same fate are one piece. A number above
  all that the profile names is of a call newer than the profile: where the default is to refuse,
  it gets ENOSYS, so that the C library tries an older call, as the OCI engines do;
* where a fate depends on arguments, they are compared as unsigned 64-bit numbers.

How rules for one call combine, as libseccomp and the OCI engines have it: a rule with the default
action says nothing; the first rule without conditions decides alone; else the first rule whose
conditions all hold; else the default. A name that no architecture has is passed over and reported.
"""

from __future__ import annotations

import errno

from sublet._value import Value
from sublet.errors import InputError
from sublet.seccomp._syscalls import NUMBERS
from sublet.seccomp.bpf import ARCH, ARGS, JEQ, JGE, JGT, JSET, NR, Assembler, Return
from sublet.seccomp.profile import (
    ALLOW,
    ERRNO,
    KILL_PROCESS,
    KILL_THREAD,
    LOG,
    MAX_U64,
    NOTIFY,
    TRACE,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from sublet.seccomp.profile import Condition, Profile, Rule

    # (argument, mask, value, negated): masked bits equal; with mask None: value or greater
    Test = tuple[int, int | None, int, bool]
    # each in turn: the tests, and the action if all hold; then what holds if none does
    Chain = tuple[tuple[tuple[tuple[Test, ...], int], ...], int]

# AUDIT_ARCH_* (linux/audit.h) and the architecture as Go, thus Docker, names it
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
GO_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}
X32_BIT = 0x40000000
LOW_WORD = 0xFFFFFFFF
ENOSYS = ERRNO | errno.ENOSYS


class Program(Value):
    """A compiled profile.

    ``filter``: an array of ``struct sock_filter``. ``needs_notify``: it must be installed with
    SECCOMP_FILTER_FLAG_NEW_LISTENER and someone must listen. ``unknown``: names in the profile that
    are system calls of neither architecture: misspelt, 32-bit, or newer than Sublet.
    ``flags``: the profile's.
    """

    filter: bytes
    needs_notify: bool = False
    unknown: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


def compile_profile(
    profile: Profile, arch: str, capabilities: AbstractSet[str], kernel: tuple[int, int]
) -> Program:
    """Compile *profile* for the machine *arch* (``x86_64``, ``aarch64``).

    *capabilities*: names (``CAP_SYS_ADMIN``) that the command will have; *kernel*: version and
    patch level. They decide which rules apply. Raises InputError for another architecture, and for
    a program longer than the kernel takes.
    """
    numbers = NUMBERS.get(arch)
    if numbers is None:
        raise InputError(
            f"there is no table of system calls for {arch}",
            hint=f"Filters can be made for {' and '.join(NUMBERS)}; run without one elsewhere.",
        )
    default = profile.default_action
    refused = default if default in {KILL_PROCESS, KILL_THREAD} else ENOSYS
    fates, newest, unknown = _fates(profile, arch, numbers, capabilities, kernel)

    assembler = Assembler()
    targets: dict[int | Chain, int | Return] = {}
    pieces: list[tuple[int, int | Return]] = []
    for start, fate in _pieces(fates, default, newest, arch, refused):
        if fate not in targets:
            targets[fate] = Return(fate) if isinstance(fate, int) else _chain(assembler, fate)
        pieces.append((start, targets[fate]))

    assembler.enter(assembler.search(pieces))
    body = assembler.load(NR)
    assembler.jump(JEQ, AUDIT_ARCH[arch], body, Return(refused))
    assembler.load(ARCH)
    return Program(
        filter=assembler.program(),
        needs_notify=NOTIFY in _actions(fates, default),
        unknown=unknown,
        flags=profile.flags,
    )


def _actions(fates: dict[int, int | Chain], default: int) -> set[int]:
    actions = {default}
    for fate in set(fates.values()):
        if isinstance(fate, int):
            actions.add(fate)
        else:
            actions.update((fate[1], *(action for _, action in fate[0])))
    return actions


def _applies(
    rule: Rule, arch: str, capabilities: AbstractSet[str], kernel: tuple[int, int]
) -> bool:
    name = GO_ARCH[arch]
    return (
        all(cap in capabilities for cap in rule.capabilities)
        and not any(cap in capabilities for cap in rule.without_capabilities)
        and (not rule.arches or name in rule.arches)
        and name not in rule.without_arches
        and (rule.min_kernel is None or kernel >= rule.min_kernel)
        and (rule.before_kernel is None or kernel < rule.before_kernel)
    )


def _fates(
    profile: Profile,
    arch: str,
    numbers: dict[str, int],
    capabilities: AbstractSet[str],
    kernel: tuple[int, int],
) -> tuple[dict[int, int | Chain], int, tuple[str, ...]]:
    """Return what becomes of each number, the greatest number named, and the names unknown."""
    chains: dict[int, list[tuple[tuple[Test, ...], int]]] = {}
    fates: dict[int, int | Chain] = {}
    newest = -1
    unknown = []
    for rule in profile.rules:
        applies = _applies(rule, arch, capabilities, kernel)
        speaks = applies and rule.action != profile.default_action
        tests = _tests(rule.conditions) if speaks else None
        for name in rule.names:
            nr = numbers.get(name)
            if nr is None:
                if applies and not any(name in table for table in NUMBERS.values()):
                    unknown.append(name)
                continue
            # a rule that does not apply here shows all the same that its author knew the call
            newest = max(newest, nr)
            if speaks and not rule.conditions:
                fates.setdefault(nr, rule.action)
            elif tests is not None:
                chains.setdefault(nr, []).append((tests, rule.action))
    for nr, chain in chains.items():
        if nr not in fates:
            fates[nr] = _shorten(chain, profile.default_action)
    return fates, newest, tuple(dict.fromkeys(unknown))


def _tests(conditions: tuple[Condition, ...]) -> tuple[Test, ...] | None:
    """Reduce the operators to two and their negations; None where a condition can never hold."""
    tests: list[Test] = []
    for condition in conditions:
        op, value = condition.op, condition.value
        if op in {"gt", "le"}:
            value += 1
        if op in {"lt", "le", "ge", "gt"}:
            test: Test = (condition.index, None, value, op in {"lt", "le"})
            always = value == 0
            fixed = always or value > MAX_U64
        else:
            mask = condition.mask if op in {"masked_eq", "masked_ne"} else MAX_U64
            test = (condition.index, mask, value & mask, op in {"ne", "masked_ne"})
            always = fixed = mask == 0
        if not fixed:
            tests.append(test)
        elif always == test[3]:
            return None
    return tuple(tests)


def _shorten(chain: list[tuple[tuple[Test, ...], int]], default: int) -> int | Chain:
    """Cut a chain after the first rule that always holds."""
    kept = []
    for tests, action in chain:
        if not tests:
            default = action
            break
        kept.append((tests, action))
    return (tuple(kept), default) if kept else default


def _pieces(
    fates: dict[int, int | Chain], default: int, newest: int, arch: str, refused: int
) -> list[tuple[int, int | Chain]]:
    """Divide all 32-bit numbers into runs of the same fate: (first number, fate), rising."""
    starts: dict[int, int | Chain] = {0: default}
    for nr in sorted(fates):
        starts[nr] = fates[nr]
        starts[nr + 1] = default
    if newest >= 0 and (default & 0xFFFF0000) not in {ALLOW, LOG, TRACE, NOTIFY}:
        starts[newest + 1] = ENOSYS
    if arch == "x86_64":
        starts[X32_BIT] = refused
    pieces: list[tuple[int, int | Chain]] = []
    for start in sorted(starts):
        if not pieces or pieces[-1][1] != starts[start]:
            pieces.append((start, starts[start]))
    return pieces


def _chain(assembler: Assembler, chain: Chain) -> int | Return:
    """Write what decides by arguments; return where it starts."""
    rules, default = chain
    tests = {test for tests, _ in rules for test in tests}
    if len({test[0] for test in tests}) == 1:
        index = next(iter(tests))[0]
        masks = {test[1] for test in tests}
        if masks <= {None, MAX_U64}:
            return _search_argument(assembler, index, _divide(chain, tests, 1 << 64))
        if masks == {LOW_WORD}:
            parts = _divide(chain, tests, 1 << 32)
            return _search_word(assembler, ARGS + 8 * index, parts)
    target: int | Return = Return(default)
    for rule_tests, action in reversed(rules):
        after = target
        target = Return(action)
        for test in reversed(rule_tests):
            target = _test(assembler, test, target, after)
    return target


def _holds(test: Test, value: int) -> bool:
    """Whether *test* holds for an argument of *value*."""
    _, mask, wanted, negated = test
    return (value >= wanted if mask is None else value & mask == wanted) != negated


def _divide(chain: Chain, tests: set[Test], end: int) -> list[tuple[int, int | Return]]:
    """Divide the values of one argument, 0 to *end*, into runs with the same answer.

    All tests look at the same argument as a number, so the answer can only change where one of them
    names a value, or right after.
    """
    rules, default = chain
    starts = {0}
    for _, mask, value, _ in tests:
        starts |= {value} if mask is None else {value, value + 1}
    parts: list[tuple[int, int | Return]] = []
    for start in sorted(starts):
        if start == end:
            break
        action = next(
            (action for tests, action in rules if all(_holds(test, start) for test in tests)),
            default,
        )
        if not parts or parts[-1][1] != Return(action):
            parts.append((start, Return(action)))
    return parts


def _search_argument(
    assembler: Assembler, index: int, parts: list[tuple[int, int | Return]]
) -> int | Return:
    """Search the parts of a 64-bit argument: by its high word, then by its low one."""
    offset = ARGS + 8 * index
    highs: list[tuple[int, int | Return]] = []
    current = parts[0][1]
    for high in sorted({0} | {start >> 32 for start, _ in parts}):
        inside = [(start & LOW_WORD, target) for start, target in parts if start >> 32 == high]
        if not inside or inside[0][0] != 0:
            inside.insert(0, (0, current))
        current = inside[-1][1]
        highs.append((high, _search_word(assembler, offset, inside)))
        if len(inside) > 1 and high < LOW_WORD:
            highs.append((high + 1, current))
    # a high word with a search of its own may be followed at once by another
    merged = dict(highs)
    pieces: list[tuple[int, int | Return]] = []
    for start in sorted(merged):
        if not pieces or pieces[-1][1] != merged[start]:
            pieces.append((start, merged[start]))
    return _search_word(assembler, offset + 4, pieces)


def _search_word(
    assembler: Assembler, offset: int, parts: list[tuple[int, int | Return]]
) -> int | Return:
    if len(parts) == 1:
        return parts[0][1]
    assembler.enter(assembler.search(parts))
    return assembler.load(offset)


def _test(
    assembler: Assembler, test: Test, then: int | Return, otherwise: int | Return
) -> int | Return:
    """Write one comparison; return where it starts. Both architectures are little-endian."""
    index, mask, value, negated = test
    if negated:
        then, otherwise = otherwise, then
    low, high = ARGS + 8 * index, ARGS + 8 * index + 4
    if mask is not None:
        # the low word first: it is the one that tends to differ
        then = _test_word(assembler, high, (mask >> 32, value >> 32), then, otherwise)
        return _test_word(assembler, low, (mask & LOW_WORD, value & LOW_WORD), then, otherwise)
    if not value & LOW_WORD:
        assembler.jump(JGE, value >> 32, then, otherwise)
        return assembler.load(high)
    assembler.jump(JGE, value & LOW_WORD, then, otherwise)
    low_test = assembler.load(low)
    if value >> 32:
        equal = assembler.jump(JEQ, value >> 32, low_test, otherwise)
        assembler.jump(JGT, value >> 32, then, equal)
    else:
        assembler.jump(JEQ, 0, low_test, then)
    return assembler.load(high)


def _test_word(
    assembler: Assembler,
    offset: int,
    compared: tuple[int, int],
    then: int | Return,
    otherwise: int | Return,
) -> int | Return:
    mask, value = compared
    if mask == 0:
        return then
    if mask == LOW_WORD:
        assembler.jump(JEQ, value, then, otherwise)
    elif value == 0:
        assembler.jump(JSET, mask, otherwise, then)
    else:
        assembler.jump(JEQ, value, then, otherwise)
        assembler.mask(mask)
    return assembler.load(offset)
