// The server behind HTTP without a gateway: proves the server, and the checks, on their own.
//
//   node http.mjs both|2025 [KEY]
//
// Prints `ready http://127.0.0.1:PORT/mcp`. With a KEY, requests without `Authorization: Bearer KEY` are refused.
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import {
  localhostHostValidation,
  localhostOriginValidation,
  NodeStreamableHTTPServerTransport,
  toNodeHandler,
} from "@modelcontextprotocol/node";
import { classifyInboundRequest, createMcpHandler, isInitializeRequest } from "@modelcontextprotocol/server";
import { everything } from "./everything.mjs";

const [eras, key] = process.argv.slice(2);
const sessions = new Map();

/** The events of one session, kept to its end. */
class Kept {
  events = [];

  async storeEvent(stream, message) {
    this.events.push({ stream, message });
    return `${this.events.length}`;
  }

  async getStreamIdForEventId(id) {
    return this.events[Number(id) - 1]?.stream;
  }

  async replayEventsAfter(last, { send }) {
    const { stream } = this.events[Number(last) - 1];
    for (let index = Number(last); index < this.events.length; index += 1) {
      const event = this.events[index];
      // An event without a method or a result is the empty one that begins a stream.
      if (event.stream === stream && "jsonrpc" in event.message) await send(`${index + 1}`, event.message);
    }
    return stream;
  }
}

const modern = createMcpHandler(
  () =>
    everything({
      tools: () => modern.notify.toolsChanged(),
      prompts: () => modern.notify.promptsChanged(),
      resources: () => modern.notify.resourcesChanged(),
      updated: (uri) => modern.notify.resourceUpdated(uri),
    }),
  { legacy: "reject", onerror: (error) => console.error(error.message) },
);
const serveModern = toNodeHandler(modern);
const hostIsOurs = localhostHostValidation();
const originIsOurs = localhostOriginValidation();

function refuse(response, status, message) {
  response.writeHead(status, { "Content-Type": "application/json" });
  response.end(JSON.stringify({ jsonrpc: "2.0", id: null, error: { code: -32000, message } }));
}

async function body(request) {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  return pieces.length === 0 ? undefined : JSON.parse(Buffer.concat(pieces));
}

async function open() {
  const transport = new NodeStreamableHTTPServerTransport({
    sessionIdGenerator: randomUUID,
    eventStore: new Kept(),
    retryInterval: 100,
    onsessioninitialized: (id) => sessions.set(id, transport),
    onsessionclosed: (id) => sessions.delete(id),
  });
  await everything().connect(transport);
  return transport;
}

async function serve(request, response) {
  if (!hostIsOurs(request, response) || !originIsOurs(request, response)) return;
  if (key && request.headers.authorization !== `Bearer ${key}`) return refuse(response, 401, "a key is needed");
  const message = request.method === "POST" ? await body(request) : undefined;
  const era = classifyInboundRequest({
    httpMethod: request.method,
    protocolVersionHeader: request.headers["mcp-protocol-version"],
    mcpMethodHeader: request.headers["mcp-method"],
    body: message,
  });
  if (eras === "both" && era.kind !== "legacy") return serveModern(request, response, message);
  const id = request.headers["mcp-session-id"];
  if (id === undefined && !isInitializeRequest(message)) return refuse(response, 400, "no session is named");
  if (id !== undefined && !sessions.has(id)) return refuse(response, 404, "Session not found");
  const transport = id === undefined ? await open() : sessions.get(id);
  await transport.handleRequest(request, response, message);
}

const server = createServer((request, response) => {
  serve(request, response).catch((error) => {
    console.error(error);
    if (response.headersSent) response.destroy();
    else refuse(response, 500, error.message);
  });
});
server.listen(0, "127.0.0.1", () => console.log(`ready http://127.0.0.1:${server.address().port}/mcp`));
