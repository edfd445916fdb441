"""Sparse files in tar: where each piece of a member's data goes, in GNU's four ways to say it.

The old one keeps the map in the header and in blocks after it. The pax ones are called 0.0 (a
record for each number), 0.1 (one record with all) and 1.0 (lines of text before the data): GNU
tar's manual, "Storing Sparse Files".
"""

from __future__ import annotations

from sublet._value import Value
from sublet.archive.numbers import damaged, decimal, number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sublet.archive.reader import Records, Source

BLOCK = 512
MAX_PIECES = 100_000


class Layout(Value):
    """A sparse file: its whole ``length``, and the (offset, count) ``pieces`` that have data."""

    length: int
    pieces: tuple[tuple[int, int], ...]


def read_layout(
    header: bytes, pax: Records, source: Source, size: int, offset: int
) -> tuple[Layout, int]:
    """Return a member's layout, and how many bytes of data follow in *source* from now on.

    ``size``: what the member takes in the archive. Raises ArchiveError where the map is malformed,
    runs backwards, or does not fit the data.
    """
    said = dict(pax)
    if header[156:157] == b"S":
        layout = _old(header, source, offset)
    elif "GNU.sparse.major" in said:
        version = said["GNU.sparse.major"], said.get("GNU.sparse.minor")
        if version != (b"1", b"0"):
            raise damaged(offset, f"a sparse file in the unknown version {version}")
        start = source.position
        numbers = _lines(source, size, offset)
        size -= source.position - start
        layout = _layout(_decimal(said, "realsize", offset), numbers)
    else:
        if "GNU.sparse.map" in said:
            texts = said["GNU.sparse.map"].split(b",") if said["GNU.sparse.map"] else []
        else:
            keys = ("GNU.sparse.offset", "GNU.sparse.numbytes")
            texts = [value for key, value in pax if key in keys]
        numbers = [decimal(text, offset, "sparse map") for text in texts]
        layout = _layout(_decimal(said, "size", offset), numbers)
    end = 0
    for start, count in layout.pieces:
        if start < end:
            raise damaged(offset, "a sparse map that runs backwards")
        end = start + count
    if end > layout.length or len(layout.pieces) > MAX_PIECES:
        raise damaged(offset, "a sparse map that is longer than its file, or too long")
    if sum(count for _, count in layout.pieces) != size:
        raise damaged(offset, "a sparse map that does not fit the data")
    return layout, size


def _layout(length: int, numbers: list[int]) -> Layout:
    return Layout(length, tuple(zip(numbers[0::2], numbers[1::2], strict=False)))


def _decimal(said: dict[str, bytes], name: str, offset: int) -> int:
    return decimal(said.get(f"GNU.sparse.{name}", b""), offset, f"sparse file's {name}")


def _old(header: bytes, source: Source, offset: int) -> Layout:
    """Read pairs of 12-byte numbers: four in the header, and 21 in each block that follows it."""
    numbers: list[int] = []

    def take(fields: bytes) -> None:
        for at in range(0, len(fields), 24):
            pair = fields[at : at + 24]
            if pair[0] and pair[12]:  # unused pairs are NUL bytes
                numbers.extend(
                    number(half, offset, "sparse map") for half in (pair[:12], pair[12:])
                )

    take(header[386:482])
    more = header[482]
    while more:
        block = source.read(BLOCK)
        if len(block) < BLOCK or len(numbers) > 2 * MAX_PIECES:
            raise damaged(offset, "a sparse map that does not end")
        take(block[:504])
        more = block[504]
    return _layout(number(header[483:495], offset, "real size"), numbers)


def _lines(source: Source, size: int, offset: int) -> list[int]:
    """Read lines of decimal numbers: how many pairs, and the pairs; padded to whole blocks."""
    numbers: list[int] = []
    rest = b""
    taken = 0
    while not numbers or len(numbers) < 1 + 2 * numbers[0]:
        block = source.read(BLOCK)
        taken += BLOCK
        if len(block) < BLOCK or taken > size or len(rest) > 20:
            raise damaged(offset, "a sparse map that does not end")
        *lines, rest = (rest + block).split(b"\n")
        wanted = 1 + 2 * numbers[0] if numbers else None
        for line in lines[: None if wanted is None else wanted - len(numbers)]:
            numbers.append(decimal(line, offset, "sparse map"))
            if numbers[0] > MAX_PIECES:
                raise damaged(offset, f"a sparse map of more than {MAX_PIECES} pieces")
            if len(numbers) == 1 + 2 * numbers[0]:
                break
    return numbers[1:]
