"""The only readers of /etc, /proc and /sys.

    read_facts   what an ordinary run needs, in few system calls
    Host         where it is read: the machine, or a directory made up for a test

:mod:`sublet.host.passwd` looks users up in a root file system, :mod:`sublet.host.sources` tells
what a path is and who denies it, :mod:`sublet.host.probe` finds out what the kernel can do.
"""

from __future__ import annotations

from sublet.host.machine import Host
from sublet.host.read import EVERYTHING, read_facts

__all__ = ["EVERYTHING", "Host", "read_facts"]
