"""Validation: what makes a plan one that the executor can carry out.

The checks are those that need nothing but the plan itself. They stand between planners and executor, so that a
mistake is named in the planner's words (operation, field) and not by an errno out of a half-made sandbox.
"""

from __future__ import annotations

from sublet.errors import PlanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sublet.plan.model import Plan


def validate(plan: Plan) -> None:
    """Raise PlanError where *plan* cannot be carried out, naming the operation or field."""
    if not plan.process.argv:
        raise PlanError("process.argv: there is no command")
