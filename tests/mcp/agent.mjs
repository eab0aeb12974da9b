// A client with `sampling` that answers as a model, on the official TypeScript packages, unmodified: the one up to revision 2025-11-25,
// or that of 2026-07-28.
//
//   node agent.mjs URL --key KEY --name NAME [--package 2025|2026] [--legacy] [--listen]
//
// --legacy: the newer package speaks 2025-11-25. --listen: it calls no tool, and is asked on the stream of its session. Its answers
// are those that sampling.py expects. It ends with its standard input.
import { parseArgs } from "node:util";

const flag = { type: "boolean", default: false };
const { values: given, positionals } = parseArgs({
  options: { key: { type: "string" }, name: { type: "string" }, package: { type: "string", default: "2025" }, legacy: flag, listen: flag },
  allowPositionals: true,
});
const { name } = given;
const about = { name, version: "1" };
const capabilities = { sampling: { tools: {} } };

let cancelled = 0;
const said = (text) => ({ role: "assistant", model: name, content: { type: "text", text: `${name}: ${text}` }, stopReason: "endTurn" });

/** Waits for three seconds, or until the request is taken back. */
const wait = (signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, 3000);
    signal?.addEventListener("abort", () => {
      cancelled += 1;
      clearTimeout(timer);
      resolve();
    });
  });

async function sample({ params }, signal) {
  const [block] = [params.messages.at(-1).content].flat();
  if (block.type === "tool_result") return said(block.content[0].text);
  if (params.tools?.length) {
    const used = { type: "tool_use", id: "call-1", name: params.tools[0].name, input: { zone: "UTC" } };
    return { role: "assistant", model: name, content: [used], stopReason: "toolUse" };
  }
  if (block.text === "refuse") throw Object.assign(new Error("the person refuses"), { code: -1 });
  if (block.text === "wait") await wait(signal);
  return said(block.text === "cancelled" ? cancelled : block.text);
}

const url = new URL(positionals[0]);
const init = { requestInit: { headers: { Authorization: `Bearer ${given.key}` } } };
let client;
if (given.package === "2026") {
  const { Client, StreamableHTTPClientTransport } = await import("@modelcontextprotocol/client");
  client = new Client(about, { capabilities, versionNegotiation: { mode: given.legacy ? "legacy" : "auto" } });
  client.setRequestHandler("sampling/createMessage", (request, context) => sample(request, context?.mcpReq?.signal));
  await client.connect(new StreamableHTTPClientTransport(url, init));
  console.log(client.getNegotiatedProtocolVersion());
} else {
  const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
  const { StreamableHTTPClientTransport } = await import("@modelcontextprotocol/sdk/client/streamableHttp.js");
  const { CreateMessageRequestSchema } = await import("@modelcontextprotocol/sdk/types.js");
  client = new Client(about, { capabilities });
  client.setRequestHandler(CreateMessageRequestSchema, (request, extra) => sample(request, extra.signal));
  await client.connect(new StreamableHTTPClientTransport(url, init));
}

process.stdin.resume().on("end", () => process.exit(0));
if (!given.listen) {
  while (!(await client.callTool({ name: "serve", arguments: { seconds: 2 } })).isError);
  console.log("ended");
}
