"use strict";
// What passes: events of a stream, JSON as it was written, and the addresses of this program.

/** Path of this page without its own name: the program may stand behind a prefix, and a key may be in the path. */
const BASE = location.pathname.replace(/\/(?:static\/test_client\.html|test)\/?$/, "");

/** A text as JSON has it. */
const quoted = (text) => JSON.stringify(String(text));

/** The value of a JSON text; `undefined` where it is none. */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** JSON with an indent. Numbers, names and texts stay as they were written. A text that is no JSON stays as it is. */
function pretty(text) {
  if (parsed(text) === undefined) return text;
  const out = [];
  let depth = 0;
  let before = "";
  const line = () => out.push("\n", "  ".repeat(depth));
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g)) {
    const closes = token === "}" || token === "]";
    if (closes) depth -= 1;
    const isEmpty = closes && (before === "{" || before === "[");
    if (before && !isEmpty && (closes || before === "{" || before === "[" || before === ",")) line();
    out.push(token === ":" ? ": " : token);
    if (token === "{" || token === "[") depth += 1;
    before = token;
  }
  return out.join("");
}

/** Reads server-sent events (HTML standard, section 9.2), and calls `each` with the id, the name and the data of each. */
async function readEvents(body, each) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = { id: null, name: "message", data: [] };
  let isSeen = false;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += value;
    // A carriage return at the end may be half of a line's end.
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (isSeen) each({ ...event, data: event.data.join("\n") });
        event = { id: null, name: "message", data: [] };
        isSeen = false;
        continue;
      }
      const [, field, text] = /^([^:]*)(?:: ?(.*))?$/s.exec(line);
      if (field === "id") event.id = text ?? "";
      else if (field === "event") event.name = text ?? "";
      else if (field === "data") event.data.push(text ?? "");
      else continue;
      isSeen = true;
    }
  }
}

/** A request that the program refused, or that did not reach it. */
class Refused extends Error {}

/** The sentence of an error in one of the forms that the program has. */
function sentence(text, status) {
  const value = parsed(text);
  const error = value?.error;
  const message = error?.message ?? (typeof error === "string" ? error : undefined) ?? text;
  return status ? `${status}: ${message || "no reason was given"}` : message;
}
