"""``/v1/sessions``, over HTTP, on a real Valkey."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.hub.serving import API_KEY, Served, served, strict_settings
from tests.servers import ValkeyServer

from .callers import caller as caller_with

WRITE = ("sessions:write",)


def caller(
    hub: Served,
    user: str = "ann",
    *,
    workspaces: tuple[str, ...] = ("w1",),
    scopes: tuple[str, ...] = WRITE,
) -> httpx.AsyncClient:
    """Return a client whose token may change sessions."""
    return caller_with(hub, user, workspaces=workspaces, scopes=scopes)


async def test_a_session_from_beginning_to_end(hub: Served) -> None:
    """Created, read, changed, extended and deleted, each with its version as entity tag."""
    async with caller(hub) as ann:
        made = await ann.post("/v1/sessions", json={"id": "s1", "fields": {"current_agent": "a"}})
        assert (made.status_code, made.headers["etag"]) == (200, '"1"')
        assert made.headers["location"] == "/v1/sessions/s1?workspace=w1"
        assert made.json()["user_id"] == "ann"

        again = await ann.post("/v1/sessions", json={"id": "s1", "fields": {"current_agent": "b"}})
        assert again.json()["current_agent"] == "a"

        said = await ann.post(
            "/v1/sessions/s1/messages", json={"role": "user", "content": {"x": 1}}
        )
        assert (said.status_code, said.json()["seq"]) == (201, 1)

        changed = await ann.patch("/v1/sessions/s1", json={"current_task": "t"})
        assert (changed.status_code, changed.headers["etag"]) == (200, '"3"')

        read = await ann.get("/v1/sessions/s1")
        assert read.json() == changed.json()
        assert read.json()["recent_messages"][0]["content"] == {"x": 1}
        same = await ann.get("/v1/sessions/s1", headers={"If-None-Match": read.headers["etag"]})
        assert (same.status_code, same.content) == (304, b"")

        listed = await ann.get("/v1/sessions", params={"user": "ann"})
        assert [one["session_id"] for one in listed.json()["items"]] == ["s1"]

        later = await ann.post("/v1/sessions/s1/extend", json={"extra_seconds": 600})
        assert later.json()["expires_at"] > read.json()["expires_at"]

        gone = await ann.delete("/v1/sessions/s1")
        assert (gone.status_code, gone.content) == (204, b"")
        for answer in (
            await ann.get("/v1/sessions/s1"),
            await ann.delete("/v1/sessions/s1"),
            await ann.post("/v1/sessions/s1/messages", json={"role": "user", "content": 1}),
        ):
            assert answer.status_code == 404
            assert answer.headers["content-type"] == "application/problem+json"
            assert "there is no session 's1'" in answer.json()["detail"]


async def test_a_change_may_be_meant_for_one_version(hub: Served) -> None:
    """Somebody else's change in between is a 412 that names the version there is."""
    async with caller(hub) as ann:
        await ann.post("/v1/sessions", json={"id": "s1"})
        await ann.patch("/v1/sessions/s1", json={"current_task": "a"})
        late = await ann.patch(
            "/v1/sessions/s1", json={"current_task": "b"}, headers={"If-Match": '"1"'}
        )
        assert (late.status_code, late.json()["current_version"]) == (412, 2)
        fine = await ann.patch(
            "/v1/sessions/s1", json={"current_task": "b"}, headers={"If-Match": '"2"'}
        )
        assert fine.headers["etag"] == '"3"'
        for wrong in ("1", 'W/"3"', '"x"', '"1", "2"'):
            answer = await ann.patch(
                "/v1/sessions/s1", json={"current_task": "c"}, headers={"If-Match": wrong}
            )
            assert answer.status_code == 400
            assert "If-Match" in answer.json()["detail"]


async def test_the_same_request_again_is_answered_as_before(hub: Served) -> None:
    """One key, one message; another request with it is a mistake of the caller's."""
    message = {"role": "user", "content": "hi"}
    async with caller(hub) as ann:
        await ann.post("/v1/sessions", json={"id": "s1"})
        key = {"Idempotency-Key": "k1"}
        answers = await asyncio.gather(
            *(ann.post("/v1/sessions/s1/messages", json=message, headers=key) for _ in range(10))
        )
        statuses = sorted(answer.status_code for answer in answers)
        assert set(statuses) <= {201, 409}
        first = next(answer for answer in answers if answer.status_code == 201)
        again = await ann.post("/v1/sessions/s1/messages", json=message, headers=key)
        assert (again.status_code, again.content) == (201, first.content)
        assert again.headers["idempotency-replayed"] == "true"
        other = await ann.post(
            "/v1/sessions/s1/messages", json={"role": "user", "content": "ho"}, headers=key
        )
        assert other.status_code == 422
        assert (await ann.get("/v1/sessions/s1")).json()["message_count"] == 1
        # Refusals are kept too: the same request is refused again, whatever happened since.
        key = {"Idempotency-Key": "k2"}
        early = await ann.post("/v1/sessions/s2/messages", json=message, headers=key)
        await ann.post("/v1/sessions", json={"id": "s2"})
        late = await ann.post("/v1/sessions/s2/messages", json=message, headers=key)
        assert early.status_code == late.status_code == 404


async def test_pages_follow_their_cursor(hub: Served) -> None:
    """Each session once; the link to the next page is in the head too."""
    async with caller(hub) as ann:
        for number in range(7):
            await ann.post("/v1/sessions", json={"id": f"s{number}"})
        seen: list[str] = []
        address = "/v1/sessions?limit=3"
        while address:
            answer = await ann.get(address)
            seen += [one["session_id"] for one in answer.json()["items"]]
            link = answer.headers.get("link", "")
            assert bool(link) == bool(answer.json()["next"])
            address = link.partition("<")[2].partition(">")[0]
        assert sorted(seen) == [f"s{number}" for number in range(7)]


async def test_who_may_do_what(hub: Served) -> None:
    """Members read, scopes write, and writing is for the owner or an administrator."""
    async with (
        caller(hub) as ann,
        caller(hub, "bob") as bob,
        caller(hub, "root", scopes=(*WRITE, "sessions:admin")) as root,
        caller(hub, "eve", workspaces=("w2",)) as eve,
        caller(hub, "tim", scopes=()) as tim,
        hub.client() as nobody,
        hub.client(headers={"X-API-Key": API_KEY}) as application,
    ):
        await ann.post("/v1/sessions", json={"id": "s1"})
        path = "/v1/sessions/s1"
        at = {"workspace": "w1"}

        async def statuses(client: httpx.AsyncClient) -> list[int]:
            change = {"current_task": "t"}
            return [
                (await client.get(path, params=at)).status_code,
                (await client.patch(path, params=at, json=change)).status_code,
            ]

        assert await statuses(bob) == [200, 403]
        assert await statuses(tim) == [200, 403]
        assert await statuses(eve) == [403, 403]
        assert await statuses(nobody) == [401, 401]
        assert await statuses(root) == [200, 200]
        assert await statuses(application) == [200, 200]
        # Without the parameter it is the caller's own workspace, where there is no such session.
        assert (await eve.get(path)).status_code == 404
        assert (await application.get(path)).status_code == 400
        # In nobody else's name, unless the application says so.
        assert (await ann.post("/v1/sessions", json={"user": "bob"})).status_code == 403
        made = await application.post("/v1/sessions", params=at, json={"user": "bob"})
        assert made.json()["user_id"] == "bob"
        assert (await application.post("/v1/sessions", params=at, json={})).status_code == 400
        wrong = await nobody.get(path, params=at, headers={"X-API-Key": "wrong"})
        assert wrong.status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "body", "why"),
    [
        ("POST", "/v1/sessions", b"{", "the body is wrong"),
        ("POST", "/v1/sessions", b'{"id":"a b"}', "the body is wrong"),
        ("POST", "/v1/sessions", b'{"idle_ttl_s":0}', "the body is wrong"),
        ("POST", "/v1/sessions", b'{"typo":1}', "unknown field"),
        ("POST", "/v1/sessions", b'{"fields":{"user_id":"eve"}}', "'user_id' cannot be changed"),
        ("POST", "/v1/sessions", b"[" * 2_000, "the body is wrong"),
        ("PATCH", "/v1/sessions/s1", b"[]", "the body is wrong"),
        ("PATCH", "/v1/sessions/s1", b'{"version":7}', "'version' cannot be changed"),
        ("PATCH", "/v1/sessions/s1", b'{"user_id":"eve"}', "'user_id' cannot be changed"),
        ("PATCH", "/v1/sessions/s1", b'{"op_id":"x"}', "'op_id' cannot be changed"),
        ("PATCH", "/v1/sessions/s1", b'{"active_icps":1}', "active_icps must be"),
        ("GET", "/v1/sessions?limit=x", b"", "the query is wrong"),
        ("GET", "/v1/sessions?limit=0", b"", "limit must be 1 or more"),
        ("GET", "/v1/sessions?cursor=zzz", b"", "expected a cursor"),
        ("GET", "/v1/sessions?page=2", b"", "unknown query parameter 'page'"),
        ("GET", "/v1/sessions/a%20b", b"", "session must be 1-64 characters"),
        ("GET", "/v1/sessions?workspace=a:b", b"", "workspace must be 1-64 characters"),
        ("GET", "/v1/sessions?workspace=w2&workspace=w1", b"", "one query parameter 'workspace'"),
    ],
)
async def test_bad_input_is_told_what_was_expected(
    hub: Served, method: str, path: str, body: bytes, why: str
) -> None:
    """400, and one sentence that says what was wrong."""
    async with caller(hub) as ann:
        await ann.post("/v1/sessions", json={"id": "s1"})
        answer = await ann.request(method, path, content=body)
        assert answer.status_code == 400
        assert why in answer.json()["detail"]
        assert (await ann.get("/v1/sessions/s1")).headers["etag"] == '"1"'


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/v1/sessions/s1", None),
        ("POST", "/v1/sessions/s1/extend", {}),
        ("POST", "/v1/sessions/s1/messages", {"role": "user", "content": "hi"}),
    ],
)
async def test_a_condition_is_kept_or_refused(
    hub: Served, method: str, path: str, body: object
) -> None:
    """What cannot depend on a version is not done as if none had been named."""
    async with caller(hub) as ann:
        await ann.post("/v1/sessions", json={"id": "s1"})
        answer = await ann.request(method, path, json=body, headers={"If-Match": '"7"'})
        assert (answer.status_code, "If-Match" in answer.json()["detail"]) == (400, True)
        assert (await ann.get("/v1/sessions/s1")).headers["etag"] == '"1"'
        answer = await ann.request(method, path, json=body, headers={"If-Match": "*"})
        assert answer.is_success


async def test_a_page_elsewhere_may_use_it_where_it_is_allowed(valkey: ValkeyServer) -> None:
    """Its preflight allows the methods and headers, and it may read the tags."""
    origin = "https://app.example"
    async with (
        served(strict_settings(valkey.url, allowed_origins=(origin,))) as at,
        caller(at) as ann,
    ):
        asked = {"Origin": origin, "Access-Control-Request-Method": "PATCH"}
        allowed = await ann.options("/v1/sessions/s1", headers=asked)
        assert "PATCH" in allowed.headers["access-control-allow-methods"]
        assert "If-Match" in allowed.headers["access-control-allow-headers"]
        made = await ann.post("/v1/sessions", json={"id": "s1"}, headers={"Origin": origin})
        assert "ETag" in made.headers["access-control-expose-headers"]


async def test_a_ticket_is_no_part_of_a_request(hub: Served) -> None:
    """Sent again with the next one it is the same request; no link repeats one that is used."""
    async with caller(hub) as ann, hub.client() as page:
        answers = []
        for _ in range(2):
            ticket = (await ann.post("/connection/ticket")).json()["ticket"]
            answers.append(
                await page.post(
                    "/v1/sessions",
                    params={"ticket": ticket},
                    json={},
                    headers={"Idempotency-Key": "k"},
                )
            )
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[1].headers["idempotency-replayed"] == "true"
        await ann.post("/v1/sessions", json={})
        ticket = (await ann.post("/connection/ticket")).json()["ticket"]
        listed = await page.get("/v1/sessions", params={"ticket": ticket, "limit": 1})
        assert "limit=1&cursor=" in listed.headers["link"]
        assert "ticket" not in listed.headers["link"]


async def test_no_user_has_the_replies_of_the_application(hub: Served) -> None:
    """Whatever the user is called: a kept reply is for who asked first."""
    made = {"user": "ann", "fields": {"current_task": "secret"}}
    key = {"Idempotency-Key": "k"}
    async with hub.client(headers={"X-API-Key": API_KEY}, params={"workspace": "w1"}) as app:
        assert (await app.post("/v1/sessions", json=made, headers=key)).status_code == 200
    for user in ("@application", "application", "hub"):
        async with caller(hub, user) as other:
            answer = await other.post("/v1/sessions?workspace=w1", json=made, headers=key)
            assert answer.status_code == 403


async def test_reading_keeps_only_ones_own_sessions_alive(hub: Served) -> None:
    """Anybody of the workspace reads; that it counts as use is for who may change the session."""
    async with (
        caller(hub) as ann,
        caller(hub, "bob") as bob,
        caller(hub, scopes=()) as reader,
        caller(hub, "root", scopes=(*WRITE, "sessions:admin")) as root,
    ):
        await ann.post("/v1/sessions", json={"id": "s1"})
        for who, touched in ((ann, 200), (bob, 403), (reader, 403), (root, 200)):
            assert (await who.get("/v1/sessions/s1")).status_code == 200
            answer = await who.get("/v1/sessions/s1", params={"touch": "true"})
            assert answer.status_code == touched
