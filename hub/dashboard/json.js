/**
 * JSON for people: one bounded line, or indented and split into tokens. Pure.
 */

/**
 * Return `value` as one line of at most about `limit` characters, cut with an ellipsis.
 *
 * Stops walking once the line is full, so that a large value costs no more than a small one.
 */
export function compact(value, limit = 240) {
  let line = "";
  const full = () => line.length >= limit;
  const walk = (node, depth) => {
    if (full()) return;
    if (typeof node === "string") {
      line += JSON.stringify(node.length > limit ? node.slice(0, limit) : node);
    } else if (node === null || typeof node !== "object") {
      line += String(node);
    } else if (depth > 16) {
      line += "…";
    } else if (Array.isArray(node)) {
      line += "[";
      for (let index = 0; index < node.length && !full(); index += 1) {
        if (index > 0) line += ", ";
        walk(node[index], depth + 1);
      }
      line += "]";
    } else {
      line += "{";
      let first = true;
      for (const key in node) {
        if (full()) break;
        line += `${first ? "" : ", "}${JSON.stringify(key)}: `;
        first = false;
        walk(node[key], depth + 1);
      }
      line += "}";
    }
  };
  walk(value, 0);
  return cut(line, limit);
}

/** Return `text` in one line of at most `limit` characters, cut with an ellipsis. */
export function cut(text, limit = 240) {
  const line = text.slice(0, limit + 1).replace(/\s+/gu, " ");
  if (text.length <= limit) return line;
  // Never end in half of a surrogate pair.
  return `${line.slice(0, limit - 1).replace(/[\uD800-\uDBFF]$/u, "")}…`;
}

const TOKEN = /("(?:[^"\\]|\\.)*")(\s*:)?|\b(?:true|false|null)\b|-?\d[\d.eE+-]*/gu;

/**
 * Return `value` indented, as tokens `{kind, text}` that joined give the text. Kinds: key,
 * string, number, word (true, false, null) and rest. Text beyond `limit` characters is left out
 * and said so.
 */
export function tokens(value, limit = 100_000) {
  let text = JSON.stringify(value, null, 2) ?? "null";
  let over = 0;
  if (text.length > limit) {
    over = text.length - limit;
    text = text.slice(0, limit);
  }
  const found = [];
  let end = 0;
  const push = (kind, part) => part && found.push({ kind, text: part });
  for (const match of text.matchAll(TOKEN)) {
    push("rest", text.slice(end, match.index));
    end = match.index + match[0].length;
    if (match[1] === undefined) push(/[a-z]/u.test(match[0][0]) ? "word" : "number", match[0]);
    else {
      push(match[2] === undefined ? "string" : "key", match[1]);
      push("rest", match[2] ?? "");
    }
  }
  push("rest", text.slice(end));
  if (over) push("rest", `\n… ${over} more characters`);
  return found;
}
