"""The report: how a launch ended, what it used, what was in force."""

from __future__ import annotations

from sublet._value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

    from sublet.plan.message import Message
    from sublet.plan.model import Plan

EXIT_TIMEOUT = 124
EXIT_FAILED = 125


class Report(Value):
    """How it ended.

    ``ending``: ``exit``, with ``status`` 0 to 255; ``signal``, with its number in ``signal``;
    ``timeout``, everything was killed when the time was over; ``lost``, the sandbox's first process
    was killed from outside; ``setup``, the command was never executed: ``phase``, ``step``,
    ``operation`` (index into the plan's) and ``errno`` say where it failed; ``status`` is then that
    of a helper program that failed, and ``signal`` the one that killed who set up.
    ``wall_ns``, ``user_us``, ``system_us``, ``max_rss_kib``: time and memory that the payload took.
    ``plan``: what was asked; where set-up succeeded, all of it was in force, since the executor
    reads back or checks what it sets, and fails otherwise.
    """

    ending: Literal["exit", "signal", "timeout", "lost", "setup"]
    plan: Plan
    status: int | None = None
    signal: int | None = None
    phase: str | None = None
    step: str | None = None
    operation: int | None = None
    errno: int | None = None
    wall_ns: int = 0
    user_us: int = 0
    system_us: int = 0
    max_rss_kib: int = 0

    @property
    def exit_code(self) -> int:
        """The exit status of a command line that ends so; 125 where set-up failed, whatever why."""
        if self.ending == "exit":
            return self.status or 0
        if self.ending in {"signal", "lost"}:
            return 128 + (self.signal or 0)
        return EXIT_TIMEOUT if self.ending == "timeout" else EXIT_FAILED

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON has it; keys are stable, what does not apply is left out."""
        numbers = {
            name: getattr(self, name)
            for name in ("status", "signal", "phase", "step", "operation", "errno")
        }
        used = {
            name: getattr(self, name) for name in ("wall_ns", "user_us", "system_us", "max_rss_kib")
        }
        found = {name: value for name, value in numbers.items() if value is not None}
        report: dict[str, Any] = {"version": 1, "ending": self.ending, **found}
        if self.ending != "setup":
            report["used"] = used
            report["enforced"] = _enforced(self.plan)
        return report


def report_of(message: Message, plan: Plan) -> Report:
    """Return the report that a ``failed`` or an ``exited`` message makes."""
    if message.kind == "failed":
        return Report(
            "setup",
            plan,
            phase=message.phase,
            step=message.step,
            operation=message.operation,
            errno=message.error or None,
            status=None if message.ending == "lost" else message.value or None,
            signal=message.value if message.ending == "lost" else None,
        )
    return Report(
        message.ending,
        plan,
        status=message.value if message.ending == "exit" else None,
        signal=message.value if message.ending in {"signal", "lost"} else None,
        wall_ns=message.wall_ns,
        user_us=message.user_us,
        system_us=message.system_us,
        max_rss_kib=message.max_rss_kib,
    )


def _enforced(plan: Plan) -> dict[str, Any]:
    """Say what was in force while the payload ran."""
    enforced: dict[str, Any] = {
        "namespaces": sorted(plan.namespaces),
        "joined": sorted(join.namespace for join in plan.joins),
    }
    if "user" in plan.namespaces and plan.maps:
        own = plan.maps[0]
        enforced["uid_map"] = [[int(e.inside), int(e.outside), e.count] for e in own.uid.extents]
        enforced["gid_map"] = [[int(e.inside), int(e.outside), e.count] for e in own.gid.extents]
        enforced["setgroups"] = plan.user_namespace.setgroups
    who = plan.credentials
    if who is not None:
        enforced["no_new_privs"] = who.no_new_privs
        enforced["capabilities"] = {
            name: f"{getattr(who, name):016x}"
            for name in ("effective", "permitted", "inheritable", "ambient", "bounding")
        }
    if plan.seccomp:
        enforced["seccomp_instructions"] = len(plan.seccomp) // 8
    if plan.process.rlimits:
        from sublet.plan.rlimits import NAMES

        enforced["rlimits"] = {
            NAMES[limit.resource]: {"soft": limit.soft, "hard": limit.hard}
            for limit in plan.process.rlimits
        }
    if plan.supervision.timeout_ms:
        enforced["timeout_ms"] = plan.supervision.timeout_ms
    return enforced
