import assert from "node:assert/strict";
import test from "node:test";

import { Entry, EventBuffer, groupOf, inTime, matcher } from "../../../hub/dashboard/events.js";

const entry = (data, channel = "chat") => new Entry({ channel, data, offset: 1, at: 0 });
const filled = (buffer, count) => {
  for (let index = 1; index <= count; index += 1) buffer.push(entry(index));
  return buffer;
};
const seqs = (entries) => entries.map(({ seq }) => seq);

test("the buffer keeps the newest and counts what a reader did not get to see", () => {
  const buffer = filled(new EventBuffer(3), 5);
  assert.deepEqual(seqs(buffer.entries), [3, 4, 5]);
  const { entries, missed } = buffer.since(1);
  assert.deepEqual(seqs(entries), [3, 4, 5]);
  assert.equal(missed, 1);
  assert.deepEqual(buffer.since(5), { entries: [], missed: 0 });
});

test("while paused nothing changes, and what is held is bounded but counted", () => {
  const buffer = filled(new EventBuffer(3), 2);
  buffer.pause();
  filled(buffer, 10);
  assert.deepEqual(seqs(buffer.entries), [1, 2]);
  assert.equal(buffer.waiting, 10);
  buffer.resume();
  assert.deepEqual(seqs(buffer.entries), [10, 11, 12]);
  assert.equal(buffer.waiting, 0);
  assert.equal(buffer.paused, false);
});

test("clearing forgets everything, held ones too, and goes on", () => {
  const buffer = filled(new EventBuffer(3), 2);
  buffer.pause();
  filled(buffer, 1);
  buffer.clear();
  assert.equal(buffer.waiting, 0);
  buffer.resume();
  assert.deepEqual(buffer.entries, []);
  filled(buffer, 1);
  assert.deepEqual(seqs(buffer.since(3).entries), [4]);
});

test("a filter finds every word, in any case, in line and JSON", () => {
  const message = entry({ type: "session.message", data: { message: { role: "user", content: "Hello" }, deep: "Needle" } });
  const finds = (words) => matcher({ words })(message);
  assert.ok(finds(""));
  assert.ok(finds("HELLO user"));
  assert.ok(finds("needle chat"));
  assert.ok(!finds("hello absent"));
});

test("a selected channel shows only itself; a gap of it passes any words", () => {
  const matches = matcher({ channel: "a", words: "hello" });
  assert.ok(!matches(entry({ x: "hello" }, "b")));
  assert.ok(matches(entry({ x: "hello" }, "a")));
  assert.ok(matches(new Entry({ kind: "gap", channel: "a", at: 0 })));
});

test("past events of several channels are put in time, each channel in its own order", () => {
  const at = (channel, minute) =>
    entry({ time: `2026-01-01T10:0${minute}:00Z`, minute }, channel);
  const came = [at("a", 1), at("a", 4), at("a", 2), at("b", 0), at("b", 3), at("b", 5)];
  const order = inTime(came).map(({ channel, data }) => channel + data.minute);
  assert.deepEqual(order, ["b0", "a1", "b3", "a4", "a2", "b5"]);
});

test("minutes of groups never go back and never run ahead of the clock", () => {
  const minute = 60_000;
  assert.equal(groupOf(5 * minute + 7, -Infinity, 9 * minute), 5 * minute);
  assert.equal(groupOf(4 * minute, 5 * minute, 9 * minute), 5 * minute);
  assert.equal(groupOf(99 * minute, 5 * minute, 9 * minute + 1), 9 * minute);
});
