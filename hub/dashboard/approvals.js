/**
 * Which approvals wait for a person, from the events that went by. Pure.
 */

const OUTCOMES = {
  "approval.approved": "approved",
  "approval.edited": "approved with edits",
  "approval.rejected": "rejected",
  "approval.expired": "expired",
  "approval.cancelled": "taken back",
  "approval.consumed": "carried out",
};

const text = (value) => (typeof value === "string" ? value : "");

/** Return what names the gate of an approval event, "" for any other JSON. */
export function gateOf(data) {
  const type = text(data?.type);
  const gate = data?.data?.gate;
  if (!type.startsWith("approval.") || typeof gate !== "string") return "";
  return `${text(data.data.workspace)}/${gate}`;
}

/** The approvals this page saw being requested: those that wait, and what became of others. */
export class ApprovalBook {
  #waiting = new Map();
  #outcomes = new Map();
  #limit;

  /** At most `limit` waiting ones and as many outcomes are remembered, the newest. */
  constructor(limit = 100) {
    this.#limit = limit;
  }

  /** Take an event; returns the gate whose state changed, or "". */
  see(entry) {
    const gate = gateOf(entry.data);
    if (!gate) return "";
    const { type, data } = entry.data;
    if (type === "approval.requested") {
      // A decision that overtook its request still holds.
      if (this.#outcomes.has(gate) || this.#waiting.has(gate)) return "";
      this.#waiting.set(gate, {
        gate,
        channel: entry.channel,
        at: entry.time,
        tool: text(data.tool),
        who: text(data.requested_by),
        reason: text(data.reason),
        expiresAt: Date.parse(text(data.expires_at)),
      });
      trim(this.#waiting, this.#limit);
      return gate;
    }
    if (!Object.hasOwn(OUTCOMES, type)) return "";
    const actor = text(data.actor);
    this.#waiting.delete(gate);
    this.#outcomes.delete(gate); // the newest stands last
    this.#outcomes.set(gate, OUTCOMES[type] + (actor ? ` by ${actor}` : ""));
    trim(this.#outcomes, this.#limit);
    return gate;
  }

  /** Those that wait, oldest first. */
  get waiting() {
    return [...this.#waiting.values()];
  }

  /** Return "waiting", what became of it, or "" for a gate this page knows nothing of. */
  state(gate) {
    return this.#waiting.has(gate) ? "waiting" : (this.#outcomes.get(gate) ?? "");
  }

  /** Drop those whose time was over an hour ago: nobody told, but nobody can decide them. */
  expire(now) {
    for (const [gate, { expiresAt }] of this.#waiting) {
      if (now - expiresAt > 3_600_000) this.#waiting.delete(gate);
    }
  }
}

function trim(map, limit) {
  if (map.size > limit) map.delete(map.keys().next().value);
}
