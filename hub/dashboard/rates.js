/**
 * How many a second, over the last minute. Pure: the caller says what time it is.
 */

/** Counts in buckets of one second; older than `seconds` is forgotten. Times are in ms. */
export class RateWindow {
  #buckets;
  #second = null; // the second that the newest bucket stands for
  #first = null; // the second of the first count, so that a young window is not averaged down

  constructor(seconds = 60) {
    // One more than is shown: the running second is not complete.
    this.#buckets = new Float64Array(seconds + 1);
  }

  /** Count `count` at `now`. */
  add(now, count = 1) {
    this.#put(Math.floor(now / 1000), count);
  }

  /**
   * Count `count` that happened somewhere between `from` and `to`, evenly: what a report says
   * about the time since the report before.
   */
  spread(from, to, count) {
    const size = this.#buckets.length;
    const last = Math.floor(to / 1000) - 1;
    const first = Math.max(Math.floor(from / 1000), last - size + 1);
    if (last < first) return this.add(to, count);
    const share = count / (last - first + 1);
    for (let second = first; second <= last; second += 1) this.#put(second, share);
  }

  /** Return the average a second over the last `seconds` complete ones. */
  rate(now, seconds = 5) {
    const last = Math.floor(now / 1000) - 1;
    if (this.#first === null || this.#first > last) return 0;
    const span = Math.min(seconds, last - this.#first + 1, this.#buckets.length - 1);
    let sum = 0;
    for (let second = last; second > last - span; second -= 1) sum += this.#at(second);
    return sum / span;
  }

  /** Return how many there were in the complete seconds of the whole window. */
  total(now) {
    return this.series(now).reduce((sum, count) => sum + count, 0);
  }

  /** Return the counts of the last complete seconds, oldest first. */
  series(now) {
    const last = Math.floor(now / 1000) - 1;
    const length = this.#buckets.length - 1;
    return Array.from({ length }, (_, index) => this.#at(last - length + 1 + index));
  }

  #at(second) {
    const newest = this.#second;
    const size = this.#buckets.length;
    if (newest === null || second > newest || second <= newest - size) return 0;
    return this.#buckets[second % size];
  }

  #put(second, count) {
    const size = this.#buckets.length;
    if (this.#second === null) {
      this.#second = second;
    }
    // A clock set back by more than the window would leave the window in the future for good.
    if (second <= this.#second - size) {
      if (second > this.#second - 2 * size) return;
      this.#buckets.fill(0);
      this.#second = second;
      this.#first = second;
    }
    if (second > this.#second) {
      const steps = Math.min(second - this.#second, size);
      for (let step = 0; step < steps; step += 1) this.#buckets[(second - step) % size] = 0;
      this.#second = second;
    }
    this.#buckets[second % size] += count;
    if (this.#first === null || second < this.#first) this.#first = second;
  }
}
