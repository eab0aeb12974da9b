// The server on standard input and output, for 2026-07-28 only.
import { serveStdio } from "@modelcontextprotocol/server/stdio";
import { everything } from "./everything.mjs";

serveStdio(() => everything(), { legacy: "reject", onerror: (error) => console.error(error.message) });
