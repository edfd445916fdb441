"""`sublet rm`: drop named layers."""

from __future__ import annotations

import os

from sublet.cli._options import parse
from sublet.errors import InputError
from sublet.host import read_facts
from sublet.planners.identity import parse_ids, plan_identity
from sublet.state import names
from sublet.state.inside import Inside
from sublet.state.places import data_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Drop the named layers, each inside of the map that its files were written with."""
    given = parse("rm", {}, argv, mixed=True)
    if "help" in given.flags:
        from sublet.cli._help import main as show

        return show(["rm"])
    if not given.rest:
        raise InputError("sublet rm needs a name", hint="`sublet list` shows what there is.")
    facts = read_facts()
    data = data_directory(os.environ, facts.home)
    for name in given.rest:
        ids = parse_ids([names.settings(data, name)["ids"]])
        names.drop(data, name, Inside(facts, plan_identity(ids, facts).maps))
    return 0
