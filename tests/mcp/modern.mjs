// Drives an endpoint with the official TypeScript package of revision 2026-07-28, unmodified. The server behind it is
// servers/everything.mjs, which speaks any revision.
//
//   node modern.mjs URL [--key KEY] [CHECK ...]
//
// --key: the endpoint asks for this key. CHECK: only checks whose names contain such a word; all but `cancellation` when none is
// named. One line for each check; the exit status is 1 if one failed.
import assert from "node:assert/strict";
import { parseArgs } from "node:util";
import { Client, SSEClientTransport, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const SECONDS = 30;
const LEVELS = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];
const TEXTS = ["plain", "", "line\nline\r\n\ttab", "\u2028\u2029\u0000\u007f", "\u{1f600} \u00e9 \u4e2d\u6587", '"\\" {"id":1}', "data: x\n\nid: 9\n"];
const LEVEL = "io.modelcontextprotocol/logLevel";

const { values: given, positionals } = parseArgs({ options: { key: { type: "string" } }, allowPositionals: true });
const [url, ...words] = positionals;
const headers = given.key ? { Authorization: `Bearer ${given.key}` } : {};
const range = (from, to) => Array.from({ length: to - from + 1 }, (_, index) => from + index);

/** One client and all that it was told. The model and the person behind it, where it has them, answer with its name. */
class Seen {
  told = [];
  logs = [];
  asked = [];
  action = "accept";
  #wake = [];

  constructor(name, answers, mode = "auto") {
    this.name = name;
    const capabilities = answers ? { sampling: {}, elicitation: {}, roots: {} } : {};
    this.client = new Client({ name: "modern.mjs", version: "1" }, { capabilities, versionNegotiation: { mode } });
    if (answers) this.#answer();
    const notified = (method, act) => this.client.setNotificationHandler(`notifications/${method}`, act);
    notified("message", ({ params: { level, data } }) => this.note(this.logs, `${level}: ${data}`));
    for (const method of ["resources/updated", "tools/list_changed", "resources/list_changed", "prompts/list_changed"]) {
      notified(method, ({ params }) => this.note(this.told, params?.uri ?? method));
    }
  }

  #answer() {
    this.client.setRequestHandler("sampling/createMessage", ({ params }) => {
      this.asked.push([params.messages[0].content].flat()[0].text);
      return { role: "assistant", content: { type: "text", text: `${this.name} answers` }, model: this.name, stopReason: "endTurn" };
    });
    this.client.setRequestHandler("elicitation/create", ({ params }) => {
      this.asked.push(params.message);
      const fields = Object.entries(params.requestedSchema.properties);
      const content = Object.fromEntries(fields.map(([field, { type }]) => [field, type === "boolean" ? true : this.name]));
      return { action: this.action, ...(this.action === "accept" && { content }) };
    });
    this.client.setRequestHandler("roots/list", () => ({ roots: [{ uri: `file:///${this.name}`, name: this.name }] }));
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

  async open(transport = new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } }), revision = "2026-07-28") {
    await this.client.connect(transport);
    assert.equal(this.client.getNegotiatedProtocolVersion(), revision);
  }

  async call(name, args = {}, options = {}, more = {}) {
    const result = await this.client.callTool({ name, arguments: args, ...more }, options);
    assert.ok(!result.isError, `${name} failed: ${JSON.stringify(result.content)}`);
    return result.content[0].text;
  }
}

/** Does something with clients, those with names have a model, a person and roots. */
async function withClients(names, act) {
  const clients = names.map((name) => new Seen(name, name !== ""));
  try {
    for (const client of clients) await client.open();
    return await act(...clients);
  } finally {
    // What has gone wrong already is told by what it threw.
    for (const { client } of clients) await client.close().catch(() => {});
  }
}

const withClient = (act) => withClients([""], act);
const rejected = (promise) => promise.then((value) => assert.fail(`no error, but ${JSON.stringify(value)}`), (error) => error);
const checks = [];
const check = (name, line, run) => checks.push({ name, line, run });

check("discover", "discover: the server's instructions and capabilities", () =>
  withClient(async ({ client }) => {
    assert.equal(client.getInstructions(), "A server for tests.");
    const { tools, resources } = client.getServerCapabilities();
    assert.deepEqual([tools.listChanged, resources.subscribe], [true, true]);
  }));

check("lists", "lists of tools, resources, templates and prompts", () =>
  withClient(async ({ client }) => {
    const tools = new Map((await client.listTools()).tools.map((tool) => [tool.name, tool]));
    assert.deepEqual(tools.get("sum").outputSchema.required, ["sum"]);
    const { resources } = await client.listResources();
    assert.equal(resources.find(({ uri }) => uri === "test://static-binary").mimeType, "image/png");
    const { resourceTemplates } = await client.listResourceTemplates();
    assert.deepEqual(resourceTemplates.map((each) => each.uriTemplate), ["test://template/{id}/data"]);
    const { prompts } = await client.listPrompts();
    assert.deepEqual(prompts.find(({ name }) => name === "test_prompt_with_arguments").arguments.map(({ name }) => name), ["arg1", "arg2"]);
  }));

check("calls", "calls: texts of any characters, structured content, a prompt, a resource, a completion", () =>
  withClient(async (c) => {
    for (const text of TEXTS) assert.equal(await c.call("echo", { text }), text);
    assert.deepEqual((await c.client.callTool({ name: "sum", arguments: { numbers: [1, 2.5, -4e3] } })).structuredContent, { sum: -3996.5 });
    const prompt = await c.client.getPrompt({ name: "test_prompt_with_arguments", arguments: { arg1: "one", arg2: "two" } });
    assert.match(prompt.messages[0].content.text, /one.*two/);
    assert.equal((await c.client.readResource({ uri: "test://static-text" })).contents[0].text, "a text that does not change");
    const ref = { type: "ref/prompt", name: "test_prompt_with_arguments" };
    const { completion } = await c.client.complete({ ref, argument: { name: "arg1", value: "par" } });
    assert.deepEqual([completion.values, completion.total], [["parallel", "parameter", "paris", "party"], 4]);
  }));

check("errors", "errors: a failing tool is a result; an unknown tool, resource and prompt is an error with its code", () =>
  withClient(async ({ client }) => {
    assert.equal((await client.callTool({ name: "test_error_handling", arguments: {} })).isError, true);
    assert.equal((await rejected(client.callTool({ name: "no_such_tool", arguments: {} }))).code, -32602);
    assert.equal((await rejected(client.readResource({ uri: "test://no-such-resource" }))).code, -32602);
    assert.equal((await rejected(client.getPrompt({ name: "no_such_prompt" }))).code, -32602);
  }));

check("headers", "headers: an argument is repeated where its tool wants that, and a header that says something else is refused", () =>
  withClient(async (c) => {
    await c.client.listTools();
    for (const region of ["us-west1", " \u00e9", ""]) assert.equal(await c.call("test_x_mcp_header", { region }), `region: ${region}`);
    assert.equal(await c.call("test_x_mcp_header"), "region: none");
    const meta = "io.modelcontextprotocol/";
    const _meta = { [`${meta}protocolVersion`]: "2026-07-28", [`${meta}clientCapabilities`]: {} };
    const params = { name: "test_x_mcp_header", arguments: { region: "here" }, _meta };
    const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/call", params });
    const usual = { "Content-Type": "application/json", Accept: "application/json, text/event-stream" };
    const own = { "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": params.name };
    for (const [more, status] of [[{ "Mcp-Param-Region": "here" }, 200], [{ "Mcp-Param-Region": "there" }, 400], [{}, 400]]) {
      const answer = await fetch(url, { method: "POST", body, headers: { ...headers, ...usual, ...own, ...more } });
      const text = await answer.text();
      assert.equal(answer.status, status, text);
      if (status === 400) assert.equal(JSON.parse(text).error.code, -32020);
    }
  }));

check("progress", "progress: 50 calls at once, each with its own reports in their order", () =>
  withClient(async (c) => {
    await Promise.all(range(1, 50).map(async (n) => {
      const seen = [];
      const onprogress = ({ progress, total, message }) => seen.push([progress, total, message]);
      assert.equal(await c.call("count", { steps: 5, note: `n${n}` }, { onprogress }), `n${n}`);
      assert.deepEqual(seen, range(1, 5).map((step) => [step, 5, `n${n} ${step}`]));
    }));
  }));

check("logging", "logging: a request that names a level hears from that level on, one that names none hears nothing", () =>
  withClient(async (c) => {
    await c.call("log_levels", { note: "one" }, {}, { _meta: { [LEVEL]: "warning" } });
    await c.call("log_levels", { note: "two" });
    assert.deepEqual(c.logs, LEVELS.slice(3).map((level) => `${level}: one ${level}`));
  }));

check("sampling", "sampling: the client's model is asked by rounds, ten calls at once", () =>
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

check("rounds", "rounds: roots, a tool that asks three things at once, one that asks twice, and a prompt that asks", () =>
  withClients(["round"], async (c) => {
    assert.deepEqual(JSON.parse(await c.call("roots")), [["file:///round", "round"]]);
    assert.equal(await c.call("test_input_required_result_multiple_inputs"), "round answers, round, of 1 roots");
    assert.equal(await c.call("test_input_required_result_multi_round"), "round likes round");
    const { messages } = await c.client.getPrompt({ name: "test_input_required_result_prompt" });
    assert.equal(messages[0].content.text, "The context is round");
  }));

check("refusals", "a client that declares nothing is told what it would have to declare", () =>
  withClient(async ({ client }) => {
    const { code, data } = await rejected(client.callTool({ name: "test_missing_capability", arguments: {} }));
    assert.deepEqual([code, JSON.stringify(data).includes("sampling")], [-32021, true]);
  }));

check("cancellation", "cancellation: the server hears which call is taken back by closing its answer, and another goes on", () =>
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

check("subscriptions", "subscriptions: changes of resources, and changed lists, as they were asked for", () =>
  withClient(async (c) => {
    const [first, second] = ["test://watched-resource", "test://static-text"];
    const one = await c.client.listen({ resourceSubscriptions: [first] });
    assert.deepEqual(one.honoredFilter.resourceSubscriptions, [first]);
    await c.call("touch", { uri: second });
    await c.call("touch", { uri: first });
    await c.until(() => c.told.length > 0);
    assert.deepEqual(c.told, [first]);
    await one.close();
    assert.equal(await one.closed, "local");
    const lists = await c.client.listen({ toolsListChanged: true, promptsListChanged: true, resourcesListChanged: true });
    const name = `typescript-${process.pid}`;
    await c.call("grow", { name });
    await c.until(() => c.told.length >= 4);
    assert.deepEqual(c.told.slice(1).toSorted(), ["prompts/list_changed", "resources/list_changed", "tools/list_changed"]);
    assert.equal(await c.call(name), name);
    await lists.close();
  }));

check("canaries", "two clients at once: nothing of one reaches the other", () =>
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
      }
    }));
    for (const c of both) assert.deepEqual([...new Set(c.asked.map((question) => question.split(" ")[0]))], [c.name]);
  }));

check("sessions", "sessions: the same package as a client of 2025-11-25, over Streamable HTTP and HTTP+SSE", async () => {
  const beside = new URL(url.replace(/mcp$/, "sse"));
  for (const transport of [
    new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } }),
    new SSEClientTransport(beside, { authProvider: { token: async () => given.key }, requestInit: { headers } }),
  ]) {
    const c = new Seen("session", true, "legacy");
    await c.open(transport, "2025-11-25");
    for (const text of TEXTS) assert.equal(await c.call("echo", { text }), text);
    assert.equal(await c.call("test_sampling", { prompt: "q" }), "the model says: session answers");
    assert.equal(await c.call("test_elicitation", { message: "Who?" }), 'accept: {"response":"session"}');
    await c.client.close();
  }
});

/** A check that took longer than it may. */
class Late extends Error {}

// A process that never answers a call that was taken back may still log for it, so a gateway passes no log message on meanwhile.
const chosen = checks.filter(({ name }) => (words.length === 0 ? name !== "cancellation" : words.some((word) => name.includes(word))));
let failed = 0;
for (const { name, line, run } of chosen) {
  const began = performance.now();
  let limit;
  const late = new Promise((_, reject) => (limit = setTimeout(() => reject(new Late(`not done within ${SECONDS} s`)), SECONDS * 1000)));
  try {
    await Promise.race([run(), late]);
    console.log(`ok typescript, 2026-07-28, ${name} (${((performance.now() - began) / 1000).toFixed(1)} s): ${line}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED typescript, 2026-07-28, ${name}: ${line}\n    ${error instanceof Late ? error.message : error.stack}`);
  } finally {
    clearTimeout(limit);
  }
}
console.log(failed === 0 ? `${chosen.length} checks passed` : `${failed} of ${chosen.length} checks failed`);
process.exit(failed === 0 ? 0 : 1);
