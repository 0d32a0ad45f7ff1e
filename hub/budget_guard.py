"""Budgets for an application's own routes::

    Spend = Annotated[Spending, Depends(budget_guard(estimated_cost="0.05", agent="writer"))]

    @app.post("/workspaces/{workspace}/drafts")
    async def draft(spend: Spend) -> str:
        ...
        spend.add(tokens_output=400, cost_usd="0.012")

Who is logged in reserves for the workspace before the route runs; what the route used is charged
when it is done, also when it fails. Where a budget does not allow it the answer is 402, as
problem details, and the route does not run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from starlette.requests import HTTPConnection

from channels.errors import BadRequest, PermissionDenied
from channels.identity import Identity
from channels.ids import check_id
from hub.login import CurrentIdentity, hub_of
from services.budgets.spending import Spending
from services.usage.amounts import Usd

__all__ = ["budget_guard"]


def budget_guard(
    *,
    estimated_cost: Usd | None = None,
    estimated_tokens: int | None = None,
    agent: str = "",
    model: str = "",
) -> Callable[..., AsyncIterator[Spending]]:
    """Return a dependency that is a :class:`~services.budgets.spending.Spending`.

    The workspace is the route's parameter ``workspace``, in the path or the query, and must be
    one of the caller's; a caller who has only one needs none.

    Its errors are answers: 401 for nobody, 403 for somebody else's workspace, 402 for a budget
    that does not allow it, 503 while that cannot be told.
    """

    async def guard(
        connection: HTTPConnection, identity: CurrentIdentity
    ) -> AsyncIterator[Spending]:
        spending = hub_of(connection).services.budgets.spending(
            identity.user,
            _workspace(connection, identity),
            estimated_cost=estimated_cost,
            estimated_tokens=estimated_tokens,
            agent=agent,
            model=model,
        )
        async with spending as spend:
            yield spend

    return guard


def _workspace(connection: HTTPConnection, identity: Identity) -> str:
    asked = connection.path_params.get("workspace") or connection.query_params.get("workspace")
    if not asked:
        if len(identity.workspaces) == 1:
            return next(iter(identity.workspaces))
        raise BadRequest("expected a workspace: it is not clear which one pays")
    if check_id(asked, "workspace") not in identity.workspaces:
        raise PermissionDenied(f"you are not in workspace {asked!r}")
    return asked
