"""Fixtures and rules for all tests; what is behind them is in tests/support/."""

from __future__ import annotations

import itertools
import os
import signal
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support import debian as debian_archive
from support import installed, leaks, probes, users

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    Lender = Callable[[users.Account], users.User]

COUNTER = itertools.count(1)


def is_worker(config: pytest.Config) -> bool:
    """Tell whether this process is one of xdist's workers."""
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    """Make the run's own place before any worker starts and inherits its name."""
    if not is_worker(config):
        os.environ[installed.PLACE] = str(installed.make_place())
    # A shell starts what it does not wait for with SIGINT ignored; that is inherited, and what is
    # tested would ignore it too.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the run's own place."""
    place = os.environ.get(installed.PLACE)
    if place and not is_worker(config):
        users.remove(Path(place))
        del os.environ[installed.PLACE]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse misspelt capabilities while collecting, not on the machine that lacks them."""
    for item in items:
        for capability in required(item):
            if not capability.startswith(("command:", "kernel>=")):
                assert capability in probes.PROBES, f"{item.nodeid}: no probe for {capability!r}"


def required(item: pytest.Item) -> tuple[str, ...]:
    """Return what a test requires by its marks, the outermost first."""
    marks = [*item.iter_markers("requires")]
    named = [str(name) for mark in reversed(marks) for name in mark.args]
    if item.get_closest_marker("network"):
        named.append("network")
    return tuple(named)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip or fail a test whose requirements are not met."""
    absence = probes.first_missing(required(item))
    if absence:
        probes.absent(absence)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where everything must work, turn each skip without a good reason into a failure."""
    report = yield
    if probes.MUST_WORK and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if probes.BEYOND not in reason:
            report.outcome = "failed"
            report.longrepr = f"{reason} (SUBLET_MUST_WORK=1 forbids to skip this)"
    return report


@pytest.fixture(scope="session")
def place() -> Path:
    """The run's own directory, which every user can read."""
    return Path(os.environ[installed.PLACE])


@pytest.fixture(scope="session")
def sublet_command(place: Path) -> list[str]:
    """The argv of an installed `sublet` that every user can execute."""
    try:
        return [str(installed.installed(place))]
    except RuntimeError as error:
        probes.absent(probes.Absence(str(error), mendable=True))


@pytest.fixture(scope="session")
def sublet_exec(place: Path, sublet_command: list[str]) -> Path:
    """The executor under test: the release build, or the one that SUBLET_EXEC names."""
    del sublet_command  # made with it
    return place / "lib" / "sublet" / "sublet-exec"


@pytest.fixture(scope="session")
def debian() -> Path:
    """A tar archive of a small Debian with apt, for tests that require command:mmdebstrap."""
    try:
        return debian_archive.archive()
    except RuntimeError as error:
        probes.absent(probes.Absence(str(error), mendable=False))


@pytest.fixture
def mark() -> str:
    """A word that all processes of this test's users carry in their environment."""
    return uuid.uuid4().hex


@pytest.fixture
def lend(mark: str, place: Path) -> Iterator[Lender]:
    """Lend users for the time of one test."""
    lent: list[Iterator[users.User]] = []

    def lender(account: users.Account) -> users.User:
        folder = place / "users" / f"{account.name}-{os.getpid()}-{next(COUNTER)}"
        loan = users.lend(account, folder, mark, str(place / "bin"))
        lent.append(loan)
        return next(loan)

    yield lender
    for loan in reversed(lent):
        next(loan, None)


@pytest.fixture
def root(lend: Lender) -> users.User:
    """Root, with 65536 sub-IDs from 200000 on."""
    return user_named("root", lend)


@pytest.fixture
def alice(lend: Lender) -> users.User:
    """An ordinary user with sub-IDs: 65536 from 100000 on, if root runs the tests."""
    return user_named("alice", lend)


@pytest.fixture
def nosub(lend: Lender) -> users.User:
    """An ordinary user without sub-IDs."""
    return user_named("nosub", lend)


@pytest.fixture(params=["root", "alice"])
def anyone(request: pytest.FixtureRequest, lend: Lender) -> users.User:
    """Root and alice, in turn."""
    return user_named(request.param, lend)


@pytest.fixture(params=["root", "alice", "nosub"])
def everyone(request: pytest.FixtureRequest, lend: Lender) -> users.User:
    """Root, alice and nosub, in turn."""
    return user_named(request.param, lend)


def user_named(name: str, lend: Lender) -> users.User:
    """Return the throw-away user of that name, or skip where this machine has none such."""
    accounts = {account.name: account for account in users.ACCOUNTS}
    if os.geteuid() == 0:
        absence = probes.missing("root")
        if absence:
            probes.absent(absence)
        return lend(accounts[name])
    if name == "root":
        probes.beyond("the tests are not run as root")
    me = users.myself()
    if name == "alice" and not me.sub_ids:
        probes.beyond(f"{me.name}, who runs the tests, has no sub-IDs to be alice")
    if name == "nosub" and me.sub_ids:
        probes.beyond(f"{me.name}, who runs the tests, has sub-IDs and cannot be nosub")
    return lend(me)


@pytest.fixture
def leaving_nothing(mark: str) -> Iterator[leaks.Leaks]:
    """Fail the test if its users left processes or mounts, or files in places it had watched."""
    checker = leaks.Leaks(mark)
    yield checker
    checker.check()
