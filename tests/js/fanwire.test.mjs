import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { connect, FanwireError, publish } from "../../clients/js/fanwire.js";
import { FakeEventSource } from "./fake_event_source.mjs";

const HUB = "http://hub.test";
/** Lets everything that was awaited happen. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

/** A feed whose callbacks fill lists, with a clock and timers that the test moves. */
function open(options = {}) {
  const seen = { publications: [], gaps: [], states: [], errors: [], timers: [], now: 0 };
  const feed = connect({
    url: HUB,
    channels: ["log:a"],
    onPublication: (publication) => seen.publications.push(publication),
    onGap: (gap) => seen.gaps.push(gap),
    onState: (change) => seen.states.push(change),
    onError: (error) => seen.errors.push(error),
    EventSource: FakeEventSource,
    fetch: async () => new Response("", { status: 503 }),
    setTimeout: (action, ms) => seen.timers.push({ action, ms }),
    clearTimeout: () => {},
    random: () => 1,
    now: () => seen.now,
    ...options,
  });
  return { feed, seen, data: () => seen.publications.map(({ data }) => data) };
}

beforeEach(() => {
  FakeEventSource.all = [];
});

async function opened(options) {
  const made = open(options);
  await settle();
  FakeEventSource.last.open();
  return made;
}

test("publications arrive with channel, offset and data", async () => {
  const { feed, seen } = await opened();
  assert.equal(FakeEventSource.last.url.origin + FakeEventSource.last.url.pathname, `${HUB}/events`);
  FakeEventSource.last.publish("log:a", 7, { n: 1 }, "cursor1");
  assert.deepEqual(seen.publications, [{ channel: "log:a", offset: 7, skipped: 0, data: { n: 1 } }]);
  assert.equal(feed.lastEventId, "cursor1");
  assert.deepEqual(seen.states, [{ state: "open" }]);
});

test("what was superseded is told with the next publication", async () => {
  const { seen } = await opened();
  FakeEventSource.last.message(
    JSON.stringify({ channel: "log:a", pub: { offset: 9, skipped: 2, data: 1 } }),
  );
  assert.deepEqual(seen.publications, [{ channel: "log:a", offset: 9, skipped: 2, data: 1 }]);
  assert.deepEqual([seen.gaps, seen.errors], [[], []]);
});

test("a cursor of an earlier feed goes into the address", async () => {
  await opened({ lastEventId: "earlier" });
  assert.equal(FakeEventSource.last.cursor, "earlier");
});

test("recent publications are asked for where they are wanted", async () => {
  await opened();
  assert.equal(FakeEventSource.last.url.searchParams.has("recent"), false);
  await opened({ recent: 20 });
  assert.equal(FakeEventSource.last.url.searchParams.get("recent"), "20");
});

test("other channels are followed without losing or repeating anything", async () => {
  const { feed, data } = await opened();
  const before = FakeEventSource.last;
  before.publish("log:a", 1, "a1", "c1");
  feed.add("log:b");
  await settle();
  const after = FakeEventSource.last;
  assert.deepEqual(after.channels, ["log:a", "log:b"]);
  assert.equal(after.cursor, "c1");
  before.publish("log:a", 2, "a2", "c2"); // while the new one is on its way
  after.open();
  assert.equal(before.readyState, 2);
  after.publish("log:a", 2, "a2", "c2'");
  after.publish("log:a", 3, "a3", "c3'");
  after.publish("log:b", 9, "b9", "c4'");
  assert.deepEqual(data(), ["a1", "a2", "a3", "b9"]);
  assert.equal(feed.state, "open");
});

test("a second change does not stop what still delivers", async () => {
  const { feed, data } = await opened();
  const first = FakeEventSource.last;
  feed.add("log:b");
  await settle();
  const second = FakeEventSource.last;
  feed.add("log:c");
  await settle();
  first.publish("log:a", 1, "a1");
  assert.equal(second.readyState, 2);
  FakeEventSource.last.open();
  assert.equal(first.readyState, 2);
  assert.deepEqual(FakeEventSource.last.channels, ["log:a", "log:b", "log:c"]);
  assert.deepEqual(data(), ["a1"]);
});

test("what arrives for a channel that was left is not told", async () => {
  const { feed, data } = await opened({ channels: ["log:a", "log:b"] });
  const before = FakeEventSource.last;
  feed.remove("log:b");
  before.publish("log:b", 1, "late");
  assert.deepEqual(data(), []);
});

test("the same channels again change nothing", async () => {
  const { feed } = await opened({ channels: ["log:a", "log:b"] });
  feed.setChannels(["log:b", "log:a"]);
  await settle();
  assert.equal(FakeEventSource.all.length, 1);
  assert.throws(() => feed.setChannels([]), TypeError);
});

test("a gap is told and resets what counts as seen", async () => {
  const { seen, data } = await opened();
  FakeEventSource.last.publish("log:a", 50, "old");
  const gap = { channel: "log:a", reason: "epoch", position: { epoch: "e2", offset: 3 } };
  FakeEventSource.last.emit("gap", gap, "cursor");
  FakeEventSource.last.publish("log:a", 4, "new");
  assert.deepEqual(seen.gaps, [gap]);
  assert.deepEqual(data(), ["old", "new"]);
});

test("a channel that was just added is no gap, a later absence is", async () => {
  const { feed, seen } = await opened();
  FakeEventSource.last.publish("log:a", 1, "a1", "c1");
  feed.add("log:b");
  await settle();
  FakeEventSource.last.open();
  const absent = { channel: "log:b", reason: "absent", position: { epoch: "e", offset: 4 } };
  FakeEventSource.last.emit("gap", absent, "c2");
  assert.deepEqual(seen.gaps, []);
  FakeEventSource.last.emit("gap", absent, "c3");
  assert.deepEqual(seen.gaps, [absent]);
});

test("a snapshot is asked for where it is wanted, and what is in it is not told again", async () => {
  await opened();
  assert.equal(FakeEventSource.last.url.searchParams.has("snapshot"), false);
  const snapshots = [];
  const { feed, data } = await opened({ snapshot: true, onSnapshot: (told) => snapshots.push(told) });
  const source = FakeEventSource.last;
  assert.equal(source.url.searchParams.get("snapshot"), "1");
  const told = { channel: "log:a", snapshot: { n: 7 }, position: { epoch: "e", offset: 7 } };
  source.emit("snapshot", told, "c7");
  assert.deepEqual(snapshots, [told]);
  assert.equal(feed.lastEventId, "c7");
  source.publish("log:a", 7, "in it");
  source.publish("log:a", 8, "after it");
  source.emit("snapshot", { ...told, channel: "log:other" }, "c8");
  assert.deepEqual([data(), snapshots.length], [["after it"], 1]);
});

test("a channel that is followed again begins with its snapshot", async () => {
  const { feed } = await opened({ snapshot: true, channels: ["log:a", "log:b"] });
  FakeEventSource.last.publish("log:a", 3, "three", "a3,b1");
  FakeEventSource.last.publish("log:b", 1, "one", "a3,b1");
  feed.remove("log:b");
  feed.add("log:b");
  await settle();
  const { searchParams } = FakeEventSource.last.url;
  assert.equal(searchParams.get("last_event_id"), "a3,b1");
  assert.deepEqual(searchParams.getAll("anew"), ["log:b"]);
});

test("who is cut off between a gap and its snapshot misses nothing of either", async () => {
  const { seen, data } = await opened({ snapshot: true });
  const source = FakeEventSource.last;
  source.publish("log:a", 3, "three", "c3");
  const gap = { channel: "log:a", reason: "trimmed", position: { epoch: "e", offset: 9 }, snapshot: true };
  source.emit("gap", gap, "c3");
  source.break();
  source.open();
  source.publish("log:a", 4, "four"); // the log had it after all
  assert.deepEqual([seen.gaps, data()], [[gap], ["three", "four"]]);
});

test("the browser's own reconnect is left to the browser", async () => {
  const { feed, seen } = await opened();
  FakeEventSource.last.break();
  assert.equal(feed.state, "waiting");
  FakeEventSource.last.open();
  assert.deepEqual(seen.states.map(({ state }) => state), ["open", "waiting", "open"]);
  assert.equal(FakeEventSource.all.length, 1);
});

test("when the browser gives up, the feed comes back with its cursor and growing pauses", async () => {
  const { seen } = await opened();
  FakeEventSource.last.publish("log:a", 1, "a1", "c1");
  for (const ms of [500, 1000, 2000]) {
    FakeEventSource.last.giveUp();
    await settle();
    await settle();
    const timer = seen.timers.at(-1);
    assert.equal(timer.ms, ms);
    timer.action();
    await settle();
    assert.equal(FakeEventSource.last.cursor, "c1");
  }
  assert.equal(seen.states.at(-2).state, "waiting");
  assert.equal(seen.states.at(-2).code, 503);
});

test("a refusal that no retry helps ends the feed with its reason", async () => {
  const refusal = { code: 103, message: "permission denied" };
  const { seen } = await opened({
    fetch: async () => Response.json({ error: refusal }, { status: 403 }),
  });
  FakeEventSource.last.giveUp();
  await settle();
  await settle();
  assert.deepEqual(seen.states.at(-1), {
    state: "closed",
    code: 103,
    reason: "permission denied",
  });
  assert.equal(seen.timers.length, 0);
});

test("a final goodbye ends the feed, another one does not", async () => {
  const { feed, seen } = await opened();
  FakeEventSource.last.emit("close", { code: 3001, reason: "shutdown" });
  assert.equal(feed.state, "open");
  FakeEventSource.last.break();
  assert.deepEqual(seen.states.at(-1), { state: "waiting", code: 3001, reason: "shutdown" });
  FakeEventSource.last.open();
  FakeEventSource.last.emit("close", { code: 3507, reason: "permission denied" });
  assert.deepEqual(seen.states.at(-1), {
    state: "closed",
    code: 3507,
    reason: "permission denied",
  });
  assert.equal(FakeEventSource.last.readyState, 2);
});

test("a token is exchanged for a ticket, a fresh one each time", async () => {
  const asked = [];
  let number = 0;
  const { seen } = await opened({
    token: () => "jwt",
    fetch: async (address, { headers }) => {
      asked.push([address, headers.Authorization]);
      return Response.json({ ticket: `t${++number}` });
    },
  });
  assert.deepEqual(asked, [[`${HUB}/connection/ticket`, "Bearer jwt"]]);
  assert.equal(FakeEventSource.last.ticket, "t1");
  FakeEventSource.last.break(); // the browser would come back with a used ticket
  seen.timers.at(-1).action();
  await settle();
  await settle();
  assert.equal(FakeEventSource.last.ticket, "t2");
});

test("before the token ends, a new ticket takes over without a break", async () => {
  let number = 0;
  const { feed, data } = await opened({ getTicket: () => `t${++number}` });
  const before = FakeEventSource.last;
  before.emit("auth-expiring", { expires_in: 30 });
  await settle();
  before.publish("log:a", 1, "a1");
  FakeEventSource.last.open();
  FakeEventSource.last.publish("log:a", 1, "a1");
  assert.equal(FakeEventSource.last.ticket, "t2");
  assert.equal(feed.state, "open");
  assert.deepEqual(data(), ["a1"]);
});

test("a ticket that is refused ends the feed, one that cannot be had now does not", async () => {
  const refused = open({
    token: "bad",
    fetch: async () => Response.json({ code: 101, message: "no" }, { status: 401 }),
  });
  const away = open({
    getTicket: () => {
      throw new Error("offline");
    },
  });
  await settle();
  await settle();
  assert.equal(refused.feed.state, "closed");
  assert.equal(away.feed.state, "waiting");
  assert.equal(away.seen.timers.length, 1);
});

test("handlers that throw and events that are none do not stop the feed", async () => {
  let thrown = 0;
  const { seen } = await opened({
    onPublication: () => {
      thrown += 1;
      throw new Error("page");
    },
  });
  for (const text of ["not json", "null", "{}", '{"channel":"log:a","pub":null}']) {
    FakeEventSource.last.message(text);
  }
  FakeEventSource.last.publish("log:a", 1, 1);
  FakeEventSource.last.publish("log:a", 2, 2);
  assert.equal(thrown, 2);
  assert.equal(seen.errors.length, 5);
});

test("nothing is called after close", async () => {
  const { feed, seen } = await opened();
  const source = FakeEventSource.last;
  feed.close();
  source.onmessage({ data: '{"channel":"log:a","pub":{"offset":1}}', lastEventId: "" });
  source.onerror({});
  await settle();
  assert.equal(seen.publications.length, 0);
  assert.deepEqual(seen.states, [{ state: "open" }]);
  assert.equal(feed.state, "closed");
});

test("rates count whole seconds", async () => {
  const { feed, seen } = await opened();
  for (let n = 1; n <= 50; n += 1) {
    seen.now = n * 100;
    FakeEventSource.last.publish("log:a", n, n);
  }
  assert.deepEqual(feed.stats(), { received: 50, perSecond: 9.8, offsets: { "log:a": 50 } });
});

test("without an EventSource there is no feed", () => {
  assert.throws(() => connect({ channels: ["a"], EventSource: null }), /no EventSource/);
});

/** A fetch that gives these answers one after the other and keeps the requests. */
function answers(...list) {
  const requests = [];
  const fetch = async (address, request) => {
    requests.push({ address, ...request, body: JSON.parse(request.body) });
    const answer = list.shift();
    if (answer instanceof Error) throw answer;
    return answer;
  };
  return { requests, options: { url: HUB, fetch, setTimeout: (action) => action() } };
}

const done = () => Response.json({ result: { epoch: "e", offset: 3 } });

test("publish returns the position and asks again under the same key", async () => {
  const { requests, options } = answers(
    new TypeError("network"),
    new Response("", { status: 503 }),
    Response.json({ error: { code: 100, message: "busy" } }),
    done(),
  );
  assert.deepEqual(await publish("log:a", { n: 1 }, options), { epoch: "e", offset: 3 });
  assert.equal(requests.length, 4);
  assert.equal(new Set(requests.map(({ body }) => body.idempotency_key)).size, 1);
  assert.equal(requests[0].address, `${HUB}/api/publish`);
});

test("a conflation key travels where there is one", async () => {
  const { requests, options } = answers(done(), done());
  await publish("log:a", 1, { ...options, conflate: "cpu" });
  await publish("log:a", 1, options);
  assert.equal(requests[0].body.conflate, "cpu");
  assert.equal("conflate" in requests[1].body, false);
});

test("the id of an event is its key, and the API key goes into its header", async () => {
  const { requests, options } = answers(done());
  const event = { specversion: "1.0", id: "ev1", type: "x" };
  await publish("log:a", event, { ...options, apiKey: "secret" });
  assert.equal(requests[0].body.idempotency_key, "ev1");
  assert.equal(requests[0].headers["X-API-Key"], "secret");
});

test("a refusal is final, and patience ends", async () => {
  const refused = answers(Response.json({ error: { code: 102, message: "unknown channel" } }));
  await assert.rejects(publish("log:a", 1, refused.options), (error) => {
    assert.ok(error instanceof FanwireError);
    assert.equal(error.code, 102);
    return true;
  });
  assert.equal(refused.requests.length, 1);
  const away = answers(...Array.from({ length: 9 }, () => new TypeError("network")));
  await assert.rejects(publish("log:a", 1, away.options), /cannot be reached/);
  assert.equal(away.requests.length, 4);
});
