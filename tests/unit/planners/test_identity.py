from __future__ import annotations

import pytest

from sublet._value import replace
from sublet.errors import HostError, InputError, MapError, NotationError, NotDelegatedError
from sublet.ids import IdMap
from sublet.plan import capabilities
from sublet.plan.facts import Facts, Helper, Sysctls
from sublet.planners.identity import parse_ids, plan_credentials, plan_identity
from sublet.planners.request import Account, Ids
from unit.planners.machines import DEBIAN, NO_SUB_IDS, ROOT

# ---------------------------------------------------------------- texts


@pytest.mark.parametrize("layout", ["keep", "root", "full", "nomap", "host"])
def test_layouts_have_names(layout: str) -> None:
    assert parse_ids([layout]).layout == layout


def test_keep_takes_a_user_and_a_group() -> None:
    assert parse_ids(["keep:405"]) == Ids("keep_id", 405)
    assert parse_ids(["keep:405:100"]) == Ids("keep_id", 405, 100)


def test_explicit_maps_can_be_repeated() -> None:
    ids = parse_ids(["u:0:100000:10", "g:0:100000:5,g:5:1001:1"])
    assert ids.users == IdMap.of((0, 100000, 10))
    assert ids.groups == IdMap.of((0, 100000, 5), (5, 1001, 1))


@pytest.mark.parametrize(
    "texts", [["ful"], ["keep", "root"], ["u:0:0:1", "full"], [""], ["x:1:2:3"]]
)
def test_other_words_are_refused_with_the_words_that_there_are(texts: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        parse_ids(texts)
    assert "keep:UID[:GID]" in (caught.value.hint or "")


@pytest.mark.parametrize("text", ["keep:", "keep:-1", "keep:1:", "keep:4294967295", "keep:a"])
def test_a_user_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(NotationError):
        parse_ids([text])


# ---------------------------------------------------------------- maps and their writers


def identity_of(text: str, facts: Facts = DEBIAN) -> tuple[str, str, str]:
    """Return the map of users, who writes it, and the default IDs, of ``--ids text``."""
    identity = plan_identity(parse_ids([text]), facts)
    assert identity.maps is not None
    who = f"{identity.uid}:{identity.gid}"
    return str(identity.maps.uid), identity.user_namespace.writer, who


def test_an_ordinary_user_with_sub_ids() -> None:
    assert identity_of("keep") == ("1001 1001 1", "self", "1001:1001")
    assert identity_of("root") == ("0 1001 1", "self", "0:0")
    assert identity_of("full") == ("0 1001 1, 1 100000 65536", "helpers", "0:0")
    assert identity_of("nomap") == ("0 100000 65536", "helpers", "0:0")
    filled = "0 100000 405, 405 1001 1, 406 100405 65131"
    assert identity_of("keep:405:100") == (filled, "helpers", "405:100")


def test_root_writes_maps_directly() -> None:
    assert identity_of("keep", ROOT) == ("0 0 1", "direct", "0:0")
    assert identity_of("full", ROOT) == ("0 0 1, 1 200000 65536", "direct", "0:0")
    assert identity_of("b:0:100000:65536", ROOT) == ("0 100000 65536", "direct", "0:0")


def test_a_user_without_sub_ids_can_be_one_user() -> None:
    assert identity_of("keep", NO_SUB_IDS) == ("1002 1002 1", "self", "1002:1002")
    assert identity_of("root", NO_SUB_IDS) == ("0 1002 1", "self", "0:0")
    assert identity_of("keep:405:100", NO_SUB_IDS) == ("405 1002 1", "self", "405:100")


@pytest.mark.parametrize("text", ["full", "nomap"])
def test_without_delegation_the_line_to_add_is_named(text: str) -> None:
    with pytest.raises(NotDelegatedError) as caught:
        plan_identity(parse_ids([text]), NO_SUB_IDS)
    assert 'add the line "nosub:165536:65536" to /etc/subuid and /etc/subgid' in (
        caught.value.hint or ""
    )


def test_a_map_that_asks_for_more_than_is_delegated_names_the_ids() -> None:
    with pytest.raises(NotDelegatedError, match="65536") as caught:
        plan_identity(parse_ids(["b:0:100000:65537"]), DEBIAN)
    assert "165536" in str(caught.value)


def test_ones_own_id_needs_no_delegation_and_becomes_an_extent_by_itself() -> None:
    ids = parse_ids(["b:0:100000:1001,b:1001:1001:1,b:1002:101002:64534"])
    identity = plan_identity(ids, DEBIAN)
    assert identity.maps is not None
    assert identity.maps.uid == ids.users
    within = replace(DEBIAN, uid=100500, euid=100500, gid=100500, egid=100500)
    cut = plan_identity(parse_ids(["b:0:100000:1000"]), within).maps
    assert cut is not None
    assert str(cut.uid) == "500 100500 1, 0 100000 500, 501 100501 499"


def test_an_explicit_map_of_one_side_keeps_the_other() -> None:
    identity = plan_identity(parse_ids(["u:0:1001:1"]), DEBIAN)
    assert identity.maps is not None
    assert str(identity.maps.gid) == "1001 1001 1"
    assert (identity.uid, identity.gid) == (0, 1001)


def test_mount_points_belong_to_inside_root_where_there_is_one() -> None:
    def set_up_as(text: str, facts: Facts) -> tuple[int | None, int | None]:
        namespace = plan_identity(parse_ids([text]), facts).user_namespace
        return namespace.setup_uid, namespace.setup_gid

    assert set_up_as("keep", DEBIAN) == (None, None)
    assert set_up_as("full", DEBIAN) == (None, None)
    assert set_up_as("keep:405:100", DEBIAN) == (0, 0)
    assert set_up_as("nomap", DEBIAN) == (0, 0)
    assert set_up_as("b:0:100000:10", ROOT) == (0, 0)
    assert set_up_as("b:5:100000:10", ROOT) == (5, 5)


def test_a_nested_map_is_cut_to_what_the_parent_has() -> None:
    parent = IdMap.of((0, 1001, 1), (1, 100000, 65536))
    nested = replace(
        ROOT, initial_user_namespace=False, uid_map=parent, gid_map=parent, subuids=DEBIAN.subuids
    )
    maps = plan_identity(parse_ids(["b:0:0:10"]), nested).maps
    assert maps is not None
    assert str(maps.uid) == "0 0 1, 1 1 9"
    with pytest.raises((MapError, NotDelegatedError)):
        plan_identity(parse_ids(["b:0:100000:10"]), nested)


# ---------------------------------------------------------------- what the machine does not allow


def test_disabled_user_namespaces_are_named_with_the_sysctl() -> None:
    for sysctls, name in (
        (Sysctls(max_user_namespaces=0), "user.max_user_namespaces"),
        (Sysctls(unprivileged_userns_clone=0), "kernel.unprivileged_userns_clone"),
    ):
        with pytest.raises(HostError, match=name) as caught:
            plan_identity(Ids(), replace(DEBIAN, sysctls=sysctls))
        assert f"sysctl {name}=" in (caught.value.hint or "")


def test_a_missing_helper_is_named_with_its_package() -> None:
    with pytest.raises(HostError, match="newuidmap") as caught:
        plan_identity(Ids("full"), replace(DEBIAN, newuidmap=Helper()))
    assert "uidmap" in (caught.value.hint or "")


def test_the_machines_own_ids_are_for_root() -> None:
    with pytest.raises(HostError, match="--ids host"):
        plan_identity(Ids("host"), DEBIAN)
    assert plan_identity(Ids("host"), ROOT).maps is None


# ---------------------------------------------------------------- credentials


def test_who_stays_oneself_gives_everything_up() -> None:
    for facts in (DEBIAN, ROOT):
        who = plan_credentials(plan_identity(Ids(), facts), None, facts, keeps=True)
        assert (who.effective, who.permitted, who.bounding) == (0, 0, 0)
        assert (who.inheritable, who.ambient) == (0, 0)
        assert who.no_new_privs
        assert who.groups is None


def test_root_inside_has_what_containers_have_and_others_could_gain_it() -> None:
    identity = plan_identity(Ids("full"), DEBIAN)
    root = plan_credentials(identity, None, DEBIAN, keeps=False)
    assert root.effective == root.permitted == root.bounding == capabilities.CONTAINER
    assert root.inheritable == root.ambient == 0
    assert not root.no_new_privs
    assert root.groups == ()
    other = plan_credentials(identity, Account(1000, 1000, (7,)), DEBIAN, keeps=False)
    assert (other.uid, other.gid, other.groups) == (1000, 1000, (7,))
    assert (other.effective, other.bounding) == (0, capabilities.CONTAINER)


def test_groups_are_left_alone_where_they_cannot_be_set() -> None:
    identity = plan_identity(Ids("root"), DEBIAN)
    assert plan_credentials(identity, Account(0, 0, (5,)), DEBIAN, keeps=False).groups is None


@pytest.mark.parametrize(
    ("account", "what"),
    [
        (Account(70000, 0), "UID 70000"),
        (Account(0, 70000), "GID 70000"),
        (Account(0, 0, (70000,)), "supplementary GID 70000"),
    ],
)
def test_an_id_without_a_mapping_is_refused(account: Account, what: str) -> None:
    with pytest.raises(InputError, match=what):
        plan_credentials(plan_identity(Ids("full"), DEBIAN), account, DEBIAN, keeps=False)


def capabilities_of(
    add: tuple[str, ...], drop: tuple[str, ...], layout: str = "full", uid: int = 0
) -> dict[str, int]:
    identity = plan_identity(parse_ids([layout]), DEBIAN)
    account = None if layout == "keep" else Account(uid, 0)
    who = plan_credentials(
        identity, account, DEBIAN, keeps=layout == "keep", cap_add=add, cap_drop=drop
    )
    return {name: getattr(who, name) for name in ("effective", "bounding", "ambient")}


def test_capabilities_are_added_and_dropped() -> None:
    net, chown = capabilities.parse("NET_ADMIN"), capabilities.parse("CHOWN")
    usual = capabilities.CONTAINER
    assert capabilities_of(("NET_ADMIN",), ())["bounding"] == usual | net
    assert capabilities_of((), ("CHOWN",))["effective"] == usual & ~chown
    assert capabilities_of(("NET_ADMIN",), ("all",))["effective"] == net
    assert capabilities_of(("all",), ("CHOWN",))["effective"] == capabilities.ALL & ~chown
    assert capabilities_of((), ("all",))["bounding"] == 0


def test_who_is_not_root_holds_what_was_added_by_name() -> None:
    net = capabilities.parse("NET_ADMIN")
    for layout in ("full", "keep"):
        got = capabilities_of(("NET_ADMIN",), (), layout, uid=1000)
        assert got["effective"] == got["ambient"] == net


def test_a_capability_that_the_kernel_lacks_is_refused() -> None:
    old = replace(DEBIAN, sysctls=Sysctls(cap_last_cap=37))
    identity = plan_identity(Ids("root"), old)
    with pytest.raises(InputError, match="CAP_BPF"):
        plan_credentials(identity, None, old, keeps=False, cap_add=("BPF",))
    every = plan_credentials(identity, None, old, keeps=False, cap_add=("all",))
    assert every.bounding == (1 << 38) - 1


def test_without_a_user_namespace_nothing_is_gained() -> None:
    few = replace(ROOT, permitted=capabilities.mask(("CHOWN", "SYS_ADMIN")))
    identity = plan_identity(Ids("host"), few)
    who = plan_credentials(identity, None, few, keeps=False)
    assert who.effective == capabilities.parse("CHOWN")
    with pytest.raises(InputError, match="CAP_SYS_TIME"):
        plan_credentials(identity, None, few, keeps=False, cap_add=("SYS_TIME",))
