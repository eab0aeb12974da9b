// The tools that the conformance suite calls, but for those that ask the client in several rounds (questions.mjs).
import { fromJsonSchema, inputRequired } from "@modelcontextprotocol/server";
import { form, PICTURE, said, SOUND } from "./contents.mjs";

const NOTHING = { type: "object", properties: {} };

// One choice of each shape that a form may have.
const CHOICES = {
  untitledSingle: { type: "string", enum: ["option1", "option2", "option3"] },
  titledSingle: {
    type: "string",
    oneOf: [
      { const: "value1", title: "First" },
      { const: "value2", title: "Second" },
      { const: "value3", title: "Third" },
    ],
  },
  legacyEnum: { type: "string", enum: ["opt1", "opt2", "opt3"], enumNames: ["One", "Two", "Three"] },
  untitledMulti: { type: "array", minItems: 1, maxItems: 3, items: { type: "string", enum: ["option1", "option2", "option3"] } },
  titledMulti: {
    type: "array",
    minItems: 1,
    maxItems: 3,
    items: {
      anyOf: [
        { const: "value1", title: "First" },
        { const: "value2", title: "Second" },
        { const: "value3", title: "Third" },
      ],
    },
  },
};

// One default of each primitive type.
const DEFAULTS = {
  name: { type: "string", default: "John Doe" },
  age: { type: "integer", default: 30 },
  score: { type: "number", default: 95.5 },
  status: { type: "string", enum: ["active", "inactive", "pending"], default: "active" },
  verified: { type: "boolean", default: true },
};

// Every part of JSON Schema 2020-12 that has to come through a list of tools unchanged.
const SCHEMA_2020_12 = {
  $schema: "https://json-schema.org/draft/2020-12/schema",
  type: "object",
  $defs: {
    address: { $anchor: "addressDef", type: "object", properties: { street: { type: "string" }, city: { type: "string" } } },
  },
  properties: {
    name: { type: "string" },
    address: { $ref: "#/$defs/address" },
    contactMethod: { type: "string", enum: ["phone", "email"] },
    phone: { type: "string" },
    email: { type: "string" },
  },
  allOf: [{ anyOf: [{ required: ["phone"] }, { required: ["email"] }] }],
  if: { properties: { contactMethod: { const: "phone" } }, required: ["contactMethod"] },
  then: { required: ["phone"] },
  else: { required: ["email"] },
  additionalProperties: false,
};

export function addTools(server, tell) {
  const tool = (name, description, schema, run) =>
    server.registerTool(name, { description, inputSchema: fromJsonSchema(schema) }, run);
  const resource = (uri, mimeType, text) => ({ type: "resource", resource: { uri, mimeType, text } });
  const picture = { type: "image", data: PICTURE, mimeType: "image/png" };

  tool("test_simple_text", "Answers with a text", NOTHING, () => said("a simple text"));
  tool("test_image_content", "Answers with a picture", NOTHING, () => ({ content: [picture] }));
  tool("test_audio_content", "Answers with a sound", NOTHING, () => ({
    content: [{ type: "audio", data: SOUND, mimeType: "audio/wav" }],
  }));
  tool("test_embedded_resource", "Answers with a resource", NOTHING, () => ({
    content: [resource("test://embedded-resource", "text/plain", "an embedded text")],
  }));
  tool("test_multiple_content_types", "Answers with a text, a picture and a resource", NOTHING, () => ({
    content: [{ type: "text", text: "three items:" }, picture, resource("test://mixed-content-resource", "application/json", '{"mixed":true}')],
  }));
  tool("test_error_handling", "Fails", NOTHING, () => {
    throw new Error("this tool fails whenever it is called");
  });
  tool("json_schema_2020_12_tool", "Has an input schema with the parts that 2020-12 brought", SCHEMA_2020_12, (given) =>
    said(JSON.stringify(given)));
  tool(
    "test_x_mcp_header",
    "Has an argument that clients mirror into a header",
    { type: "object", properties: { region: { type: "string", "x-mcp-header": "Region" }, level: { type: "integer" } } },
    ({ region }) => said(`region: ${region ?? "none"}`),
  );

  tool("test_tool_with_logging", "Writes three log messages", NOTHING, async (_, { mcpReq }) => {
    for (const step of ["begun", "under way", "done"]) await mcpReq.log("info", step, "everything");
    return said("logged");
  });
  tool("test_logging_tool", "Writes a log message", NOTHING, async (_, { mcpReq }) => {
    await mcpReq.log("info", "for those who asked for it");
    return said("logged");
  });
  tool("test_tool_with_progress", "Reports progress three times", NOTHING, async (_, { mcpReq }) => {
    const progressToken = mcpReq._meta?.progressToken;
    for (const progress of progressToken === undefined ? [] : [0, 50, 100]) {
      await mcpReq.notify({ method: "notifications/progress", params: { progressToken, progress, total: 100 } });
    }
    return said("finished");
  });
  tool("test_streaming_elicitation", "Answers, and asks nothing beside its answer", NOTHING, () => said("nothing was asked"));
  tool("test_reconnection", "Closes its stream before it answers", NOTHING, async (_, context) => {
    context.http?.closeSSE?.();
    return said("answered after the stream was closed");
  });

  const ask = ({ inputResponses }, message, requestedSchema) => {
    const answer = inputResponses?.answer;
    if (answer === undefined) return inputRequired({ inputRequests: { answer: inputRequired.elicit({ message, requestedSchema }) } });
    return said(`${answer.action}: ${JSON.stringify(answer.content ?? {})}`);
  };
  tool("test_sampling", "Asks the client's model", form("prompt"), ({ prompt }, { mcpReq }) => {
    const answer = mcpReq.inputResponses?.answer;
    const messages = [{ role: "user", content: { type: "text", text: prompt } }];
    if (answer === undefined) return inputRequired({ inputRequests: { answer: inputRequired.createMessage({ messages, maxTokens: 100 }) } });
    return said(`the model says: ${answer.content.text}`);
  });
  tool("test_elicitation", "Asks the person at the client", form("message"), ({ message }, { mcpReq }) =>
    ask(mcpReq, message, form("response")));
  tool("test_elicitation_sep1034_defaults", "Asks with a form that has defaults", NOTHING, (_, { mcpReq }) =>
    ask(mcpReq, "Change what is wrong", { type: "object", properties: DEFAULTS, required: [] }));
  tool("test_elicitation_sep1330_enums", "Asks with a form of choices", NOTHING, (_, { mcpReq }) =>
    ask(mcpReq, "Choose", { type: "object", properties: CHOICES, required: [] }));

  tool("test_trigger_tool_change", "Tells that the list of tools has changed", NOTHING, () => {
    tell.tools();
    return said("told");
  });
  tool("test_trigger_prompt_change", "Tells that the list of prompts has changed", NOTHING, () => {
    tell.prompts();
    return said("told");
  });
}
