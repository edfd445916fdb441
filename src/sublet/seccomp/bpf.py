"""An assembler for the classic BPF that seccomp takes (linux/filter.h, seccomp(2)).

A conditional jump of classic BPF goes forward only, and at most 255 instructions far. So a program
is written from its end: whatever is jumped to is there already, its distance is known, and where
it is too far, a stepping stone is put right behind the jump.
"""

from __future__ import annotations

from struct import pack

from sublet._value import Value
from sublet.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# BPF_LD|BPF_W|BPF_ABS, BPF_ALU|BPF_AND|BPF_K, BPF_RET|BPF_K, BPF_JMP|BPF_JA
LOAD, AND, RETURN, JUMP = 0x20, 0x54, 0x06, 0x05
# BPF_JMP with BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET, and BPF_K
JEQ, JGT, JGE, JSET = 0x15, 0x25, 0x35, 0x45
MAX_JUMP = 255
MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS

# struct seccomp_data: where its words are
NR, ARCH, ARGS = 0, 4, 16


class Return(Value):
    """A place to go to: the end, with this answer."""

    action: int


class Assembler:
    """A program that grows from its last instruction to its first.

    A *target* is where a jump goes: a Return, or the place of an instruction, counted from the end.
    """

    def __init__(self) -> None:
        self._code: list[bytes] = []
        self._returns: dict[int, int] = {}

    def program(self) -> bytes:
        """Return the program. Raises InputError where the kernel would not take its length."""
        if len(self._code) > MAX_INSTRUCTIONS:
            raise InputError(
                f"the seccomp profile compiles to {len(self._code)} instructions, "
                f"more than the kernel's {MAX_INSTRUCTIONS}",
                hint="Give it fewer rules with arguments.",
            )
        return b"".join(reversed(self._code))

    def load(self, offset: int) -> int:
        """Load the word at *offset* of struct seccomp_data; go on with what was written last."""
        return self._add(pack("<HBBI", LOAD, 0, 0, offset))

    def mask(self, bits: int) -> int:
        """Keep only *bits*; go on with what was written last."""
        return self._add(pack("<HBBI", AND, 0, 0, bits))

    def jump(self, op: int, operand: int, then: int | Return, otherwise: int | Return) -> int:
        """Compare, and go to one of two targets."""
        # a stone for the second target moves the first one step away
        then_at = self._near(then, 1)
        otherwise_at = self._near(otherwise, 0)
        here = len(self._code) - 1
        return self._add(pack("<HBBI", op, here - then_at, here - otherwise_at, operand))

    def enter(self, target: int | Return) -> int:
        """Make *target* what a load or mask written now would go on with."""
        if isinstance(target, Return):
            return self._return(target.action)
        if target != len(self._code) - 1:
            return self._add(pack("<HBBI", JUMP, 0, 0, len(self._code) - 1 - target))
        return target

    def search(self, pieces: Sequence[tuple[int, int | Return]]) -> int | Return:
        """Find the piece that the loaded word lies in, by halving; go to its target.

        *pieces*: (first number, target), rising, the first from 0; a piece ends where the next
        begins.
        """
        if len(pieces) == 1:
            return pieces[0][1]
        if len(pieces) == 3 and pieces[0][1] == pieces[2][1] and pieces[1][0] + 1 == pieces[2][0]:
            return self.jump(JEQ, pieces[1][0], pieces[1][1], pieces[0][1])
        middle = len(pieces) // 2
        high = self.search(pieces[middle:])
        low = self.search(pieces[:middle])
        return self.jump(JGE, pieces[middle][0], high, low)

    def _near(self, target: int | Return, slack: int) -> int:
        """Return a place that does what *target* does and that the next jump reaches."""
        farthest = len(self._code) - 1 - MAX_JUMP + slack
        if isinstance(target, Return):
            place = self._returns.get(target.action, -1)
            # another copy is as small as a stepping stone, and saves a step
            return place if place >= max(farthest, 0) else self._return(target.action)
        return target if target >= farthest else self.enter(target)

    def _return(self, action: int) -> int:
        self._returns[action] = self._add(pack("<HBBI", RETURN, 0, 0, action))
        return self._returns[action]

    def _add(self, instruction: bytes) -> int:
        self._code.append(instruction)
        return len(self._code) - 1
