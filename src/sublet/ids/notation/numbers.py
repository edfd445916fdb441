"""Numbers as strict as the kernel's own: decimal ASCII digits, unsigned, 32 bits, one spelling.

``int()`` also takes signs, spaces, underscores and the digits of other scripts; strtoul with base
0, which shadow's tools use, reads 010 as eight. A number that two readers take for different IDs
gives somebody else's files away, so such spellings are refused.
"""

from __future__ import annotations

from sublet.errors import NotationError
from sublet.ids.types import INVALID_ID, MAX_ID

LONGEST_SHOWN = 60


def parse_id(text: str, what: str = "ID") -> int:
    """Return the ID, 0 to 4294967294, that *text* spells; *what* names it in the NotationError."""
    return _parse(text, what, 0, MAX_ID)


def parse_count(text: str, what: str = "count") -> int:
    """Return the count, 1 to 4294967295, that *text* spells; *what* names it in the error."""
    return _parse(text, what, 1, INVALID_ID)


def shown(text: str) -> str:
    """Quote a *text* that comes from outside for an error's sentence, shortened if need be."""
    if len(text) > LONGEST_SHOWN:
        return f"{text[:LONGEST_SHOWN]!r}... ({len(text)} characters)"
    return repr(text)


def _parse(text: str, what: str, lowest: int, highest: int) -> int:
    if not (text.isascii() and text.isdigit()):
        raise NotationError(
            f"{what} {shown(text)} is not a decimal number",
            hint="Use the digits 0 to 9 only, without sign, space or separator.",
        )
    if text[0] == "0" and text != "0":
        raise NotationError(
            f"{what} {shown(text)} starts with a zero",
            hint="Leave leading zeros out; some tools read such a number as octal.",
        )
    # The length is compared first, so that int() is never given thousands of digits.
    if len(text) > len(str(highest)) or not lowest <= (number := int(text)) <= highest:
        raise NotationError(
            f"{what} {shown(text)} is out of range",
            hint=f"Use a number from {lowest} to {highest}.",
        )
    return number
