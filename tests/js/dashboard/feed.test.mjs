import assert from "node:assert/strict";
import test from "node:test";

import { HubFeed } from "../../../hub/dashboard/feed.js";

/** A page's feed on connections that a test plays. */
function setUp() {
  const made = [];
  const heard = { reports: [], publications: [], gaps: [] };
  const clock = { now: 1_000_000 };
  const connect = (options) => {
    const feed = { options, closed: false, lastEventId: "", sets: [] };
    feed.close = () => (feed.closed = true);
    feed.setChannels = (names) => feed.sets.push(names);
    made.push(feed);
    return feed;
  };
  const hub = new HubFeed({
    connect,
    url: "http://hub/",
    now: () => clock.now,
    onReport: (data) => heard.reports.push(data),
    onPublication: (publication) => heard.publications.push(publication),
    onGap: (gap) => heard.gaps.push(gap),
  });
  return { hub, made, heard, clock };
}

test("the reports are read from the start, the events once there are channels", () => {
  const { hub, made, heard } = setUp();
  assert.deepEqual(made.map(({ options }) => options.channels), [["hub:nodes"]]);
  made[0].options.onPublication({ data: { type: "hub.node.reported", data: { node: "n" } } });
  made[0].options.onPublication({ data: { type: "something.else" } });
  assert.deepEqual(heard.reports, [{ node: "n" }]);
  hub.follow(["chat"]);
  assert.deepEqual(made[1].options.channels, ["chat"]);
});

test("another set of channels changes the connection, the same one does not", () => {
  const { hub, made } = setUp();
  hub.follow(["a"]);
  hub.follow(["a"]);
  hub.follow(["a", "b"]);
  assert.deepEqual(made[1].sets, [["a", "b"]]);
  hub.follow([]);
  assert.ok(made[1].closed);
  hub.follow(["c"]);
  assert.deepEqual(made[2].options.channels, ["c"]);
});

test("a publication comes with the epoch that the cursor tells", () => {
  const { hub, made, heard } = setUp();
  hub.follow(["chat"]);
  made[1].lastEventId = "AAAAA:e1:7:x";
  made[1].options.onPublication({ channel: "chat", offset: 7, data: 1 });
  assert.deepEqual(heard.publications, [{ channel: "chat", offset: 7, epoch: "e1", data: 1 }]);
});

test("a connection that is open but silent is made anew, from the same place", () => {
  const { hub, made, clock } = setUp();
  hub.follow(["chat"]);
  made[0].options.onState({ state: "open" });
  made[1].options.onState({ state: "open" });
  made[1].lastEventId = "AAAAA:e1:7:x";
  clock.now += 14_000;
  hub.check();
  assert.equal(made.length, 2);
  clock.now += 2_000;
  hub.check();
  assert.deepEqual(made.map(({ closed }) => closed), [true, true, false, false]);
  assert.equal(made[3].options.lastEventId, "AAAAA:e1:7:x");
});

test("a refused connection is tried again after a while", () => {
  const { hub, made, clock } = setUp();
  made[0].options.onState({ state: "closed", reason: "permission denied" });
  assert.deepEqual(hub.links, [{ state: "closed", reason: "permission denied" }]);
  hub.check();
  assert.equal(made.length, 1);
  clock.now += 11_000;
  hub.check();
  assert.equal(made.length, 2);
});

test("closing ends both connections", () => {
  const { hub, made } = setUp();
  hub.follow(["chat"]);
  hub.close();
  assert.ok(made.every(({ closed }) => closed));
});
