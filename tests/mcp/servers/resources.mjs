// Resources, a template, and who subscribes to them.
import { ResourceTemplate } from "@modelcontextprotocol/server";
import { PICTURE } from "./contents.mjs";

export function addResources(server) {
  const fixed = (name, uri, mimeType, description, content) =>
    server.registerResource(name, uri, { description, mimeType }, () => ({ contents: [{ uri, mimeType, ...content }] }));
  fixed("static-text", "test://static-text", "text/plain", "A text", { text: "a text that does not change" });
  fixed("static-binary", "test://static-binary", "image/png", "A picture", { blob: PICTURE });
  fixed("watched-resource", "test://watched-resource", "text/plain", "A text to subscribe to", { text: "a text that is watched" });
  server.registerResource(
    "template",
    new ResourceTemplate("test://template/{id}/data", { list: undefined }),
    { description: "A document for each id", mimeType: "application/json" },
    ({ href }, { id }) => ({ contents: [{ uri: href, mimeType: "application/json", text: JSON.stringify({ id }) }] }),
  );
}
