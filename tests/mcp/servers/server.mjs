// The server on standard input and output, for clients of either era.
import { serveStdio } from "@modelcontextprotocol/server/stdio";
import { everything } from "./everything.mjs";

serveStdio(() => everything(), { onerror: (error) => console.error(error.message) });
