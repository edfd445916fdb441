"""The files /etc/subuid and /etc/subgid: OWNER:START:COUNT on each line (subuid(5), subgid(5)).

OWNER is a login name or a number: the *user* ID of the owner, in subgid too. A user may have more
than one line, by name and by number. Their order is kept: shadow and Docker lay ranges out in the
order of the file (Podman sorts them by START first), so merging or sorting them would move files
from one owner to another.

Like shadow's own reader, this one goes on after a line that it cannot use; unlike it, it says so.
It is stricter where readers differ: shadow also takes hexadecimal and octal numbers and a fourth
field, Podman and Docker do not.
"""

from __future__ import annotations

from sublet._value import Value
from sublet.errors import MapError, NotationError
from sublet.ids.idset import IdSet, everything
from sublet.ids.notation.numbers import parse_count, parse_id, shown
from sublet.ids.types import OutsideId, Range

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal

LONGEST_LINE = 1023
"""Bytes in a line, without its newline, that shadow's reader still takes."""


class SubIdEntry(Value):
    """One usable line: ``line`` (its number from 1), ``owner`` (as written), ``range``."""

    line: int
    owner: str
    range: Range[OutsideId]

    def __str__(self) -> str:
        """Return the line itself, without the newline."""
        return f"{self.owner}:{self.range}"


class SkippedLine(Value):
    """A line that delegates nothing: ``line`` (from 1), its ``text``, the ``kind``, the ``reason``.

    A comment or a blank line is as it should be; a malformed one deserves a warning.
    """

    line: int
    text: str
    kind: Literal["blank", "comment", "malformed"]
    reason: str


class SubIdFile(Value):
    """All of a file: ``entries`` and ``skipped`` lines, both in the order of the file."""

    entries: tuple[SubIdEntry, ...] = ()
    skipped: tuple[SkippedLine, ...] = ()

    @property
    def problems(self) -> tuple[SkippedLine, ...]:
        """The malformed lines."""
        return tuple(line for line in self.skipped if line.kind == "malformed")

    def ranges(self, name: str | None, uid: int) -> tuple[Range[OutsideId], ...]:
        """Return what is delegated to the user *name* (None: without a name) and *uid*.

        Lines by name and by number count alike, and the order of the file is kept. The user is the
        key in /etc/subgid too.
        """
        keys = {name, str(int(uid))}
        return tuple(entry.range for entry in self.entries if entry.owner in keys)

    def free_range(self, count: int = 65536, lowest: int = 100000) -> Range[OutsideId] | None:
        """Return the lowest *count* IDs, from *lowest*, that no line delegates to anyone.

        None where there is no such gap. Useful to name a line that may be added.
        """
        taken = IdSet.of(entry.range for entry in self.entries)
        for gap in everything(OutsideId).difference(taken):
            start = max(gap.start, lowest)
            if start + count <= gap.end:
                return Range.outside(start, count)
        return None


def parse(text: str) -> SubIdFile:
    """Return what *text*, all of a file, delegates; a bad line is a SkippedLine, never an error."""
    entries, skipped = [], []
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else (), 1):
        content = line.strip(" \t")
        if not content:
            skipped.append(SkippedLine(number, line, "blank", "nothing is on the line"))
        elif content.startswith("#"):
            skipped.append(SkippedLine(number, line, "comment", "the line is a comment"))
        else:
            try:
                entries.append(SubIdEntry(number, *parse_line(line)))
            except (NotationError, MapError) as error:
                skipped.append(SkippedLine(number, line, "malformed", error.what))
    return SubIdFile(tuple(entries), tuple(skipped))


def parse_line(line: str) -> tuple[str, Range[OutsideId]]:
    """Return the owner and the range of one line, without its newline.

    NotationError where it is not OWNER:START:COUNT; MapError where the range passes the 32 bits.
    """
    if len(line.encode(errors="replace")) > LONGEST_LINE:
        raise NotationError(f"the line {shown(line)} is longer than {LONGEST_LINE} bytes")
    fields = line.split(":")
    if len(fields) != 3:
        raise NotationError(
            f"the line {shown(line)} has {len(fields)} fields",
            hint="Write OWNER:START:COUNT, for example alice:100000:65536.",
        )
    owner, start, count = fields
    # A printable name without spaces: " alice" would be another owner than alice, and invisibly.
    if not owner or any(letter.isspace() for letter in owner):
        raise NotationError(
            f"the owner {shown(owner)} is not a login name or a user ID",
            hint="Write OWNER:START:COUNT without spaces.",
        )
    return owner, Range.outside(parse_id(start, "first ID"), parse_count(count))


def render(entries: Iterable[SubIdEntry]) -> str:
    """Return the text of a file with these *entries*, one line each."""
    return "".join(f"{entry}\n" for entry in entries)
