/**
 * Fanwire in a browser: one feed over any number of channels, and publishing. No dependencies.
 *
 *     import { connect } from "./fanwire.js";
 *
 *     const feed = connect({
 *       url: "https://hub.example.com",
 *       channels: ["session:w1:s1", "approvals:w1"],
 *       onPublication: ({ channel, data }) => console.log(channel, data),
 *       onGap: ({ channel }) => reload(channel),
 *     });
 *     feed.setChannels(["session:w1:s2", "approvals:w1"]);   // without losing anything
 *     feed.close();
 *
 * It stands on the browser's own `EventSource` at `/events`. Every event carries a cursor over
 * all channels, so whoever comes back with the last one misses nothing and sees nothing twice;
 * what the hub can no longer give is told to `onGap`, never passed over.
 *
 * @module
 */

/**
 * @typedef {object} Publication
 * @property {string} channel
 * @property {number} offset   its place in the channel's log, 0 where there is none
 * @property {number} skipped  how many publications right before it newer ones superseded while
 *   this reader was behind; they were not sent
 * @property {*} data          the JSON that was published
 * @property {object} [info]   who published it, where a client did
 * @property {object} [tags]
 */

/**
 * @typedef {object} Gap       publications of a channel are lost to this reader: read its state anew
 * @property {string} channel
 * @property {string} reason   one word, such as `trimmed`
 * @property {string} [message]
 * @property {{epoch: string, offset: number}} [position] from where it goes on
 * @property {boolean} [snapshot] a snapshot of the channel follows, which makes the reader whole
 */

/**
 * @typedef {object} Snapshot  the state behind a channel; what was known before is replaced by it
 * @property {string} channel
 * @property {*} snapshot
 * @property {{epoch: string, offset: number}} position the last publication that is part of it
 */

/**
 * @typedef {"connecting"|"open"|"waiting"|"closed"} State
 *   `waiting`: cut off, a new try is due; `closed`: by `close()`, or because no try would help.
 */

/**
 * @typedef {object} StateChange
 * @property {State} state
 * @property {number} [code]   the hub's disconnect code or the HTTP status, where one is known
 * @property {string} [reason]
 */

/**
 * @typedef {object} Options
 * @property {string} [url]        the hub's address; by default where the page comes from
 * @property {string[]} channels
 * @property {(publication: Publication) => void} [onPublication]
 * @property {(gap: Gap) => void} [onGap]
 * @property {(snapshot: Snapshot) => void} [onSnapshot]
 * @property {(change: StateChange) => void} [onState]
 * @property {(error: Error) => void} [onError] what a handler threw, or what could not be read
 * @property {string | (() => string|Promise<string>)} [token]
 *   a connection token; it is exchanged for one-use tickets and never stands in an address
 * @property {() => string|Promise<string>} [getTicket] gives a ticket, where the page cannot
 *   have the token; without either the cookie of the page counts
 * @property {number} [recent]     how many past publications (100 at most) a channel begins with
 *   where no cursor says how far it was read
 * @property {boolean} [snapshot]  begin with the state behind the channels that have one, and have
 *   it again after each gap; `recent` then counts for the other channels
 * @property {string} [lastEventId] cursor of an earlier feed, to go on where it ended; there is no
 *   snapshot then, for whoever has the cursor has the state of that moment
 * @property {typeof EventSource} [EventSource] for Node
 * @property {typeof fetch} [fetch]
 * @property {(action: () => void, ms: number) => *} [setTimeout]
 * @property {(timer: *) => void} [clearTimeout]
 * @property {() => number} [random]
 * @property {() => number} [now] milliseconds
 */

/** The first pause before a new try, and the longest, in milliseconds; each is jittered. */
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 20_000;
/** Seconds over which `stats().perSecond` is an average. */
const RATE_WINDOW_S = 5;

/** What the hub said no to. `code` is the protocol's, `status` that of HTTP. */
export class FanwireError extends Error {
  /** @param {string} message @param {{code?: number, status?: number, temporary?: boolean}} [details] */
  constructor(message, { code = 0, status = 0, temporary = false } = {}) {
    super(message);
    this.name = "FanwireError";
    this.code = code;
    this.status = status;
    this.temporary = temporary;
  }
}

/**
 * Open a feed.
 * @param {Options} options
 * @returns {Feed}
 */
export function connect(options) {
  return new Feed(options);
}

/** A feed over some channels; made by {@link connect}. */
export class Feed {
  #options;
  #base;
  /** @type {Set<string>} */ #channels;
  /** Channels that no connection has covered yet: they begin now, so nothing of them is lost. */
  /** @type {Set<string>} */ #fresh = new Set();
  /** Last offset seen, by channel. @type {Map<string, number>} */ #offsets = new Map();
  /** @type {EventSource|null} */ #source = null;
  /** The one being replaced, which delivers until its successor is open. */
  /** @type {EventSource|null} */ #previous = null;
  #cursor;
  /** @type {State} */ #state = "connecting";
  #attempt = 0;
  #failures = 0;
  #timer = null;
  /** @type {{code: number, reason: string}|null} */ #goodbye = null;
  #received = 0;
  /** Publications by second. @type {Map<number, number>} */ #recent = new Map();

  /** @param {Options} options */
  constructor(options) {
    this.#options = {
      EventSource: globalThis.EventSource,
      fetch: (...args) => globalThis.fetch(...args),
      setTimeout: (action, ms) => globalThis.setTimeout(action, ms),
      clearTimeout: (timer) => globalThis.clearTimeout(timer),
      random: Math.random,
      now: Date.now,
      ...options,
    };
    if (typeof this.#options.EventSource !== "function") {
      throw new TypeError("there is no EventSource here: give one as options.EventSource");
    }
    this.#base = baseOf(options.url);
    this.#channels = checkChannels(options.channels);
    this.#cursor = options.lastEventId ?? "";
    if (!this.#cursor) this.#channels.forEach((channel) => this.#fresh.add(channel));
    this.#open();
  }

  /** @returns {State} */
  get state() {
    return this.#state;
  }

  /** The channels of this feed, in the order they were given. */
  get channels() {
    return [...this.#channels];
  }

  /** Where the feed stands; give it to a later feed as `lastEventId`. Empty at first. */
  get lastEventId() {
    return this.#cursor;
  }

  /** How much came: in all, in a second (averaged over five), and the last offset by channel. */
  stats() {
    const second = Math.floor(this.#options.now() / 1000);
    let recent = 0;
    for (const [at, count] of this.#recent) {
      // The current second is not over yet, so it would pull the average down.
      if (at < second && at >= second - RATE_WINDOW_S) recent += count;
    }
    return {
      received: this.#received,
      perSecond: recent / RATE_WINDOW_S,
      offsets: Object.fromEntries(this.#offsets),
    };
  }

  /**
   * Follow other channels from now on. Those that stay lose nothing and repeat nothing: the old
   * connection delivers until the new one is open. New ones begin with what comes now.
   * @param {string[]} names
   */
  setChannels(names) {
    const wanted = checkChannels(names);
    if (this.#state === "closed" || sameSet(wanted, this.#channels)) return;
    for (const channel of wanted) {
      if (!this.#channels.has(channel)) this.#fresh.add(channel);
    }
    for (const channel of this.#channels) {
      if (wanted.has(channel)) continue;
      this.#offsets.delete(channel);
      this.#fresh.delete(channel);
    }
    this.#channels = wanted;
    this.#replace();
  }

  /** Follow these channels too. @param {...string} names */
  add(...names) {
    this.setChannels([...this.#channels, ...names]);
  }

  /** Follow these channels no longer. @param {...string} names */
  remove(...names) {
    this.setChannels([...this.#channels].filter((channel) => !names.includes(channel)));
  }

  /** End the feed. Nothing is called afterwards. */
  close() {
    this.#options.onState = undefined;
    this.#end({});
  }

  #usesTickets() {
    return this.#options.getTicket !== undefined || this.#options.token !== undefined;
  }

  /** Open a new connection while the one there is goes on, if it works. */
  #replace() {
    // Is one being replaced already, then its successor was not open yet: that one goes.
    if (this.#state === "open" && !this.#previous) this.#previous = this.#source;
    else this.#source?.close();
    this.#source = null;
    this.#open();
  }

  async #open() {
    const attempt = ++this.#attempt;
    this.#stopWaiting();
    if (this.#state !== "open") this.#change("connecting");
    let address;
    try {
      address = await this.#address();
    } catch (error) {
      if (attempt === this.#attempt) this.#retryOrEnd(error);
      return;
    }
    if (attempt !== this.#attempt || this.#state === "closed") return;
    this.#goodbye = null;
    const source = new this.#options.EventSource(address);
    this.#source = source;
    source.onopen = () => this.#opened(source);
    source.onmessage = (event) => this.#publication(source, event);
    source.onerror = () => this.#failed(source);
    source.addEventListener("gap", (event) => this.#gap(source, event));
    source.addEventListener("snapshot", (event) => this.#snapshot(source, event));
    source.addEventListener("auth-expiring", () => this.#expiring(source));
    source.addEventListener("close", (event) => this.#farewell(source, event));
  }

  async #address() {
    const query = new URLSearchParams();
    for (const channel of this.#channels) query.append("channel", channel);
    if (this.#usesTickets()) query.set("ticket", await this.#ticket());
    // Read last: while the ticket was fetched, the previous connection went on.
    if (this.#cursor) query.set("last_event_id", this.#cursor);
    if (this.#options.recent) query.set("recent", String(this.#options.recent));
    if (this.#options.snapshot) {
      query.set("snapshot", "1");
      // A channel that was left and is followed again has no state here, whatever the cursor says.
      if (this.#cursor) this.#fresh.forEach((channel) => query.append("anew", channel));
    }
    return `${this.#base}/events?${query}`;
  }

  async #ticket() {
    const { getTicket, token, fetch } = this.#options;
    if (getTicket) return await getTicket();
    const value = typeof token === "function" ? await token() : token;
    const response = await fetch(`${this.#base}/connection/ticket`, {
      method: "POST",
      headers: { Authorization: `Bearer ${value}` },
    });
    if (!response.ok) throw await errorOf(response);
    return (await response.json()).ticket;
  }

  #opened(source) {
    if (source !== this.#source) return;
    this.#failures = 0;
    this.#previous?.close();
    this.#previous = null;
    this.#change("open");
  }

  #failed(source) {
    if (source === this.#previous) {
      // Its successor takes over from the same cursor; nobody has to wait for this one.
      source.close();
      this.#previous = null;
      this.#change("connecting");
      return;
    }
    if (source !== this.#source) return;
    const gaveUp = source.readyState === 2;
    if (!gaveUp && !this.#usesTickets()) {
      // The browser tries again by itself, with the cursor it has.
      this.#change("waiting", this.#goodbye ?? {});
      return;
    }
    source.close();
    this.#source = null;
    this.#previous?.close();
    this.#previous = null;
    if (gaveUp && !this.#goodbye) this.#diagnose();
    else this.#retry(this.#goodbye ?? {});
  }

  /** An EventSource does not tell why it gave up: ask the same again and look at the answer. */
  async #diagnose() {
    const attempt = ++this.#attempt;
    const abort = new AbortController();
    let error = new FanwireError("the hub cannot be reached", { temporary: true });
    try {
      const address = await this.#address();
      const response = await this.#options.fetch(address, { signal: abort.signal });
      if (!response.ok) error = await errorOf(response);
    } catch (failure) {
      if (failure instanceof FanwireError) error = failure;
    } finally {
      abort.abort();
    }
    if (attempt === this.#attempt && this.#state !== "closed") this.#retryOrEnd(error);
  }

  #retryOrEnd(error) {
    const { status = 0, code = 0, message: reason } = error;
    const told = { code: code || status, reason };
    const hopeless = status >= 400 && status < 500 && status !== 408 && status !== 429;
    if (hopeless && !error.temporary) this.#end(told);
    else this.#retry(told);
  }

  #retry(told) {
    this.#change("waiting", told);
    const range = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(this.#failures, 16));
    this.#failures += 1;
    this.#stopWaiting();
    this.#timer = this.#options.setTimeout(() => this.#open(), this.#options.random() * range);
  }

  #stopWaiting() {
    if (this.#timer !== null) this.#options.clearTimeout(this.#timer);
    this.#timer = null;
  }

  #end(told) {
    if (this.#state === "closed") return;
    this.#attempt += 1;
    this.#stopWaiting();
    this.#source?.close();
    this.#previous?.close();
    this.#source = this.#previous = null;
    this.#change("closed", told);
  }

  #publication(source, event) {
    const push = this.#read(source, event);
    if (!push) return;
    const { channel, pub } = push;
    if (typeof channel !== "string" || typeof pub !== "object" || pub === null) {
      this.#report(new FanwireError(`expected a publication; got ${event.data.slice(0, 80)}`));
      return;
    }
    if (!this.#channels.has(channel)) return;
    const offset = pub.offset ?? 0;
    if (offset > 0) {
      // Two connections overlap while one replaces the other.
      if (offset <= (this.#offsets.get(channel) ?? 0)) return;
      this.#offsets.set(channel, offset);
    }
    this.#fresh.delete(channel);
    this.#count();
    this.#call(this.#options.onPublication, { ...pub, channel, offset, skipped: pub.skipped ?? 0 });
  }

  #gap(source, event) {
    const gap = this.#read(source, event);
    if (!gap || !this.#channels.has(gap.channel)) return;
    // Until the snapshot is here, a reader that is cut off comes back from before the gap.
    if (!gap.snapshot) this.#offsets.set(gap.channel, gap.position?.offset ?? 0);
    // A channel that was just added is in no cursor yet: that is no loss.
    const added = this.#fresh.delete(gap.channel) && gap.reason === "absent";
    if (!added) this.#call(this.#options.onGap, gap);
  }

  #snapshot(source, event) {
    const told = this.#read(source, event);
    if (!told || !this.#channels.has(told.channel)) return;
    this.#offsets.set(told.channel, told.position?.offset ?? 0);
    this.#fresh.delete(told.channel);
    this.#call(this.#options.onSnapshot, told);
  }

  #expiring(source) {
    // With a new ticket the feed goes on without a break; without one the hub ends it in time.
    if (source === this.#source && this.#usesTickets()) this.#replace();
  }

  #farewell(source, event) {
    const goodbye = this.#read(source, event);
    if (!goodbye || source !== this.#source) return;
    this.#goodbye = { code: goodbye.code ?? 0, reason: goodbye.reason ?? "" };
    if (!comesBack(this.#goodbye.code)) this.#end(this.#goodbye);
  }

  /** Return an event's JSON and remember its cursor; undefined for what is not to be read. */
  #read(source, event) {
    if (source !== this.#source && source !== this.#previous) return undefined;
    if (event.lastEventId) this.#cursor = event.lastEventId;
    try {
      return JSON.parse(event.data);
    } catch {
      this.#report(new FanwireError(`expected JSON; got ${String(event.data).slice(0, 80)}`));
      return undefined;
    }
  }

  #count() {
    const second = Math.floor(this.#options.now() / 1000);
    this.#received += 1;
    this.#recent.set(second, (this.#recent.get(second) ?? 0) + 1);
    for (const at of this.#recent.keys()) {
      if (at < second - RATE_WINDOW_S) this.#recent.delete(at);
    }
  }

  #change(state, told = {}) {
    if (this.#state === state) return;
    this.#state = state;
    this.#call(this.#options.onState, { state, ...told });
  }

  /** Call a handler of the page; what it throws must not stop the feed. */
  #call(handler, value) {
    try {
      handler?.(value);
    } catch (error) {
      this.#report(error);
    }
  }

  #report(error) {
    if (this.#options.onError) this.#options.onError(error);
    else console.error(error);
  }
}

/**
 * @typedef {object} PublishOptions
 * @property {string} [url]             the hub's address; by default where the page comes from
 * @property {string} [apiKey]          for trusted pages only: whoever reads the page has it
 * @property {string} [idempotencyKey]  a publication appears once for each key
 * @property {string} [conflate]        conflation key: readers that are behind get only the
 *   newest publication with this key
 * @property {number} [tries]           tries in all, 4 by default
 * @property {typeof fetch} [fetch]
 * @property {(action: () => void, ms: number) => *} [setTimeout]
 * @property {() => number} [random]
 */

/**
 * Publish `data` on `channel`. Lost answers are asked for again under the same key, so it
 * appears once.
 * @param {string} channel
 * @param {*} data anything that JSON can hold; the `id` of an event is its key
 * @param {PublishOptions} [options]
 * @returns {Promise<{epoch: string, offset: number}>} its position
 */
export async function publish(channel, data, options = {}) {
  const {
    apiKey = "",
    tries = 4,
    fetch = globalThis.fetch,
    setTimeout = globalThis.setTimeout,
    random = Math.random,
  } = options;
  const isEvent = data?.specversion === "1.0" && typeof data.id === "string";
  const key = options.idempotencyKey ?? (isEvent ? data.id : newKey());
  const request = {
    method: "POST",
    headers: { "Content-Type": "application/json", ...(apiKey && { "X-API-Key": apiKey }) },
    body: JSON.stringify({ channel, data, idempotency_key: key, conflate: options.conflate }),
  };
  for (let failures = 0; ; failures += 1) {
    let error;
    try {
      const response = await fetch(`${baseOf(options.url)}/api/publish`, request);
      const answer = response.ok ? await response.json() : null;
      if (answer?.result) return answer.result;
      error = answer ? errorIn(answer, response.status) : await errorOf(response);
    } catch (failure) {
      error = new FanwireError(`the hub cannot be reached: ${failure.message}`, { temporary: true });
    }
    if (!error.temporary || failures + 1 >= tries) throw error;
    const pause = random() * Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures);
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

/** Whether a disconnect code lets the client come back by itself. */
function comesBack(code) {
  return !((code >= 3500 && code <= 3999) || (code >= 4500 && code <= 4999));
}

function baseOf(url) {
  return String(url ?? globalThis.location?.origin ?? "").replace(/\/+$/, "");
}

function checkChannels(names) {
  const channels = new Set(names);
  if (channels.size === 0) throw new TypeError("a feed has at least one channel");
  return channels;
}

function sameSet(one, other) {
  return one.size === other.size && [...one].every((each) => other.has(each));
}

function newKey() {
  const bytes = globalThis.crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The error that an answer other than 2xx stands for. */
async function errorOf(response) {
  let body = null;
  try {
    body = await response.json();
  } catch {
    // No JSON: the status has to do.
  }
  return errorIn(body, response.status);
}

function errorIn(body, status) {
  const told = body?.error ?? body;
  const code = Number.isInteger(told?.code) ? told.code : 0;
  const message = told?.message ?? told?.detail ?? `the hub answered with status ${status}`;
  const temporary = status === 429 || status >= 502 || code === 100 || code === 111;
  return new FanwireError(message, { code, status, temporary });
}
