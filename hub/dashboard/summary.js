/**
 * What an event says, in one line. Pure, and total: any JSON has a summary.
 *
 * The types are those of `docs/events.md`. A known type whose data is not as expected is treated
 * like an unknown one: as compact JSON.
 */

import { compact, cut } from "./json.js";
import { formatCount, formatMoney, formatShort } from "./text.js";

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isText = (value) => typeof value === "string" && value !== "";

/**
 * Return `{type, tone, lead, text, progress}` of published `data`.
 *
 * `type` is "" for what is no event; `tone` is one of quiet, good, wait, bad; `lead` is the
 * word or two that stand out, may be ""; `progress` is a share from 0 to 1, or null.
 */
export function summarize(data) {
  const type = eventType(data);
  const known = Object.hasOwn(LINES, type) ? LINES[type] : null;
  const body = isObject(data) && "data" in data ? data.data : data;
  const said = known && isObject(body) ? known(body) : null;
  return {
    type,
    tone: said?.tone ?? "quiet",
    lead: cut(said?.lead ?? "", 80),
    text: said ? cut(said.text ?? "") : plain(type ? without(data, body) : data),
    progress: said?.progress ?? null,
  };
}

/** Return the `type` of an event, "" for any other JSON. */
export function eventType(data) {
  return isObject(data) && isText(data.type) ? cut(data.type, 80) : "";
}

/** Return when an event says it happened, in ms, or `otherwise`. */
export function eventTime(data, otherwise) {
  const time = isObject(data) && isText(data.time) ? Date.parse(data.time) : NaN;
  return Number.isFinite(time) ? time : otherwise;
}

/** Of CloudEvents the payload; of other objects with a type, the rest. */
function without(data, body) {
  if (body !== data) return body;
  const { type: _, ...rest } = data;
  return rest;
}

function plain(value) {
  return typeof value === "string" ? cut(value) : compact(value);
}

/** The text of a message: a string, or the text parts of a list, as model APIs have it. */
function spoken(content) {
  if (typeof content === "string") return content;
  if (Array.isArray(content)) {
    const texts = content.map((part) => (isText(part) ? part : isText(part?.text) ? part.text : ""));
    const text = texts.filter(Boolean).join(" ");
    if (text) return text;
  }
  return isText(content?.text) ? content.text : compact(content);
}

/** Join what is there: parts that are absent or empty leave no trace. */
function phrase(...parts) {
  return parts.filter(isText).join(" ");
}

const by = (who) => (isText(who) ? `by ${who}` : "");
const quoted = (words) => (isText(words) ? `“${words}”` : "");
const changed = (patch) => (isObject(patch) ? Object.keys(patch).join(", ") : "");
const said = (tone, lead, text = "") => ({ tone, lead, text });

function job(tone, verb, describe = () => "") {
  return (data) => {
    if (!isText(data.kind)) return null;
    const attempt = data.attempt > 1 ? `(attempt ${formatCount(data.attempt)})` : "";
    return said(tone, data.kind, phrase(verb, attempt, describe(data)));
  };
}

function progress(data) {
  if (!isText(data.kind) || !Number.isFinite(data.done)) return null;
  const share = data.total > 0 ? Math.min(1, Math.max(0, data.done / data.total)) : null;
  const of = data.total > 0 ? `of ${formatCount(data.total)}` : "";
  return {
    tone: "quiet",
    lead: data.kind,
    text: phrase(formatCount(data.done), of, isText(data.note) ? `· ${data.note}` : ""),
    progress: share,
  };
}

function usage(data) {
  if (!Number.isFinite(data.cost_micro_usd)) return null;
  const tokens =
    `${formatShort(data.tokens_input ?? 0)} in · ${formatShort(data.tokens_output ?? 0)} out`;
  const cost = formatMoney(data.cost_micro_usd);
  return said("quiet", cost, [tokens, data.model, data.agent].filter(isText).join(" · "));
}

function budget(tone, describe) {
  return (data) => {
    if (!isText(data.scope)) return null;
    const tokens = data.unit === "tokens";
    const show = tokens ? (number) => `${formatShort(number)} tokens` : formatMoney;
    const spent = show(tokens ? data.spent_tokens : data.spent_micro_usd);
    const limit = tokens ? data.limit_tokens : data.limit_micro_usd;
    const of = Number.isFinite(limit) ? ` of ${show(limit)}` : "";
    return said(tone, data.scope, `${describe(data)} · ${spent}${of} spent`);
  };
}

/** Why what was set aside is free again, and what was charged for it. */
function released(data) {
  if (data.reason !== "committed") return `freed ${formatMoney(data.amount_micro_usd)}`;
  return `charged ${formatMoney(data.charged_micro_usd)}${data.late ? " late" : ""}`;
}

function decision(tone, verb) {
  return (data) =>
    isText(data.gate) ? said(tone, verb, phrase(by(data.actor), quoted(data.comment))) : null;
}

function workspace(what) {
  return (data) =>
    isText(data.workspace) ? said("quiet", data.workspace, phrase(what(data))) : null;
}

/** AG-UI: a type of its own inside, in capitals, and one field that says the most. */
function run(data) {
  if (!isText(data.type)) return null;
  const { type, ...rest } = data;
  const words = [data.delta, data.toolCallName, data.stepName, data.message, data.content];
  const name = type.toLowerCase().replace(/_/gu, " ").replace(/^text message content$/u, "text");
  return said(type === "RUN_ERROR" ? "bad" : "quiet", name, words.find(isText) ?? compact(rest));
}

const LINES = {
  "session.created": (d) => isText(d.user) && said("quiet", d.user, "began a session"),
  "session.updated": (d) =>
    isObject(d.patch) && said("quiet", `version ${formatCount(d.version)}`, changed(d.patch)),
  "session.message": (d) =>
    isObject(d.message) &&
    isText(d.message.role) &&
    said("quiet", d.message.role, spoken(d.message.content)),
  "session.extended": (d) =>
    isText(d.expires_at) && said("quiet", "until", d.expires_at.slice(0, 19).replace("T", " ")),
  "session.deleted": (d) => isText(d.session) && said("quiet", d.session, "deleted"),
  "session.expired": (d) =>
    isText(d.session) &&
    said("quiet", d.session, d.reason === "absolute" ? "reached its longest life" : "was idle"),

  "approval.requested": (d) => {
    if (!isText(d.tool)) return null;
    const args = isObject(d.args) && Object.keys(d.args).length ? compact(d.args, 120) : "";
    const asks = isText(d.requested_by) ? `for ${d.requested_by}` : "";
    return said("wait", d.tool, phrase(asks, quoted(d.reason), args));
  },
  "approval.voted": (d) => {
    if (!Number.isInteger(d.votes) || !Number.isInteger(d.quorum)) return null;
    const what = d.verdict === "edit" ? "agreed to edits" : "agreed";
    const who = phrase(what, by(d.actor), quoted(d.comment));
    return said("wait", `${d.votes} of ${d.quorum}`, who);
  },
  "approval.escalated": (d) => {
    if (!isText(d.gate)) return null;
    const approvers = Array.isArray(d.approvers) ? d.approvers.filter(isText).join(", ") : "";
    return said("wait", "nobody decided", `now up to ${approvers || "everybody"}`);
  },
  "approval.approved": decision("good", "approved"),
  "approval.edited": decision("good", "approved with edits"),
  "approval.rejected": decision("bad", "rejected"),
  "approval.expired": (d) =>
    isText(d.gate) && said("bad", "expired", isText(d.outcome) ? `and counts as ${d.outcome}` : ""),
  "approval.cancelled": (d) =>
    isText(d.gate) && said("quiet", "taken back", phrase(by(d.actor), quoted(d.reason))),
  "approval.consumed": (d) =>
    isText(d.gate) && said("quiet", "carried out", isText(d.run) ? `by run ${d.run}` : ""),

  "usage.recorded": usage,
  "usage.corrected": usage,
  "budget.threshold": budget("wait", (d) => `reached ${formatCount(d.percent)} %`),
  "budget.exceeded": budget("bad", () => "is spent"),
  "budget.reserved": budget("quiet", (d) => `set aside ${formatMoney(d.amount_micro_usd)}`),
  "budget.released": budget("quiet", released),
  "semantic.stored": workspace((d) => `answer ${d.entry} kept for questions that mean the same`),
  "semantic.removed": workspace(() => "answers to similar questions dropped"),
  "semantic.tightened": workspace((d) => `answer ${d.entry} has to be nearer from now on`),
  "ratelimit.exceeded": (d) =>
    isText(d.policy) &&
    said("wait", d.user, `over ${d.policy}, again in ${formatCount(d.retry_after_ms)} ms`),

  "job.enqueued": job("quiet", "waits", (d) => (isText(d.run_at) ? `until ${d.run_at}` : "")),
  "job.started": job("quiet", "started"),
  "job.progress": progress,
  "job.completed": job("good", "completed", (d) =>
    d.result === null || d.result === undefined ? "" : `· ${compact(d.result, 120)}`,
  ),
  "job.failed": job("bad", "failed:", (d) => d.error),
  "job.retrying": job("wait", "retries:", (d) => d.error),
  "job.dead": job("bad", "gave up:", (d) => d.error),
  "job.cancelled": job("quiet", "cancelled"),

  "notification.created": (d) =>
    isText(d.title) &&
    said(
      { action: "wait", warning: "wait", error: "bad" }[d.level] ?? "quiet",
      d.title,
      isText(d.body) ? d.body : "",
    ),
  "notification.resolved": (d) => isText(d.notification) && said("quiet", d.notification, "resolved"),

  "foundation.updated": workspace(() => "foundation changed"),
  "icps.updated": workspace(() => "customer profiles changed"),
  "cache.invalidated": workspace((d) =>
    phrase("out of date:", [d.keys, d.tags].flat().filter(isText).join(", ")),
  ),
  "preferences.updated": workspace((d) => phrase("preferences changed:", changed(d.patch))),
  "onboarding.started": workspace(() => "onboarding began"),
  "onboarding.updated": workspace((d) => phrase("onboarding:", d.step)),
  "onboarding.completed": workspace(() => "onboarding completed"),
  "onboarding.reset": workspace(() => "onboarding forgotten"),
  "onboarding.expired": workspace(() => "onboarding ran out"),
  "auth.session_created": (d) =>
    isText(d.user) && said("quiet", d.user, phrase("logged in", isText(d.device) ? `on ${d.device}` : "")),
  "auth.session_revoked": (d) =>
    isText(d.user) &&
    Array.isArray(d.sessions) &&
    said("quiet", d.user, phrase("logged out:", d.reason)),
  "auth.session_rotated": (d) => isText(d.user) && said("quiet", d.user, "has a new secret"),
  "auth.session_expired": (d) =>
    isText(d.user) && said("quiet", d.user, phrase("is no longer logged in:", d.reason)),
  "run.event": run,
  "hub.node.reported": (d) =>
    isText(d.node) &&
    said("quiet", d.name || d.node, `${formatCount(d.clients)} clients · up ${formatCount(d.uptime_s)} s`),
};
