"""The ways in which tar writes numbers, and the errors of an archive that is wrong about them."""

from __future__ import annotations

from sublet.errors import ArchiveError

MAX_ID = 4294967294
LIMIT = 1 << 63  # of sizes and of seconds, as the kernel's own types have it


def damaged(offset: int, what: str) -> ArchiveError:
    """Return the error for *what* is wrong with the header at byte *offset*."""
    return ArchiveError(f"{what} (header at byte {offset})")


def quoted(path: bytes) -> str:
    """Return a path for people."""
    return path.decode("utf-8", "backslashreplace")


def number(field: bytes, offset: int, name: str, *, signed: bool = False) -> int:
    """Read a numeric field: octal text, or base 256 (GNU) where the first byte's high bit is set.

    Raises ArchiveError, with the *name* of the field; negative numbers are taken only if *signed*.
    """
    if field[0] & 0x80:
        bits = 8 * len(field) - 1
        value = int.from_bytes(field, "big") & ((1 << bits) - 1)
        if value >> (bits - 1):  # two's complement, below the marking bit
            value -= 1 << bits
        if not -LIMIT <= value < LIMIT or (value < 0 and not signed):
            raise damaged(offset, f"the field {name} is negative or too large")
        return value
    text = field.split(b"\0", 1)[0].strip(b" ")
    if not text:
        return 0
    try:
        # int() alone would take signs, underscores and white space
        value = int(text, 8) if text.isdigit() else -1
    except ValueError:
        value = -1
    if value < 0:
        raise damaged(offset, f"the field {name} is not an octal number: {field!r}")
    return value


def decimal(value: bytes, offset: int, what: str) -> int:
    """Read a decimal number below 2^63. Raises ArchiveError."""
    if not value.isdigit() or len(value) > 19 or int(value) >= LIMIT:
        raise damaged(offset, f"the {what} is not a number: {value[:40]!r}")
    return int(value)


def time(value: bytes, offset: int) -> int:
    """Read a pax time, decimal seconds with a fraction; return nanoseconds. Raises ArchiveError."""
    whole, _, fraction = value.partition(b".")
    digits = whole.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > 18 or (fraction and not fraction.isdigit()):
        raise damaged(offset, f"the pax record mtime is not a time: {value[:40]!r}")
    nanoseconds = int(digits) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0"))
    return -nanoseconds if whole.startswith(b"-") else nanoseconds
