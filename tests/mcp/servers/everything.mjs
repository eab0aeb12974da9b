// A server that has every feature of the protocol, on the official TypeScript SDK. It speaks the 2025-era revisions and
// 2026-07-28; which one is decided by what it is served with: server.mjs, server_2025.mjs, server_2026.mjs, http.mjs.
import { randomBytes } from "node:crypto";
import { createRequestStateCodec, McpServer } from "@modelcontextprotocol/server";
import { addProbes } from "./probes.mjs";
import { addPrompts } from "./prompts.mjs";
import { addQuestions } from "./questions.mjs";
import { addResources } from "./resources.mjs";
import { addTools } from "./tools.mjs";

// One key a process: a state is minted by one instance and verified by the next.
const codec = createRequestStateCodec({ key: randomBytes(32) });

/**
 * The server.
 *
 * `announce`, if given, tells listeners of changed lists and resources: { tools(), prompts(), resources(), updated(uri) }.
 * Without it the instance tells the client that it is connected to.
 */
export function everything(announce) {
  const server = new McpServer(
    { name: "everything", version: "1.0.0" },
    {
      capabilities: {
        tools: { listChanged: true },
        resources: { subscribe: true, listChanged: true },
        prompts: { listChanged: true },
        logging: {},
        completions: {},
      },
      instructions: "A server for tests.",
      requestState: { verify: codec.verify },
    },
  );
  const tell = announce ?? {
    tools: () => server.sendToolListChanged(),
    prompts: () => server.sendPromptListChanged(),
    resources: () => server.sendResourceListChanged(),
    updated: (uri) => server.server.sendResourceUpdated({ uri }),
  };
  addTools(server, tell);
  addQuestions(server, codec);
  addProbes(server, tell);
  addResources(server);
  addPrompts(server);
  return server;
}
