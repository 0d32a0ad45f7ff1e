/**
 * How many rows a second a person can be shown. Pure: the caller says what time it is, in ms.
 */

/**
 * Lets everything through at a readable rate, and a sample of what comes faster.
 *
 * At most `perSecond` entries a second in the long run, after a burst of `burst`. Notable ones
 * (approvals, gaps) come first within that; the others are taken evenly.
 */
export class Sampler {
  #perSecond;
  #burst;
  #tokens;
  #at = null;
  #skippedAt = -Infinity;
  #recent = []; // {at, seen, shown} of the last seconds
  #random;

  constructor({ perSecond = 40, burst = 80, random = Math.random } = {}) {
    this.#random = random;
    this.#perSecond = perSecond;
    this.#burst = burst;
    this.#tokens = burst;
  }

  /** Return which of `entries` to show; `missed` more came that are gone already. */
  take(entries, missed, now) {
    const passed = Math.max(0, now - (this.#at ?? now));
    this.#tokens = Math.min(this.#burst, this.#tokens + (passed / 1000) * this.#perSecond);
    this.#at = now;
    const shown = pick(entries, Math.floor(this.#tokens), this.#random);
    this.#tokens -= shown.length;
    const seen = entries.length + missed;
    if (shown.length < seen) {
      this.#skippedAt = now;
      this.#tokens = 0; // the burst is for the beginning of a rush, not for its middle
    }
    this.#recent.push({ at: now, seen, shown: shown.length });
    return shown;
  }

  /** Whether something was left out within the last second. */
  sampling(now) {
    return now - this.#skippedAt < 1000;
  }

  /** Return how many events one shown row stands for, over the last seconds; at least 1. */
  ratio(now) {
    this.#recent = this.#recent.filter(({ at }) => now - at < 3000);
    const seen = this.#recent.reduce((sum, one) => sum + one.seen, 0);
    const shown = this.#recent.reduce((sum, one) => sum + one.shown, 0);
    return shown > 0 ? Math.max(1, Math.round(seen / shown)) : 1;
  }

  /** Return when the next rows may be taken: during a rush a few times a second. */
  nextAt(now) {
    return this.sampling(now) ? (this.#at ?? now) + 250 : now;
  }
}

/**
 * Return `room` of `entries` in their order: notable ones first, then one by chance out of each
 * of equal stretches, so that a sample of things that come in turns is not always the same one.
 */
export function pick(entries, room, random = Math.random) {
  if (entries.length <= room) return entries;
  if (room <= 0) return [];
  const chosen = new Set(entries.filter((entry) => entry.notable).slice(-room));
  const others = entries.filter((entry) => !entry.notable);
  const left = Math.min(room - chosen.size, others.length);
  for (let index = 0; index < left; index += 1) {
    const from = Math.floor((index * others.length) / left);
    const to = Math.floor(((index + 1) * others.length) / left);
    chosen.add(others[from + Math.floor(random() * (to - from))]);
  }
  return entries.filter((entry) => chosen.has(entry));
}
