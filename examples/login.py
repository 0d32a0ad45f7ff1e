"""Login sessions in an application of one's own: a password, a cookie, a list of devices.

    uvicorn examples.login:app

Then open http://127.0.0.1:8000/, log in as ``ada`` with ``lovelace``, do so in a second browser,
and end the one from the other: its page is told at once. The hub is mounted at ``/fanwire``.
"""

from __future__ import annotations

import hmac
import os

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from channels.errors import Unauthorized
from hub.app import include
from hub.login import (
    CurrentIdentity,
    check_same_site,
    clear_login_cookie,
    hub_of,
    set_login_cookie,
)
from hub.settings import load_settings

#: Stands for what an application has: hashes of passwords in a database.
PEOPLE = {"ada": ("lovelace", ["w1"])}

app = FastAPI(title="Who is logged in?")
include(app, load_settings(None, os.environ, {}), path="/fanwire")


class Login(BaseModel):
    """What somebody types in."""

    user: str
    password: str


@app.post("/login", status_code=204)
async def login(form: Login, request: Request, response: Response) -> None:
    """Begin a session, and have the browser keep its token."""
    check_same_site(request)  # or another site could log somebody in as somebody else
    password, workspaces = PEOPLE.get(form.user, ("", []))
    if not password or not hmac.compare_digest(password.encode(), form.password.encode()):
        raise Unauthorized("the user or the password is wrong")
    issued = await hub_of(request).services.auth_sessions.create(
        form.user,
        workspaces=workspaces,
        user_agent=request.headers.get("user-agent", ""),
        address=request.client.host if request.client else "",
    )
    set_login_cookie(response, issued, secure=request.url.scheme == "https")


@app.get("/sessions")
async def sessions(identity: CurrentIdentity, request: Request) -> list[dict[str, object]]:
    """List where the caller is logged in."""
    found = await hub_of(request).services.auth_sessions.list_sessions(identity.user)
    return [
        {
            "id": session.id,
            "browser": session.user_agent,
            "seen": session.seen_at,
            "this": session.id == identity.session,
        }
        for session in found
    ]


@app.delete("/sessions/{session}", status_code=204)
async def end(session: str, identity: CurrentIdentity, request: Request) -> None:
    """End one of them; its connections are closed on every node."""
    await hub_of(request).services.auth_sessions.revoke(identity.user, session, actor=identity.user)


@app.post("/logout", status_code=204)
async def logout(identity: CurrentIdentity, request: Request, response: Response) -> None:
    """End this one."""
    await hub_of(request).services.auth_sessions.revoke(
        identity.user, identity.session, reason="logout", actor=identity.user
    )
    clear_login_cookie(response)


@app.get("/")
async def page() -> HTMLResponse:
    """Show who is logged in, live."""
    return HTMLResponse(PAGE)


PAGE = """<!doctype html><meta charset="utf-8"><title>Who is logged in?</title>
<form id="login"><input name="user" value="ada"> <input name="password" type="password">
<button>log in</button></form>
<p id="said"></p><ul id="sessions"></ul><button id="logout">log out</button>
<script type="module">
const said = (text) => { document.querySelector("#said").textContent = text; };
const ask = (method, path, body) => fetch(path, { method, body: body && JSON.stringify(body),
  headers: { "Content-Type": "application/json" } });
let feed;
async function show() {
  const answer = await ask("GET", "/sessions");
  if (!answer.ok) { said("nobody is logged in"); return; }
  const list = document.querySelector("#sessions");
  list.replaceChildren(...(await answer.json()).map(({ id, browser, seen, this: here }) => {
    const item = document.createElement("li");
    item.textContent = `${here ? "here" : browser}, seen ${seen} `;
    const button = document.createElement("button");
    button.textContent = "end";
    button.onclick = () => ask("DELETE", `/sessions/${id}`);
    item.append(button);
    return item;
  }));
  follow();
}
function follow() {
  if (feed) return;
  // The cookie of the page counts here too.
  feed = new EventSource("/fanwire/events?channel=auth:ada");
  feed.onmessage = () => show();
  feed.addEventListener("close", (event) => {
    said(JSON.parse(event.data).reason);
    if (JSON.parse(event.data).code >= 3500) feed.close();
  });
}
document.querySelector("#login").onsubmit = async (event) => {
  event.preventDefault();
  const answer = await ask("POST", "/login", Object.fromEntries(new FormData(event.target)));
  said(answer.ok ? "" : (await answer.json()).detail);
  if (answer.ok) location.reload();
};
document.querySelector("#logout").onclick = () => ask("POST", "/logout").then(() =>
  location.reload());
show();
</script>
"""
