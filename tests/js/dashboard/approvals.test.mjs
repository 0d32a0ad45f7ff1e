import assert from "node:assert/strict";
import test from "node:test";

import { ApprovalBook, gateOf } from "../../../hub/dashboard/approvals.js";

const entry = (type, data = {}) => ({
  channel: "approvals:w1",
  time: 0,
  data: { type, data: { workspace: "w1", gate: "g1", ...data } },
});

test("a request waits until somebody decides, and then says who", () => {
  const book = new ApprovalBook();
  assert.equal(book.see(entry("approval.requested", { tool: "send" })), "w1/g1");
  assert.equal(book.state("w1/g1"), "waiting");
  assert.equal(book.waiting[0].tool, "send");
  book.see(entry("approval.approved", { actor: "ada" }));
  assert.equal(book.state("w1/g1"), "approved by ada");
  assert.deepEqual(book.waiting, []);
});

test("a decision that comes first, or a request seen twice, opens nothing", () => {
  const book = new ApprovalBook();
  book.see(entry("approval.rejected", { actor: "ada" }));
  assert.equal(book.see(entry("approval.requested")), "");
  assert.deepEqual(book.waiting, []);
});

test("gates of two workspaces are two gates", () => {
  const book = new ApprovalBook();
  book.see(entry("approval.requested"));
  book.see(entry("approval.requested", { workspace: "w2" }));
  assert.equal(book.waiting.length, 2);
});

test("the number that is remembered is bounded", () => {
  const book = new ApprovalBook(10);
  for (let index = 0; index < 50; index += 1) book.see(entry("approval.requested", { gate: `g${index}` }));
  assert.equal(book.waiting.length, 10);
  assert.equal(book.waiting.at(-1).gate, "w1/g49");
});

test("one whose time was over an hour ago is dropped", () => {
  const book = new ApprovalBook();
  book.see(entry("approval.requested", { expires_at: "2026-01-01T00:00:00Z" }));
  book.expire(Date.UTC(2026, 0, 1, 0, 59));
  assert.equal(book.waiting.length, 1);
  book.expire(Date.UTC(2026, 0, 1, 1, 1));
  assert.equal(book.waiting.length, 0);
});

test("other JSON is no approval", () => {
  for (const data of [null, 7, "x", {}, { type: 5 }, { type: "approval.requested" }, { type: "job.started", data: { gate: "g" } }]) {
    assert.equal(gateOf(data), "");
    assert.equal(new ApprovalBook().see({ data }), "");
  }
});
