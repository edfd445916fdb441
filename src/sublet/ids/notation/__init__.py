"""How ID maps and delegations are written down; one module for each notation.

    numbers      the strict numbers that all the others share
    uid_map      /proc/PID/uid_map and gid_map
    subid        /etc/subuid and /etc/subgid
    newuidmap    the arguments of newuidmap(1) and newgidmap(1)
    explicit     u:INSIDE:OUTSIDE:COUNT,g:... as `sublet run --ids` takes it

Each has ``parse`` and ``render``. A text that does not parse is a NotationError, which names the
text, the place and the remedy; a text that parses, and is no map, is a MapError.
"""
