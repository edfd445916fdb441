"""`sublet list`: the named layers."""

from __future__ import annotations

import os

from sublet.cli._options import parse
from sublet.errors import InputError
from sublet.host import read_facts
from sublet.state import names
from sublet.state.places import data_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Print the named layers as a table, or as JSON."""
    given = parse("list", {"--json": ("json", "flag")}, argv, mixed=True)
    if "help" in given.flags:
        from sublet.cli._help import main as show

        return show(["list"])
    if given.rest:
        raise InputError(f"sublet list takes no arguments, and {given.rest[0]!r} is given")
    found = names.listing(data_directory(os.environ, read_facts(need=()).home))
    if "json" in given.flags:
        import json

        print(json.dumps([{"name": name, **settings} for name, settings in found], indent=2))
        return 0
    rows = [("NAME", "IDS", "ROOTFS")]
    rows += [(name, settings["ids"], settings["rootfs"]) for name, settings in found]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for name, ids, rootfs in rows if found else ():
        print(f"{name:{widths[0]}}  {ids:{widths[1]}}  {rootfs}")
    return 0
