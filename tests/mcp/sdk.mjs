// Drives a Streamable HTTP endpoint with the official TypeScript package, unmodified. The server behind it is
// servers/everything.mjs.
//
//   node sdk.mjs URL [--key KEY] [--gateway] [--only2026] [CHECK ...]
//
// --key: the endpoint asks for this key. --gateway: each session has a server process of its own. --only2026: the server speaks
// 2026-07-28 alone, so it cannot ping. CHECK: only checks whose names contain such a word. One line for each check; the exit status is 1 if one failed.
import assert from "node:assert/strict";
import { parseArgs } from "node:util";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { WebSocketClientTransport } from "@modelcontextprotocol/sdk/client/websocket.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ListRootsRequestSchema,
  LoggingMessageNotificationSchema,
  PromptListChangedNotificationSchema,
  ResourceListChangedNotificationSchema,
  ResourceUpdatedNotificationSchema,
  ToolListChangedNotificationSchema,
} from "@modelcontextprotocol/sdk/types.js";

const SECONDS = 30;
const TEXTS = [
  "plain",
  "",
  "line\nline\r\n\ttab",
  "\u2028\u2029\u0000\u007f",
  "\u{1f600} \u00e9 \u4e2d\u6587",
  '"\\" {"id":1,"jsonrpc":"2.0"}',
  "data: x\n\nid: 9\n",
];
const LEVELS = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

const { values: given, positionals } = parseArgs({
  options: { key: { type: "string" }, gateway: { type: "boolean", default: false }, only2026: { type: "boolean", default: false } },
  allowPositionals: true,
});
const [url, ...words] = positionals;
const authorization = given.key ? { Authorization: `Bearer ${given.key}` } : {};
const range = (from, to) => Array.from({ length: to - from + 1 }, (_, index) => from + index);

/** One client in a session of its own, and all that it was told. The model and the person behind it answer with its name. */
class Seen {
  told = [];
  logs = [];
  asked = [];
  sent = [];
  action = "accept";
  cuts = 0;
  #wake = [];

  constructor(name) {
    this.name = name;
    this.listening = new Promise((resolve) => (this.listens = resolve));
  }

  /** Keeps what came, and wakes who waits for it. */
  note(where, what) {
    where.push(what);
    for (const wake of this.#wake.splice(0)) wake();
  }

  /** Waits until something came that makes `condition()` true; the time limit of the check ends it otherwise. */
  async until(condition) {
    while (!condition()) await new Promise((resolve) => this.#wake.push(resolve));
  }

  /** The client's fetch: sees when it listens, and breaks a stream off, once, where the text `cutAt` begins. */
  fetch = async (address, init) => {
    const method = init?.method ?? "GET";
    this.sent.push([method, new Headers(init?.headers).get("last-event-id")]);
    const response = await fetch(address, init);
    if (!response.headers.get("content-type")?.startsWith("text/event-stream")) return response;
    if (method === "GET") this.listens();
    const reader = response.body.getReader();
    let text = "";
    const pull = async (controller) => {
      const { value, done } = await reader.read();
      if (done) return controller.close();
      const before = text.length;
      text += Buffer.from(value).toString("latin1");
      const at = this.cutAt === undefined ? -1 : text.indexOf(this.cutAt);
      if (at < 0) return controller.enqueue(value);
      this.cutAt = undefined;
      this.cuts += 1;
      if (at > before) controller.enqueue(value.subarray(0, at - before));
      await reader.cancel();
      controller.error(new Error("the stream is cut"));
    };
    const body = new ReadableStream({ pull, cancel: (reason) => reader.cancel(reason) });
    return new Response(body, { status: response.status, headers: response.headers });
  };

  /** Opens a session over Streamable HTTP, or over another transport. */
  async open(transport) {
    const capabilities = { sampling: {}, elicitation: {}, roots: { listChanged: true } };
    this.client = new Client({ name: "sdk.mjs", version: "1" }, { capabilities });
    this.transport = transport ?? new StreamableHTTPClientTransport(new URL(url), {
      fetch: this.fetch,
      requestInit: { headers: authorization },
      reconnectionOptions: { initialReconnectionDelay: 100, maxReconnectionDelay: 1000, reconnectionDelayGrowFactor: 1.5, maxRetries: 10 },
    });
    this.client.setRequestHandler(CreateMessageRequestSchema, ({ params }) => {
      this.note(this.asked, params.messages[0].content.text);
      return { role: "assistant", content: { type: "text", text: `${this.name} answers` }, model: this.name, stopReason: "endTurn" };
    });
    this.client.setRequestHandler(ElicitRequestSchema, ({ params }) => {
      this.note(this.asked, params.message);
      return { action: this.action, ...(this.action === "accept" && { content: { response: this.name } }) };
    });
    this.client.setRequestHandler(ListRootsRequestSchema, () => ({ roots: [{ uri: `file:///${this.name}`, name: this.name }] }));
    this.client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params: { level, data } }) =>
      this.note(this.logs, `${level}: ${data}`));
    for (const schema of [
      ResourceUpdatedNotificationSchema,
      ToolListChangedNotificationSchema,
      ResourceListChangedNotificationSchema,
      PromptListChangedNotificationSchema,
    ]) {
      this.client.setNotificationHandler(schema, (message) => this.note(this.told, message));
    }
    await this.client.connect(this.transport);
    this.session = this.transport.sessionId;
    if (!transport) await this.listening;
  }

  async close() {
    await this.transport.terminateSession();
    await this.client.close();
  }

  async call(name, args = {}, options = {}) {
    const result = await this.client.callTool({ name, arguments: args }, undefined, options);
    assert.ok(!result.isError, `${name} failed: ${JSON.stringify(result.content)}`);
    return result.content[0].text;
  }

  methods() {
    return this.told.map(({ method }) => method);
  }
}

/** Does something with clients of these names, and deletes their sessions. */
async function withClients(names, act) {
  const clients = names.map((name) => new Seen(name));
  try {
    for (const client of clients) await client.open();
    await act(...clients);
  } finally {
    // What has gone wrong already is told by what it threw.
    for (const client of clients) await client.close().catch(() => {});
  }
  return clients;
}

const withClient = (act) => withClients(["client"], act);
const rejected = (promise) => promise.then((value) => assert.fail(`no error, but ${JSON.stringify(value)}`), (error) => error);

/** The answer to a plain POST of a ping. */
const ping = (session, headers = {}) =>
  fetch(url, {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      Accept: "application/json, text/event-stream",
      ...authorization,
      ...(session && { "Mcp-Session-Id": session, "MCP-Protocol-Version": "2025-11-25" }),
      ...headers,
    },
    body: '{"jsonrpc":"2.0","id":1,"method":"ping"}',
  });

const checks = [];
const check = (name, line, run) => checks.push({ name, line, run });

check("initialize", "initialize: the server's capabilities and instructions", () =>
  withClient(async ({ client }) => {
    assert.equal(client.getInstructions(), "A server for tests.");
    const { tools, resources, prompts, logging, completions } = client.getServerCapabilities();
    assert.deepEqual(
      { tools, resources, prompts, logging, completions },
      {
        tools: { listChanged: true },
        resources: { subscribe: true, listChanged: true },
        prompts: { listChanged: true },
        logging: {},
        completions: {},
      },
    );
  }));

check("lists", "lists of tools, resources, templates and prompts; schemas come unchanged", () =>
  withClient(async ({ client }) => {
    const tools = new Map((await client.listTools()).tools.map((tool) => [tool.name, tool]));
    const schema = tools.get("json_schema_2020_12_tool").inputSchema;
    assert.equal(schema.$schema, "https://json-schema.org/draft/2020-12/schema");
    assert.deepEqual([schema.$defs.address.$anchor, schema.then], ["addressDef", { required: ["phone"] }]);
    assert.deepEqual(tools.get("sum").outputSchema.required, ["sum"]);
    const { resources } = await client.listResources();
    assert.equal(resources.find(({ uri }) => uri === "test://static-binary").mimeType, "image/png");
    const { resourceTemplates } = await client.listResourceTemplates();
    assert.deepEqual(resourceTemplates.map((each) => each.uriTemplate), ["test://template/{id}/data"]);
    const { prompts } = await client.listPrompts();
    assert.deepEqual(prompts.find(({ name }) => name === "test_prompt_with_arguments").arguments.map(({ name }) => name), ["arg1", "arg2"]);
  }));

check("calls", "calls: texts of any characters, a picture, a resource, structured content, prompts", () =>
  withClient(async (c) => {
    for (const text of TEXTS) assert.equal(await c.call("echo", { text }), text);
    const mixed = await c.client.callTool({ name: "test_multiple_content_types", arguments: {} });
    assert.deepEqual(mixed.content.map(({ type }) => type), ["text", "image", "resource"]);
    assert.deepEqual((await c.client.callTool({ name: "sum", arguments: { numbers: [1, 2.5, -4e3] } })).structuredContent, { sum: -3996.5 });
    const prompt = await c.client.getPrompt({ name: "test_prompt_with_arguments", arguments: { arg1: "one", arg2: "two" } });
    assert.match(prompt.messages[0].content.text, /one.*two/);
  }));

check("errors", "errors: a failing tool is a result, an unknown tool, resource and prompt is an error with its code", () =>
  withClient(async ({ client }) => {
    const failed = await client.callTool({ name: "test_error_handling", arguments: {} });
    assert.deepEqual([failed.isError, /fails/.test(failed.content[0].text)], [true, true]);
    assert.equal((await rejected(client.callTool({ name: "no_such_tool", arguments: {} }))).code, -32602);
    const { code, data } = await rejected(client.readResource({ uri: "test://no-such-resource" }));
    // The SDK's server has the number of 2026-07-28 on sessions too; the gateway gives them that of sessions.
    assert.deepEqual([code, data.uri], [given.only2026 ? -32002 : -32602, "test://no-such-resource"]);
    assert.equal((await rejected(client.getPrompt({ name: "no_such_prompt" }))).code, -32602);
  }));

check("progress", "progress: every report in its order, before the result", () =>
  withClient(async (c) => {
    const seen = [];
    const onprogress = ({ progress, total, message }) => seen.push([progress, total, message]);
    assert.equal(await c.call("count", { steps: 100, note: "step" }, { onprogress }), "step");
    assert.deepEqual(seen, range(1, 100).map((n) => [n, 100, `step ${n}`]));
  }));

check("logs", "log messages: from the level on that was set, in their order", () =>
  withClient(async (c) => {
    await c.client.setLoggingLevel("warning");
    await c.call("log_levels", { note: "one" });
    await c.client.setLoggingLevel("debug");
    await c.call("log_levels", { note: "two" });
    await c.until(() => c.logs.length >= 13);
    assert.deepEqual(c.logs, [...LEVELS.slice(3).map((n) => `${n}: one ${n}`), ...LEVELS.map((n) => `${n}: two ${n}`)]);
  }));

check("sampling", "sampling: the client's model is asked and its answer arrives, ten at once", () =>
  withClients(["model"], async (c) => {
    const answers = await Promise.all(range(1, 10).map((n) => c.call("test_sampling", { prompt: `question ${n}` })));
    assert.deepEqual([...new Set(answers)], ["the model says: model answers"]);
    assert.deepEqual(c.asked.toSorted(), range(1, 10).map((n) => `question ${n}`).toSorted());
  }));

check("elicitation", "elicitation: accepted, declined and cancelled", () =>
  withClients(["person"], async (c) => {
    assert.equal(await c.call("test_elicitation", { message: "Who?" }), 'accept: {"response":"person"}');
    for (c.action of ["decline", "cancel"]) assert.equal(await c.call("test_elicitation", { message: "Who?" }), `${c.action}: {}`);
    assert.deepEqual(c.asked, ["Who?", "Who?", "Who?"]);
  }));

check("roots", "roots: the server lists the client's", () =>
  withClients(["home"], async (c) => {
    assert.deepEqual(JSON.parse(await c.call("roots")), [["file:///home", "home"]]);
    await c.client.sendRootsListChanged();
    assert.deepEqual(JSON.parse(await c.call("roots")), [["file:///home", "home"]]);
  }));

check("pings", "ping: of the client and of the server", () =>
  withClient(async (c) => {
    assert.deepEqual(await c.client.ping(), {});
    if (!given.only2026) assert.deepEqual(JSON.parse(await c.call("ping_client")), {});
  }));

check("cancellation", "cancellation: the server hears which call is cancelled, and another goes on", () =>
  withClient(async (c) => {
    const calls = {};
    for (const name of ["first", "second"]) {
      const abort = new AbortController();
      calls[name] = [abort, rejected(c.call("wait", { name }, { signal: abort.signal }))];
      await c.call("begun", { name });
    }
    for (const [name, left] of [["first", ["second"]], ["second", []]]) {
      const [abort, error] = calls[name];
      abort.abort("enough");
      assert.match(String(await error), /enough/);
      assert.equal(await c.call("outcome", { name }), "cancelled");
      assert.deepEqual(JSON.parse(await c.call("waiting")), left);
    }
  }));

check("completion", "completion: of a prompt's argument", () =>
  withClient(async ({ client }) => {
    const ref = { type: "ref/prompt", name: "test_prompt_with_arguments" };
    const { completion } = await client.complete({ ref, argument: { name: "arg1", value: "par" } });
    assert.deepEqual(completion, { values: ["parallel", "parameter", "paris", "party"], total: 4, hasMore: false });
  }));

check("resources", "resources: a text, bytes, a template", () =>
  withClient(async ({ client }) => {
    const read = async (uri) => (await client.readResource({ uri })).contents[0];
    assert.equal((await read("test://static-text")).text, "a text that does not change");
    assert.equal(Buffer.from((await read("test://static-binary")).blob, "base64").toString("latin1", 1, 4), "PNG");
    assert.equal((await read("test://template/7%2F8/data")).uri, "test://template/7%2F8/data");
  }));

check("subscriptions", "subscriptions: a change is told to who subscribes, until unsubscribed", () =>
  withClient(async (c) => {
    const both = ["test://watched-resource", "test://static-text"];
    const [first] = both;
    await c.call("touch", { uri: first });
    for (const uri of both) await c.client.subscribeResource({ uri });
    await c.call("touch", { uri: first });
    await c.until(() => c.told.length > 0);
    await c.client.unsubscribeResource({ uri: first });
    for (const uri of both) await c.call("touch", { uri });
    await c.until(() => c.told.length >= 2);
    assert.deepEqual(c.told.map(({ method, params }) => [method, params.uri]), both.map((uri) => ["notifications/resources/updated", uri]));
  }));

check("changed_lists", "changed lists: told for tools, resources and prompts, and the new ones are there", () =>
  withClient(async (c) => {
    await c.call("grow", { name: "grown" });
    const wanted = ["tools", "resources", "prompts"].map((kind) => `notifications/${kind}/list_changed`);
    await c.until(() => wanted.every((method) => c.methods().includes(method)));
    assert.ok((await c.client.listTools()).tools.some(({ name }) => name === "grown"));
    assert.equal(await c.call("grown"), "grown");
    assert.equal((await c.client.readResource({ uri: "test://grown" })).contents[0].text, "grown");
    assert.equal((await c.client.getPrompt({ name: "grown" })).messages[0].content.text, "grown");
  }));

check("parallel", "parallel: 50 calls at once, each with its own progress and its own answer", () =>
  withClient(async (c) => {
    await Promise.all(range(1, 50).map(async (n) => {
      const seen = [];
      const onprogress = ({ message }) => seen.push(message);
      assert.equal(await c.call("count", { steps: 5, note: `n${n}` }, { onprogress }), `n${n}`);
      assert.deepEqual(seen, range(1, 5).map((step) => `n${n} ${step}`));
    }));
  }));

check("large", "large: a result of 5 MiB, an argument of 500 kB", () =>
  withClient(async (c) => {
    const text = await c.call("repeat", { bytes: 5 << 20 });
    assert.ok(text === "0123456789abcdef".repeat(5 << 16), `a result of ${text.length} bytes that is not what was asked for`);
    const sent = "abcdefghij".repeat(50_000);
    assert.ok((await c.call("echo", { text: sent })) === sent, "the argument came back changed");
  }));

check("cut_call", "a call whose stream is cut in the middle of an event goes on where it was: nothing is lost, nothing comes twice", () =>
  withClient(async (c) => {
    const seen = [];
    const onprogress = ({ progress }) => c.note(seen, progress);
    c.cutAt = "cut 4";
    const result = c.call("count_in_two", { name: "cut", steps: 6 }, { onprogress });
    await c.until(() => seen.includes(6));
    await c.call("release", { name: "cut" });
    assert.equal(await result, "cut");
    assert.deepEqual([seen, c.cuts], [range(1, 12), 1]);
    assert.ok(c.sent.some(([method, last]) => method === "GET" && last), "nothing was resumed");
  }));

check("cut_listening", "a listening stream that is cut in the middle of an event is resumed: nothing is lost, nothing comes twice", () =>
  withClient(async (c) => {
    const uris = range(0, 5).map((n) => `test://cut-${n}`);
    for (const uri of uris) await c.client.subscribeResource({ uri });
    await c.call("touch", { uri: uris[0] });
    await c.until(() => c.told.length > 0);
    c.cutAt = "test://cut-2";
    for (const uri of uris.slice(1)) await c.call("touch", { uri });
    await c.until(() => c.told.length >= 6);
    assert.deepEqual([c.told.map(({ params }) => params.uri), c.cuts], [uris, 1]);
  }));

check("canaries", "two clients at once: nothing of one reaches the other, with equal ids, progress, questions, logs and changes", () =>
  withClients(["albatross", "bittern"], async (...both) => {
    await Promise.all(both.map(async (c) => {
      for (const turn of range(0, 9)) {
        const note = `${c.name} ${turn}`;
        const seen = [];
        const onprogress = ({ message }) => seen.push(message);
        assert.equal(await c.call("echo", { text: note }), note);
        assert.equal(await c.call("count", { steps: 5, note }, { onprogress }), note);
        assert.deepEqual(seen, range(1, 5).map((step) => `${note} ${step}`));
        assert.equal(await c.call("test_sampling", { prompt: note }), `the model says: ${c.name} answers`);
        assert.equal(await c.call("test_elicitation", { message: note }), `accept: {"response":"${c.name}"}`);
        await c.call("log_levels", { note });
        const uri = `test://${c.name}/${turn}`;
        await c.client.subscribeResource({ uri });
        await c.call("touch", { uri });
      }
      await c.call("grow", { name: c.name });
    }));
    for (const [c, other] of [both, both.toReversed()]) {
      await c.until(() => c.methods().filter((method) => method === "notifications/resources/updated").length >= 10);
      const everything = JSON.stringify([c.told, c.logs, c.asked]);
      assert.ok(!everything.includes(other.name), `${c.name} was told of ${other.name}`);
      assert.ok(!(await c.client.listTools()).tools.some(({ name }) => name === other.name), `${c.name} lists a tool of ${other.name}`);
      assert.equal(c.asked.length, 20);
    }
  }));

if (given.gateway) {
  check("transports", "other transports: HTTP+SSE and WebSocket carry calls and questions", async () => {
    const beside = (scheme, name) => {
      const { host, pathname } = new URL(url);
      return new URL(`${scheme}://${host}${given.key ? `/k/${given.key}` : ""}${pathname.replace(/mcp$/, name)}`);
    };
    for (const [name, transport] of [
      ["sse", new SSEClientTransport(beside("http", "sse"))],
      ["ws", new WebSocketClientTransport(beside("ws", "ws"))],
    ]) {
      const c = new Seen(name);
      await c.open(transport);
      for (const text of TEXTS) assert.equal(await c.call("echo", { text }), text);
      assert.equal(await c.call("test_sampling", { prompt: "q" }), `the model says: ${name} answers`);
      assert.deepEqual(c.asked, ["q"]);
      await c.client.close();
    }
  });
  check("processes", "a server process for each session", () =>
    withClients(["a", "b"], async (a, b) => {
      assert.equal(await a.call("process"), await a.call("process"));
      assert.notEqual(await a.call("process"), await b.call("process"));
    }));
}

check("deleted", "a session that its client has deleted is gone: 404", async () => {
  const [c] = await withClient(async (c) => assert.equal((await ping(c.session)).status, 200));
  assert.ok(c.sent.some(([method]) => method === "DELETE"));
  assert.equal((await ping(c.session)).status, 404);
});

/** A check that took longer than it may. */
class Late extends Error {}

// A loss ends no session of a WebSocket, so what is left of them would be taken for the other checks'.
const chosen = checks.filter(({ name }) => (words.length === 0 ? name !== "transports" : words.some((word) => name.includes(word))));
let failed = 0;
for (const { name, line, run } of chosen) {
  const began = performance.now();
  let limit;
  const late = new Promise((_, reject) => (limit = setTimeout(() => reject(new Late(`not done within ${SECONDS} s`)), SECONDS * 1000)));
  try {
    await Promise.race([run(), late]);
    console.log(`ok typescript ${name} (${((performance.now() - began) / 1000).toFixed(1)} s): ${line}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED typescript ${name}: ${line}\n    ${error instanceof Late ? error.message : error.stack}`);
  } finally {
    clearTimeout(limit);
  }
}
console.log(failed === 0 ? `${chosen.length} checks passed` : `${failed} of ${chosen.length} checks failed`);
process.exit(failed === 0 ? 0 : 1);
