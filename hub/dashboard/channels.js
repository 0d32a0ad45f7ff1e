/**
 * The channels: how busy each is, in which order they stand, and which are worth a stream.
 * Pure: the caller says what time it is, in ms.
 */

import { RateWindow } from "./rates.js";

/** A channel that nobody mentioned for this long leaves the list. */
const FORGET_MS = 10 * 60_000;
/** The list changes its order no more often than this, so that a row stays where the eye is. */
const SETTLE_MS = 10_000;
const MAX_CHANNELS = 200;
/** What happened longer ago is no part of a rate. */
const WINDOW_MS = 60_000;

class Channel {
  lastType = "";
  lastAt = null; // when something was last published, as far as this page knows
  rates = new RateWindow();
  reporter = ""; // the node whose figures count while the channel is not followed
  reported = 0;
  #epoch = "";
  #offset = 0;

  constructor(name, now) {
    this.name = name;
    this.heardAt = now;
  }

  /** Tell whether a position was reached already, and remember it. */
  passed(epoch, offset) {
    if (!epoch || !offset) return false;
    if (epoch === this.#epoch && offset <= this.#offset) return true;
    this.#epoch = epoch;
    this.#offset = offset;
    return false;
  }
}

/** Every channel this page knows of, apart from the hub's own. */
export class ChannelBook {
  #channels = new Map();
  #order = [];
  #settledAt = -Infinity;

  get size() {
    return this.#channels.size;
  }

  get(name) {
    return this.#channels.get(name);
  }

  /**
   * Take what a node reported (see `NodeBook.report`). Channels in `followed` are counted event
   * by event instead, so their figures here are left alone.
   */
  report({ node, from, to, channels }, followed) {
    for (const [name, { gained }] of channels) {
      const channel = this.#touch(name, to);
      if (!channel || !gained || followed.has(name)) continue;
      // Every node with subscribers sees the same publications: the busiest one's count holds.
      if (channel.reporter !== node && gained <= channel.reported) continue;
      channel.reporter = node;
      channel.reported = gained;
      channel.rates.spread(from, to, gained);
      channel.lastAt = to;
    }
  }

  /**
   * Take an entry that arrived, and tell whether it is news: a channel that is followed again
   * begins with past events, which may have been here before.
   */
  count({ channel: name, type, time, epoch, offset }, now) {
    const channel = this.#touch(name, now);
    if (!channel) return true;
    if (channel.passed(epoch, offset)) return false;
    const at = Math.min(time, now);
    if (now - at < WINDOW_MS) channel.rates.add(at);
    channel.lastAt = Math.max(channel.lastAt ?? at, at);
    channel.lastType = type;
    return true;
  }

  /** Forget what has been silent for long, unless `kept(name)`. */
  expire(now, kept) {
    for (const [name, channel] of this.#channels) {
      if (now - channel.heardAt > FORGET_MS && !kept(name)) this.#remove(name);
    }
  }

  /** Return the publications a second of all channels together. */
  rate(now) {
    let sum = 0;
    for (const channel of this.#channels.values()) sum += channel.rates.rate(now);
    return sum;
  }

  /** Return the publications of every second of the last minute, oldest first. */
  series(now) {
    const sums = new Array(60).fill(0);
    for (const channel of this.#channels.values()) {
      channel.rates.series(now).forEach((value, index) => (sums[index] += value));
    }
    return sums;
  }

  /**
   * Return the channels in the order to show. `held` keeps the order as it is: somebody is
   * about to choose one. New channels come last until the order settles anew.
   */
  order(now, held = false) {
    if (!held && now - this.#settledAt >= SETTLE_MS) {
      this.#order = rank([...this.#channels.values()], now).map((channel) => channel.name);
      this.#settledAt = now;
    }
    return this.#order.map((name) => this.#channels.get(name));
  }

  /** Return the names to follow: see `chooseFollowed`. */
  choose(current, selected, now, limit) {
    return chooseFollowed(current, rank([...this.#channels.values()], now), selected, now, limit);
  }

  #touch(name, now) {
    if (name.startsWith("hub:")) return null;
    let channel = this.#channels.get(name);
    if (!channel) {
      if (this.#channels.size >= MAX_CHANNELS) this.#remove(this.#longestSilent());
      channel = new Channel(name, now);
      this.#channels.set(name, channel);
      this.#order.push(name);
      // The first ones are put in order at once: nobody looks at any of them yet.
      if (this.#channels.size <= 2) this.#settledAt = now - SETTLE_MS + 1000;
    }
    channel.heardAt = now;
    return channel;
  }

  #remove(name) {
    this.#channels.delete(name);
    this.#order = this.#order.filter((other) => other !== name);
  }

  #longestSilent() {
    let oldest = null;
    for (const channel of this.#channels.values()) {
      if (!oldest || (channel.lastAt ?? 0) < (oldest.lastAt ?? 0)) oldest = channel;
    }
    return oldest.name;
  }
}

/** Sort by how busy in the last minute, roughly (by factors of two), then by name. */
export function rank(channels, now) {
  const level = new Map(
    channels.map((channel) => {
      const total = channel.rates.total(now);
      return [channel, total > 0 ? Math.max(0, Math.floor(Math.log2(total))) : -1];
    }),
  );
  return [...channels].sort(
    (a, b) => level.get(b) - level.get(a) || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0),
  );
}

/**
 * Return which of the `ranked` channels to follow, at most `limit`, as sorted names.
 *
 * A stream is opened anew for every change, so those followed now (`current`) stay unless the
 * place is needed by one that is more than twice as busy. The `selected` one is always there.
 */
export function chooseFollowed(current, ranked, selected, now, limit = 20) {
  const total = (channel) => channel.rates.total(now);
  const known = new Map(ranked.map((channel) => [channel.name, channel]));
  const chosen = new Set([...current].filter((name) => known.has(name)).slice(0, limit));
  const quietest = () =>
    [...chosen]
      .filter((name) => name !== selected)
      .reduce((least, name) =>
        least === null || total(known.get(name)) < total(known.get(least)) ? name : least, null);
  if (known.has(selected) && !chosen.has(selected)) {
    if (chosen.size >= limit) chosen.delete(quietest());
    chosen.add(selected);
  }
  for (const channel of ranked) {
    if (chosen.has(channel.name)) continue;
    if (chosen.size >= limit) {
      const least = quietest();
      if (least === null || total(channel) <= 2 * total(known.get(least))) continue;
      chosen.delete(least);
    }
    chosen.add(channel.name);
  }
  return [...chosen].sort();
}
