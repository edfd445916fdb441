"""Compile profiles with libseccomp's own Python binding, which only the system's Python has.

Reads from standard input a list of {arch, default, rules: [[action, name, conditions]...]}, where a
condition is [index, operator, first, second]; writes a list of programs in hexadecimal.
"""

from __future__ import annotations

import json
import sys
import tempfile

import seccomp  # type: ignore[import-not-found]


def action(number: int) -> int:
    """Return an action as the binding takes it: the kernel's number, as a C int."""
    return number - (1 << 32) if number >> 31 else number


def build(wanted: dict) -> str:  # type: ignore[type-arg]
    """Return the program of one profile."""
    made = seccomp.SyscallFilter(action(wanted["default"]))
    arch = {"x86_64": seccomp.Arch.X86_64, "aarch64": seccomp.Arch.AARCH64}[wanted["arch"]]
    if not made.exist_arch(arch):
        made.add_arch(arch)
    for other in (seccomp.Arch.X86_64, seccomp.Arch.AARCH64):
        if other != arch and made.exist_arch(other):
            made.remove_arch(other)
    made.set_attr(seccomp.Attr.ACT_BADARCH, seccomp.ERRNO(38))
    for verdict, name, args in wanted["rules"]:
        conditions = [
            seccomp.Arg(index, getattr(seccomp, op.upper()), a, b) for index, op, a, b in args
        ]
        made.add_rule(action(verdict), name, *conditions)
    with tempfile.TemporaryFile() as out:
        made.export_bpf(out)
        out.seek(0)
        return out.read().hex()


json.dump([build(wanted) for wanted in json.load(sys.stdin)], sys.stdout)
