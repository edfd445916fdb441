"""`sublet rm`: drop named layers, and unpacked archives."""

from __future__ import annotations

import os
import sys

from sublet.cli._options import parse
from sublet.errors import InputError, StateError
from sublet.host import read_facts
from sublet.state import names, trees
from sublet.state.inside import Inside
from sublet.state.places import cache_directory, data_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sublet.cli._options import Table
    from sublet.plan.facts import Facts

OPTIONS: Table = {"--trees": ("trees", "flag")}


def main(argv: Sequence[str]) -> int:
    """Drop layers, or the cache; the maps that their files were written with do not matter."""
    given = parse("rm", OPTIONS, argv, mixed=True)
    if "help" in given.flags:
        from sublet.cli._help import main as show

        return show(["rm"])
    if not given.rest and not given.flags:
        raise InputError("sublet rm needs a name", hint="`sublet list` shows what there is.")
    facts = read_facts()
    data = data_directory(os.environ, facts.home)
    for name in given.rest:
        names.drop(data, name, Inside(facts, None))
    return _drop_trees(facts) if "trees" in given.flags else 0


def _drop_trees(facts: Facts) -> int:
    """Drop the unpacked archives; those in use stay and are named, and the status is then 1."""
    cache = cache_directory(os.environ, facts.home)
    inside = Inside(facts, None)
    trees.sweep(cache, inside)
    status = 0
    for kept in trees.listing(cache):
        try:
            trees.drop(cache, kept.name, inside)
        except StateError as error:
            sys.stderr.write(f"sublet: the tree of {kept.archive} stays: {error.what}\n")
            status = 1
    return status
