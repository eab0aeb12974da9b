// The server on standard input and output, for the revisions up to 2025-11-25 only.
import { StdioServerTransport } from "@modelcontextprotocol/server/stdio";
import { everything } from "./everything.mjs";

await everything().connect(new StdioServerTransport());
