/** The approvals that wait for a person, below the channels. */

import { byId, el, setShown, setText } from "./dom.js";
import { formatAgo, formatSpan } from "./text.js";

/** The list shows this many, the longest waiting first; the count tells of all. */
const SHOWN = 20;

export class ApprovalView {
  #panel = byId("approvals");
  #count = byId("approval-count");
  #list = byId("approval-list");
  #rows = new Map();

  /** `onChoose(approval)` is called when one is chosen. */
  constructor({ onChoose }) {
    this.#list.addEventListener("click", (event) => {
      const row = [...this.#rows.values()].find(({ button }) => button.contains(event.target));
      if (row) onChoose(row.approval);
    });
  }

  /** Show those that wait, oldest first. */
  show(waiting, now) {
    const shown = waiting.slice(0, SHOWN);
    const gates = new Set(shown.map((approval) => approval.gate));
    for (const [gate, row] of this.#rows) {
      if (gates.has(gate)) continue;
      row.item.remove();
      this.#rows.delete(gate);
    }
    for (const approval of shown) {
      const row = this.#rows.get(approval.gate) ?? this.#add(approval);
      const left = approval.expiresAt - now;
      const time = Number.isFinite(left)
        ? left > 0 ? `${formatSpan(Math.max(left, 2000))} left` : "overdue"
        : formatAgo(now - approval.at);
      setText(row.time, time);
    }
    setText(this.#count, String(waiting.length));
    setShown(this.#panel, waiting.length > 0);
    document.title = waiting.length > 0 ? `(${waiting.length}) Fanwire` : "Fanwire";
  }

  #add(approval) {
    const time = el("span", "wait");
    const button = el("button", "approval");
    button.type = "button";
    const why = [approval.who, approval.reason].filter(Boolean).join(" · ");
    const line = el("span", "tool", el("span", "", approval.tool || approval.gate), time);
    button.append(line, el("div", "why", why || approval.channel));
    const row = { approval, button, time, item: el("li", "", button) };
    this.#rows.set(approval.gate, row);
    this.#list.append(row.item);
    return row;
  }
}
