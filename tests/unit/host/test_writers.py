"""Who writes the maps, and what is refused, and how."""

from __future__ import annotations

import pytest

from sublet._value import replace
from sublet.errors import HostError, MapError, NotDelegatedError
from sublet.ids import IdMap, Range
from sublet.plan.facts import Facts, Helper, Subordinate
from sublet.plan.model import Maps, UserNamespace
from sublet.plan.writers import choose_writer

ALICE = Facts(
    uid=1000,
    gid=1000,
    user="alice",
    subuids=Subordinate((Range.outside(100000, 65536),), "file", "/etc/subuid"),
    subgids=Subordinate(
        (Range.outside(200000, 10), Range.outside(200010, 90)), "file", "/etc/subgid"
    ),
    newuidmap=Helper("/usr/bin/newuidmap", None),
    newgidmap=Helper("/usr/bin/newgidmap", None),
)
ROOT = Facts(uid=0, gid=0, user="root", capabilities=0x1FFFFFFFFFF)
HELPERS = UserNamespace(
    writer="helpers", newuidmap="/usr/bin/newuidmap", newgidmap="/usr/bin/newgidmap"
)

OWN = IdMap.of((0, 1000, 1))
FULL_UID = IdMap.of((0, 1000, 1), (1, 100000, 65536))
FULL_GID = IdMap.of((0, 1000, 1), (1, 200000, 100))


@pytest.mark.parametrize(
    ("facts", "uid", "gid", "expected"),
    [
        (ALICE, OWN, OWN, UserNamespace(writer="self", setgroups="deny")),
        (ALICE, FULL_UID, FULL_GID, HELPERS),
        (ALICE, OWN, FULL_GID, HELPERS),
        (ALICE, FULL_UID, OWN, replace(HELPERS, setgroups="deny")),
        (ROOT, OWN, OWN, UserNamespace(writer="direct")),
        (ROOT, IdMap.of((0, 0, 1)), IdMap.of((0, 0, 1)), UserNamespace(writer="direct")),
        (replace(ALICE, capabilities=0xC0), FULL_UID, OWN, UserNamespace(writer="direct")),
        (
            replace(ALICE, capabilities=0x80),
            OWN,
            OWN,
            UserNamespace(writer="self", setgroups="deny"),
        ),
    ],
)
def test_who_writes(facts: Facts, uid: IdMap, gid: IdMap, expected: UserNamespace) -> None:
    assert choose_writer(facts, Maps(uid, gid)) == expected


def test_root_without_setfcap_maps_itself() -> None:
    facts = replace(ROOT, capabilities=0xC0)
    zero = IdMap.of((0, 0, 1))
    assert choose_writer(facts, Maps(zero, zero)).writer == "self"


def refusal(facts: Facts, uid: IdMap, gid: IdMap) -> tuple[str, str]:
    with pytest.raises((NotDelegatedError, HostError)) as caught:
        choose_writer(facts, Maps(uid, gid))
    assert caught.value.hint
    return caught.value.what, caught.value.hint


def test_what_is_not_delegated_is_named_inside_and_outside() -> None:
    what, hint = refusal(ALICE, IdMap.of((0, 1000, 1), (1, 100000, 65546)), OWN)
    assert what == (
        "the map takes user IDs 65537-65546 inside to 165536-165545 outside, which are not"
        " delegated to alice in /etc/subuid (START:COUNT 100000:65536 are)"
    )
    assert hint == 'As root, add the line "alice:165536:10" to /etc/subuid, or map fewer IDs.'


def test_groups_are_looked_up_in_subgid() -> None:
    what, hint = refusal(ALICE, FULL_UID, IdMap.of((0, 1000, 1), (5, 200099, 2)))
    assert "group IDs 6 inside to 200100 outside" in what
    assert '"alice:200100:1" to /etc/subgid' in hint


def test_nothing_is_delegated() -> None:
    facts = replace(ALICE, user=None, subuids=Subordinate(file="/etc/subuid"))
    what, hint = refusal(facts, FULL_UID, OWN)
    assert "to 1000 in /etc/subuid (nothing is)" in what
    assert '"1000:100000:65536"' in hint


def test_somebody_elses_id_is_not_ones_own() -> None:
    what, _ = refusal(ALICE, IdMap.of((0, 1001, 1)), OWN)
    assert "0 inside to 1001 outside" in what


def test_ones_own_id_must_stand_alone() -> None:
    facts = replace(ALICE, subuids=Subordinate((Range.outside(1001, 10),), "file", "/etc/subuid"))
    _, hint = refusal(facts, IdMap.of((0, 1000, 11)), OWN)
    assert "INSIDE 1000 1" in hint


def test_a_directory_service_is_not_a_file() -> None:
    facts = replace(ALICE, subuids=Subordinate((), "getsubids", "/etc/subuid"))
    _, hint = refusal(facts, FULL_UID, OWN)
    assert "directory service" in hint


@pytest.mark.parametrize(
    ("helper", "sentence", "remedy"),
    [
        (Helper(), "newuidmap is needed", "uidmap (Debian, Ubuntu)"),
        (Helper("/usr/bin/newuidmap", "unprivileged"), "neither a setuid bit", "chmod u+s"),
        (Helper("/usr/bin/newuidmap", "nosuid"), "nosuid", "mount"),
        (Helper("/usr/bin/newuidmap", "no_new_privs"), "no_new_privs", "sandbox"),
    ],
)
def test_helpers_that_cannot_work(helper: Helper, sentence: str, remedy: str) -> None:
    what, hint = refusal(replace(ALICE, newuidmap=helper), FULL_UID, FULL_GID)
    assert sentence in what
    assert remedy in hint


def test_helpers_are_not_missed_where_none_is_needed() -> None:
    facts = replace(ALICE, newuidmap=Helper(), newgidmap=Helper())
    assert choose_writer(facts, Maps(OWN, OWN)).writer == "self"


def test_ids_that_the_own_namespace_does_not_have() -> None:
    own = IdMap.of((0, 1000, 1), (1, 100000, 500))
    facts = replace(ROOT, uid_map=own, gid_map=own, initial_user_namespace=False)
    assert choose_writer(facts, Maps(IdMap.of((0, 1, 500)), OWN.invert())).writer == "direct"
    what, hint = refusal(facts, IdMap.of((0, 1, 501)), IdMap.of((0, 0, 1)))
    assert "500 inside to 501 outside" in what
    assert "/proc/self/uid_map" in hint


def test_what_no_kernel_takes() -> None:
    with pytest.raises(MapError, match="no extents"):
        choose_writer(ROOT, Maps(IdMap(), OWN))
