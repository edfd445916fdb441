"""The planner of `sublet run`."""

from __future__ import annotations

from sublet.errors import InputError
from sublet.mounts.operations import Remount
from sublet.plan import capabilities
from sublet.plan.model import Plan, Process, Supervision
from sublet.planners.identity import plan_credentials, plan_identity
from sublet.planners.request import RootFs
from sublet.planners.views import host_view, name_service, root_file_system, system_view

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sublet.mounts.operations import Operation
    from sublet.plan.facts import Facts
    from sublet.plan.model import Credentials, Namespace
    from sublet.planners.identity import Identity
    from sublet.planners.request import Request

STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NAMESPACES: frozenset[Namespace] = frozenset({"mount", "pid", "ipc", "uts", "cgroup"})


def plan_run(request: Request, facts: Facts) -> Plan:
    """Return the plan that carries *request* out on a machine of which *facts* hold.

    InputError, MapError, NotDelegatedError, HostError where it cannot be.
    """
    identity = plan_identity(request.ids, facts)
    # Only the caller as such gives everything up: who asks for IDs wants to use them.
    keeps = request.ids.layout == "keep"
    credentials = plan_credentials(
        identity,
        request.user,
        facts,
        keeps=keeps,
        cap_add=request.cap_add,
        cap_drop=request.cap_drop,
        new_privs=request.new_privs,
    )
    environment = _environment(request, credentials)
    namespaces: set[Namespace] = set(NAMESPACES)
    if identity.maps is not None:
        namespaces.add("user")
    if request.net == "none":
        namespaces.add("net")
    return Plan(
        process=Process(
            request.command,
            environment=tuple(f"{name}={value}" for name, value in environment.items()),
            search_path=environment.get("PATH") or STANDARD_PATH,
            directory=_directory(request, facts),
            rlimits=request.limits,
            new_session=not request.terminal and _is_open_to_injection(request, facts),
            terminal=request.terminal,
        ),
        namespaces=frozenset(namespaces),
        maps=() if identity.maps is None else (identity.maps,),
        user_namespace=identity.user_namespace,
        operations=tuple(_operations(request, facts, identity, credentials)),
        root_propagation="private",
        pivot=True,
        hostname=request.hostname,
        loopback=request.net == "none",
        credentials=credentials,
        seccomp=_seccomp(request, facts, credentials),
        supervision=Supervision(
            init=True,
            die_with_parent=request.die_with_parent,
            timeout_ms=request.timeout_ms,
            reporter=request.reporter,
            report_always=request.report_always,
        ),
        slots=request.slots,
    )


def _operations(
    request: Request, facts: Facts, identity: Identity, who: Credentials
) -> list[Operation]:
    # With the caller's own privileges a source may lie in directories that are closed to the
    # IDs inside. Without them, nobody outside could make the mount.
    outside = frozenset({"outside"}) if facts.can_mount else frozenset[str]()
    root = request.root
    operations: list[Operation]
    if isinstance(root, RootFs):
        new_net = request.net == "none"
        operations = root_file_system(
            root, outside, identity.maps, single=identity.single, new_net=new_net
        )
    elif root == "host":
        operations = host_view(outside, identity.maps)
    else:
        operations = system_view(facts, outside, identity.maps, who)
    if request.net == "host":
        view = None if isinstance(root, RootFs) else root
        operations += name_service(facts, outside, view=view)
    if request.mounts:
        from sublet.planners.binds import plan_mounts

        operations += plan_mounts(request.mounts, outside)
    if isinstance(root, RootFs) and root.writes == "refused":
        operations.append(Remount("/", attributes_set=frozenset({"read_only"})))
    return operations


def _environment(request: Request, credentials: Credentials) -> dict[str, str]:
    """Return the command's environment: for a view the caller's, for a root fs a clean one."""
    callers = dict(request.environment)
    environment: dict[str, str]
    if request.clear:
        environment = {}
    elif isinstance(request.root, RootFs):
        environment = {"PATH": STANDARD_PATH, "LANG": "C.UTF-8", "container": "sublet"}
        if "TERM" in callers:
            environment["TERM"] = callers["TERM"]
        account = request.user
        if account is not None:
            environment["HOME"] = account.home
            name = account.name or str(account.uid)
        else:
            name = "root" if credentials.uid == 0 else str(credentials.uid)
            environment["HOME"] = "/root" if credentials.uid == 0 else "/"
        environment["USER"] = environment["LOGNAME"] = name
    else:
        environment = {**callers, "container": "sublet"}
        if request.directory is not None and "PWD" in environment:
            environment["PWD"] = request.directory
    for name, value in request.changes:
        if value is not None:
            environment[name] = value
        elif name in callers:
            environment[name] = callers[name]
    return environment


def _directory(request: Request, facts: Facts) -> str:
    if request.directory is not None:
        return request.directory
    if isinstance(request.root, RootFs):
        return "/"
    return facts.directory or "/"


def _seccomp(request: Request, facts: Facts, credentials: Credentials) -> bytes:
    profile = request.seccomp
    if profile == "none":
        return b""
    names = capabilities.names(credentials.bounding)
    if profile == "default":
        from sublet.seccomp import default_filter

        return default_filter(facts.architecture, frozenset(names), facts.kernel)
    if isinstance(profile, str):
        raise InputError(f"there is no seccomp profile {profile!r}")
    from sublet.seccomp.compiler import compile_profile

    return compile_profile(profile, facts.architecture, frozenset(names), facts.kernel).filter


def _is_open_to_injection(request: Request, facts: Facts) -> bool:
    """Tell whether the command could type into the caller's terminal by TIOCSTI (CVE-2017-5226).

    The default filter refuses that, and so does Linux since 6.2 unless dev.tty.legacy_tiocsti says
    otherwise. Else the command gets a session of its own, at the price of job control.
    """
    if request.seccomp == "default" or not any(facts.terminals):
        return False
    return facts.sysctls.legacy_tiocsti != 0
