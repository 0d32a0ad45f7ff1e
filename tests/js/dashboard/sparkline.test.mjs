import assert from "node:assert/strict";
import test from "node:test";

import { smooth, sparkline } from "../../../hub/dashboard/sparkline.js";

const box = { width: 10, height: 12 };

test("values are scaled from the bottom to the highest", () => {
  assert.equal(sparkline([0, 5, 10], box).line, "M0 11L5 6L10 1");
});

test("nothing, silence and a single value are flat lines", () => {
  for (const values of [[], [7], [0, 0]]) assert.equal(sparkline(values, box).line, "M0 11L10 11");
});

test("one event is not drawn as a storm", () => {
  assert.equal(sparkline([0, 0.5], box).line, "M0 11L10 6");
});

test("the area is closed along the bottom", () => {
  assert.ok(sparkline([1, 1], box).area.endsWith("L10 12L0 12Z"));
});

test("smoothing ends at the newest value and keeps an even rate even", () => {
  assert.deepEqual(smooth([3, 3, 3, 3, 3], { every: 2, over: 4 }), [3, 3, 3]);
  assert.deepEqual(smooth([0, 0, 0, 4], { every: 2, over: 4 }), [0, 1]);
});
