import assert from "node:assert/strict";
import test from "node:test";

import { CursorReader } from "../../../hub/dashboard/cursor.js";

test("the epoch of a single channel is read at once", () => {
  assert.equal(new CursorReader().epoch("AAAAA:e1:7:x", "chat", 7), "e1");
});

test("among several channels the part that moved tells whose it is", () => {
  const reader = new CursorReader();
  assert.equal(reader.epoch("AAAAA:e1:7:x,BBBBB:e2:7:y", "chat", 7), ""); // either could be it
  assert.equal(reader.epoch("AAAAA:e1:8:x,BBBBB:e2:7:y", "chat", 8), "e1");
  assert.equal(reader.epoch("AAAAA:e1:8:x,BBBBB:e2:8:y", "jobs", 8), "e2");
});

test("a channel once known is read even when others moved too", () => {
  const reader = new CursorReader();
  reader.epoch("AAAAA:e1:8:x", "chat", 8);
  assert.equal(reader.epoch("AAAAA:e1:9:x,BBBBB:e2:9:y", "chat", 9), "e1");
});

test("what is no cursor gives no epoch", () => {
  const reader = new CursorReader();
  for (const cursor of ["", "x", ":::", "a:b", ",,"]) assert.equal(reader.epoch(cursor, "chat", 1), "");
});
