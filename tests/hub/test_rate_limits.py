"""Rate limits over HTTP: routes, middleware and the hub's own doors."""

from __future__ import annotations

import asyncio
import contextlib
import re

import httpx
import pytest
import uvicorn
import websockets
from fastapi import Depends, FastAPI, Response

from channels.errors import FanwireError, SettingsError
from hub import doors as doors_module
from hub.api.commands import Commands
from hub.app import create_app
from hub.client_address import TrustedProxies
from hub.listener import bind, url_of
from hub.problem import problem_handlers
from hub.rate_limits import RateLimitMiddleware, rate_limit
from hub.settings import Settings
from services.door import Services
from services.limits.policy import Policy
from services.limits.settings import LimitSettings
from services.limits.subjects import Caller
from services.service_settings import ServiceSettings
from tests.hub.serving import API_KEY, served, strict_settings, token, wait_until_ready
from tests.services.test_session_commands import counted

MINE = Policy(name="mine", limit=2, window_s=3600, subject="address", deadline_ms=20_000)


@contextlib.asynccontextmanager
async def _served(app):
    listener = bind(Settings(port=0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    serving = asyncio.create_task(server.serve([listener]))
    async with asyncio.timeout(10):
        while not server.started:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(0.01)
    try:
        yield url_of(listener)
    finally:
        server.should_exit = True
        await serving


@contextlib.asynccontextmanager
async def _hub(valkey, limits):
    app = create_app(strict_settings(valkey.url, limits=limits))
    async with _served(app) as url, httpx.AsyncClient(base_url=url, timeout=10) as client:
        await wait_until_ready(app.state.hub)
        yield client, app.state.hub


def _client(app, **options):
    transport = httpx.ASGITransport(app, **options)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


async def test_a_dependency_limits_a_route(valkey):
    """Allowed answers carry the fields, and a denial is a problem."""
    async with Services.connect(
        valkey.url, settings=ServiceSettings(limits=LimitSettings(policies=(MINE,)))
    ) as services:
        app = FastAPI(exception_handlers={FanwireError: problem_handlers()[FanwireError]})
        app.state.rate_limiter = services.rate_limiter

        @app.get("/a", dependencies=[Depends(rate_limit("mine", legacy=True))])
        async def a():
            return 1

        async with _client(app) as client:
            answers = [await client.get("/a") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["RateLimit-Policy"] == '"mine";q=2;w=3600'
    assert answers[0].headers["RateLimit"].startswith('"mine";r=1;t=')
    assert answers[0].headers["X-RateLimit-Remaining"] == "1"
    problem = answers[2].json()
    assert answers[2].headers["content-type"] == "application/problem+json"
    assert problem["violated-policies"] == ["mine"]
    assert problem["type"].endswith("#quota-exceeded")
    assert 0 < int(answers[2].headers["Retry-After"]) <= 1800


async def test_fields_of_several_dependencies_stand_side_by_side(valkey):
    """And those of a middleware that the route does not have."""
    policies = [
        Policy(name=name, limit=9, subject="address", deadline_ms=20_000)
        for name in ("a", "b", "c")
    ]
    async with Services.connect(
        valkey.url, settings=ServiceSettings(limits=LimitSettings(policies=tuple(policies)))
    ) as services:
        app = FastAPI()
        app.state.rate_limiter = services.rate_limiter
        app.add_middleware(RateLimitMiddleware, policies=("a", "c"), limiter=services.rate_limiter)

        @app.get("/", dependencies=[Depends(rate_limit("a")), Depends(rate_limit("b"))])
        async def root():
            return 1

        async with _client(app) as client:
            answer = await client.get("/")
    assert re.findall('"(.)"', answer.headers["RateLimit"]) == ["a", "b", "c"]
    assert re.findall('"(.)"', answer.headers["RateLimit-Policy"]) == ["a", "b", "c"]


async def test_an_id_in_a_path_is_no_endpoint_of_its_own(valkey):
    """Neither is a path that somebody makes up."""
    limit = Policy(name="each", limit=2, window_s=3600, subject="endpoint", deadline_ms=20_000)
    doors = LimitSettings(policies=(limit,), rest=("each",))
    async with _hub(valkey, doors) as (client, hub):
        assert set(doors_module._METHODS) == set(Commands(hub).methods)
        found = [
            [(await client.get(path.format(name))).status_code for name in "abc"]
            for path in ("/v1/approvals/{}", "/v1/{}", "/v1/{}/x")
        ]
    # The two that are made up are one.
    assert found == [[401, 401, 429], [404, 404, 429], [429] * 3]


async def test_a_middleware_limits_any_application(valkey):
    """Whom it counts is said by a hook; it adds the fields of routes that answer themselves."""
    async with Services.connect(
        valkey.url, settings=ServiceSettings(limits=LimitSettings(policies=(MINE,)))
    ) as services:
        app = FastAPI()
        app.state.rate_limiter = services.rate_limiter
        app.add_middleware(RateLimitMiddleware)

        @app.get("/own", dependencies=[Depends(rate_limit("mine", identify=_by_header))])
        async def own():
            return Response("x")

        limited = RateLimitMiddleware(
            app, policies=("mine",), limiter=services.rate_limiter, identify=_by_header
        )
        async with _client(app) as client:
            answer = await client.get("/own", headers={"x-who": "1"})
        assert answer.headers["RateLimit"].startswith('"mine";r=1;t=')
        async with _client(limited) as client:
            found = [
                (await client.get("/nowhere", headers={"x-who": who})).status_code
                for who in ("2", "2", "2", "3")
            ]
    assert found == [404, 404, 429, 404]


def _by_header(connection):
    return Caller(address=connection.headers.get("x-who", ""))


async def test_the_doors_of_a_hub(valkey):
    """REST, the server API in its own shape, tickets and both handshakes."""
    doors = LimitSettings(
        policies=(
            MINE,
            *(
                Policy(name=f"{door}1", limit=1, window_s=3600, subject="address", deadline_ms=9000)
                for door in ("api", "rest", "ticket")
            ),
        ),
        api=("api1",),
        rest=("rest1",),
        ticket=("ticket1",),
        connect=("mine",),
    )
    async with _hub(valkey, doors) as (client, hub):
        key, bearer = {"X-API-Key": API_KEY}, {"Authorization": f"Bearer {token()}"}
        asked = [
            ("POST", "/api/info", {"json": {}, "headers": key}, 200),
            ("GET", "/v1/nowhere", {"headers": key}, 404),
            ("POST", "/connection/ticket", {"headers": bearer}, 200),
        ]
        for method, path, options, good in asked:
            first = await client.request(method, path, **options)
            second = await client.request(method, path, **options)
            assert (first.status_code, second.status_code) == (good, 429), path
            assert ";r=0;t=" in first.headers["RateLimit"]
            assert "RateLimit-Policy" in second.headers
            if path == "/api/info":
                assert second.json()["error"]["code"] == 111
        url = str(client.base_url).replace("http", "ws") + "/connection/websocket"
        async with websockets.connect(url):
            pass
        async with client.stream("GET", "/events?channel=usage:ann", headers=bearer) as feed:
            assert feed.status_code == 200
        refused = await client.get("/events?channel=usage:ann", headers=bearer)
        assert refused.status_code == 429
        assert "RateLimit" in refused.headers
        with pytest.raises(websockets.InvalidStatus) as told:
            await websockets.connect(url)
        assert told.value.response.status_code == 429
        assert told.value.response.headers["RateLimit"].startswith('"mine";r=0;t=')
        assert (await client.get("/health/live")).status_code == 200
        assert hub.services.rate_limiter.stats.denied == 5


async def test_without_policies_the_doors_cost_nothing(valkey):
    """No command, and no field; clients are counted by the node alone."""
    async with _hub(valkey, LimitSettings()) as (client, hub):
        answer = None

        async def ask():
            nonlocal answer
            answer = await client.post("/api/unknown", json={}, headers={"X-API-Key": API_KEY})
            await client.get("/events?channel=usage:ann")

        found = await counted(hub.services.store, ask)
        assert "RateLimit" not in answer.headers
        assert "mget" not in found  # the only one of ours; the hub itself is never idle
        assert hub.services.rate_limiter.stats.allowed == 1
        assert hub.services.rate_limiter.stats.calls == 0


async def test_the_usual_hub_admits_a_storm(valkey):
    """As many as a node holds may come three times a minute, all from one address."""
    async with served(strict_settings(valkey.url, max_connections=20_000)) as at:
        limiter = at.hub.services.rate_limiter
        assert limiter.policies["connects"].limit == 60_000


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "expected"),
    [
        ((), "10.0.0.1", "1.2.3.4", "10.0.0.1"),
        (("10.0.0.0/8",), "10.0.0.1", "6.6.6.6, 1.2.3.4, 10.0.0.9", "1.2.3.4"),
        (("10.0.0.0/8",), "192.0.2.7", "1.2.3.4", "192.0.2.7"),
        (("10.0.0.1",), "10.0.0.1", "", "10.0.0.1"),
        (("10.0.0.1",), "10.0.0.1", "[2001:db8::1]:443", "2001:db8::1"),
        (("10.0.0.1",), "10.0.0.1", "1.2.3.4:99", "1.2.3.4"),
        (("10.0.0.0/8",), "::ffff:10.0.0.1", "6.6.6.6, 1.2.3.4, ::ffff:a00:9", "1.2.3.4"),
        (("*",), "10.0.0.1", "1.2.3.4, 5.6.7.8", "1.2.3.4"),
    ],
)
def test_whose_address_counts(trusted, peer, forwarded, expected):
    """The peer's, unless it is a proxy of ours; what others wrote before it counts for nothing."""
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    scope = {"client": (peer, 1), "headers": headers}
    assert TrustedProxies(trusted).address_of(scope) == expected


def test_settings_that_make_no_sense_are_refused():
    """At the start of the process."""
    for options in (
        {"api": ("nothing",)},
        {"api": ("workspace",)},
        {"trusted_proxies": ("nonsense",)},
        {"policies": (MINE, MINE)},
    ):
        with pytest.raises(SettingsError):
            LimitSettings(**options)
