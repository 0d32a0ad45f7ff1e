import assert from "node:assert/strict";
import test from "node:test";

import * as text from "../../../hub/dashboard/text.js";

test("rates have a decimal only where it says something", () => {
  assert.deepEqual(
    [0, 0.04, 0.5, 9.94, 9.96, 12.4, 2013].map(text.formatRate),
    ["0", "<0.1", "0.5", "9.9", "10", "12", "2,013"],
  );
});

test("short numbers keep three figures at most", () => {
  assert.deepEqual(
    [0, 999, 1000, 9_999, 12_345, 999_949, 1_250_000].map(text.formatShort),
    ["0", "999", "1.0k", "10.0k", "12k", "1,000k", "1.3M"],
  );
});

test("money is never rounded to nothing", () => {
  assert.deepEqual(
    [0, 12, 9168, 12_800, 1_500_000, -400_000].map(text.formatMoney),
    ["$0.00", "$0.000012", "$0.0092", "$0.013", "$1.50", "-$0.400"],
  );
});

test("what is no number is a dash", () => {
  for (const format of [text.formatCount, text.formatRate, text.formatMoney, text.formatSpan]) {
    for (const value of [undefined, null, NaN, "12", {}]) assert.equal(format(value), "–");
  }
});

test("spans grow in words, and what just happened is now", () => {
  assert.deepEqual(
    [-5, 0, 1999, 2000, 61_000, 7_200_000, 200_000_000].map(text.formatAgo),
    ["now", "now", "now", "2 s ago", "1 min ago", "2 h ago", "2 d ago"],
  );
});

test("a channel's namespace ends at the first colon", () => {
  assert.deepEqual(text.splitChannel("session:w1:s1"), ["session", ":w1:s1"]);
  assert.deepEqual(text.splitChannel("chat"), ["", "chat"]);
});
