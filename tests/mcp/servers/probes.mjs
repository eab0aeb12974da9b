// The tools that sdk.py and sdk.mjs call: each makes one thing happen that a client can see.
import { fromJsonSchema, inputRequired } from "@modelcontextprotocol/server";
import { said } from "./contents.mjs";

const LEVELS = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

export function addProbes(server, tell) {
  const calls = new Map();
  const waiting = new Set();
  const subscribed = new Set();
  const call = (name) => {
    if (!calls.has(name)) {
      const one = {};
      one.released = new Promise((resolve) => (one.release = resolve));
      one.begun = new Promise((resolve) => (one.begin = resolve));
      one.ended = new Promise((resolve) => (one.end = resolve));
      calls.set(name, one);
    }
    return calls.get(name);
  };
  const tool = (name, description, properties, run) => {
    const inputSchema = fromJsonSchema({ type: "object", properties, required: Object.keys(properties) });
    return server.registerTool(name, { description, inputSchema }, run);
  };
  const name = { type: "string" };
  const report = async (mcpReq, progress, total, message) => {
    const progressToken = mcpReq._meta?.progressToken;
    if (progressToken === undefined) return;
    await mcpReq.notify({ method: "notifications/progress", params: { progressToken, progress, total, message } });
  };

  tool("echo", "Answers with its text", { text: name }, ({ text }) => said(text));
  tool("repeat", "Answers with a text of so many bytes", { bytes: { type: "integer" } }, ({ bytes }) =>
    said("0123456789abcdef".repeat(bytes / 16)));
  tool("process", "Answers with the id of its process", {}, () => said(String(process.pid)));
  server.registerTool(
    "sum",
    {
      description: "Adds",
      inputSchema: fromJsonSchema({
        type: "object",
        properties: { numbers: { type: "array", items: { type: "number" } } },
        required: ["numbers"],
      }),
      outputSchema: fromJsonSchema({ type: "object", properties: { sum: { type: "number" } }, required: ["sum"] }),
    },
    ({ numbers }) => {
      const structuredContent = { sum: numbers.reduce((sum, each) => sum + each, 0) };
      return { ...said(JSON.stringify(structuredContent)), structuredContent };
    },
  );

  tool("count", "Reports progress so many times", { steps: { type: "integer" }, note: name }, async ({ steps, note }, { mcpReq }) => {
    for (let step = 1; step <= steps; step += 1) await report(mcpReq, step, steps, `${note} ${step}`);
    return said(note);
  });
  tool("count_in_two", "Reports progress so many times, waits to be released, and reports as often again",
    { name, steps: { type: "integer" } },
    async ({ name, steps }, { mcpReq }) => {
      for (let step = 1; step <= steps; step += 1) await report(mcpReq, step, 2 * steps, `${name} ${step}`);
      await call(name).released;
      for (let step = steps + 1; step <= 2 * steps; step += 1) await report(mcpReq, step, 2 * steps, `${name} ${step}`);
      return said(name);
    });
  tool("release", "Releases a call of count_in_two", { name }, ({ name }) => {
    call(name).release();
    return said("released");
  });

  tool("wait", "Waits until it is cancelled", { name }, async ({ name }, { mcpReq }) => {
    const { signal } = mcpReq;
    waiting.add(name);
    call(name).begin();
    await new Promise((resolve) => (signal.aborted ? resolve() : signal.addEventListener("abort", resolve)));
    waiting.delete(name);
    call(name).end("cancelled");
    return said("cancelled");
  });
  tool("begun", "Answers when a call of wait has begun", { name }, async ({ name }) => {
    await call(name).begun;
    return said("begun");
  });
  tool("waiting", "Answers with the calls of wait that go on", {}, () => said(JSON.stringify([...waiting])));
  tool("outcome", "Answers when a call of wait has ended", { name }, async ({ name }) => said(await call(name).ended));

  tool("log_levels", "Writes a log message of each level", { note: name }, async ({ note }, { mcpReq }) => {
    for (const level of LEVELS) await mcpReq.log(level, `${note} ${level}`, "probe");
    return said(note);
  });
  tool("roots", "Asks for the client's roots", {}, (_, { mcpReq }) => {
    const answer = mcpReq.inputResponses?.answer;
    if (answer === undefined) return inputRequired({ inputRequests: { answer: inputRequired.listRoots() } });
    return said(JSON.stringify(answer.roots.map(({ uri, name }) => [uri, name])));
  });
  tool("ping_client", "Pings the client", {}, async (_, { mcpReq }) => said(JSON.stringify(await mcpReq.send({ method: "ping" }))));

  tool("grow", "Adds a tool, a resource and a prompt", { name }, ({ name }) => {
    tool(name, "Added later", {}, () => said(name));
    const uri = `test://${name}`;
    server.registerResource(name, uri, { mimeType: "text/plain" }, () => ({ contents: [{ uri, text: name }] }));
    const messages = [{ role: "user", content: { type: "text", text: name } }];
    server.registerPrompt(name, { description: "Added later" }, () => ({ messages }));
    return said("added");
  });
  tool("touch", "Tells those who subscribe to a resource that it has changed", { uri: name }, async ({ uri }, { mcpReq }) => {
    // On 2026-07-28 the SDK knows who listens.
    if (mcpReq.envelope !== undefined || subscribed.has(uri)) await tell.updated(uri);
    return said("told");
  });
  server.server.setRequestHandler("resources/subscribe", ({ params }) => {
    subscribed.add(params.uri);
    return {};
  });
  server.server.setRequestHandler("resources/unsubscribe", ({ params }) => {
    subscribed.delete(params.uri);
    return {};
  });
}
