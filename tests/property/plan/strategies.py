"""Valid plans of every shape: all operations, namespaces, writers, awkward names and numbers.

Names are made from bytes, as the machine's are: what is not UTF-8 travels as lone surrogates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from sublet._value import Value, replace
from sublet.ids import MAX_ID, IdMap
from sublet.mounts.operations import OPERATIONS, Bind, Operation
from sublet.plan import _wire
from sublet.plan.model import (
    Credentials,
    Descriptor,
    Join,
    Maps,
    Plan,
    Process,
    Rlimit,
    Supervision,
    UserNamespace,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    Draw = Callable[[st.SearchStrategy[Any]], Any]


def without(text: str, char: str) -> str:
    """Return the text without a character, as the machine would hand it to Python.

    Two halves that meet may be UTF-8 together, and then they are no lone surrogates any more.
    """
    raw = text.replace(char, "").encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "surrogateescape")


U64 = st.integers(0, 2**64 - 1)
IDS = st.one_of(st.integers(0, 20), st.just(MAX_ID))
MODES = st.integers(0, 0o7777)
# Few names, so that strings are shared; some empty where that is allowed, some of odd bytes.
TEXTS = st.one_of(
    st.sampled_from(["", "a", "b", "/usr", "Ärger", "a b\n"]),
    st.binary(max_size=8).map(
        lambda raw: raw.replace(b"\0", b"").decode("utf-8", "surrogateescape")
    ),
)
WORDS = TEXTS.filter(bool)
PARTS = WORDS.map(lambda text: without(text, "/") or "x").filter(lambda x: x not in {".", ".."})
TARGETS = st.lists(PARTS, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
SOURCES = TEXTS.map(lambda text: "/" + text)
SLOTS = WORDS.filter(lambda text: "=" not in text)


def tuples(items: st.SearchStrategy[Any], most: int = 3) -> st.SearchStrategy[tuple[Any, ...]]:
    """Any short tuple of the items."""
    return st.lists(items, max_size=most).map(tuple)


def subsets(names: Any, most: int | None = None) -> st.SearchStrategy[frozenset[str]]:
    """Any set of some of the names."""
    if not names:
        return st.just(frozenset())
    return st.frozensets(st.sampled_from(sorted(names)), max_size=most)


ATTRIBUTES = subsets(set(_wire.ENUMS["attribute"]) - {"strictatime"})
PROPAGATIONS = st.sampled_from(list(_wire.ENUMS["propagation"]))

FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "target": TARGETS,
    "source": SOURCES,
    "work": SOURCES,
    "lower": st.lists(SOURCES, min_size=1, max_size=3).map(tuple),
    "options": tuples(WORDS),
    "text": WORDS,
    "mode": st.none() | MODES,
    "uid": st.none() | IDS,
    "gid": st.none() | IDS,
    "size": U64,
    "attributes_set": ATTRIBUTES,
    "propagation": PROPAGATIONS,
    "content": st.binary(max_size=20) | TEXTS.map(lambda t: t.encode("utf-8", "surrogateescape")),
    "device_major": st.integers(0, 0xFFF),
    "device_minor": st.integers(0, 0xFFFFF),
}


def operations(slots: tuple[str, ...], maps: int) -> st.SearchStrategy[Operation]:
    """Any valid operation in a plan with these slots and so many maps."""

    @st.composite
    def build(draw: Draw) -> Operation:
        kind = draw(st.sampled_from(sorted(OPERATIONS)))
        class_ = OPERATIONS[kind]
        values = {name: draw(FIELDS[name]) for name in class_._fields if name in FIELDS}
        values["flags"] = draw(subsets(_wire.OPERATIONS[kind][3]))
        if values["flags"] >= {"exclusive", "if_missing"}:
            values["flags"] -= {"exclusive"}
        if "attributes_clear" in class_._fields:
            values["attributes_clear"] = draw(ATTRIBUTES) - values["attributes_set"]
        if "slot" in class_._fields and slots and draw(st.booleans()):
            values["slot"] = draw(st.sampled_from(slots))
            values.pop("source" if kind == "bind" else "content")
        if kind in SETTLE:
            values = SETTLE[kind](draw, values, maps)
        return class_(**values)

    return build()


def settle_bind(draw: Draw, values: dict[str, Any], maps: int) -> dict[str, Any]:
    """Give a bind a map, its own or another, where there is one."""
    if not maps:
        values["flags"] -= {"own_map"}
    elif "own_map" not in values["flags"]:
        values["map"] = draw(st.none() | st.integers(0, maps - 1))
    return values


def settle_overlay(draw: Draw, values: dict[str, Any], _maps: int) -> dict[str, Any]:
    """Make an overlay writable in one way at most."""
    scratch = "scratch" in values["flags"]
    if scratch or draw(st.booleans()):
        values["source"] = values["work"] = None
    if not scratch:
        values["size"] = 0
    return values


def settle_chmod(draw: Draw, values: dict[str, Any], _maps: int) -> dict[str, Any]:
    """Give a chmod its mode."""
    return {**values, "mode": draw(MODES)}


def settle_sysctl(_draw: Draw, values: dict[str, Any], _maps: int) -> dict[str, Any]:
    """Name a sysctl below /proc/sys."""
    return {**values, "target": values["target"][1:]}


SETTLE: dict[str, Callable[[Draw, dict[str, Any], int], dict[str, Any]]] = {
    "bind": settle_bind,
    "overlay": settle_overlay,
    "chmod": settle_chmod,
    "sysctl": settle_sysctl,
}


@st.composite
def id_maps(draw: Draw) -> IdMap:
    """Any map of one to four extents, inside IDs from 0 on with gaps, outside shuffled."""
    counts = draw(st.lists(st.integers(1, 70000), min_size=1, max_size=4))
    outside = draw(st.permutations(range(len(counts))))
    gap = draw(st.integers(0, 2))
    triples = []
    inside = 0
    for index, count in enumerate(counts):
        triples.append((inside, 100000 * (outside[index] + 1), count))
        inside += count + gap
    return IdMap.of(*triples)


def masks() -> st.SearchStrategy[int]:
    """Any capability set, with bits beyond those that have names."""
    return st.one_of(st.just(0), st.just((1 << 41) - 1), U64)


@st.composite
def credentials(draw: Draw, uids: Any, gids: Any, *, groups: bool) -> Credentials:
    """Any payload whose IDs are among those mapped."""
    permitted, inheritable = draw(masks()), draw(masks())
    return Credentials(
        uid=draw(st.none() | uids),
        gid=draw(st.none() | gids),
        groups=draw(st.none() | tuples(gids)) if groups else None,
        permitted=permitted,
        inheritable=inheritable,
        effective=draw(masks()) & permitted,
        ambient=draw(masks()) & permitted & inheritable,
        bounding=draw(masks()),
        securebits=draw(st.integers(0, 2**32 - 1)),
        no_new_privs=draw(st.booleans()),
    )


@st.composite
def processes(draw: Draw, slots: tuple[str, ...]) -> Process:
    """Any process; the descriptors among *slots*."""
    terminal = draw(st.booleans())
    numbers = draw(st.sets(st.integers(3 if terminal else 0, 20), max_size=3)) if slots else set()
    resources = draw(st.sets(st.integers(0, 15), max_size=3))
    limits = tuples(st.just(0), 0) if not resources else st.lists(U64, min_size=2, max_size=2)
    command = draw(st.none() | WORDS)
    argv = (draw(WORDS), *draw(tuples(TEXTS)))
    names = PARTS.map(lambda text: without(text, "=") or "x")
    return Process(
        argv=argv,
        environment=draw(tuples(st.builds("{}={}".format, names, TEXTS))),
        command=command,
        search_path=draw(TEXTS),
        directory=draw(st.none() | SOURCES),
        umask=draw(st.none() | st.integers(0, 0o777)),
        rlimits=tuple(Rlimit(number, *sorted(draw(limits))) for number in sorted(resources)),
        descriptors=tuple(Descriptor(draw(st.sampled_from(slots)), n) for n in sorted(numbers)),
        new_session=draw(st.booleans()),
        terminal=terminal,
    )


@st.composite
def supervisions(draw: Draw, *, init: bool) -> Supervision:
    """Any supervision; *init* tells whether there can be one."""
    reporter = draw(st.just(()) | st.builds(lambda a, b: (a, *b), SOURCES, tuples(TEXTS)))
    return Supervision(
        init=init and draw(st.booleans()),
        die_with_parent=draw(st.booleans()),
        timeout_ms=draw(U64),
        reporter=reporter,
        report_always=bool(reporter) and draw(st.booleans()),
        sync_start=draw(st.booleans()),
    )


def inside(map_: IdMap) -> st.SearchStrategy[int]:
    """Any ID that the map has inside."""
    return st.sampled_from(
        [int(n) for one in map_.extents for n in (one.inside, one.inside_end - 1)]
    )


@st.composite
def plans(draw: Draw) -> Plan:
    """Any valid plan."""
    slots = tuple(draw(st.lists(SLOTS, unique=True, max_size=3)))
    kinds = list(_wire.ENUMS["namespace"])
    made = draw(subsets(kinds))
    joined = sorted(draw(subsets(set(kinds) - made, 2))) if slots else []
    maps = tuple(draw(st.lists(st.builds(Maps, id_maps(), id_maps()), max_size=3)))
    user = UserNamespace(setgroups=draw(st.sampled_from(["allow", "deny"])))
    uids = gids = IDS
    if "user" in made:
        own = Maps(IdMap.of((7, 1000, 1)), IdMap.of((0, 100, 1)))
        writer = draw(st.sampled_from(["self", "direct", "helpers"]))
        if writer == "self":
            maps = (own, *maps[1:])
            user = replace(user, setgroups="deny")
        maps = maps or (own,)
        uids, gids = inside(maps[0].uid), inside(maps[0].gid)
        user = replace(
            user,
            writer=writer,
            newuidmap=draw(SOURCES),
            newgidmap=draw(SOURCES),
            setup_uid=draw(st.none() | uids),
            setup_gid=draw(st.none() | gids),
        )
    mounts = "mount" in made or "mount" in joined
    names = (TEXTS if "uts" in made or "uts" in joined else st.none()) | st.none()
    pivot = "mount" in made and draw(st.booleans())
    root = (Bind("/", source="/srv"),) if pivot else ()
    groups = "user" not in made or user.setgroups == "allow"
    return Plan(
        process=draw(processes(slots)),
        namespaces=made,
        joins=tuple(Join(kind, draw(st.sampled_from(slots))) for kind in joined),
        maps=maps,
        user_namespace=user,
        operations=root + draw(tuples(operations(slots, len(maps)), 4)),
        root_propagation=draw(PROPAGATIONS) if mounts else "keep",
        pivot=pivot,
        hostname=draw(names),
        domainname=draw(names),
        loopback="net" in made and draw(st.booleans()),
        lock_namespaces="user" in made and draw(st.booleans()),
        credentials=draw(st.none() | credentials(uids, gids, groups=groups)),
        seccomp=draw(st.binary(max_size=3)) * 8,
        supervision=draw(supervisions(init="pid" in made)),
        slots=slots,
    )


def spell_out(value: Any) -> Any:
    """Return a value as nested tuples of names and plain values: nothing compares them but Python.

    Maps are told apart by their extents, not by what they mean.
    """
    if isinstance(value, IdMap):
        return [str(one) for one in value.extents]
    if isinstance(value, Value):
        return type(value).__name__, [(n, spell_out(getattr(value, n))) for n in value._fields]
    if isinstance(value, tuple):
        return [spell_out(one) for one in value]
    return (type(value).__name__, value) if isinstance(value, bool) else value
