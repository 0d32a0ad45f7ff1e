/**
 * The dashboard, put together: what arrives goes into books without a DOM; views draw them, at
 * most once a frame for events and once a second for figures.
 */

import { connect } from "./js/fanwire.js";
import { ApprovalBook } from "./approvals.js";
import { ApprovalView } from "./approval_view.js";
import { ChannelBook } from "./channels.js";
import { ChannelView } from "./channel_view.js";
import { byId, setShown, setText } from "./dom.js";
import { Entry, EventBuffer, inTime, matcher } from "./events.js";
import { EventView } from "./event_view.js";
import { HubFeed } from "./feed.js";
import { HeaderView } from "./header_view.js";
import { NodeBook } from "./nodes.js";
import { Sampler } from "./sampler.js";
import { describe } from "./status.js";
import { formatCount } from "./text.js";

/** More would make the address of the feed long; the rest is counted from the reports. */
const MAX_FOLLOWED = 20;
const TICK_MS = 1000;

class Dashboard {
  #nodes = new NodeBook();
  #channels = new ChannelBook();
  #approvals = new ApprovalBook();
  #buffer = new EventBuffer();
  #sampler = new Sampler();
  #selected = "";
  #words = "";
  #matches = matcher({});
  #shownSeq = 0; // up to here the events are in the list, or were left out of it
  #skipped = false; // whether the list lacks events that the buffer has
  #frame = 0;
  #gap = null;
  #everLive = false;

  #header = new HeaderView();
  #channelView = new ChannelView({ onSelect: (name) => this.#select(name) });
  #approvalView = new ApprovalView({ onChoose: ({ channel }) => this.#select(channel) });
  #eventView = new EventView({ gateState: (gate) => this.#approvals.state(gate) });
  #pause = byId("pause");
  #filter = byId("filter");
  #feed;

  constructor() {
    this.#feed = new HubFeed({
      connect,
      // Beside this page, wherever the hub is mounted.
      url: new URL(".", document.baseURI).href,
      now: Date.now,
      onReport: (data) => this.#report(data),
      onPublication: (publication) => this.#publication(publication),
      onGap: (gap) => this.#missed(gap),
      onState: () => this.#showState(),
    });
    this.#listen();
    this.#tick();
    setInterval(() => this.#tick(), TICK_MS);
  }

  // -- what arrives -------------------------------------------------------------------------

  #report(data) {
    const now = Date.now();
    const report = this.#nodes.report(data, now);
    if (!report) return;
    this.#channels.report(report, new Set(this.#feed.followed));
    this.#follow(now);
    if (!this.#everLive) this.#tick(); // the first figures need not wait for the clock
  }

  #publication(publication) {
    const now = Date.now();
    const entry = new Entry({ ...publication, at: now });
    if (!this.#channels.count(entry, now)) return;
    const gate = this.#approvals.see(entry);
    if (gate) this.#eventView.updateGate(gate);
    this.#push(entry);
  }

  #missed(gap) {
    const now = Date.now();
    this.#gap = { channel: gap.channel, at: now };
    this.#push(new Entry({ kind: "gap", channel: gap.channel, data: gap, at: now }));
    this.#showState();
  }

  #push(entry) {
    this.#buffer.push(entry);
    this.#draw();
  }

  #follow(now) {
    const current = this.#feed.followed;
    this.#feed.follow(this.#channels.choose(current, this.#selected, now, MAX_FOLLOWED));
  }

  // -- what a person does -------------------------------------------------------------------

  #listen() {
    this.#pause.addEventListener("click", () => this.#setPaused(!this.#buffer.paused));
    this.#filter.addEventListener("input", () => this.#setWords(this.#filter.value));
    byId("clear").addEventListener("click", () => {
      this.#buffer.clear();
      this.#rebuild();
    });
    byId("reset").addEventListener("click", () => {
      this.#filter.value = "";
      this.#words = "";
      this.#select("");
    });
    byId("copy").addEventListener("click", (event) => copy(byId("command"), event.target));
    document.addEventListener("keydown", (event) => {
      const typing = event.target.closest?.("input, textarea");
      if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
        event.preventDefault();
        this.#filter.focus();
      } else if (event.key === "Escape" && typing) {
        this.#filter.value = "";
        this.#setWords("");
      }
    });
    // A hidden page draws nothing; what came meanwhile is in the buffer.
    document.addEventListener("visibilitychange", () => document.hidden || this.#tick());
  }

  #setPaused(paused) {
    if (paused) this.#buffer.pause();
    else this.#buffer.resume();
    this.#pause.setAttribute("aria-pressed", String(paused));
    setText(byId("pause-name"), paused ? "Resume" : "Pause");
    // Whoever pauses wants to read all of it, not the sample.
    this.#rebuild();
  }

  #setWords(words) {
    this.#words = words;
    this.#refilter();
  }

  #select(name) {
    this.#selected = name;
    this.#follow(Date.now());
    this.#refilter();
    this.#tick();
  }

  #refilter() {
    this.#matches = matcher({ channel: this.#selected, words: this.#words });
    this.#rebuild();
  }

  // -- drawing ------------------------------------------------------------------------------

  /** Draw new events with the next frame; during a rush a few times a second. */
  #draw() {
    if (this.#frame) return;
    const step = () => {
      if (this.#sampler.nextAt(performance.now()) > performance.now()) {
        this.#frame = requestAnimationFrame(step);
        return;
      }
      this.#frame = 0;
      this.#drawEvents();
    };
    this.#frame = requestAnimationFrame(step);
  }

  #drawEvents() {
    const { entries, missed } = this.#buffer.since(this.#shownSeq);
    if (entries.length > 0) {
      this.#shownSeq = entries.at(-1).seq;
      const wanted = inTime(entries.filter(this.#matches));
      const shown = this.#sampler.take(wanted, missed, performance.now());
      if (shown.length < wanted.length || missed) this.#skipped = true;
      this.#eventView.add(shown, Date.now(), !this.#sampler.sampling(performance.now()));
    }
    this.#showTools();
  }

  /** Show everything that is kept and wanted. */
  #rebuild() {
    const entries = this.#buffer.entries;
    this.#shownSeq = Math.max(this.#shownSeq, entries.at(-1)?.seq ?? 0);
    this.#skipped = false;
    this.#eventView.rebuild(inTime(entries.filter(this.#matches)), Date.now());
    this.#showTools();
  }

  #tick() {
    const now = Date.now();
    this.#feed.check();
    this.#nodes.expire(now);
    this.#channels.expire(now, (name) => name === this.#selected || this.#nodes.lists(name));
    this.#approvals.expire(now);
    this.#showState();
    if (document.hidden) return;
    // After a rush the list is made whole, unless somebody reads in it.
    const over = this.#skipped && !this.#sampler.sampling(performance.now());
    if (over && !this.#eventView.reading) this.#rebuild();
    this.#showFigures(now);
    this.#showTools();
  }

  #showFigures(now) {
    const totals = this.#nodes.totals(now);
    const rate = Math.max(this.#channels.rate(now), totals.rate);
    const series = this.#channels.series(now);
    this.#header.showFigures({ rate, series, channels: this.#channels.size, totals });
    this.#channelView.show(this.#channels.order(now, this.#channelView.held), {
      selected: this.#selected,
      subscribers: (name) => this.#nodes.subscribers(name),
      now,
    });
    this.#approvalView.show(this.#approvals.waiting, now);
  }

  #showState() {
    const now = Date.now();
    const heardAt = this.#feed?.heardAt ?? NaN;
    const links = this.#feed?.links ?? [];
    const status = describe({ links, everLive: this.#everLive, heardAt, gap: this.#gap, now });
    if (status.state === "live") this.#everLive = true;
    this.#header.showState(status);
  }

  #showTools() {
    const sampling = this.#sampler.sampling(performance.now()) && !this.#buffer.paused;
    const shown = this.#eventView.size;
    const ratio = this.#sampler.ratio(performance.now());
    const kept = this.#buffer.entries.length;
    const filtered = this.#selected !== "" || this.#words.trim() !== "";
    setText(
      byId("shown"),
      sampling
        ? `too fast to read: 1 in ${formatCount(ratio)} shown`
        : filtered && kept > 0 ? `${formatCount(shown)} of ${formatCount(kept)}` : "",
    );
    const { waiting } = this.#buffer;
    setText(byId("held"), waiting > 0 ? formatCount(waiting) : "");
    this.#showEmpty(shown === 0, filtered && kept > 0);
  }

  #showEmpty(empty, filtered) {
    setShown(byId("empty"), empty);
    if (!empty) return;
    const connected = this.#everLive;
    const [title, text] = filtered
      ? ["No event matches", "Nothing that was kept fits the filter; new ones that do appear here."]
      : connected
        ? ["Waiting for events", "Publish one from a terminal and it appears here:"]
        : ["Waiting for the hub", "This page connects by itself as soon as the hub answers. Then publish an event:"];
    setText(byId("empty-title"), title);
    setText(byId("empty-text"), text);
    setShown(byId("empty-command"), !filtered);
    setShown(byId("reset"), filtered);
  }
}

/** Copy the text of `node`, or select it where the browser does not let a page copy. */
async function copy(node, button) {
  try {
    await navigator.clipboard.writeText(node.textContent);
    setText(button, "Copied");
    setTimeout(() => setText(button, "Copy"), 2000);
  } catch {
    getSelection().selectAllChildren(node);
  }
}

new Dashboard();
