import assert from "node:assert/strict";
import test from "node:test";

import { compact, cut, tokens } from "../../../hub/dashboard/json.js";

test("compact JSON is one line that reads as JSON", () => {
  const value = { a: 1, b: [true, null, "x\n"], c: {} };
  assert.equal(compact(value), '{"a": 1, "b": [true, null, "x\\n"], "c": {}}');
  assert.deepEqual(JSON.parse(compact(value)), value);
});

test("a huge value costs a line, not its size", () => {
  const huge = Array.from({ length: 1_000_000 }, () => ({ key: "value" }));
  const began = performance.now();
  assert.ok(compact(huge, 100).length < 200);
  assert.ok(performance.now() - began < 100);
});

test("nesting beyond reading depth is cut, not a stack overflow", () => {
  let deep = 1;
  for (let level = 0; level < 50_000; level += 1) deep = [deep];
  assert.ok(compact(deep).includes("…"));
});

test("cutting keeps the limit, one line, and whole characters", () => {
  assert.equal(cut("a\nb\tc", 10), "a b c");
  assert.equal(cut("x".repeat(20), 10), `${"x".repeat(9)}…`);
  const faces = cut("😀".repeat(20), 10);
  assert.ok(faces.isWellFormed?.() ?? true);
  assert.ok(faces.length <= 10);
});

test("tokens joined are the indented JSON, whatever the strings contain", () => {
  const value = { "a:b": 'true "1": 2', n: -1.5e-7, w: [true, false, null], s: "\\" };
  const found = tokens(value);
  assert.equal(found.map((token) => token.text).join(""), JSON.stringify(value, null, 2));
  const kinds = Object.fromEntries(found.map(({ text, kind }) => [text, kind]));
  assert.equal(kinds['"a:b"'], "key");
  assert.equal(kinds[JSON.stringify('true "1": 2')], "string");
  assert.equal(kinds["-1.5e-7"], "number");
  assert.equal(kinds.null, "word");
});

test("more text than anybody reads is cut and said so", () => {
  const text = tokens("x".repeat(1000), 100).map((token) => token.text).join("");
  assert.ok(text.endsWith("… 902 more characters"));
});
