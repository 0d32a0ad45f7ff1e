"""Logging in with a browser: the cookie, who may send it, and the application around it."""

from __future__ import annotations

import runpy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from starlette.requests import HTTPConnection

from hub.app import include
from hub.login import (
    CurrentIdentity,
    OptionalIdentity,
    check_same_site,
    clear_login_cookie,
    hub_of,
    set_login_cookie,
)
from hub.login_cookie import LOGIN_COOKIE, SECURE_LOGIN_COOKIE, login_token_in
from tests.hub.serving import strict_settings, token

HOST = "http://app.example"
EXAMPLE = Path(__file__).parents[2] / "examples" / "login.py"


def application(url: str) -> FastAPI:
    """Return an application with a hub inside, and routes that ask who is there."""
    app = FastAPI()
    include(app, strict_settings(url, allowed_origins=("https://friend.example",)))

    @app.post("/login/{user}")
    async def login(user: str, request: Request, response: Response) -> str:
        check_same_site(request)
        issued = await hub_of(request).services.auth_sessions.create(user)
        set_login_cookie(response, issued, secure=request.url.scheme == "https")
        return issued.token

    @app.api_route("/me", methods=["GET", "POST", "DELETE"])
    async def me(identity: CurrentIdentity) -> str:
        return identity.user

    @app.get("/perhaps")
    async def perhaps(identity: OptionalIdentity) -> str:
        return identity.user

    @app.post("/logout")
    async def logout(identity: CurrentIdentity, request: Request, response: Response) -> None:
        await hub_of(request).services.auth_sessions.revoke(identity.user, identity.session)
        clear_login_cookie(response)

    return app


@asynccontextmanager
async def browser(app: FastAPI, base: str = HOST) -> AsyncIterator[httpx.AsyncClient]:
    """Run the application, and return a client that keeps cookies."""
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=base) as client:
            yield client


@pytest.mark.parametrize(
    ("base", "name", "secure"),
    [(HOST, LOGIN_COOKIE, False), ("https://app.example", SECURE_LOGIN_COOKIE, True)],
)
async def test_a_browser_logs_in_and_out(valkey, base, name, secure):
    """The cookie has every attribute it needs, and is no good after the log-out."""
    async with browser(application(valkey.url), base) as client:
        assert (await client.get("/me")).status_code == 401
        assert (await client.get("/perhaps")).json() == ""
        answer = await client.post("/login/ann@x.example", headers={"Origin": base})
        said = answer.headers.get_list("set-cookie")[0]
        assert said.startswith(f"{name}={answer.json()}; Max-Age=")
        assert "; Path=/; HttpOnly; SameSite=Lax" in said
        assert ("; Secure" in said) is secure
        assert "Domain" not in said
        assert (await client.get("/me")).json() == "ann@x.example"
        assert (await client.get("/perhaps")).json() == "ann@x.example"
        before = answer.json()
        out = await client.post("/logout", headers={"Origin": base})
        assert out.status_code == 200
        assert all("Max-Age=0" in line for line in out.headers.get_list("set-cookie"))
        assert not client.cookies
        answer = await client.get("/me", headers={"Authorization": f"Bearer {before}"})
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": HOST}, 200),
        ({"Origin": "https://friend.example"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://app.example.evil.example"}, 403),
        ({"Origin": "http://app.example:81"}, 403),
        ({}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_other_sites_change_nothing(valkey, headers, status, method):
    """A browser sends the cookie for any page, so the page is asked for."""
    async with browser(application(valkey.url)) as client:
        await client.post("/login/ann", headers={"Origin": HOST})
        assert (await client.request(method, "/me", headers=headers)).status_code == status
        assert (await client.get("/me", headers=headers)).status_code == 200


async def test_who_sends_its_token_itself_needs_no_origin(valkey):
    """No browser does that for a foreign page."""
    async with browser(application(valkey.url)) as client:
        issued = (await client.post("/login/ann", headers={"Origin": HOST})).json()
        client.cookies.clear()
        for text in (issued, token("ann")):
            answer = await client.post("/me", headers={"Authorization": f"Bearer {text}"})
            assert answer.json() == "ann"


async def test_a_stale_cookie_closes_no_public_page(valkey):
    """It is as good as none; a token that somebody sends on purpose is not ignored."""
    async with browser(application(valkey.url)) as client:
        issued = (await client.post("/login/ann", headers={"Origin": HOST})).json()
        await client.post("/logout", headers={"Origin": HOST})
        stale = {"Cookie": f"{LOGIN_COOKIE}={issued}"}
        answer = await client.get("/perhaps", headers=stale)
        assert (answer.status_code, answer.json()) == (200, "")
        assert (await client.get("/me", headers=stale)).status_code == 401
        bearer = {"Authorization": f"Bearer {issued}"}
        assert (await client.get("/perhaps", headers=bearer)).status_code == 401


async def test_no_site_logs_somebody_in_as_somebody_else(valkey):
    """The log-in is checked too, cookie or not."""
    async with browser(application(valkey.url)) as client:
        evil = {"Origin": "https://evil.example"}
        assert (await client.post("/login/mallory", headers=evil)).status_code == 403


def connection(scheme: str, cookie: str) -> HTTPConnection:
    """Return a request with a cookie."""
    headers = [(b"cookie", cookie.encode()), (b"host", b"app.example")]
    return HTTPConnection(
        {"type": "http", "scheme": scheme, "path": "/", "headers": headers, "query_string": b""}
    )


@pytest.mark.parametrize(
    ("scheme", "cookie", "expected"),
    [
        ("http", f"{LOGIN_COOKIE}=a", "a"),
        ("http", f"{LOGIN_COOKIE}=a; {SECURE_LOGIN_COOKIE}=b", "b"),
        ("https", f"{LOGIN_COOKIE}=a", ""),
        ("wss", f"{LOGIN_COOKIE}=a", ""),
        ("https", f"{LOGIN_COOKIE}=a; {SECURE_LOGIN_COOKIE}=b", "b"),
        ("http", "", ""),
    ],
)
def test_over_tls_a_planted_cookie_does_not_count(scheme, cookie, expected):
    """Any host of the domain can set the plain one."""
    assert login_token_in(connection(scheme, cookie)) == expected


async def test_the_example_works(valkey, monkeypatch):
    """Logged in from two browsers, one ends the other."""
    monkeypatch.setenv("FANWIRE_REDIS_URL", valkey.url)
    app: Any = runpy.run_path(str(EXAMPLE))["app"]
    origin = {"Origin": HOST}
    async with browser(app) as one, httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url=HOST
    ) as two:  # fmt: skip
        wrong = await one.post("/login", json={"user": "ada", "password": "x"}, headers=origin)
        assert wrong.status_code == 401
        for client in (one, two):
            form = {"user": "ada", "password": "lovelace"}
            answer = await client.post("/login", json=form, headers=origin)
            assert answer.status_code == 204
        listed = (await one.get("/sessions")).json()
        (other,) = [session["id"] for session in listed if not session["this"]]
        assert (await one.delete(f"/sessions/{other}", headers=origin)).status_code == 204
        assert (await two.get("/sessions")).status_code == 401
        assert (await one.post("/logout", headers=origin)).status_code == 204
        assert (await one.get("/sessions")).status_code == 401
        assert "EventSource" in (await one.get("/")).text
