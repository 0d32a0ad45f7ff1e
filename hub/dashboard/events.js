/**
 * The events on the page: the newest ones, held back while somebody reads, filtered. Pure.
 */

import { eventTime, eventType, summarize } from "./summary.js";

/** How many events are kept, and how many more are held while paused. */
export const KEPT = 500;

const FIELD_LIMIT = 20_000; // characters of one event that a filter looks at

/** One thing in the stream: an event of a channel, or the news that some were missed. */
export class Entry {
  seq = 0;
  #summary = null;

  /**
   * `kind` is "event" or "gap"; `at` is when it arrived, in ms. `epoch` and `offset` are its
   * position, "" and null where there is none.
   */
  constructor({ kind = "event", channel, data = null, offset = null, epoch = "", at }) {
    this.kind = kind;
    this.channel = channel;
    this.data = data;
    this.offset = offset;
    this.epoch = epoch;
    this.at = at;
  }

  /** What is shown in the line; made when it is first asked for. */
  get summary() {
    this.#summary ??= summarize(this.data);
    return this.#summary;
  }

  get type() {
    return eventType(this.data);
  }

  /** When it happened, as the event says, or else when it arrived. */
  get time() {
    return eventTime(this.data, this.at);
  }

  /** Whether it is shown even when there is no room for every event. */
  get notable() {
    return this.kind !== "event" || this.type.startsWith("approval.");
  }
}

/**
 * The newest `size` entries, oldest first. While paused they stay as they are, and up to `size`
 * newer ones are held; older held ones give way and are counted.
 */
export class EventBuffer {
  #entries = [];
  #held = null;
  #seq = 0;
  #waiting = 0;
  #size;

  constructor(size = KEPT) {
    this.#size = size;
  }

  get paused() {
    return this.#held !== null;
  }

  /** How many came since the pause, those that gave way included. */
  get waiting() {
    return this.#waiting;
  }

  /** Entries that are kept, oldest first. */
  get entries() {
    return this.#entries;
  }

  push(entry) {
    this.#seq += 1;
    entry.seq = this.#seq;
    const into = this.#held ?? this.#entries;
    if (this.#held) this.#waiting += 1;
    into.push(entry);
    if (into.length > this.#size) into.shift();
  }

  /** Return the entries after `seq`, and how many in between are no longer there. */
  since(seq) {
    const entries = this.#entries;
    const last = entries.at(-1)?.seq ?? seq;
    if (last <= seq) return { entries: [], missed: 0 };
    let index = entries.length;
    while (index > 0 && entries[index - 1].seq > seq) index -= 1;
    const found = entries.slice(index);
    return { entries: found, missed: last - seq - found.length };
  }

  pause() {
    this.#held ??= [];
  }

  resume() {
    const held = this.#held ?? [];
    this.#held = null;
    this.#waiting = 0;
    this.#entries = [...this.#entries, ...held].slice(-this.#size);
  }

  clear() {
    this.#entries = [];
    if (this.#held) this.#held = [];
    this.#waiting = 0;
  }
}

/**
 * Return a function that tells whether an entry is to be shown: of `channel` ("" is any), and
 * with every word of `words` in its channel, type, line or JSON, in any case.
 */
export function matcher({ channel = "", words = "" }) {
  const wanted = words.toLowerCase().split(/\s+/u).filter(Boolean);
  return (entry) => {
    if (channel && entry.channel !== channel) return false;
    if (wanted.length === 0 || entry.kind !== "event") return true;
    const { type, lead, text } = entry.summary;
    const line = `${entry.channel} ${type} ${lead} ${text}`.toLowerCase();
    const missing = wanted.filter((word) => !line.includes(word));
    if (missing.length === 0) return true;
    const json = (JSON.stringify(entry.data) ?? "").slice(0, FIELD_LIMIT).toLowerCase();
    return missing.every((word) => json.includes(word));
  };
}

/**
 * Return `entries` by time, but those of one channel in the order they came: the past events of
 * several channels arrive channel after channel.
 */
export function inTime(entries) {
  const latest = new Map();
  const placed = entries.map((entry) => {
    const time = Math.max(entry.time, latest.get(entry.channel) ?? -Infinity);
    latest.set(entry.channel, time);
    return { entry, time };
  });
  return placed.sort((a, b) => a.time - b.time).map(({ entry }) => entry);
}

/**
 * Return the minute, in ms, under which something of `time` is listed. The minutes never go
 * back (`newest` is the last one) nor beyond `now`, whatever the clocks of publishers say.
 */
export function groupOf(time, newest, now) {
  const minute = (ms) => Math.floor(ms / 60_000) * 60_000;
  return Math.max(Math.min(minute(time), minute(now)), newest);
}
