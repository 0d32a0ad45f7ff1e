import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { eventTime, summarize } from "../../../hub/dashboard/summary.js";

const event = (type, data) => ({ specversion: "1.0", id: "1", source: "/x", type, data });
const line = (type, data) => {
  const { lead, text } = summarize(event(type, data));
  return `${lead} | ${text}`;
};

test("a message is its role and what was said", () => {
  const message = { role: "assistant", content: "Hello\nthere" };
  assert.equal(line("session.message", { message }), "assistant | Hello there");
});

test("the parts of a message that are text are read, the others left out", () => {
  const content = [{ type: "text", text: "See" }, { type: "image", url: "…" }, { text: "this" }];
  assert.equal(line("session.message", { message: { role: "user", content } }), "user | See this");
});

test("an approval says what is to be done, for whom and why, and waits", () => {
  const data = { gate: "g", tool: "send_email", requested_by: "ada", reason: "new", args: { n: 1 } };
  const said = summarize(event("approval.requested", data));
  assert.equal(said.tone, "wait");
  assert.equal(said.lead, "send_email");
  assert.equal(said.text, 'for ada “new” {"n": 1}');
});

test("a decision says who", () => {
  const data = { gate: "g", actor: "grace", comment: "known" };
  assert.equal(line("approval.approved", data), "approved | by grace “known”");
  assert.equal(summarize(event("approval.rejected", data)).tone, "bad");
});

test("a vote says how many there are, an escalation whose turn it is", () => {
  const vote = { gate: "g", actor: "grace", verdict: "approve", votes: 1, quorum: 2 };
  assert.equal(line("approval.voted", vote), "1 of 2 | agreed by grace");
  assert.equal(line("approval.voted", { ...vote, verdict: "edit" }), "1 of 2 | agreed to edits by grace");
  const passed = { gate: "g", approvers: ["ada", "joan"] };
  assert.equal(line("approval.escalated", passed), "nobody decided | now up to ada, joan");
  assert.equal(line("approval.escalated", { gate: "g" }), "nobody decided | now up to everybody");
});

test("progress is a share between 0 and 1, or none where the total is unknown", () => {
  const progress = (data) => summarize(event("job.progress", { kind: "k", ...data })).progress;
  assert.equal(progress({ done: 25, total: 100 }), 0.25);
  assert.equal(progress({ done: 300, total: 100 }), 1);
  assert.equal(progress({ done: -1, total: 100 }), 0);
  assert.equal(progress({ done: 5, total: 0 }), null);
  assert.equal(progress({ done: "5", total: 9 }), null);
});

test("usage is its cost, tokens and model", () => {
  const data = { cost_micro_usd: 12_800, tokens_input: 3200, tokens_output: 451, model: "large" };
  assert.equal(line("usage.recorded", data), "$0.013 | 3.2k in · 451 out · large");
});

test("an event of a run is read by the protocol inside it", () => {
  const said = line("run.event", { type: "TEXT_MESSAGE_CONTENT", delta: "Hi" });
  assert.equal(said, "text | Hi");
  assert.equal(line("run.event", { type: "TOOL_CALL_START", toolCallName: "search" }), "tool call start | search");
});

test("an unknown type is shown with its data, any other JSON as it is", () => {
  assert.equal(line("order.paid", { order: 7 }), ' | {"order": 7}');
  assert.deepEqual(summarize({ hello: "world" }), {
    type: "",
    tone: "quiet",
    lead: "",
    text: '{"hello": "world"}',
    progress: null,
  });
  assert.equal(summarize("just words").text, "just words");
  for (const value of [null, 7, true, [], [1], ""]) assert.equal(summarize(value).type, "");
});

test("every known type has a line for the example that the Python tests keep", () => {
  const golden = new URL("../../channels/golden_events.json", import.meta.url);
  const events = Object.values(JSON.parse(readFileSync(golden, "utf8"))).flat();
  assert.ok(events.length >= 30);
  for (const one of events) {
    const example = typeof one === "string" ? JSON.parse(one) : one;
    const said = summarize(example);
    assert.equal(said.type, example.type);
    assert.ok(said.lead, `${example.type} falls back to JSON: ${said.text}`);
  }
});

test("data of the wrong shape is shown as JSON and never throws", () => {
  const wrong = [null, 7, "x", [], {}, { message: 7 }, { kind: {} }, { patch: "x", gate: 1 }];
  const types = ["session.message", "session.updated", "approval.requested", "job.progress",
    "job.failed", "usage.recorded", "budget.exceeded", "run.event", "cache.invalidated",
    "notification.created", "hub.node.reported", "constructor", "__proto__", "toString"];
  for (const type of types) {
    for (const data of wrong) {
      const { text, lead } = summarize(event(type, data));
      assert.equal(typeof text, "string");
      assert.equal(typeof lead, "string");
    }
  }
});

test("long texts are cut", () => {
  const said = summarize(event("session.message", { message: { role: "r".repeat(999), content: "c".repeat(99_999) } }));
  assert.ok(said.lead.length <= 80);
  assert.ok(said.text.length <= 240);
});

test("the time is the event's own, where it has one", () => {
  assert.equal(eventTime({ time: "2026-01-02T03:04:05Z" }, 1), Date.UTC(2026, 0, 2, 3, 4, 5));
  for (const data of [null, 7, {}, { time: "soon" }, { time: 5 }]) assert.equal(eventTime(data, 1), 1);
});

test("a budget speaks in its unit, and a hold says what became of it", () => {
  const money = {
    scope: "user:ada", period: "2026-11", unit: "micro_usd",
    limit_micro_usd: 1_000_000, spent_micro_usd: 500_000,
  };
  assert.equal(line("budget.threshold", { ...money, percent: 50 }), "user:ada | reached 50 % · $0.500 of $1.00 spent");
  const tokens = {
    scope: "org:acme", unit: "tokens", limit_tokens: 2_000, spent_tokens: 1_600,
    limit_micro_usd: null, spent_micro_usd: 0,
  };
  assert.match(line("budget.threshold", { ...tokens, percent: 80 }), /^org:acme \| reached 80 % · .* tokens of .* tokens spent$/);
  const free = { ...money, limit_micro_usd: null, amount_micro_usd: 60_000 };
  assert.match(line("budget.released", { ...free, reason: "expired" }), /freed \$0\.060* · \$0\.50+ spent$/);
  const charged = { ...free, reason: "committed", charged_micro_usd: 40_000, late: true };
  assert.match(line("budget.released", charged), /charged \$0\.040* late/);
});
