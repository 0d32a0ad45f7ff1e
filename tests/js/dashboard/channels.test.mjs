import assert from "node:assert/strict";
import test from "node:test";

import { ChannelBook, chooseFollowed, rank } from "../../../hub/dashboard/channels.js";

const T = 1_700_000_000_000;
const reported = (names, { node = "n1", from = T, to = T + 2000 } = {}) => ({
  node,
  from,
  to,
  channels: new Map(Object.entries(names).map(([name, gained]) => [name, { subscribers: 1, gained }])),
});
const none = new Set();
const entry = (channel, time, type = "", place = {}) => ({ channel, type, time, epoch: "", offset: 0, ...place });
const names = (channels) => channels.map(({ name }) => name);
const busy = (name, total) => ({ name, rates: { total: () => total } });

test("channels are learned from reports, apart from the hub's own", () => {
  const book = new ChannelBook();
  book.report(reported({ chat: 4, "hub:nodes": 9 }), none);
  assert.equal(book.size, 1);
  assert.equal(book.rate(T + 2000), 2);
});

test("a followed channel is counted by what arrives, not twice", () => {
  const book = new ChannelBook();
  book.count(entry("chat", T, "session.message"), T);
  book.report(reported({ chat: 1 }), new Set(["chat"]));
  assert.equal(book.series(T + 2000).reduce((a, b) => a + b), 1);
  assert.equal(book.get("chat").lastType, "session.message");
});

test("past events count for the time they happened at, and those seen before for nothing", () => {
  const book = new ChannelBook();
  const place = (offset) => ({ epoch: "e1", offset });
  assert.ok(book.count(entry("chat", T - 3_600_000, "old", place(1)), T));
  assert.equal(book.rate(T + 1000), 0);
  assert.equal(book.get("chat").lastAt, T - 3_600_000);
  assert.ok(book.count(entry("chat", T, "new", place(2)), T));
  assert.equal(book.count(entry("chat", T - 3_600_000, "old", place(1)), T + 1000), false);
  assert.equal(book.get("chat").lastType, "new");
  assert.ok(book.count(entry("chat", T, "anew", { epoch: "e2", offset: 1 }), T + 1000));
});

test("two nodes that see the same publications do not double them", () => {
  const book = new ChannelBook();
  for (const from of [T, T + 2000]) {
    for (const node of ["a", "b"]) book.report(reported({ chat: 4 }, { node, from, to: from + 2000 }), none);
  }
  assert.equal(book.series(T + 4000).reduce((a, b) => a + b), 8);
});

test("the busier come first, but only a factor of two changes a place", () => {
  const ranked = rank([busy("b", 5), busy("a", 6), busy("c", 50), busy("e", 0), busy("d", 0)], T);
  assert.deepEqual(names(ranked), ["c", "a", "b", "d", "e"]);
});

test("rows keep their places for ten seconds, and while somebody chooses", () => {
  const book = new ChannelBook();
  book.count(entry("a", T, ""), T);
  book.count(entry("b", T, ""), T);
  book.order(T);
  book.order(T + 11_000);
  for (let event = 0; event < 90; event += 1) book.count(entry("b", T + 12_000, ""), T + 12_000);
  book.count(entry("c", T + 12_000, ""), T + 12_000);
  assert.deepEqual(names(book.order(T + 13_000)), ["a", "b", "c"]);
  assert.deepEqual(names(book.order(T + 40_000, true)), ["a", "b", "c"]);
  assert.deepEqual(names(book.order(T + 41_000)), ["b", "a", "c"]);
});

test("what nobody mentions for ten minutes is forgotten, unless it is kept", () => {
  const book = new ChannelBook();
  book.count(entry("a", T, ""), T);
  book.count(entry("b", T, ""), T);
  book.expire(T + 599_000, () => false);
  assert.equal(book.size, 2);
  book.expire(T + 601_000, (name) => name === "b");
  assert.deepEqual(names(book.order(T + 601_000)), ["b"]);
});

test("the number of channels is bounded: the longest silent gives way", () => {
  const book = new ChannelBook();
  for (let index = 0; index < 300; index += 1) book.count(entry(`c${index}`, T + index, ""), T + index);
  assert.equal(book.size, 200);
  assert.equal(book.get("c0"), undefined);
  assert.equal(book.order(T + 400).length, 200);
});

test("while there is room every channel is followed", () => {
  assert.deepEqual(chooseFollowed([], [busy("b", 0), busy("a", 1)], "", T, 20), ["a", "b"]);
});

test("a full set changes only for a channel more than twice as busy", () => {
  const all = [busy("x", 3), busy("y", 2), busy("z", 1)];
  assert.deepEqual(chooseFollowed(["y", "z"], all, "", T, 2), ["x", "y"]);
  assert.deepEqual(chooseFollowed(["y", "z"], [busy("x", 2), ...all.slice(1)], "", T, 2), ["y", "z"]);
});

test("the selected channel is always followed, and those that are gone are not", () => {
  const all = [busy("x", 9), busy("y", 8), busy("z", 0)];
  assert.deepEqual(chooseFollowed(["x", "y"], all, "z", T, 2), ["x", "z"]);
  assert.deepEqual(chooseFollowed(["gone", "x"], all, "", T, 2), ["x", "y"]);
  assert.deepEqual(chooseFollowed([], all, "unknown", T, 1), ["x"]);
});
