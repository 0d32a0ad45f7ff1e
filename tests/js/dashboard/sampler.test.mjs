import assert from "node:assert/strict";
import test from "node:test";

import { pick, Sampler } from "../../../hub/dashboard/sampler.js";

const entries = (count, notable = () => false) =>
  Array.from({ length: count }, (_, index) => ({ index, notable: notable(index) }));

test("a readable rate passes whole", () => {
  const sampler = new Sampler({ perSecond: 40, burst: 80 });
  let shown = 0;
  for (let now = 0; now < 10_000; now += 100) shown += sampler.take(entries(3), 0, now).length;
  assert.equal(shown, 300);
  assert.equal(sampler.sampling(10_000), false);
});

test("a rush is shown as a sample of bounded rate, and the ratio says so", () => {
  const sampler = new Sampler({ perSecond: 40, burst: 80 });
  let shown = 0;
  for (let now = 0; now < 10_000; now += 250) shown += sampler.take(entries(400), 100, now).length;
  assert.ok(shown <= 80 + 400, `${shown} rows in 10 s`);
  assert.ok(sampler.sampling(10_000));
  assert.equal(sampler.ratio(10_000), 50);
  assert.equal(sampler.nextAt(9_800), 10_000);
});

test("after the rush everything is shown again", () => {
  const sampler = new Sampler();
  sampler.take(entries(5000), 0, 0);
  assert.equal(sampler.take(entries(10), 0, 5000).length, 10);
  assert.equal(sampler.sampling(5000), false);
  assert.equal(sampler.nextAt(5000), 5000);
});

test("notable ones come first, in the order of all", () => {
  const shown = pick(entries(1000, (index) => index % 100 === 50), 20);
  assert.equal(shown.length, 20);
  assert.equal(shown.filter((entry) => entry.notable).length, 10);
  assert.deepEqual(shown, [...shown].sort((a, b) => a.index - b.index));
});

test("more notable ones than room: the newest of them", () => {
  const shown = pick(entries(100, () => true), 3);
  assert.deepEqual(shown.map(({ index }) => index), [97, 98, 99]);
});

test("the others come from everywhere, not from one of those that take turns", () => {
  const shown = pick(entries(1000), 50);
  assert.equal(shown.length, 50);
  assert.ok(new Set(shown.map(({ index }) => index % 10)).size > 3);
  assert.ok(shown[0].index < 20);
  assert.ok(shown.at(-1).index >= 980);
});
