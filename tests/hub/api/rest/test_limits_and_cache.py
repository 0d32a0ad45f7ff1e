"""Rate limits and invalidations over HTTP, on a real Valkey."""

from __future__ import annotations

from services.limits.policy import Policy
from services.limits.settings import LimitSettings
from tests.hub.serving import Served, served, strict_settings
from tests.servers import ValkeyServer
from tests.services.accounts import told

from .callers import caller

CHECK = ("limits:check",)


async def test_a_check_takes_and_tells(hub: Served) -> None:
    """Allowed until nothing is left; then denied, with the fields to pass on; nothing taken."""
    body = {"policy": "agent", "user": "ann", "also": ["daily"]}
    async with caller(hub, "svc", scopes=CHECK) as service, caller(hub) as ann:
        for _ in range(20):
            assert (await service.post("/v1/limits/check", json=body)).json()["allowed"] is True
        denied = await service.post("/v1/limits/check", json=body)
        assert denied.status_code == 200
        outcome = denied.json()
        assert (outcome["allowed"], outcome["violated"]) == (False, ["agent"])
        assert 0 < outcome["retry_after_ms"] <= 3_000
        assert '"agent";q=20;w=60' in denied.headers["ratelimit-policy"]
        query = {"workspace": "w1", "policy": "daily"}
        left = await ann.get("/v1/limits/remaining", params=query)
        assert left.json()["remaining"] == 980, "the denied one took nothing from the other"


async def test_who_may_check_ask_and_reset(hub: Served) -> None:
    """Oneself may be asked about by anybody; the rest needs scopes."""
    async with caller(hub) as ann, caller(hub, "ops", scopes=("limits:admin",)) as ops:
        assert (await ann.post("/v1/limits/check", json={})).status_code == 403
        own = await ann.get("/v1/limits/remaining", params={"policy": "agent"})
        assert own.json()["remaining"] == 20
        foreign = {"policy": "agent", "user": "bob"}
        assert (await ann.get("/v1/limits/remaining", params=foreign)).status_code == 403
        assert (await ann.post("/v1/limits/reset", json=foreign)).status_code == 403
        assert (await ops.post("/v1/limits/reset", json=foreign)).status_code == 204
        unknown = await ann.get("/v1/limits/remaining", params={"policy": "nothing"})
        assert unknown.status_code == 400
        assert "there are: " in unknown.json()["detail"]
        names = [one["name"] for one in (await ann.get("/v1/limits")).json()]
        assert {"api", "agent", "daily"} <= set(names)


async def test_what_changed_is_told_to_the_workspace(hub: Served) -> None:
    """Keys and tags, the foundation and the profiles, each with its event."""
    async with caller(hub, scopes=("cache:invalidate",)) as ann, caller(hub, "bob") as bob:
        body = {"keys": ["k"], "tags": ["t"], "foundation": True, "icps": True}
        assert (await bob.post("/v1/cache/invalidate", json=body)).status_code == 403
        done = await ann.post("/v1/cache/invalidate", json=body)
        assert done.json()["version"] >= 1
        nothing = await ann.post("/v1/cache/invalidate", json={})
        assert nothing.status_code == 400
    events = await told(hub.hub.services.context, "workspace:w1")
    assert [event["type"] for event in events] == [
        "cache.invalidated",
        "foundation.updated",
        "icps.updated",
    ]


async def test_a_slot_is_taken_renewed_and_given_back(valkey: ValkeyServer) -> None:
    """By its holder, over HTTP alone; an application needs no process of ours."""
    runs = Policy(name="runs", limit=1, window_s=30, algorithm="slots")
    settings = strict_settings(valkey.url, limits=LimitSettings(policies=(runs,)))
    async with served(settings) as hub, caller(hub, "svc", scopes=CHECK) as service:
        asked = {"policy": "runs", "user": "ann", "holder": "run-1"}
        for _ in range(2):  # the second time it is renewed
            held = (await service.post("/v1/limits/slots", json=asked)).json()
            assert (held["holder"], held["lease_s"]) == ("run-1", 30.0)
        other = {**asked, "holder": "run-2"}
        refused = await service.post("/v1/limits/slots", json=other)
        assert refused.status_code == 429
        problem = refused.json()
        assert problem["violated-policies"] == ["runs"]
        assert problem["type"].endswith("#quota-exceeded")
        assert 0 < int(refused.headers["retry-after"]) <= 31
        for _ in range(2):
            freed = await service.post("/v1/limits/slots/release", json=asked)
            assert freed.status_code == 204
        assert (await service.post("/v1/limits/slots", json=other)).json()["holder"] == "run-2"
        wrong = await service.post("/v1/limits/slots", json={"policy": "api"})
        assert wrong.status_code == 400
        assert "has no slots" in wrong.json()["detail"]
