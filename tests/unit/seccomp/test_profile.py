from __future__ import annotations

import errno
from typing import Any

import pytest

from sublet.errors import NotationError
from sublet.seccomp.profile import (
    ALLOW,
    ERRNO,
    KILL_PROCESS,
    KILL_THREAD,
    LOG,
    MAX_U64,
    NOTIFY,
    TRACE,
    TRAP,
    Condition,
    Profile,
    Rule,
    parse_profile,
)

READ = {"names": ["read"], "action": "SCMP_ACT_ALLOW"}


def document(*syscalls: object, **top: object) -> dict[str, object]:
    return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": list(syscalls), **top}


def argument(**fields: object) -> dict[str, object]:
    return document({**READ, "args": [{"index": 1, "op": "SCMP_CMP_EQ", "value": 2, **fields}]})


def test_a_profile_as_docker_writes_it() -> None:
    text = document(
        {
            "names": ["clone", "clone3"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 2114060288, "op": "SCMP_CMP_MASKED_EQ"}],
            "comment": "why",
            "includes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["amd64"], "minKernel": "4.8"},
            "excludes": {"caps": ["CAP_BPF"], "arches": ["s390x"], "minKernel": "6.10"},
        },
        {"name": "personality", "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "args": None},
        defaultErrnoRet=13,
        archMap=[
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
            {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": None},
        ],
    )
    assert parse_profile(text) == Profile(
        default_action=ERRNO | errno.EACCES,
        rules=(
            Rule(
                names=("clone", "clone3"),
                action=ALLOW,
                conditions=(Condition(0, "masked_eq", 0, 2114060288),),
                capabilities=("CAP_SYS_ADMIN",),
                without_capabilities=("CAP_BPF",),
                arches=("amd64",),
                without_arches=("s390x",),
                min_kernel=(4, 8),
                before_kernel=(6, 10),
            ),
            Rule(("personality",), ERRNO | errno.ENOSYS),
        ),
        architectures=("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_RISCV64"),
    )


def test_a_profile_as_oci_and_podman_write_it() -> None:
    text = document(
        {**READ, "args": [], "includes": {}, "excludes": {}, "comment": "", "errno": ""},
        {"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errno": "EACCES"},
        defaultErrno="ENOSYS",
        architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"],
        flags=["SECCOMP_FILTER_FLAG_LOG"],
        listenerPath="/run/listener",
        listenerMetadata="mine",
    )
    assert parse_profile(text) == Profile(
        default_action=ERRNO | errno.ENOSYS,
        rules=(Rule(("read",), ALLOW), Rule(("bpf",), ERRNO | errno.EACCES)),
        architectures=("SCMP_ARCH_X86_64", "SCMP_ARCH_X32"),
        flags=("SECCOMP_FILTER_FLAG_LOG",),
        listener_path="/run/listener",
        listener_metadata="mine",
    )


@pytest.mark.parametrize(
    ("word", "action"),
    [
        ("KILL", KILL_THREAD),
        ("KILL_THREAD", KILL_THREAD),
        ("KILL_PROCESS", KILL_PROCESS),
        ("TRAP", TRAP),
        ("ERRNO", ERRNO | errno.EPERM),
        ("TRACE", TRACE | errno.EPERM),
        ("ALLOW", ALLOW),
        ("LOG", LOG),
        ("NOTIFY", NOTIFY),
    ],
)
def test_every_action(word: str, action: int) -> None:
    profile = parse_profile(document({"names": ["read"], "action": f"SCMP_ACT_{word}"}))
    assert profile.rules == (Rule(("read",), action),)


@pytest.mark.parametrize("op", ["eq", "ne", "lt", "le", "ge", "gt"])
def test_every_plain_operator(op: str) -> None:
    profile = parse_profile(argument(op=f"SCMP_CMP_{op.upper()}", value=MAX_U64))
    assert profile.rules[0].conditions == (Condition(1, op, MAX_U64),)  # type: ignore[arg-type]


def test_a_mask_comes_first_and_cuts_the_value() -> None:
    profile = parse_profile(argument(op="SCMP_CMP_MASKED_EQ", value=0x0F, valueTwo=0x35))
    assert profile.rules[0].conditions == (Condition(1, "masked_eq", 0x05, 0x0F),)


def test_two_conditions_on_two_arguments_must_both_hold() -> None:
    one, two = ({"index": k, "value": k, "op": "SCMP_CMP_EQ"} for k in (1, 2))
    profile = parse_profile(document({**READ, "args": [one, two]}))
    assert profile.rules == (
        Rule(("read",), ALLOW, (Condition(1, "eq", 1), Condition(2, "eq", 2))),
    )


def test_conditions_on_the_same_argument_are_as_many_rules() -> None:
    args = [
        {"index": k, "value": value, "op": "SCMP_CMP_EQ"} for k, value in [(1, 5), (2, 6), (1, 7)]
    ]
    profile = parse_profile(document({**READ, "args": args}))
    assert [rule.conditions for rule in profile.rules] == [
        (Condition(1, "eq", 5),),
        (Condition(2, "eq", 6),),
        (Condition(1, "eq", 7),),
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ([], "the profile: an object was expected, not list"),
        ({}, "defaultAction: a word was expected"),
        ({"defaultAction": "ALLOW"}, "defaultAction: 'ALLOW' is no action"),
        (document(defaultErrnoRet=4096), "defaultErrnoRet: a number from 0 to 4095"),
        (document(defaultErrnoRet=True), "defaultErrnoRet: a number from 0 to 4095"),
        (document(defaultErrno="EWHAT"), "defaultErrno: 'EWHAT' is no errno"),
        (document(defaultaction="x"), "defaultaction: no such field"),
        (document(syscalls={}), "syscalls: a list was expected"),
        (document(flags=["TSYNC"]), r"flags\[0\]: 'TSYNC' is no flag"),
        (document(architectures=["x86_64"]), r"architectures\[0\]: 'x86_64' is no architecture"),
        (document(archMap=[{"architecture": "Z80"}]), r"archMap\[0\]: 'Z80' is no architecture"),
        (
            document(architectures=["SCMP_ARCH_X86"], archMap=[{"architecture": "SCMP_ARCH_X86"}]),
            "archMap: architectures is there too",
        ),
        (document(READ, {**READ, "nmae": "x"}), r"syscalls\[1\]\.nmae: no such field"),
        (document({**READ, "name": "x"}), r"syscalls\[0\]\.name: names is there too"),
        (document({"action": "SCMP_ACT_ALLOW"}), r"syscalls\[0\]\.names: it names no system call"),
        (document({**READ, "names": [7]}), r"syscalls\[0\]\.names\[0\]: a word was expected"),
        (document({"names": ["read"]}), r"syscalls\[0\]\.action: a word was expected"),
        (document({**READ, "action": "SCMP_ACT_X"}), r"syscalls\[0\]\.action: 'SCMP_ACT_X' is no"),
        (document({**READ, "errnoRet": -1}), r"syscalls\[0\]\.errnoRet: a number"),
        (document({**READ, "args": [3]}), r"syscalls\[0\]\.args\[0\]: an object was expected"),
        (argument(op="SCMP_CMP_XX"), r"syscalls\[0\]\.args\[0\]\.op: 'SCMP_CMP_XX' is no operator"),
        (argument(index=6), r"syscalls\[0\]\.args\[0\]\.index: a number from 0 to 5"),
        (argument(value=-1), r"syscalls\[0\]\.args\[0\]\.value: a number"),
        (argument(value=1 << 64), r"syscalls\[0\]\.args\[0\]\.value: a number"),
        (argument(value=1.0), r"syscalls\[0\]\.args\[0\]\.value: a number"),
        (argument(valueTwo="2"), r"syscalls\[0\]\.args\[0\]\.valueTwo: a number"),
        (argument(val=1), r"syscalls\[0\]\.args\[0\]\.val: no such field"),
        (
            document({**READ, "includes": {"caps": ["SYS_ADMIN"]}}),
            r"syscalls\[0\]\.includes\.caps\[0\]: 'SYS_ADMIN' is no capability",
        ),
        (
            document({**READ, "excludes": {"minKernel": "4"}}),
            r"syscalls\[0\]\.excludes\.minKernel: '4' is no kernel version",
        ),
        (
            document({**READ, "excludes": {"kernel": "4.8"}}),
            r"syscalls\[0\]\.excludes\.kernel: no such field",
        ),
    ],
)
def test_what_is_not_in_the_form_is_named_with_its_place(text: Any, sentence: str) -> None:
    with pytest.raises(NotationError, match=f"^{sentence}"):
        parse_profile(text)
