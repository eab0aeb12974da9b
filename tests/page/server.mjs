// An MCP server over standard input and output for the test page: its tools show what the page has forms for.

import { createInterface } from "node:readline";

const heard = [];
/** Calls that wait for `release`. */
let held = [];
/** Calls that wait for the person, by the id of the question. */
const asked = new Map();
let questions = 0;

const FIELDS = {
  type: "object",
  properties: {
    text: { type: "string", description: "Any text, of several lines too" },
    count: { type: "integer", minimum: 1, maximum: 9, default: 3 },
    ratio: { type: "number" },
    flag: { type: "boolean" },
    color: { type: "string", enum: ["red", "green", "blue"], default: "green" },
    sizes: { type: "array", items: { type: "string", enum: ["S", "M", "L"] } },
    list: { type: "array", items: { type: "integer" } },
    node: { $ref: "#/$defs/Node" },
    maybe: { anyOf: [{ type: "string" }, { type: "null" }], default: null },
    left_out: { type: "number" },
  },
  required: ["text", "count", "flag", "list"],
  $defs: { Node: { type: "object", description: "Any object" } },
};

const ANSWER = {
  type: "object",
  properties: {
    name: { type: "string", title: "Your name", minLength: 1 },
    mail: { type: "string", format: "email" },
    age: { type: "integer", minimum: 0 },
    news: { type: "boolean", default: true },
    plan: { type: "string", oneOf: [{ const: "s", title: "Small" }, { const: "l", title: "Large" }] },
  },
  required: ["name", "plan"],
};

const NOTHING = { type: "object", properties: {}, additionalProperties: false };
const COUNT = { type: "object", properties: { steps: { type: "integer" }, text: { type: "string" } }, required: ["steps"] };

const TOOLS = [
  { name: "fields", title: "All <b>fields</b>", description: "Gives back <img src=x onerror=alert(1)> what it gets", inputSchema: FIELDS },
  { name: "count", description: "Tells its progress, and waits for release", inputSchema: COUNT },
  { name: "confirm", description: "Asks the person", inputSchema: NOTHING },
  { name: "withdraw", description: "Asks the person, and takes that back", inputSchema: NOTHING },
  { name: "fail", description: "Fails", inputSchema: NOTHING },
];

const say = (message) => process.stdout.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
const text = (id, value) => say({ id, result: { content: [{ type: "text", text: typeof value === "string" ? value : JSON.stringify(value) }] } });

function ask(call) {
  questions += 1;
  const id = `q${questions}`;
  asked.set(id, call);
  say({ id, method: "elicitation/create", params: { message: "Who are <you>?", requestedSchema: ANSWER } });
  return id;
}

function call(id, { name, arguments: given = {}, _meta: meta = {} }) {
  if (name === "fields") text(id, given);
  else if (name === "confirm") ask(id);
  else if (name === "withdraw") {
    const question = ask(id);
    asked.delete(question);
    say({ method: "notifications/cancelled", params: { requestId: question } });
    text(id, "never mind");
  } else if (name === "fail") say({ id, result: { isError: true, content: [{ type: "text", text: "it failed" }] } });
  else if (name === "count") {
    for (let progress = 1; meta.progressToken !== undefined && progress <= given.steps; progress += 1) {
      say({ method: "notifications/progress", params: { progressToken: meta.progressToken, progress, total: given.steps, message: `step ${progress}` } });
    }
    held.push({ id, text: given.text ?? "" });
  } else if (name === "release") {
    for (const one of held) text(one.id, one.text);
    held = [];
    say({ method: "notifications/tools/list_changed" });
    text(id, "released");
  } else if (name === "heard") text(id, heard);
  else say({ id, error: { code: -32602, message: `no tool ${name}` } });
}

const LISTS = {
  "resources/list": { resources: [{ uri: "note:one", name: "one", description: "A note" }] },
  "resources/templates/list": { resourceTemplates: [{ uriTemplate: "note:{name}", name: "any" }] },
  "prompts/list": { prompts: [{ name: "greet", description: "Greets", arguments: [{ name: "who", required: true }] }] },
};

createInterface({ input: process.stdin }).on("line", (line) => {
  const { id, method, params = {}, result } = JSON.parse(line);
  heard.push({ method, params });
  if (method === "initialize") {
    const capabilities = { tools: { listChanged: true }, resources: {}, prompts: {} };
    say({ id, result: { protocolVersion: params.protocolVersion, capabilities, serverInfo: { name: "forms", version: "1" } } });
  } else if (method === "tools/list") {
    // In two pages.
    if (params.cursor === "more") say({ id, result: { tools: TOOLS.slice(2) } });
    else say({ id, result: { tools: TOOLS.slice(0, 2), nextCursor: "more" } });
  } else if (LISTS[method]) say({ id, result: LISTS[method] });
  else if (method === "tools/call") call(id, params);
  else if (method === "resources/read") say({ id, result: { contents: [{ uri: params.uri, text: "a note" }] } });
  else if (method === "prompts/get") {
    const content = { type: "text", text: `Hello ${params.arguments.who}` };
    say({ id, result: { messages: [{ role: "user", content }] } });
  } else if (method === "notifications/cancelled") held = held.filter((one) => one.id !== params.requestId);
  else if (method === undefined && asked.has(id)) {
    text(asked.get(id), result);
    asked.delete(id);
  } else if (id !== undefined && method !== undefined) say({ id, error: { code: -32601, message: `no ${method} here` } });
});
