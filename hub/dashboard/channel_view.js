/** The list of channels: a row each, redrawn in place every second. */

import { byId, el, moveWithArrows, newChart, setShown, setText } from "./dom.js";
import { smooth, sparkline } from "./sparkline.js";
import { formatAgo, formatCount, formatRate, formatShort, plural, splitChannel } from "./text.js";

const CHART = { width: 64, height: 24 };

export class ChannelView {
  #list = byId("channels");
  #count = byId("channel-count");
  #hint = byId("channels-hint");
  #all = byId("all-channels");
  #side = byId("side");
  #toggle = byId("side-toggle");
  #rows = new Map();
  #held = false;

  /** `onSelect(name)` is called with "" when the selected channel is chosen again. */
  constructor({ onSelect }) {
    this.#list.addEventListener("click", (event) => {
      const row = event.target.closest(".channel");
      if (row) onSelect(row.getAttribute("aria-pressed") === "true" ? "" : row.dataset.channel);
    });
    this.#all.addEventListener("click", () => onSelect(""));
    // Rows stay where they are while somebody is about to choose one.
    this.#list.addEventListener("pointerenter", () => (this.#held = true));
    this.#list.addEventListener("pointerleave", () => (this.#held = false));
    moveWithArrows(this.#list, ".channel");
    this.#toggle.addEventListener("click", () => this.#open(this.#side.dataset.open !== "true"));
  }

  /** Whether the order must stay as it is. */
  get held() {
    return this.#held || this.#list.contains(document.activeElement);
  }

  /** Show `channels` in their order; `subscribers(name)` says how many each has. */
  show(channels, { selected, subscribers, now }) {
    const names = new Set(channels.map((channel) => channel.name));
    for (const [name, row] of this.#rows) {
      if (names.has(name)) continue;
      row.item.remove();
      this.#rows.delete(name);
    }
    let place = this.#list.firstElementChild;
    for (const channel of channels) {
      const row = this.#row(channel.name);
      if (row.item === place) place = place.nextElementSibling;
      else this.#list.insertBefore(row.item, place);
      this.#draw(row, channel, { selected, subscribers: subscribers(channel.name), now });
    }
    setText(this.#count, channels.length ? formatCount(channels.length) : "");
    setShown(this.#hint, channels.length === 0);
    setShown(this.#list, channels.length > 0);
    setShown(this.#all, selected !== "");
  }

  #open(open) {
    this.#side.dataset.open = String(open);
    this.#toggle.setAttribute("aria-expanded", String(open));
    setText(this.#toggle, open ? "Hide" : "Show");
  }

  #row(name) {
    const known = this.#rows.get(name);
    if (known) return known;
    const [namespace, rest] = splitChannel(name);
    const row = {
      button: el("button", "channel"),
      last: el("span", "last"),
      rate: el("span", "rate"),
      subs: el("span", "subs"),
      chart: newChart(CHART),
    };
    const label = el("span", "name", el("span", "namespace", namespace), rest);
    row.button.type = "button";
    row.button.dataset.channel = name;
    row.button.title = name;
    row.button.append(label, row.chart.svg, row.rate, row.last, row.subs);
    row.item = el("li", "", row.button);
    this.#rows.set(name, row);
    return row;
  }

  #draw(row, channel, { selected, subscribers, now }) {
    const rate = channel.rates.rate(now, 5);
    const ago = channel.lastAt === null ? "" : formatAgo(now - channel.lastAt);
    row.button.setAttribute("aria-pressed", String(channel.name === selected));
    row.button.classList.toggle("silent", rate === 0);
    setText(row.last, [channel.lastType, ago].filter(Boolean).join(" · ") || "silent so far");
    setText(row.rate, `${formatRate(rate)}/s`);
    setText(row.subs, `${formatShort(subscribers)} ${subscribers === 1 ? "sub" : "subs"}`);
    row.subs.title = plural(subscribers, "subscriber");
    row.chart.draw(sparkline(smooth(channel.rates.series(now)), CHART));
  }
}
