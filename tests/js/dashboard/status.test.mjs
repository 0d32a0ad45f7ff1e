import assert from "node:assert/strict";
import test from "node:test";

import { describe } from "../../../hub/dashboard/status.js";

const T = 1_700_000_000_000;
const open = { state: "open", reason: "" };
const told = (fields) => describe({ links: [open], everLive: true, heardAt: T, gap: null, now: T, ...fields });

test("both connections open is live", () => {
  assert.deepEqual(told({ links: [open, open] }), { state: "live", name: "Live", detail: "" });
});

test("the worse of the connections decides", () => {
  const waiting = { state: "waiting", reason: "Redis is away" };
  const { state, detail } = told({ links: [open, waiting] });
  assert.deepEqual([state, detail], ["reconnecting", "Redis is away"]);
  assert.equal(told({ links: [waiting, { state: "closed", reason: "" }] }).state, "refused");
});

test("a page that never was live connects, it does not reconnect", () => {
  assert.equal(told({ links: [{ state: "connecting" }], everLive: false }).name, "Connecting");
  assert.equal(told({ links: [{ state: "waiting" }], everLive: false }).name, "Connecting");
  assert.equal(told({ links: [{ state: "connecting" }] }).name, "Reconnecting");
});

test("a hub that says nothing for ten seconds is not called live", () => {
  assert.equal(told({ now: T + 9_000 }).state, "live");
  const { name, detail } = told({ now: T + 27_000 });
  assert.deepEqual([name, detail], ["Silent", "No word from the hub for 20 s"]);
});

test("a gap is told for half a minute", () => {
  const gap = { channel: "chat", at: T };
  assert.match(told({ gap }).detail, /^Events on chat were missed at \d\d:\d\d:\d\d$/u);
  assert.equal(told({ gap, heardAt: T + 31_000, now: T + 31_000 }).state, "live");
});
