/**
 * What the hub's nodes tell about themselves, and what follows from two reports of one node.
 * Pure: the caller says what time it is, in ms.
 */

import { RateWindow } from "./rates.js";

/** A node that was silent for this long no longer counts. It reports every 2 s. */
export const NODE_SILENT_MS = 10_000;

const MAX_NODES = 256;
const MAX_CHANNELS = 1000;

const count = (value) => (Number.isFinite(value) && value >= 0 ? value : 0);
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** The nodes that reported, newest report of each. */
export class NodeBook {
  #nodes = new Map();

  /**
   * Take the data of a `hub.node.reported`.
   *
   * Returns `{node, from, to, channels}`: what each channel gained between `from` and `to`, as
   * a map of name to `{subscribers, gained}`. `gained` is null where there is nothing to compare
   * with: in the first report of a node, after its restart, and for a channel that was not
   * listed before. Returns null for what is no report.
   */
  report(data, now) {
    if (!isObject(data) || typeof data.node !== "string") return null;
    const before = this.#nodes.get(data.node);
    if (!before && this.#nodes.size >= MAX_NODES) return null;
    const same = before !== undefined && count(data.uptime_s) >= before.uptime;
    const node = {
      id: data.node,
      at: now,
      version: typeof data.version === "string" ? data.version : "",
      uptime: count(data.uptime_s),
      clients: count(data.clients),
      publications: count(data.publications),
      channels: channelsOf(data.channels),
      rates: before?.rates ?? new RateWindow(),
    };
    const channels = new Map();
    for (const [name, activity] of node.channels) {
      const known = same ? before.channels.get(name)?.publications : undefined;
      const gained = known === undefined ? null : Math.max(0, activity.publications - known);
      channels.set(name, { subscribers: activity.subscribers, gained });
    }
    if (same) node.rates.spread(before.at, now, gainedByPeople(before, node));
    this.#nodes.set(node.id, node);
    return { node: node.id, from: before?.at ?? now, to: now, channels };
  }

  /** Forget the nodes that are gone, and return whether any was. */
  expire(now) {
    const before = this.#nodes.size;
    for (const [id, node] of this.#nodes) {
      if (now - node.at > NODE_SILENT_MS) this.#nodes.delete(id);
    }
    return this.#nodes.size < before;
  }

  /** Return how many subscribers `channel` has on all nodes. */
  subscribers(channel) {
    let sum = 0;
    for (const node of this.#nodes.values()) sum += node.channels.get(channel)?.subscribers ?? 0;
    return sum;
  }

  /** Tell whether a node still lists `channel`. */
  lists(channel) {
    for (const node of this.#nodes.values()) if (node.channels.has(channel)) return true;
    return false;
  }

  /**
   * Return `{nodes, clients, versions, rate}` of all nodes together.
   *
   * Several nodes that have subscribers of one channel all see the same publications, so the
   * rate is that of the busiest node and not the sum.
   */
  totals(now) {
    const nodes = [...this.#nodes.values()];
    return {
      nodes: nodes.length,
      clients: nodes.reduce((sum, node) => sum + node.clients, 0),
      versions: [...new Set(nodes.map((node) => node.version).filter(Boolean))].sort(),
      rate: nodes.reduce((most, node) => Math.max(most, node.rates.rate(now)), 0),
    };
  }
}

function channelsOf(reported) {
  const channels = new Map();
  if (!isObject(reported)) return channels;
  for (const [name, activity] of Object.entries(reported).slice(0, MAX_CHANNELS)) {
    channels.set(name, {
      subscribers: count(activity?.subscribers),
      publications: count(activity?.publications),
    });
  }
  return channels;
}

/** What was published apart from the hub's own reports. */
function gainedByPeople(before, after) {
  let gained = after.publications - before.publications;
  for (const [name, activity] of after.channels) {
    const known = before.channels.get(name);
    if (name.startsWith("hub:") && known) gained -= activity.publications - known.publications;
  }
  return Math.max(0, gained);
}
