// Asks the registry with an official TypeScript package, unmodified: that of the revisions with sessions, or that of 2026-07-28.
//
//   node registry.mjs BASE --key KEY --owner KEY [--sessions]
//
// BASE: the program's address, whose registry holds what registry.py has put there. --owner: a key that may change it. --sessions: the
// package of the revisions up to 2025-11-25.
import assert from "node:assert/strict";
import { parseArgs } from "node:util";

const SECONDS = 30;
const { values: given, positionals } = parseArgs({
  options: { key: { type: "string" }, owner: { type: "string" }, sessions: { type: "boolean", default: false } },
  allowPositionals: true,
});
const [base] = positionals;

/** The package's client and its transport. */
async function packaged() {
  if (!given.sessions) return import("@modelcontextprotocol/client");
  const [{ Client }, { StreamableHTTPClientTransport }] = await Promise.all([
    import("@modelcontextprotocol/sdk/client/index.js"),
    import("@modelcontextprotocol/sdk/client/streamableHttp.js"),
  ]);
  return { Client, StreamableHTTPClientTransport };
}

/** The code of the error that a request ends with. */
const code = (promise) => promise.then((value) => assert.fail(`no error, but ${JSON.stringify(value)}`), (error) => error.code);

/** Stores the note anew, as the registry's owner. */
async function changeNote() {
  const body = JSON.stringify({ uri: "note://1", name: "note", kind: "text", text: "the note" });
  const headers = { Authorization: `Bearer ${given.owner}`, "Content-Type": "application/json" };
  const { status } = await fetch(`${base}/resources/note%3A%2F%2F1`, { method: "PUT", headers, body });
  assert.equal(status, 200);
}

async function checks(client) {
  const said = await client.callTool({ name: "say", arguments: { text: "a b; $(id)" } });
  assert.deepEqual([said.isError ?? false, said.content[0].text], [false, "a b; $(id)\n"]);
  const twice = await client.callTool({ name: "twice", arguments: { text: "x" } });
  assert.deepEqual(twice.content[0].text.trim().split(/\s+/), ["again:", "x"]);
  for (const name of ["fail", "say"]) assert.equal((await client.callTool({ name, arguments: {} })).isError, true);
  assert.equal(await code(client.callTool({ name: "none", arguments: {} })), -32602);
  assert.deepEqual((await client.listTools()).tools.map(({ name }) => name), ["fail", "say", "twice"]);
  assert.deepEqual((await client.listResources()).resources.map(({ uri }) => uri), ["note://1"]);
  const { resourceTemplates } = await client.listResourceTemplates();
  assert.deepEqual(resourceTemplates.map(({ uriTemplate }) => uriTemplate), ["word://{word}"]);
  for (const [uri, text] of [["note://1", "the note"], ["word://yes", "the word yes"]]) {
    assert.equal((await client.readResource({ uri })).contents[0].text, text);
  }
  assert.equal(await code(client.readResource({ uri: "none://1" })), given.sessions ? -32002 : -32602);
  assert.deepEqual((await client.listPrompts()).prompts.map(({ name }) => name), ["greet"]);
  const prompt = await client.getPrompt({ name: "greet", arguments: { who: "you" } });
  assert.equal(prompt.messages[0].content.text, "Hello you, glad");
  const ref = { type: "ref/prompt", name: "greet" };
  assert.deepEqual((await client.complete({ ref, argument: { name: "mood", value: "s" } })).completion.values, ["sad"]);
  assert.equal(await code(client.getPrompt({ name: "none" })), -32602);
}

/** The client's fetch, which says when the session's stream is there: what happens before that is told to nobody. */
function listening() {
  let listens;
  const promise = new Promise((resolve) => (listens = resolve));
  const get = async (address, init) => {
    const response = await fetch(address, init);
    if (init?.method === "GET" && response.ok) listens();
    return response;
  };
  return { promise, get };
}

async function main() {
  const { Client, StreamableHTTPClientTransport } = await packaged();
  const stream = listening();
  const client = new Client({ name: "registry.mjs", version: "1" }, given.sessions ? {} : { versionNegotiation: { mode: "auto" } });
  const requestInit = { headers: { Authorization: `Bearer ${given.key}` } };
  await client.connect(new StreamableHTTPClientTransport(new URL(`${base}/servers/registry/mcp`), { requestInit, fetch: stream.get }));
  await checks(client);
  const told = new Promise((resolve) => {
    if (given.sessions) {
      client.fallbackNotificationHandler = async ({ method, params }) => method === "notifications/resources/updated" && resolve(params.uri);
    } else {
      client.setNotificationHandler("notifications/resources/updated", ({ params }) => resolve(params.uri));
    }
  });
  if (given.sessions) {
    await stream.promise;
    await client.subscribeResource({ uri: "note://1" });
    await changeNote();
    assert.equal(await told, "note://1");
  } else {
    assert.equal(client.getNegotiatedProtocolVersion(), "2026-07-28");
    const listener = await client.listen({ resourceSubscriptions: ["note://1"] });
    await changeNote();
    assert.equal(await told, "note://1");
    await listener.close();
  }
  await client.close();
}

const limit = setTimeout(() => {
  console.log(`not done within ${SECONDS} s`);
  process.exit(1);
}, SECONDS * 1000);
await main();
clearTimeout(limit);
console.log("all holds");
process.exit(0);
