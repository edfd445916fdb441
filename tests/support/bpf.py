"""An interpreter of the classic BPF that seccomp takes, written from seccomp(2) and linux/filter.h.

It refuses what the kernel refuses (seccomp_check_filter, bpf_check_classic), so that a program that
runs here would also be taken there.
"""

from __future__ import annotations

from struct import iter_unpack, pack, unpack_from
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "i386": 0x40000003}
LOAD, AND, RETURN, JUMP = 0x20, 0x54, 0x06, 0x05
CONDITIONS: dict[int, Callable[[int, int], bool]] = {
    0x15: lambda a, k: a == k,
    0x25: lambda a, k: a > k,
    0x35: lambda a, k: a >= k,
    0x45: lambda a, k: bool(a & k),
}

Instruction = tuple[int, int, int, int]


def check(program: bytes) -> list[Instruction]:
    """Return the instructions, having checked them as the kernel does."""
    code: list[Instruction] = list(iter_unpack("<HBBI", program))
    assert 0 < len(code) <= 4096, len(code)
    for at, (op, then, otherwise, k) in enumerate(code):
        if op == LOAD:
            assert k % 4 == 0, (at, k)
            assert k < 64, (at, k)
        elif op in CONDITIONS:
            assert at + 1 + max(then, otherwise) < len(code), at
        elif op == JUMP:
            assert at + 1 + k < len(code), at
        else:
            assert op in {AND, RETURN}, (at, op)
    assert code[-1][0] == RETURN
    return code


def data(arch: str, nr: int, args: tuple[int, ...] = ()) -> bytes:
    """Return a call as struct seccomp_data (linux/seccomp.h)."""
    return pack("<IIQ6Q", nr & 0xFFFFFFFF, AUDIT_ARCH[arch], 0, *args, *[0] * (6 - len(args)))


def run(code: list[Instruction], seccomp_data: bytes) -> tuple[int, int]:
    """Return what the program answers, and how many instructions that took."""
    at = steps = accumulator = 0
    while True:
        op, then, otherwise, k = code[at]
        steps += 1
        at += 1
        if op == LOAD:
            (accumulator,) = unpack_from("<I", seccomp_data, k)
        elif op == AND:
            accumulator &= k
        elif op == JUMP:
            at += k
        elif op == RETURN:
            return k, steps
        else:
            at += then if CONDITIONS[op](accumulator, k) else otherwise


def answer(program: bytes, arch: str, nr: int, args: tuple[int, ...] = ()) -> int:
    """Return what *program* answers to a call."""
    return run(check(program), data(arch, nr, args))[0]
