"""The ID maps stand on the way to every sandbox, so importing them must stay cheap."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
before = set(sys.modules)
import sublet.ids, sublet.ids.layouts
from sublet.ids.notation import explicit, newuidmap, subid, uid_map
print(*sorted(m for m in set(sys.modules) - before if not m.startswith("sublet")))
"""


def test_nothing_of_the_standard_library_is_imported_but_bisect_and_itertools() -> None:
    command = [sys.executable, "-c", PROGRAM]
    imported = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert set(imported) <= {"__future__", "_bisect", "bisect", "itertools"}
