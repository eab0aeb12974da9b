// The tools and the prompt of the conformance suite that need input from the client before they answer. On 2026-07-28 each
// question is a round of its own; on a 2025-era session the SDK asks with requests.
import {
  acceptedContent,
  CLIENT_CAPABILITIES_META_KEY,
  fromJsonSchema,
  inputRequired,
  ProtocolError,
  ProtocolErrorCode,
} from "@modelcontextprotocol/server";
import { form, said } from "./contents.mjs";

const NOTHING = { type: "object", properties: {} };
const elicit = (message, field, type) => inputRequired.elicit({ message, requestedSchema: form(field, type) });
const sample = (text) =>
  inputRequired.createMessage({ messages: [{ role: "user", content: { type: "text", text } }], maxTokens: 100 });

export function addQuestions(server, codec) {
  const tool = (name, description, run) =>
    server.registerTool(name, { description, inputSchema: fromJsonSchema(NOTHING) }, (_, { mcpReq }) => run(mcpReq));

  tool("test_missing_capability", "Needs the client's model", ({ inputResponses }) =>
    inputResponses?.answer === undefined ? inputRequired({ inputRequests: { answer: sample("Say a word") } }) : said("answered"));

  tool("test_input_required_result_elicitation", "Asks for a name", ({ inputResponses }) => {
    const name = acceptedContent(inputResponses, "user_name")?.name;
    if (typeof name === "string") return said(`Hello, ${name}`);
    return inputRequired({ inputRequests: { user_name: elicit("What is your name?", "name") } });
  });

  tool("test_input_required_result_sampling", "Asks the client's model", ({ inputResponses }) => {
    const text = inputResponses?.capital_question?.content?.text;
    if (typeof text === "string") return said(`the model says: ${text}`);
    return inputRequired({ inputRequests: { capital_question: sample("What is the capital of France?") } });
  });

  tool("test_input_required_result_list_roots", "Asks for the client's roots", ({ inputResponses }) => {
    const roots = inputResponses?.client_roots?.roots;
    if (Array.isArray(roots)) return said(`roots: ${roots.map(({ uri }) => uri).join(" ")}`);
    return inputRequired({ inputRequests: { client_roots: inputRequired.listRoots() } });
  });

  tool("test_input_required_result_request_state", "Keeps its state at the client", async ({ inputResponses, requestState }) => {
    if (acceptedContent(inputResponses, "confirm") === undefined) {
      const inputRequests = { confirm: elicit("Go on?", "ok", "boolean") };
      return inputRequired({ inputRequests, requestState: await codec.mint({ asked: "confirm" }) });
    }
    if (requestState()?.asked !== "confirm") throw new ProtocolError(ProtocolErrorCode.InvalidParams, "the state is missing");
    return said("state-ok");
  });

  tool("test_input_required_result_tampered_state", "Refuses a state that it has not made", async ({ inputResponses, requestState }) => {
    if (requestState() !== undefined && acceptedContent(inputResponses, "confirm") !== undefined) return said("the state is mine");
    const inputRequests = { confirm: elicit("Go on?", "ok", "boolean") };
    return inputRequired({ inputRequests, requestState: await codec.mint({ asked: "confirm" }) });
  });

  tool("test_input_required_result_multiple_inputs", "Asks three things at once", async ({ inputResponses }) => {
    const name = acceptedContent(inputResponses, "user_name")?.name;
    const greeting = inputResponses?.greeting?.content?.text;
    const roots = inputResponses?.client_roots?.roots;
    if (typeof name === "string" && typeof greeting === "string" && Array.isArray(roots)) {
      return said(`${greeting}, ${name}, of ${roots.length} roots`);
    }
    const inputRequests = {
      user_name: elicit("What is your name?", "name"),
      greeting: sample("Say a greeting"),
      client_roots: inputRequired.listRoots(),
    };
    return inputRequired({ inputRequests, requestState: await codec.mint({ asked: "three" }) });
  });

  tool("test_input_required_result_multi_round", "Asks twice, one after the other", async ({ inputResponses, requestState }) => {
    const state = requestState();
    if (state?.round === 2) {
      return said(`${state.name} likes ${acceptedContent(inputResponses, "step2")?.color ?? "nothing"}`);
    }
    if (state?.round === 1) {
      const name = acceptedContent(inputResponses, "step1")?.name ?? "somebody";
      const inputRequests = { step2: elicit("Which color do you like?", "color") };
      return inputRequired({ inputRequests, requestState: await codec.mint({ round: 2, name }) });
    }
    const inputRequests = { step1: elicit("What is your name?", "name") };
    return inputRequired({ inputRequests, requestState: await codec.mint({ round: 1 }) });
  });

  tool("test_input_required_result_capabilities", "Asks what the client can answer", ({ envelope, inputResponses }) => {
    if (inputResponses !== undefined) return said("answered");
    const declared = envelope?.[CLIENT_CAPABILITIES_META_KEY] ?? server.server.getClientCapabilities() ?? {};
    const inputRequests = {
      ...(declared.elicitation && { user_name: elicit("What is your name?", "name") }),
      ...(declared.sampling && { greeting: sample("Say a greeting") }),
      ...(declared.roots && { client_roots: inputRequired.listRoots() }),
    };
    return Object.keys(inputRequests).length === 0 ? said("there is nothing to ask") : inputRequired({ inputRequests });
  });

  server.registerPrompt("test_input_required_result_prompt", { description: "Asks for its context" }, ({ mcpReq }) => {
    const context = acceptedContent(mcpReq.inputResponses, "user_context")?.context;
    if (typeof context !== "string") {
      return inputRequired({ inputRequests: { user_context: elicit("In which context?", "context") } });
    }
    return { messages: [{ role: "user", content: { type: "text", text: `The context is ${context}` } }] };
  });
}
