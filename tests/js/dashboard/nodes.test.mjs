import assert from "node:assert/strict";
import test from "node:test";

import { NodeBook } from "../../../hub/dashboard/nodes.js";

const T = 1_700_000_000_000;
const report = (fields = {}) => ({ node: "n1", version: "0.1.0", uptime_s: 10, clients: 2, ...fields });
const chat = (publications) => ({ chat: { subscribers: 3, publications } });

test("what a channel gained is the difference of two reports", () => {
  const nodes = new NodeBook();
  const first = nodes.report(report({ channels: chat(100) }), T);
  assert.equal(first.channels.get("chat").gained, null);
  const second = nodes.report(report({ uptime_s: 12, channels: chat(104) }), T + 2000);
  assert.equal(second.channels.get("chat").gained, 4);
  assert.deepEqual([second.from, second.to], [T, T + 2000]);
});

test("a channel that is listed for the first time is compared with nothing", () => {
  const nodes = new NodeBook();
  nodes.report(report({ channels: {} }), T);
  const { channels } = nodes.report(report({ uptime_s: 12, channels: chat(5000) }), T + 2000);
  assert.equal(channels.get("chat").gained, null);
});

test("a node that restarted is compared with nothing", () => {
  const nodes = new NodeBook();
  nodes.report(report({ uptime_s: 1000, channels: chat(100) }), T);
  const { channels } = nodes.report(report({ uptime_s: 1, channels: chat(150) }), T + 2000);
  assert.equal(channels.get("chat").gained, null);
});

test("clients and subscribers add up over nodes, the rate is the busiest one's", () => {
  const nodes = new NodeBook();
  for (const node of ["a", "b"]) {
    nodes.report(report({ node, publications: 0, channels: chat(0) }), T);
    nodes.report(report({ node, uptime_s: 12, publications: 20, channels: chat(20) }), T + 2000);
  }
  assert.deepEqual(nodes.totals(T + 2000), { nodes: 2, clients: 4, versions: ["0.1.0"], rate: 10 });
  assert.equal(nodes.subscribers("chat"), 6);
});

test("the hub's own reports are no traffic", () => {
  const nodes = new NodeBook();
  const own = (publications) => ({ "hub:nodes": { subscribers: 1, publications } });
  nodes.report(report({ publications: 5, channels: own(5) }), T);
  nodes.report(report({ uptime_s: 12, publications: 6, channels: own(6) }), T + 2000);
  assert.equal(nodes.totals(T + 2000).rate, 0);
});

test("a node that is silent for ten seconds is gone", () => {
  const nodes = new NodeBook();
  nodes.report(report({ channels: chat(1) }), T);
  nodes.expire(T + 10_000);
  assert.equal(nodes.totals(T).nodes, 1);
  nodes.expire(T + 10_001);
  assert.equal(nodes.totals(T).nodes, 0);
  assert.equal(nodes.lists("chat"), false);
});

test("what is no report is left alone", () => {
  const nodes = new NodeBook();
  for (const data of [null, 7, "x", [], {}, { node: 5 }]) assert.equal(nodes.report(data, T), null);
  const odd = nodes.report({ node: "n", clients: "many", channels: { a: null, b: { publications: -1 } } }, T);
  assert.equal(odd.channels.get("a").subscribers, 0);
  assert.equal(nodes.totals(T).clients, 0);
});
