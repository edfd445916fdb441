"""Random profiles and calls: the compiled program against a naive reading of the rules."""

from __future__ import annotations

import errno

from hypothesis import given, settings
from hypothesis import strategies as st

from sublet.seccomp._syscalls import NUMBERS
from sublet.seccomp.compiler import compile_profile
from sublet.seccomp.profile import (
    ALLOW,
    ERRNO,
    KILL_PROCESS,
    KILL_THREAD,
    LOG,
    NOTIFY,
    TRACE,
    TRAP,
    Condition,
    Profile,
    Rule,
)
from support.bpf import check, data, run

ENOSYS = ERRNO | errno.ENOSYS
ARCHES = list(NUMBERS)
# neighbours, lone numbers, the last, one of x86_64 only, and no call at all
NAMES = ["read", "write", "close", "openat", "ioctl", "mseal", "clone3", "fork", "nonsense"]
ACTIONS = [KILL_THREAD, KILL_PROCESS, TRAP, ERRNO | 1, ERRNO | 13, TRACE | 1, ALLOW, LOG, NOTIFY]

edges = st.sampled_from([0, 1, 2, 7, 8, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF])
values = st.builds(lambda high, low: high << 32 | low, edges, edges)
masks = values | st.just(0xFFFFFFFF) | st.just((1 << 64) - 1)


@st.composite
def conditions(
    draw: st.DrawFn, indexes: st.SearchStrategy[int], op: st.SearchStrategy[str]
) -> Condition:
    kind = draw(op)
    return Condition(draw(indexes), kind, draw(values), draw(masks))  # type: ignore[arg-type]


PLAIN = ["eq", "ne", "lt", "le", "ge", "gt"]
MASKED = ["masked_eq", "masked_ne"]
# of any kind, or such as are compiled to a search of one argument
several = st.lists(conditions(st.integers(0, 5), st.sampled_from(PLAIN + MASKED)), max_size=3)
searchable = st.lists(conditions(st.just(1), st.sampled_from(PLAIN)), min_size=1, max_size=2)
rules = st.builds(
    Rule,
    names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map(tuple),
    action=st.sampled_from(ACTIONS),
    conditions=(several | searchable).map(tuple),
    capabilities=st.sampled_from([(), (), ("CAP_A",), ("CAP_A", "CAP_B")]),
    without_capabilities=st.sampled_from([(), (), ("CAP_B",)]),
    arches=st.sampled_from([(), (), ("arm64",)]),
    min_kernel=st.sampled_from([None, (5, 0), (6, 2)]),
)
same_action = st.sampled_from(ACTIONS).flatmap(
    lambda action: st.lists(
        st.builds(
            Rule,
            names=st.just(("read",)),
            action=st.just(action),
            conditions=searchable.map(tuple),
        ),
        min_size=1,
        max_size=12,
    )
)
profiles = st.builds(
    Profile,
    default_action=st.sampled_from(ACTIONS),
    rules=(st.lists(rules, max_size=8) | same_action).map(tuple),
)


def holds(condition: Condition, args: tuple[int, ...]) -> bool:
    value, wanted, mask = args[condition.index], condition.value, condition.mask
    return {
        "eq": value == wanted,
        "ne": value != wanted,
        "lt": value < wanted,
        "le": value <= wanted,
        "ge": value >= wanted,
        "gt": value > wanted,
        "masked_eq": value & mask == wanted & mask,
        "masked_ne": value & mask != wanted & mask,
    }[condition.op]


def expected(
    profile: Profile, machine: str, caps: frozenset[str], arch: str, nr: int, args: tuple[int, ...]
) -> int:
    default = profile.default_action
    if arch != machine or (machine == "x86_64" and nr & 0x40000000):
        return default if default in {KILL_PROCESS, KILL_THREAD} else ENOSYS
    numbers = NUMBERS[machine]
    go_name = {"x86_64": "amd64", "aarch64": "arm64"}[machine]
    known = [numbers[name] for rule in profile.rules for name in rule.names if name in numbers]
    speaking = [
        rule
        for rule in profile.rules
        if nr in {numbers.get(name) for name in rule.names}
        and rule.action != default
        and caps.issuperset(rule.capabilities)
        and caps.isdisjoint(rule.without_capabilities)
        and (not rule.arches or go_name in rule.arches)
        and (rule.min_kernel is None or rule.min_kernel <= (6, 1))
    ]
    for rule in speaking:
        if not rule.conditions:
            return rule.action
    for rule in speaking:
        if all(holds(condition, args) for condition in rule.conditions):
            return rule.action
    if known and nr > max(known) and default & 0xFFFF0000 not in {ALLOW, LOG, TRACE, NOTIFY}:
        return ENOSYS
    return default


@settings(max_examples=400, deadline=None)
@given(
    profile=profiles,
    machine=st.sampled_from(ARCHES),
    caps=st.frozensets(st.sampled_from(["CAP_A", "CAP_B"])),
    calls=st.lists(
        st.tuples(
            st.sampled_from([*NAMES, "read"]),
            st.sampled_from([0, 0, 0, 1, 0x40000000, 0xFFFFFFFF]),
            st.tuples(*[values] * 6),
        ),
        min_size=1,
        max_size=12,
    ),
    foreign=st.booleans(),
)
def test_a_program_answers_as_the_rules_read(
    profile: Profile,
    machine: str,
    caps: frozenset[str],
    calls: list[tuple[str, int, tuple[int, ...]]],
    *,
    foreign: bool,
) -> None:
    code = check(compile_profile(profile, machine, caps, (6, 1)).filter)
    arch = "i386" if foreign else machine
    # where a condition names a value, the values around it are what matters
    near = [
        tuple((condition.value + step) % (1 << 64) for _ in range(6))
        for rule in profile.rules
        for condition in rule.conditions
        for step in (-1, 0, 1)
    ]
    tried = [(NUMBERS[machine].get(name, 500) | bits, args) for name, bits, args in calls]
    tried += [(nr, args) for nr, _ in tried[:2] for args in near]
    for nr, args in tried:
        want = expected(profile, machine, caps, arch, nr, args)
        assert run(code, data(arch, nr, args))[0] == want, (nr, args)
