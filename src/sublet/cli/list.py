"""`sublet list`: the named layers, and the archives that were unpacked."""

from __future__ import annotations

import os

from sublet.cli._options import parse
from sublet.errors import InputError
from sublet.host import read_facts
from sublet.state import names, trees
from sublet.state.places import cache_directory, data_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sublet.cli._options import Table

OPTIONS: Table = {"--json": ("json", "flag")}


def main(argv: Sequence[str]) -> int:
    """Print both as tables, or as JSON."""
    given = parse("list", OPTIONS, argv, mixed=True)
    if "help" in given.flags:
        from sublet.cli._help import main as show

        return show(["list"])
    if given.rest:
        raise InputError(f"sublet list takes no arguments, and {given.rest[0]!r} is given")
    home = read_facts(need=()).home
    layers = names.listing(data_directory(os.environ, home))
    kept = trees.listing(cache_directory(os.environ, home))
    if "json" in given.flags:
        import json

        found = {
            "layers": [{"name": name, **settings} for name, settings in layers],
            "trees": [{name: getattr(tree, name) for name in tree._fields} for tree in kept],
        }
        print(json.dumps(found, indent=2))
        return 0
    _table(
        ("NAME", "IDS", "ROOTFS"),
        [(name, settings["ids"], settings["rootfs"]) for name, settings in layers],
    )
    if layers and kept:
        print()
    _table(
        ("SIZE", "IDS", "UNPACKED ARCHIVE"),
        [
            (_size(tree.bytes), tree.ids, tree.archive + (" (gone or changed)" * tree.stale))
            for tree in kept
        ],
    )
    return 0


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print rows under a head; nothing where there are none."""
    if not rows:
        return
    rows = [head, *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        line = "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        # What people named may hold anything.
        print("".join(c if c.isprintable() else "?" for c in line.rstrip()))


def _size(count: int) -> str:
    for suffix in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count} {suffix}"
        count //= 1024
    return f"{count} GiB"
