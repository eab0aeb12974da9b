// Prompts, and the completion of their arguments.
import { fromJsonSchema } from "@modelcontextprotocol/server";
import { PICTURE } from "./contents.mjs";

const WORDS = ["parallel", "parameter", "paris", "party", "pasta"];

export function addPrompts(server) {
  const say = (content) => ({ role: "user", content });
  const text = (words) => say({ type: "text", text: words });
  const prompt = (name, description, args, run) => {
    const properties = Object.fromEntries(args.map((arg) => [arg, { type: "string", description: `The argument ${arg}` }]));
    const argsSchema = args.length === 0 ? undefined : fromJsonSchema({ type: "object", properties, required: args });
    server.registerPrompt(name, { description, ...(argsSchema && { argsSchema }) }, (given) => ({ messages: run(given) }));
  };
  prompt("test_simple_prompt", "A text", [], () => [text("a simple prompt")]);
  prompt("test_prompt_with_arguments", "A text with two arguments", ["arg1", "arg2"], ({ arg1, arg2 }) => [
    text(`first ${arg1}, then ${arg2}`),
  ]);
  prompt("test_prompt_with_embedded_resource", "A resource and a text", ["resourceUri"], ({ resourceUri }) => [
    say({ type: "resource", resource: { uri: resourceUri, mimeType: "text/plain", text: "an embedded text" } }),
    text("look at the resource"),
  ]);
  prompt("test_prompt_with_image", "A picture and a text", [], () => [
    say({ type: "image", data: PICTURE, mimeType: "image/png" }),
    text("look at the picture"),
  ]);

  server.server.setRequestHandler("completion/complete", ({ params }) => {
    const values = WORDS.filter((word) => word.startsWith(params.argument.value));
    return { completion: { values, total: values.length, hasMore: false } };
  });
}
