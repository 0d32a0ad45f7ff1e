/**
 * Numbers, times and names as a person reads them. Pure.
 *
 * Everything here accepts what the network may bring: what is no number becomes a dash.
 */

const DASH = "–";
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

/** 12345 -> "12,345". */
export function formatCount(value) {
  return Number.isFinite(value) ? whole.format(value) : DASH;
}

/** 12345 -> "12.3k": for places where a few characters must do. */
export function formatShort(value) {
  if (!Number.isFinite(value)) return DASH;
  const size = Math.abs(value);
  if (size >= 999_950) return `${tenths.format(value / 1e6)}M`;
  if (size >= 9_999.5) return `${whole.format(value / 1e3)}k`;
  if (size >= 999.5) return `${tenths.format(value / 1e3)}k`;
  return whole.format(value);
}

/** Events a second: one decimal while that says something, none above ten. */
export function formatRate(value) {
  if (!Number.isFinite(value)) return DASH;
  if (value <= 0) return "0";
  if (value < 0.1) return "<0.1";
  return value < 9.95 ? tenths.format(value) : formatCount(value);
}

/** Integer micro-USD -> "$0.0092": never rounded to nothing, never more digits than help. */
export function formatMoney(microUsd) {
  if (!Number.isFinite(microUsd)) return DASH;
  const dollars = Math.abs(microUsd) / 1e6;
  // Two digits that count, however small: below a cent that takes more places.
  const places = dollars >= 1 || dollars === 0 ? 2 : Math.max(3, 1 - Math.floor(Math.log10(dollars)));
  return `${microUsd < 0 ? "-" : ""}$${dollars.toFixed(Math.min(6, places))}`;
}

/** Milliseconds -> "now", "8 s", "3 min", "2 h", "5 d". */
export function formatSpan(ms) {
  if (!Number.isFinite(ms)) return DASH;
  const s = Math.floor(ms / 1000);
  if (s < 2) return "now";
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86_400)} d`;
}

/** How long ago, in words that fit behind a name: "now" or "8 s ago". */
export function formatAgo(ms) {
  const span = formatSpan(ms);
  return span === "now" || span === DASH ? span : `${span} ago`;
}

const two = (number) => String(number).padStart(2, "0");

/** Local time of day, "14:03:07". */
export function formatClock(ms) {
  const at = new Date(ms);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** Local minute, "14:03": the heading of a group of events. */
export function formatMinute(ms) {
  return formatClock(ms).slice(0, 5);
}

/** "session:w1:s1" -> ["session", ":w1:s1"]; a name without a namespace has an empty first part. */
export function splitChannel(name) {
  const colon = name.indexOf(":");
  return colon < 0 ? ["", name] : [name.slice(0, colon), name.slice(colon)];
}

/** "1 event", "2 events". */
export function plural(count, noun) {
  return `${formatCount(count)} ${noun}${count === 1 ? "" : "s"}`;
}
