"""The words of an ID map: IDs inside and outside, ranges of them, and the kernel's limits.

An ID is an unsigned 32-bit number; 4294967295 means "no ID" and is never usable
(user_namespaces(7)). Whether a number is meant inside or outside of a namespace is part of its
type: mistaking the one for the other is the classic error of this field.
"""

from __future__ import annotations

from sublet._value import Value
from sublet.errors import MapError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Generic, Self, TypeVar

    IdT = TypeVar("IdT", bound="InsideId | OutsideId")
else:
    IdT = None

    class Generic:
        """Stand in for typing's class, which costs too much to import: Range[X] is Range."""

        __slots__ = ()

        def __class_getitem__(cls, _side: object) -> type:
            """Return the class itself; only type checkers read the parameter."""
            return cls


MAX_ID = 4294967294
"""The largest usable ID."""

INVALID_ID = 4294967295
"""What the kernel calls "no ID": (uid_t) -1."""

OVERFLOW_ID = 65534
"""What an ID without a mapping looks like (/proc/sys/kernel/overflowuid, its default)."""

MAX_EXTENTS = 340
"""How many extents a map may have (since Linux 4.15; user_namespaces(7))."""

PAGE_BYTES = 4096
"""The text written to uid_map or gid_map must be shorter than this: 4095 bytes are taken."""


class InsideId(int):
    """A user or group ID as the processes inside of the namespace see it: 0 to MAX_ID."""

    __slots__ = ()

    def __new__(cls, value: int) -> Self:
        """Check the number and give it its side; MapError where no such ID can exist."""
        return super().__new__(cls, _checked(value))


class OutsideId(int):
    """A user or group ID as the parent (or the reader's) namespace sees it: 0 to MAX_ID."""

    __slots__ = ()

    def __new__(cls, value: int) -> Self:
        """Check the number and give it its side; MapError where no such ID can exist."""
        return super().__new__(cls, _checked(value))


def _checked(value: int) -> int:
    if not 0 <= value <= MAX_ID:
        raise MapError(
            f"{number_text(value)} is not a usable ID",
            hint=f"IDs go from 0 to {MAX_ID}; 4294967295 is none.",
        )
    return value


def number_text(value: int) -> str:
    """Show a number; a hostile one neither fills the screen nor meets int's limit on digits."""
    return str(value) if abs(value) < 10**20 else f"(a number of {value.bit_length()} bits)"


def check_span(start: int, count: int, what: str, subject: object = "") -> None:
    """Raise MapError unless *count* IDs from *start* exist.

    The arithmetic is the kernel's 32-bit one: the last of the IDs is at most MAX_ID. *what* and
    the *subject* open the sentence; the subject is turned to text only then, for speed.
    """
    if count < 1:
        raise MapError(
            f"{what}{subject}: the count is {number_text(count)}", hint="A count is at least 1."
        )
    if start < 0 or start + count > INVALID_ID:
        raise MapError(
            f"{what}{subject}: the IDs {number_text(start)} to {number_text(start + count - 1)}"
            f" do not lie between 0 and {MAX_ID}",
            hint="IDs are unsigned 32-bit numbers, and 4294967295 is never usable.",
        )


class Range(Value, Generic[IdT]):
    """A half-open interval of IDs of one side, never empty: *start* is in, *end* is not.

    ``start``: the first ID, an InsideId or an OutsideId, which makes this a range of that side
    (anything else is a TypeError). ``end``: one more than the last ID, up to 4294967295.
    MapError where the interval is empty or passes MAX_ID.
    """

    start: IdT
    end: int

    def __post_init__(self) -> None:
        """Check the side and the bounds."""
        if not isinstance(self.start, (InsideId, OutsideId)):
            raise TypeError(f"a range starts at an InsideId or an OutsideId, not {self.start!r}")
        check_span(self.start, self.end - self.start, "range from ", int(self.start))

    @staticmethod
    def inside(start: int, count: int) -> Range[InsideId]:
        """Return the range of *count* inside IDs from *start*."""
        return Range(InsideId(start), start + count)

    @staticmethod
    def outside(start: int, count: int) -> Range[OutsideId]:
        """Return the range of *count* outside IDs from *start*."""
        return Range(OutsideId(start), start + count)

    @property
    def count(self) -> int:
        """The number of IDs, at least 1."""
        return self.end - self.start

    @property
    def last(self) -> IdT:
        """The last ID that is in."""
        return type(self.start)(self.end - 1)

    def __len__(self) -> int:
        """Return the number of IDs."""
        return self.end - self.start

    def __contains__(self, number: IdT) -> bool:
        """Tell whether the ID lies in the range."""
        return self.start <= number < self.end

    def overlaps(self, other: Range[IdT]) -> bool:
        """Tell whether some ID lies in both ranges."""
        return self.start < other.end and other.start < self.end

    def __str__(self) -> str:
        """Return START:COUNT, the last two fields of a line of /etc/subuid."""
        return f"{int(self.start)}:{self.count}"
