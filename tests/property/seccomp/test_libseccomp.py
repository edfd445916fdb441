"""Our programs beside libseccomp's: the same rules must get the same answers.

Left out is what libseccomp cannot say or leaves open: several actions for one call by conditions
that overlap, ``masked_ne``, and numbers above all that a profile names (ours get ENOSYS).

Left out is too what libseccomp 2.5.4 gets wrong, when it merges several rules for one call:

* comparisons by order: with ``arg0 <= 0x7fffffffe`` and ``arg0 <= 0x100000007`` both allowed, it
  refuses 0x180000000;
* ``ne`` beside other conditions: with ``arg0 != 0xffffffff00000002 and arg1 == 0x7fffffff7fffffff``
  and ``arg0 != 0xffffffff00000001`` allowed, it allows 0xffffffff00000001 whatever arg1 is.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sublet.seccomp import default_filter
from sublet.seccomp._syscalls import NUMBERS
from sublet.seccomp.compiler import compile_profile
from sublet.seccomp.default_profile import CAPABILITIES, default_profile
from sublet.seccomp.profile import ALLOW, ERRNO, KILL_PROCESS, LOG, TRAP, Condition, Profile, Rule
from support.bpf import check, data, run
from support.probes import Absence, absent

PEER = Path(__file__).with_name("libseccomp_peer.py")
PYTHON = "/usr/bin/python3"
EQUALITIES = ["eq", "masked_eq"]
OPERATORS = ["ne", "lt", "le", "ge", "gt", *EQUALITIES]
EDGES = [0, 1, 2, 7, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF]


@pytest.fixture(scope="module", autouse=True)
def binding() -> None:
    ready = (
        os.access(PYTHON, os.X_OK)
        and not subprocess.run(
            [PYTHON, "-c", "import seccomp"], capture_output=True, check=False
        ).returncode
    )
    if not ready:
        absent(Absence(f"{PYTHON} has no module seccomp (Debian: python3-seccomp)", mendable=True))


def peers(wanted: list[tuple[Profile, str]]) -> list[bytes]:
    """Return what libseccomp makes of each profile on each architecture."""
    text = [
        {
            "arch": arch,
            "default": profile.default_action,
            "rules": [
                [
                    rule.action,
                    name,
                    [
                        [
                            c.index,
                            c.op,
                            *((c.mask, c.value) if c.op == "masked_eq" else (c.value, 0)),
                        ]
                        for c in rule.conditions
                    ],
                ]
                for rule in profile.rules
                for name in rule.names
                if name in NUMBERS[arch]
            ],
        }
        for profile, arch in wanted
    ]
    done = subprocess.run(
        [PYTHON, "-I", str(PEER)],
        input=json.dumps(text),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: list[str] = json.loads(done.stdout)
    return [bytes.fromhex(answer) for answer in answers]


def value(chance: random.Random) -> int:
    return chance.choice(EDGES) << 32 | chance.choice(EDGES)


def condition(chance: random.Random, index: int, operators: list[str]) -> Condition:
    op: Any = chance.choice(operators)
    mask = value(chance) or 1
    return Condition(index, op, value(chance) & (mask if op == "masked_eq" else -1), mask)


def profile(chance: random.Random) -> Profile:
    """Return a profile where each call has one action, or is decided without conditions."""
    default = chance.choice([ERRNO | 1, ALLOW, KILL_PROCESS, TRAP])
    rules = []
    for name in chance.sample(["read", "write", "close", "openat", "ioctl", "prctl", "socket"], 5):
        action = chance.choice(
            [one for one in (ALLOW, LOG, ERRNO | 13, KILL_PROCESS) if one != default]
        )
        number = chance.randint(1, 4)
        operators = OPERATORS if number == 1 else EQUALITIES
        for _ in range(number):
            indexes = chance.sample(range(6), chance.choice([0, 1, 1, 1, 2, 3]))
            conditions = tuple(condition(chance, index, operators) for index in indexes)
            rules.append(Rule((name,), action, conditions))
    # the greatest number of all, so that none is newer
    rules.append(Rule(("faccessat2",), ERRNO | 99))
    return Profile(default, tuple(rules))


@pytest.mark.parametrize("seed", range(4))
def test_random_profiles_answer_alike(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 -- cases, not keys
    wanted = [(profile(chance), chance.choice(list(NUMBERS))) for _ in range(40)]
    for (one, arch), peer in zip(wanted, peers(wanted), strict=True):
        ours = check(compile_profile(one, arch, frozenset(), (6, 1)).filter)
        theirs = check(peer)
        numbers = {NUMBERS[arch][name] for rule in one.rules for name in rule.names}
        named = [c.value for rule in one.rules for c in rule.conditions]
        for nr in [*numbers, *(nr + 1 for nr in numbers if nr < 439)]:
            for _ in range(60):
                args = tuple(
                    (chance.choice(named) + chance.choice([-1, 0, 1])) % (1 << 64)
                    if named and chance.random() < 0.7
                    else value(chance)
                    for _ in range(6)
                )
                call = data(arch, nr, args)
                assert run(ours, call)[0] == run(theirs, call)[0], (arch, nr, args, one)


def test_the_default_profile_answers_alike_on_every_call_that_libseccomp_knows() -> None:
    # a library of 2022 does not know what came later; ioctl is stricter than it can be told
    known = {arch: {n for n, nr in NUMBERS[arch].items() if nr <= 448} for arch in NUMBERS}
    cases = []
    for arch in NUMBERS:
        for caps in (frozenset[str](), frozenset(CAPABILITIES)):
            rules = []
            for rule in default_profile().rules:
                names = tuple(n for n in rule.names if n in known[arch] - {"ioctl", "uretprobe"})
                applies = caps.issuperset(rule.capabilities) and caps.isdisjoint(
                    rule.without_capabilities
                )
                if applies:
                    rules.append(Rule(names, rule.action, rule.conditions))
            cases.append((arch, caps, Profile(ERRNO | 1, tuple(rules))))
    programs = peers([(one, arch) for arch, _, one in cases])
    for (arch, caps, _), peer in zip(cases, programs, strict=True):
        ours, theirs = check(default_filter(arch, caps, (6, 1))), check(peer)
        steps = [0, 0]
        for name in sorted(known[arch] - {"ioctl", "uretprobe"}):
            for first in (
                *range(50),
                0x20000,
                0x20008,
                0x7E020000,
                0x10000000,
                0xFFFFFFFF,
                1 << 32,
            ):
                call = data(arch, NUMBERS[arch][name], (first,))
                answers = run(ours, call), run(theirs, call)
                assert answers[0][0] == answers[1][0], (arch, caps, name, first)
                steps = [steps[0] + answers[0][1], steps[1] + answers[1][1]]
        assert len(ours) < len(theirs)
        assert steps[0] < steps[1]
