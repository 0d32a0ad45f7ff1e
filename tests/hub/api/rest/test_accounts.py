"""Preferences, the onboarding and login sessions, over HTTP, on a real Valkey."""

from __future__ import annotations

from tests.hub.serving import API_KEY, Served

from .callers import caller


async def test_preferences_of_a_workspace_and_of_a_person(hub: Served) -> None:
    """Merge patches, versions, and one's own over those of all."""
    async with caller(hub, scopes=("preferences:write",)) as ann, caller(hub, "bob") as bob:
        assert (await bob.get("/v1/preferences")).json()["version"] == 0
        shared = await ann.patch("/v1/preferences", json={"theme": "dark", "lang": "de"})
        assert (shared.status_code, shared.headers["etag"]) == (200, '"1"')
        assert (await bob.patch("/v1/preferences", json={"theme": "x"})).status_code == 403
        own = await bob.patch("/v1/preferences/bob", json={"theme": "light"})
        assert own.json()["values"] == {"theme": "light"}
        effective = await bob.get("/v1/preferences/bob/effective")
        assert effective.json()["values"] == {"theme": "light", "lang": "de"}
        assert (await ann.get("/v1/preferences/bob")).status_code == 403
        late = await ann.patch("/v1/preferences", json={"lang": None}, headers={"If-Match": '"7"'})
        assert (late.status_code, late.json()["current_version"]) == (412, 1)
        fine = await ann.patch("/v1/preferences", json={"lang": None}, headers={"If-Match": '"1"'})
        assert fine.json()["values"] == {"theme": "dark"}
        assert (await bob.delete("/v1/preferences/bob")).json()["values"] == {}
        assert (await ann.patch("/v1/preferences", json=[1])).status_code == 400


async def test_an_onboarding(hub: Served) -> None:
    """Begun once, led on by who began it, completed, forgotten."""
    write = ("onboarding:write",)
    async with caller(hub, scopes=write) as ann, caller(hub, "bob", scopes=write) as bob:
        assert (await ann.get("/v1/onboarding")).status_code == 404
        begun = await ann.post("/v1/onboarding", json={"step": "profile"})
        assert (begun.status_code, begun.json()["user_id"]) == (200, "ann")
        assert (await bob.post("/v1/onboarding", json={})).json()["user_id"] == "ann"
        assert (await bob.patch("/v1/onboarding", json={"step": "voice"})).status_code == 403
        on = await ann.patch(
            "/v1/onboarding", json={"step": "voice", "patch": {"profile": {"name": "Acme"}}}
        )
        assert (on.json()["step"], on.json()["data"]) == ("voice", {"profile": {"name": "Acme"}})
        noted = await ann.patch("/v1/onboarding", json={"patch": {"profile": {"size": 3}}})
        assert noted.json()["data"] == {"profile": {"name": "Acme", "size": 3}}
        done = await ann.post("/v1/onboarding/complete", json={})
        assert done.json()["status"] == "completed"
        read = await bob.get("/v1/onboarding")
        assert (read.status_code, read.headers["etag"]) == (200, done.headers["etag"])
        assert (await ann.delete("/v1/onboarding")).status_code == 204
        assert (await ann.delete("/v1/onboarding")).status_code == 404


async def test_login_sessions(hub: Served) -> None:
    """The application logs people in; people see where, and end it."""
    async with (
        hub.client(headers={"X-API-Key": API_KEY}) as app,
        caller(hub) as ann,
        caller(hub, "eve") as eve,
    ):
        login = {"user": "ann", "workspaces": ["w1"], "scopes": ["sessions:write"], "device": "a"}
        assert (await eve.post("/v1/auth/sessions", json=login)).status_code == 403
        made = [
            (await app.post("/v1/auth/sessions", json={**login, "device": device})).json()
            for device in ("phone", "laptop", "tv")
        ]
        assert all(one["token"].startswith("ann~") for one in made)
        listed = (await ann.get("/v1/auth/sessions")).json()["items"]
        assert {one["device"] for one in listed} == {"phone", "laptop", "tv"}
        assert "token" not in listed[0]
        phone, laptop, _ = (one["session"]["id"] for one in made)
        assert (await eve.delete(f"/v1/auth/sessions/{phone}")).status_code == 404
        assert (await eve.get("/v1/auth/sessions", params={"user": "ann"})).status_code == 403
        assert (await ann.delete(f"/v1/auth/sessions/{phone}")).status_code == 204
        assert (await ann.delete(f"/v1/auth/sessions/{phone}")).status_code == 404
        rest = await ann.delete("/v1/auth/sessions", params={"keep": laptop})
        assert len(rest.json()["sessions"]) == 1
        left = (await app.get("/v1/auth/sessions", params={"user": "ann"})).json()["items"]
        assert [one["id"] for one in left] == [laptop]


async def test_somebody_who_logged_in(hub: Served) -> None:
    """The secret calls operations, changes itself, and ends itself; foreign pages cannot."""
    async with hub.client(headers={"X-API-Key": API_KEY}) as app, hub.client() as browser:
        login = {"user": "ann", "workspaces": ["w1"], "scopes": ["sessions:write"]}
        token = (await app.post("/v1/auth/sessions", json=login)).json()["token"]
        ours = {"Authorization": f"Bearer {token}"}
        made = await browser.post("/v1/sessions", json={"id": "s1"}, headers=ours)
        assert made.json()["user_id"] == "ann"

        browser.cookies.set("fanwire_session", token, domain="127.0.0.1")
        body = {"current_task": "t"}
        # No origin, a foreign one, our own.
        assert (await browser.patch("/v1/sessions/s1", json=body)).status_code == 403
        foreign = {"Origin": "https://evil.example"}
        answer = await browser.patch("/v1/sessions/s1", json=body, headers=foreign)
        assert answer.status_code == 403
        page = {"Origin": hub.url}
        assert (await browser.patch("/v1/sessions/s1", json=body, headers=page)).status_code == 200
        assert (await browser.get("/v1/sessions/s1")).status_code == 200

        rotated = await browser.post("/v1/auth/sessions/rotate", headers=page)
        assert rotated.status_code == 200
        assert browser.cookies["fanwire_session"] == rotated.json()["token"] != token
        assert (await browser.get("/v1/sessions/s1")).status_code == 200
        async with hub.client(headers=ours) as old:
            assert (await old.get("/v1/sessions/s1")).status_code == 401
        key = {**page, "Idempotency-Key": "k"}
        assert (await browser.post("/v1/auth/sessions/rotate", headers=key)).status_code == 400

        gone = await browser.delete("/v1/auth/sessions/this", headers=page)
        assert gone.status_code == 204
        assert "fanwire_session" not in browser.cookies
        late = await app.delete("/v1/auth/sessions/this", params={"user": "ann"})
        assert late.status_code == 400


async def test_a_ticket_acts_no_longer_than_its_login(hub: Served) -> None:
    """Nobody acts by a ticket of a login that was ended, or rotated, after it was given."""
    login = {"user": "ann", "workspaces": ["w1"], "scopes": ["sessions:write"]}
    async with hub.client(headers={"X-API-Key": API_KEY}) as app, hub.client() as page:
        for end in ("revoke", "rotate"):
            issued = (await app.post("/v1/auth/sessions", json=login)).json()
            bearer = {"Authorization": f"Bearer {issued['token']}"}
            tickets = [
                (await page.post("/connection/ticket", headers=bearer)).json()["ticket"]
                for _ in range(3)
            ]
            good = await page.get("/v1/sessions", params={"ticket": tickets[0]})
            assert good.status_code == 200
            if end == "revoke":
                path = f"/v1/auth/sessions/{issued['session']['id']}?user=ann"
                assert (await app.delete(path)).status_code == 204
            else:
                answer = await page.post("/v1/auth/sessions/rotate", headers=bearer)
                assert answer.status_code == 200
            read = await page.get("/v1/sessions", params={"ticket": tickets[1]})
            made = await page.post("/v1/sessions", params={"ticket": tickets[2]}, json={})
            assert (read.status_code, made.status_code) == (401, 401)


async def test_who_rotates_is_who_asks(hub: Served) -> None:
    """The secret that is changed is the one that was proved, not another one beside it."""
    async with hub.client(headers={"X-API-Key": API_KEY}) as app, hub.client() as page:
        ann, mal = [
            (await app.post("/v1/auth/sessions", json={"user": user})).json()["token"]
            for user in ("ann", "mal")
        ]
        headers = {
            "Authorization": f"Basic {ann}",
            "Cookie": f"fanwire_session={mal}",
            "Sec-Fetch-Site": "same-origin",
        }
        answer = await page.post("/v1/auth/sessions/rotate", headers=headers)
        assert answer.json()["session"]["user"] == "mal"
