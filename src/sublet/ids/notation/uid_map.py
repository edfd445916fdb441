"""The text of /proc/PID/uid_map and /proc/PID/gid_map (user_namespaces(7)).

Each line has three numbers: inside, outside, count. What is *read* there is relative to the reader:
the second column counts in the reader's own user namespace, or, where the reader is in the very
namespace of PID, in that one's parent. So the same file read from two namespaces gives two maps,
and only the reader knows which outside is meant. An outside ID that the reader's namespace has no
name for reads as 4294967295. What is *written* always counts in the parent namespace (or the
writer's, which must be either of the two).

Before a map is written, the file is empty; in the initial user namespace it is ``0 0 4294967295``.
"""

from __future__ import annotations

from sublet.errors import MapError, NotationError
from sublet.ids.idmap import IdMap, extent
from sublet.ids.notation.numbers import parse_count, parse_id, shown
from sublet.ids.types import INVALID_ID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sublet.ids.idmap import Extent


def parse(text: str) -> IdMap:
    """Return the map that *text*, all of a uid_map or gid_map file, spells.

    Columns may be padded with spaces, as the kernel does. NotationError where a line is no line of
    a map; MapError where its numbers pass the 32 bits, or two lines overlap.
    """
    if not text:
        return IdMap()
    lines = text.removesuffix("\n").split("\n")
    return IdMap(tuple(_parse_line(number, line) for number, line in enumerate(lines, 1)))


def render(id_map: IdMap) -> str:
    """Return the text to be written to uid_map or gid_map, in the map's own order of extents.

    Whether the kernel would take so much is :meth:`IdMap.check_kernel`'s question.
    """
    return "".join(f"{extent}\n" for extent in id_map.extents)


def _parse_line(number: int, line: str) -> Extent:
    place = f"line {number} of the map"
    fields = line.replace("\t", " ").split(" ")
    fields = [field for field in fields if field]
    if len(fields) != 3:
        raise NotationError(
            f"{place}, {shown(line)}, has {len(fields)} fields",
            hint="A line has three numbers: inside, outside, count.",
        )
    if fields[1] == str(INVALID_ID):
        raise NotationError(
            f"{place}, {shown(line)}, has no outside ID in the reader's user namespace",
            hint="Read the map from the parent or the initial user namespace.",
        )
    inside = parse_id(fields[0], f"{place}: inside ID")
    outside = parse_id(fields[1], f"{place}: outside ID")
    count = parse_count(fields[2], f"{place}: count")
    try:
        return extent(inside, outside, count)
    except MapError as error:
        raise MapError(f"{place}: {error.what}", hint=error.hint) from None
