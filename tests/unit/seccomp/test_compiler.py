from __future__ import annotations

import errno

import pytest

from sublet._value import replace
from sublet.errors import InputError
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
from support.bpf import answer, check, data, run

EPERM, ENOSYS, EACCES = (ERRNO | code for code in (errno.EPERM, errno.ENOSYS, errno.EACCES))
X86 = NUMBERS["x86_64"]
HIGH = 1 << 32


def compiled(*rules: Rule, default: int = EPERM, arch: str = "x86_64") -> bytes:
    return compile_profile(Profile(default, rules), arch, frozenset(), (6, 1)).filter


def asked(program: bytes, name: str, *args: int) -> int:
    return answer(program, "x86_64", X86[name], args)


@pytest.mark.parametrize(
    ("condition", "holds", "fails"),
    [
        (Condition(2, "eq", 7), [7], [0, 6, 8, 7 + HIGH]),
        (Condition(2, "eq", 7 + HIGH), [7 + HIGH], [7, HIGH, 8 + HIGH, 7 + 2 * HIGH]),
        (Condition(2, "ne", 7), [0, 6, 8, 7 + HIGH], [7]),
        (Condition(2, "lt", 7), [0, 6], [7, 8, HIGH, HIGH + 6]),
        (Condition(2, "lt", HIGH), [0, HIGH - 1], [HIGH, 2 * HIGH - 1]),
        (Condition(2, "le", 7), [0, 7], [8, HIGH, HIGH + 7]),
        (Condition(2, "ge", 7 + HIGH), [7 + HIGH, 2 * HIGH], [7, 2**32 - 1, HIGH, 6 + HIGH]),
        (Condition(2, "gt", 7 + HIGH), [8 + HIGH, 2 * HIGH], [7, 2**32 - 1, 7 + HIGH]),
        (Condition(2, "ge", 2 * HIGH), [2 * HIGH, 2**64 - 1], [HIGH, 2**32 - 1, 0]),
        (Condition(2, "ge", 0), [0, 2**64 - 1], []),
        (Condition(2, "lt", 0), [], [0, 2**64 - 1]),
        (Condition(2, "le", 2**64 - 1), [0, 2**64 - 1], []),
        (Condition(2, "gt", 2**64 - 1), [], [0, 2**64 - 1]),
        (Condition(2, "masked_eq", 5, 0xF), [5, 0xF5, 5 + HIGH], [4, 6, 0]),
        (Condition(2, "masked_eq", 0, 0xF0), [0, 0xF, HIGH], [0x10, 0xFF]),
        (Condition(2, "masked_eq", HIGH, 3 * HIGH), [HIGH, HIGH + 9], [0, 3 * HIGH, 2 * HIGH]),
        (Condition(2, "masked_eq", 5 + HIGH, 0xF + HIGH), [5 + HIGH], [5, HIGH, 4 + HIGH]),
        (Condition(2, "masked_eq", 0, 0), [0, 2**64 - 1], []),
        (Condition(2, "masked_ne", 5, 0xF), [4, 6, 0], [5, 0xF5, 5 + HIGH]),
        (Condition(2, "masked_ne", 5, 0xFFFFFFFF), [4, 6 + HIGH], [5, 5 + HIGH]),
    ],
)
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside another argument"])
def test_each_operator_compares_64_bits_unsigned(
    condition: Condition, holds: list[int], fails: list[int], *, beside: bool
) -> None:
    # alone it becomes a search, beside a condition on another argument a chain of comparisons
    conditions = (condition, Condition(0, "eq", 0)) if beside else (condition,)
    program = compiled(Rule(("read",), ALLOW, conditions))
    for value in holds:
        assert asked(program, "read", 0, 0, value) == ALLOW, value
    for value in fails:
        assert asked(program, "read", 0, 0, value) == EPERM, value


def test_all_conditions_of_a_rule_and_any_rule() -> None:
    program = compiled(
        Rule(("read",), ALLOW, (Condition(0, "eq", 1), Condition(1, "eq", 2))),
        Rule(("read",), ALLOW, (Condition(2, "eq", 3),)),
    )
    assert asked(program, "read", 1, 2) == ALLOW
    assert asked(program, "read", 1, 0) == EPERM
    assert asked(program, "read", 0, 2) == EPERM
    assert asked(program, "read", 0, 0, 3) == ALLOW


def test_a_rule_without_conditions_decides_alone_and_the_first_such() -> None:
    program = compiled(
        Rule(("read",), EACCES, (Condition(0, "eq", 1),)),
        Rule(("read",), ALLOW),
        Rule(("read",), TRAP),
    )
    assert asked(program, "read", 1) == ALLOW


def test_the_first_rule_that_holds_wins() -> None:
    program = compiled(
        Rule(("read",), EACCES, (Condition(0, "eq", 1),)),
        Rule(("read",), ALLOW, (Condition(0, "ge", 0),)),
        Rule(("read",), TRAP, (Condition(0, "eq", 2),)),
    )
    assert [asked(program, "read", value) for value in (0, 1, 2)] == [ALLOW, EACCES, ALLOW]


def test_a_rule_with_the_default_action_says_nothing() -> None:
    program = compiled(
        Rule(("read",), EPERM, (Condition(0, "eq", 1),)),
        Rule(("read",), ALLOW, (Condition(1, "eq", 2),)),
    )
    assert asked(program, "read", 1, 2) == ALLOW


@pytest.mark.parametrize("default", [EPERM, TRAP, ALLOW, LOG, TRACE | 1])
def test_foreign_architectures_and_x32_get_enosys(default: int) -> None:
    program = compiled(Rule(("read",), EACCES), default=default)
    assert answer(program, "i386", 3) == ENOSYS
    assert answer(program, "aarch64", X86["read"]) == ENOSYS
    assert answer(program, "x86_64", X86["read"] | 0x40000000) == ENOSYS
    assert answer(program, "x86_64", 0xFFFFFFFF) == ENOSYS


@pytest.mark.parametrize("default", [KILL_THREAD, KILL_PROCESS])
def test_foreign_architectures_and_x32_are_killed_where_that_is_the_default(default: int) -> None:
    program = compiled(Rule(("read",), ALLOW), default=default)
    assert answer(program, "i386", 3) == default
    assert answer(program, "x86_64", X86["read"] | 0x40000000) == default


def test_calls_newer_than_the_profile_get_enosys_where_the_default_refuses() -> None:
    rules = (Rule(("read", "openat2"), ALLOW, capabilities=("CAP_SYS_ADMIN",)),)
    for default, newer in ((EPERM, ENOSYS), (KILL_PROCESS, ENOSYS), (ALLOW, ALLOW), (LOG, LOG)):
        program = compiled(*rules, default=default)
        # openat2 is not allowed here, but its author knew it
        assert answer(program, "x86_64", 437) == default
        assert answer(program, "x86_64", 438) == newer
        assert answer(program, "x86_64", 0x3FFFFFFF) == newer
    assert answer(compiled(default=EPERM), "x86_64", 0) == EPERM


@pytest.mark.parametrize(
    ("changes", "capabilities", "kernel", "applies"),
    [
        ({"capabilities": ("CAP_A", "CAP_B")}, {"CAP_A", "CAP_B"}, (6, 1), True),
        ({"capabilities": ("CAP_A", "CAP_B")}, {"CAP_A"}, (6, 1), False),
        ({"without_capabilities": ("CAP_A", "CAP_B")}, {"CAP_B"}, (6, 1), False),
        ({"without_capabilities": ("CAP_A", "CAP_B")}, {"CAP_C"}, (6, 1), True),
        ({"arches": ("arm64", "amd64")}, set(), (6, 1), True),
        ({"arches": ("arm64",)}, set(), (6, 1), False),
        ({"without_arches": ("amd64",)}, set(), (6, 1), False),
        ({"without_arches": ("s390x",)}, set(), (6, 1), True),
        ({"min_kernel": (5, 10)}, set(), (5, 10), True),
        ({"min_kernel": (5, 10)}, set(), (5, 9), False),
        ({"before_kernel": (5, 10)}, set(), (5, 9), True),
        ({"before_kernel": (5, 10)}, set(), (6, 0), False),
    ],
)
def test_where_a_rule_applies(
    changes: dict[str, object], capabilities: set[str], kernel: tuple[int, int], *, applies: bool
) -> None:
    profile = Profile(EPERM, (replace(Rule(("read",), ALLOW), **changes),))
    program = compile_profile(profile, "x86_64", capabilities, kernel)
    assert asked(program.filter, "read") == (ALLOW if applies else EPERM)


def test_names_unknown_to_both_architectures_are_reported_once_each() -> None:
    profile = Profile(EPERM, (Rule(("raed", "open", "chown32", "raed"), ALLOW),))
    assert compile_profile(profile, "aarch64", set(), (6, 1)).unknown == ("raed", "chown32")


@pytest.mark.parametrize("where", ["default", "rule", "conditional"])
def test_notify_is_reported(where: str) -> None:
    rule = Rule(("read",), NOTIFY, (Condition(0, "eq", 1),) if where == "conditional" else ())
    quiet = Profile(EPERM, (replace(rule, action=ALLOW),))
    loud = replace(quiet, default_action=NOTIFY) if where == "default" else Profile(EPERM, (rule,))
    assert not compile_profile(quiet, "x86_64", set(), (6, 1)).needs_notify
    assert compile_profile(loud, "x86_64", set(), (6, 1)).needs_notify


def test_far_jumps_arrive() -> None:
    # every second call has its own rules on two arguments: thousands of instructions
    names = sorted(X86, key=X86.__getitem__)[1:300:2]
    rules = [
        Rule((name,), ALLOW, (Condition(0, "eq", at + k * HIGH), Condition(k, "masked_eq", 3, 7)))
        for at, name in enumerate(names)
        for k in (1, 2)
    ]
    program = compiled(*rules)
    assert len(check(program)) > 2000
    for at, name in enumerate(names):
        assert asked(program, name, at + HIGH, 3, 0) == ALLOW
        assert asked(program, name, at + 2 * HIGH, 0, 0xF3) == ALLOW
        assert asked(program, name, at + 2 * HIGH, 3, 0) == EPERM
        assert answer(program, "x86_64", X86[name] - 1) == EPERM


def test_a_program_too_long_for_the_kernel_is_an_error() -> None:
    rules = [
        Rule(("read",), ALLOW, (Condition(0, "eq", k), Condition(1, "masked_eq", k, 0xFFFF)))
        for k in range(1000)
    ]
    with pytest.raises(InputError, match="more than the kernel's 4096"):
        compiled(*rules)


def test_an_architecture_without_a_table_is_an_error() -> None:
    with pytest.raises(InputError, match="riscv64"):
        compiled(arch="riscv64")


def test_many_values_of_one_argument_are_searched_not_walked() -> None:
    rules = [Rule(("read",), ALLOW, (Condition(0, "eq", 2 * k),)) for k in range(128)]
    code = check(compiled(*rules))
    steps = max(run(code, data("x86_64", X86["read"], (k,)))[1] for k in range(256))
    # architecture and number: 2 + 3; high word: 2; low word: 1 + 8; the answer
    assert steps <= 18
