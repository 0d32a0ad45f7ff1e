/**
 * The page's two connections to the hub: the reports of its nodes, and the events of the
 * channels it follows. What arrives goes to the callbacks; nothing is kept here.
 *
 * Reconnecting, cursors and gaps are `fanwire.js`'s. This adds what only a page that is left
 * open for days needs: a connection that fell silent or was refused is made anew.
 */

import { CursorReader } from "./cursor.js";

const REPORTS = "hub:nodes";
/** The reports come every 2 s: without any for this long, a connection is dead or the hub's
 * Redis is away. Either way a new one gets an answer. */
const SILENT_MS = 15_000;
/** A channel begins with this many past events: the one that made it known is among them. */
const RECENT = 20;
/** A refusal may end too: somebody signs in, or the hub is started with other settings. */
const REFUSED_MS = 10_000;

/** Both connections; `close` ends them. */
export class HubFeed {
  #options;
  #reports;
  #events = null;
  #followed = [];
  #heardAt = NaN;

  /**
   * `connect` is that of `fanwire.js`, `url` the hub's address, `now` a clock in ms. Callbacks:
   * `onReport(data)`, `onPublication({channel, offset, epoch, data})`, `onGap(gap)`.
   */
  constructor(options) {
    this.#options = options;
    this.#reports = this.#link({
      channels: [REPORTS],
      onPublication: ({ data }) => {
        this.#heardAt = options.now();
        if (data?.type === "hub.node.reported") options.onReport(data.data);
      },
    });
  }

  /** When the hub last said something, in ms; NaN before it did. */
  get heardAt() {
    return this.#heardAt;
  }

  /** The states of the connections, as `{state, reason}`. */
  get links() {
    return [this.#reports, this.#events].filter(Boolean).map(({ state, reason }) => ({ state, reason }));
  }

  get followed() {
    return this.#followed;
  }

  /** Follow exactly `names` from now on. Those that stay lose nothing. */
  follow(names) {
    if (names.length === this.#followed.length && names.every((name, i) => name === this.#followed[i])) return;
    this.#followed = names;
    if (names.length === 0) {
      this.#events?.feed.close();
      this.#events = null;
    } else if (this.#events && this.#events.state !== "closed") {
      this.#events.feed.setChannels(names);
    } else {
      this.#events?.feed.close();
      this.#events = this.#openEvents("");
    }
  }

  /** Make anew what is silent or was refused. Call it every second or so. */
  check() {
    const now = this.#options.now();
    const { state, since, spec } = this.#reports;
    const heard = Math.max(since, this.#heardAt || 0);
    if ((state === "open" && now - heard > SILENT_MS) || refused(this.#reports, now)) {
      this.#reports.feed.close();
      this.#reports = this.#link(spec);
      // Both run over the same network: what made one silent made the other so.
      if (state === "open" && this.#events) this.#reopenEvents();
    }
    if (this.#events && refused(this.#events, now)) this.#reopenEvents();
  }

  close() {
    this.#reports.feed.close();
    this.#events?.feed.close();
  }

  #reopenEvents() {
    const { feed } = this.#events;
    feed.close();
    this.#events = this.#openEvents(feed.lastEventId);
  }

  #openEvents(lastEventId) {
    const cursors = new CursorReader();
    const link = this.#link({
      channels: this.#followed,
      recent: RECENT,
      lastEventId,
      onPublication: ({ channel, offset, data }) => {
        this.#heardAt = this.#options.now();
        const epoch = cursors.epoch(link.feed.lastEventId, channel, offset);
        this.#options.onPublication({ channel, offset, epoch, data });
      },
      onGap: (gap) => this.#options.onGap(gap),
    });
    return link;
  }

  /** Open a feed and keep its state beside it. `since` is when it last changed. */
  #link(spec) {
    const { connect, url, now } = this.#options;
    const link = { spec, state: "connecting", reason: "", since: now(), feed: null };
    link.feed = connect({
      url,
      ...spec,
      onState: ({ state, reason = "" }) => {
        Object.assign(link, { state, reason, since: now() });
        this.#options.onState?.();
      },
      onError: (error) => console.warn("Fanwire:", error),
    });
    return link;
  }
}

function refused(link, now) {
  return link.state === "closed" && now - link.since > REFUSED_MS;
}
