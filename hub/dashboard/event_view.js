/**
 * The stream of events: newest on top, under their minutes. Rows are added in batches; where
 * somebody has scrolled down or opened a row, nothing moves.
 */

import { gateOf } from "./approvals.js";
import { byId, el, moveWithArrows, setShown, setText } from "./dom.js";
import { groupOf, KEPT } from "./events.js";
import { tokens } from "./json.js";
import { formatClock, formatMinute, plural, splitChannel } from "./text.js";

export class EventView {
  #root = byId("events");
  #newer = byId("newer");
  #groups = []; // {minute, section, list}, newest first
  #rows = 0;
  #unseen = 0;
  #entries = new WeakMap(); // button -> entry
  #gates = new Map(); // gate -> the rows that asked for it
  #gateState;

  /** `gateState(gate)` says what became of an approval. */
  constructor({ gateState }) {
    this.#gateState = gateState;
    this.#root.addEventListener("click", (event) => this.#clicked(event));
    this.#newer.addEventListener("click", () => this.toTop());
    const seen = () => this.#anchored || this.#tellUnseen(0);
    this.#root.addEventListener("scroll", seen, { passive: true });
    window.addEventListener("scroll", seen, { passive: true });
    moveWithArrows(this.#root, ".row");
  }

  get size() {
    return this.#rows;
  }

  /** Whether somebody reads further down or has a row open, so that nothing may move. */
  get reading() {
    return this.#anchored || this.#root.querySelector(".row[aria-expanded=true]") !== null;
  }

  /** Add `entries`, oldest first, on top; `fresh` ones light up for a moment. */
  add(entries, now, fresh) {
    if (entries.length === 0) return;
    const keep = this.reading;
    const before = keep ? this.#root.scrollHeight : 0;
    for (const entry of entries) this.#prepend(entry, now, fresh);
    if (keep) {
      // Measured before the oldest go, so that it is what came on top.
      this.#scrollBy(this.#root.scrollHeight - before);
      this.#tellUnseen(this.#unseen + entries.length);
    }
    this.#trim();
  }

  /** Show exactly `entries`, oldest first. */
  rebuild(entries, now) {
    this.#root.replaceChildren();
    this.#groups = [];
    this.#gates.clear();
    this.#rows = 0;
    for (const entry of entries) this.#prepend(entry, now, false);
    this.toTop();
  }

  /** Show what became of an approval in the row that asked for it. */
  updateGate(gate) {
    for (const row of this.#gates.get(gate) ?? []) this.#drawGate(row, this.#gateState(gate));
  }

  toTop() {
    this.#root.scrollTop = 0;
    if (this.#isPageScrolled) this.#root.closest(".stream").scrollIntoView();
    this.#tellUnseen(0);
  }

  // -- scrolling: the list scrolls on a wide screen, the page on a narrow one ---------------

  get #isPageScrolled() {
    return this.#root.scrollHeight <= this.#root.clientHeight && window.scrollY > 0;
  }

  get #anchored() {
    if (this.#root.scrollTop > 4) return true;
    return this.#isPageScrolled && this.#root.getBoundingClientRect().top < 0;
  }

  #scrollBy(pixels) {
    if (pixels <= 0) return;
    if (this.#root.scrollHeight > this.#root.clientHeight) this.#root.scrollTop += pixels;
    else window.scrollBy(0, pixels);
  }

  #tellUnseen(count) {
    if (count === this.#unseen) return;
    this.#unseen = count;
    setText(this.#newer, `↑ ${count >= KEPT ? `${KEPT}+` : count} newer`);
    setShown(this.#newer, count > 0);
  }

  // -- rows ---------------------------------------------------------------------------------

  #prepend(entry, now, fresh) {
    const newest = this.#groups[0]?.minute ?? -Infinity;
    const minute = groupOf(entry.time, newest, now);
    if (minute !== newest) {
      const list = el("ol");
      const section = el("section", "group", el("h3", "", formatMinute(minute)), list);
      this.#groups.unshift({ minute, section, list });
      this.#root.prepend(section);
    }
    const item = entry.kind === "gap" ? gapRow(entry) : this.#eventRow(entry);
    if (fresh) item.classList.add("fresh");
    this.#groups[0].list.prepend(item);
    this.#rows += 1;
  }

  #eventRow(entry) {
    const { type, tone, lead, text, progress } = entry.summary;
    const [namespace, rest] = splitChannel(entry.channel);
    const said = el("span", "said");
    if (lead) said.append(el("span", "lead", lead));
    if (progress !== null) said.append(bar(progress));
    said.append(el("span", type ? "text" : "text untyped", text));
    const button = el(
      "button",
      "row",
      el("span", "time", formatClock(entry.time)),
      el("span", "channel-name", el("span", "namespace", namespace), rest),
      el("span", "type", type),
      said,
    );
    button.type = "button";
    button.setAttribute("aria-expanded", "false");
    button.children[1].title = entry.channel;
    this.#entries.set(button, entry);
    const item = el("li", "", button);
    item.dataset.tone = tone;
    if (type === "approval.requested") this.#watchGate(gateOf(entry.data), { item, said });
    return item;
  }

  #watchGate(gate, row) {
    if (!gate) return;
    this.#gates.set(gate, [...(this.#gates.get(gate) ?? []), row]);
    this.#drawGate(row, this.#gateState(gate));
  }

  #drawGate({ item, said }, state) {
    item.classList.toggle("waiting", state === "waiting");
    let badge = said.querySelector(".badge");
    if (!badge) said.append((badge = el("span", "badge")));
    setText(badge, state);
    setShown(badge, state !== "");
  }

  #trim() {
    while (this.#rows > KEPT) {
      const { section, list } = this.#groups.at(-1);
      const last = list.lastElementChild;
      const gate = gateOf(this.#entries.get(last.querySelector(".row"))?.data);
      if (gate) {
        const left = (this.#gates.get(gate) ?? []).filter(({ item }) => item !== last);
        if (left.length) this.#gates.set(gate, left);
        else this.#gates.delete(gate);
      }
      last.remove();
      this.#rows -= 1;
      if (list.childElementCount === 0) {
        section.remove();
        this.#groups.pop();
      }
    }
  }

  #clicked(event) {
    const button = event.target.closest(".row");
    if (!button) return;
    const open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!open));
    if (open) button.nextElementSibling?.remove();
    else button.after(detail(this.#entries.get(button)));
  }
}

function gapRow(entry) {
  const words = `Events on ${entry.channel} may be missing here`;
  const why = entry.data?.message ? ` (${entry.data.message})` : "";
  return el(
    "li",
    "gap",
    el("span", "time", formatClock(entry.time)),
    el("span", "", `${words}${why}. What follows is complete again.`),
  );
}

function bar(share) {
  const fill = el("span");
  fill.style.width = `${Math.round(share * 100)}%`;
  const made = el("span", "progress", fill);
  made.setAttribute("role", "img");
  made.setAttribute("aria-label", `${Math.round(share * 100)} %`);
  return made;
}

function detail(entry) {
  const facts = el("dl");
  const fact = (name, value) => {
    if (value === "" || value === null || value === undefined) return;
    facts.append(el("div", "", el("dt", "", name), el("dd", "", value)));
  };
  fact("channel", entry.channel);
  fact("offset", entry.offset || null);
  fact("epoch", entry.epoch);
  const json = el("pre");
  let size = 0;
  for (const { kind, text } of tokens(entry.data)) {
    json.append(kind === "rest" ? text : el("span", `json-${kind}`, text));
    size += text.length;
  }
  fact("size", plural(size, "character"));
  json.tabIndex = 0;
  json.setAttribute("aria-label", "The event as JSON");
  return el("div", "detail", facts, json);
}
