import assert from "node:assert/strict";
import test from "node:test";

import { RateWindow } from "../../../hub/dashboard/rates.js";

const T = 1_700_000_000_000;

test("the rate is the average of complete seconds, the running one apart", () => {
  const rates = new RateWindow(60);
  for (let second = 0; second < 5; second += 1) rates.add(T + second * 1000, 10);
  rates.add(T + 5000, 999);
  assert.equal(rates.rate(T + 5000), 10);
});

test("a young window is not averaged down over seconds before it began", () => {
  const rates = new RateWindow(60);
  rates.add(T, 4);
  assert.equal(rates.rate(T + 1000, 60), 4);
  assert.equal(rates.rate(T + 2000, 60), 2);
});

test("silence brings the rate to zero, and what is older than the window is forgotten", () => {
  const rates = new RateWindow(60);
  rates.add(T, 100);
  assert.equal(rates.rate(T + 10_000, 5), 0);
  assert.equal(Math.max(...rates.series(T + 59_000)), 100);
  assert.equal(Math.max(...rates.series(T + 62_000)), 0);
  rates.add(T + 600_000, 1);
  assert.equal(rates.series(T + 601_000).reduce((a, b) => a + b), 1);
});

test("a report is spread over the seconds it tells about and loses nothing", () => {
  const rates = new RateWindow(60);
  rates.spread(T, T + 2000, 10);
  assert.deepEqual(rates.series(T + 2000).slice(-2), [5, 5]);
  rates.spread(T + 2000, T + 2100, 3);
  assert.equal(rates.series(T + 3000).at(-1), 3);
});

test("a report about hours fills the window and no more", () => {
  const rates = new RateWindow(60);
  rates.spread(T - 7_200_000, T, 6100);
  assert.equal(rates.series(T).length, 60);
  assert.equal(rates.rate(T, 5), 100);
});

test("the series has one value for every complete second, oldest first", () => {
  const rates = new RateWindow(4);
  rates.add(T, 1);
  rates.add(T + 1000, 2);
  rates.add(T + 2000, 3);
  assert.deepEqual(rates.series(T + 3000), [0, 1, 2, 3]);
});

test("a clock that was set back by an hour does not stop the counting", () => {
  const rates = new RateWindow(60);
  rates.add(T, 5);
  rates.add(T - 3_600_000, 7);
  assert.equal(rates.rate(T - 3_599_000, 1), 7);
});
