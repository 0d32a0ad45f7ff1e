/**
 * Which epoch a publication belongs to, read off the feed's cursor. Pure.
 *
 * A cursor is `tag:epoch:offset:id` for every channel, joined by commas; the tag is a hash that
 * a page cannot make. But a publication moves exactly one part, to its own offset: comparing
 * cursors tells which tag is whose. Only for showing; the hub alone decides what a cursor means.
 */

/** Learns the tags of channels from the cursors of one feed. */
export class CursorReader {
  #parts = new Map(); // tag -> "epoch:offset:id"
  #tags = new Map(); // channel -> tag
  #cursor = "";

  /**
   * Return the epoch of the publication of `channel` at `offset` that moved the feed to
   * `cursor`, "" while that cannot be told.
   */
  epoch(cursor, channel, offset) {
    if (!cursor) return "";
    const moved = this.#advance(cursor).filter((tag) => this.#offset(tag) === String(offset));
    if (moved.length === 1) this.#tags.set(channel, moved[0]);
    const tag = this.#tags.get(channel);
    return tag !== undefined && this.#offset(tag) === String(offset)
      ? this.#parts.get(tag).split(":")[0]
      : "";
  }

  #offset(tag) {
    return this.#parts.get(tag)?.split(":")[1];
  }

  /** Take the next cursor; return the tags of the parts that changed. */
  #advance(cursor) {
    if (cursor === this.#cursor) return [];
    const parts = new Map();
    const moved = [];
    for (const part of cursor.split(",")) {
      const colon = part.indexOf(":");
      if (colon < 1) continue;
      const tag = part.slice(0, colon);
      const place = part.slice(colon + 1);
      parts.set(tag, place);
      if (this.#parts.get(tag) !== place) moved.push(tag);
    }
    this.#parts = parts;
    this.#cursor = cursor;
    return moved;
  }
}
