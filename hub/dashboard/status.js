/**
 * How the page stands with the hub, in one word and one sentence. Pure.
 */

import { formatClock, formatSpan } from "./text.js";

/** How long the header tells of a gap; the stream keeps it at its place. */
const GAP_SHOWN_MS = 30_000;
/** Reports come every 2 s. Without one for this long something is wrong. */
export const SILENT_MS = 10_000;

const WORST_FIRST = ["closed", "waiting", "connecting", "open"];

/**
 * Return `{state, name, detail}`. `state` is connecting, live, gap, reconnecting or refused.
 *
 * `links` are the page's connections, each `{state, reason}` in the words of `fanwire.js`;
 * `everLive` tells a first connection from a new one; `heardAt` is when the hub last said
 * something; `gap` is the last `{channel, at}` or null.
 */
export function describe({ links, everLive, heardAt, gap, now }) {
  const worst = [...links].sort(
    (a, b) => WORST_FIRST.indexOf(a.state) - WORST_FIRST.indexOf(b.state),
  )[0];
  const why = worst?.reason ? `${worst.reason}` : "";
  switch (worst?.state) {
    case "closed":
      return told("refused", "Refused", why || "The hub does not let this page in");
    case "waiting":
      return everLive
        ? told("reconnecting", "Reconnecting", why || lastWord(heardAt, now))
        : told("reconnecting", "Connecting", why || "The hub does not answer yet");
    case "open":
      break;
    default:
      return everLive
        ? told("reconnecting", "Reconnecting", lastWord(heardAt, now))
        : told("connecting", "Connecting");
  }
  if (now - heardAt > SILENT_MS) {
    return told("reconnecting", "Silent", lastWord(heardAt, now));
  }
  if (gap && now - gap.at < GAP_SHOWN_MS) {
    return told("gap", "Live", `Events on ${gap.channel} were missed at ${formatClock(gap.at)}`);
  }
  return told("live", "Live");
}

function told(state, name, detail = "") {
  return { state, name, detail };
}

/** In steps of ten seconds, so that a screen reader is not told every second. */
function lastWord(heardAt, now) {
  if (!Number.isFinite(heardAt)) return "";
  const silent = Math.floor((now - heardAt) / 10_000) * 10_000;
  return silent > 0 ? `No word from the hub for ${formatSpan(silent)}` : "";
}
