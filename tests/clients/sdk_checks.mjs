// The official JavaScript packages, unmodified. Started by program_checks.py:
//   sdk_checks.mjs openai|ollama|keyless|ai PACKAGE BASE KEY MODEL MODEL-WHOSE-AGENT-DIES
import assert from "node:assert/strict";

const [what, name, base, key, model, mortal] = process.argv.slice(2);
const user = (content) => [{ role: "user", content }];
const weather = {
  type: "function",
  function: { name: "weather", description: "", parameters: { type: "object", properties: { city: { type: "string" } } } },
};
const call = 'tool:weather:{"city":"Oslo"}';
const rejected = (promise) => promise.then((value) => assert.fail(`no error, but ${JSON.stringify(value)}`), (error) => error);

async function openai() {
  const { default: OpenAI } = await import(name);
  const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: key, maxRetries: 0 });
  const create = (messages, more) => client.chat.completions.create({ model, messages, ...more });
  // As Void reads streams: text, and the first tool call put together from its pieces.
  const read = async (messages, more) => {
    const seen = { text: "", reasoning: "", id: "", name: "", arguments: "" };
    for await (const chunk of await create(messages, { stream: true, ...more })) {
      const delta = chunk.choices[0]?.delta ?? {};
      seen.text += delta.content ?? "";
      seen.reasoning += delta.reasoning_content ?? "";
      for (const part of delta.tool_calls ?? []) {
        if (part.index !== 0) continue;
        seen.name += part.function?.name ?? "";
        seen.arguments += part.function?.arguments ?? "";
        seen.id += part.id ?? "";
      }
    }
    return seen;
  };

  const ids = (await client.models.list()).data.map((one) => one.id);
  assert.ok(ids.includes(model) && ids.includes("my-gpt-4o"), `${ids}`);
  assert.equal((await client.models.retrieve("my-gpt-4o")).max_model_len, 128000);
  assert.equal((await create(user("say:Hello"))).choices[0].message.content, "Hello");
  assert.equal((await read(user("say:Hello, world"))).text, "Hello, world");
  assert.deepEqual(await read(user("think:Hmm")).then((seen) => [seen.reasoning, seen.text]), ["Hmm", "done"]);

  const asked = await read(user(call), { tools: [weather] });
  assert.deepEqual([asked.name, JSON.parse(asked.arguments)], ["weather", { city: "Oslo" }]);
  const made = { id: asked.id, type: "function", function: { name: asked.name, arguments: asked.arguments } };
  const told = [...user(call), { role: "assistant", content: "", tool_calls: [made], anthropicReasoning: null },
    { role: "tool", tool_call_id: asked.id, content: "say:rain" }];
  assert.equal((await read(told, { tools: [weather] })).text, "rain");

  const filled = await client.completions.create({ model, prompt: "say:return x\n\nnever", suffix: "}", stop: ["\n\n"], max_tokens: 300 });
  assert.equal(filled.choices[0].text, "return x");

  assert.equal((await client.responses.create({ model, input: "think:Hmm" })).output_text, "done");
  const events = {};
  for await (const event of await client.responses.create({ model, input: "think:Hmm", stream: true })) {
    events[event.type] = (events[event.type] ?? "") + (event.delta ?? "");
  }
  assert.equal(events["response.output_text.delta"], "done");
  assert.ok("response.completed" in events, Object.keys(events).join());

  const unknown = await rejected(client.chat.completions.create({ model: "no-such", messages: user("x") }));
  assert.ok(unknown instanceof OpenAI.NotFoundError && unknown.code === "model_not_found", `${unknown}`);
  const stranger = new OpenAI({ baseURL: `${base}/v1`, apiKey: "nobody", maxRetries: 0 });
  assert.ok((await rejected(stranger.models.list())) instanceof OpenAI.AuthenticationError);
  assert.match((await rejected(read(user("late:internal")))).message, /the agent says internal/);
  assert.match((await rejected(read(user("die"), { model: mortal }))).message, /agent/);
  const gone = await rejected(read(user("say:x"), { model: mortal }));
  assert.deepEqual([gone.status, gone.code], [503, "no_agent"], `${gone}`);
}

async function ollama() {
  const { Ollama } = await import(name);
  const client = new Ollama({ host: base, headers: { Authorization: `Bearer ${key}` } });
  const read = async (parts, text) => {
    let seen = "";
    let last;
    for await (const part of await parts) {
      seen += text(part);
      last = part;
    }
    assert.equal(last.done, true);
    return seen;
  };
  const chat = (content, more) => read(client.chat({ model, messages: user(content), stream: true, ...more }), (part) => part.message.content);

  assert.ok((await client.list()).models.some((one) => one.name === `${model}:latest`));
  const shown = await client.show({ model });
  assert.ok(shown.capabilities.includes("tools") && shown.model_info["agent.context_length"] > 0, JSON.stringify(shown));
  assert.equal((await client.ps()).models.some((one) => one.name === `${model}:latest`), true);
  assert.equal(await chat("say:Hello, world"), "Hello, world");
  const { message } = await client.chat({ model, messages: user(call), tools: [weather] });
  assert.deepEqual(message.tool_calls[0].function.arguments, { city: "Oslo" });
  const told = [...user(call), message, { role: "tool", tool_name: "weather", content: "say:rain" }];
  assert.equal((await client.chat({ model, messages: told, tools: [weather] })).message.content, "rain");
  // As Void fills in the middle.
  const options = { stop: ["\n\n"], num_predict: 300 };
  const parts = client.generate({ model, prompt: "say:return x\n\nnever", suffix: "}", options, raw: true, stream: true });
  assert.equal(await read(parts, (part) => part.response), "return x");
  assert.deepEqual((await client.embed({ model, input: "one" })).embeddings[0].slice(0, 2), [3, -0.5]);

  assert.equal((await rejected(client.chat({ model: "no-such", messages: user("x") }))).status_code, 404);
  assert.match((await rejected(chat("late:internal"))).message, /the agent says internal/);
  assert.match((await rejected(chat("die", { model: mortal }))).message, /agent/);
  assert.equal((await rejected(chat("say:x", { model: mortal }))).status_code, 503);
}

// `base` is where programs look for an Ollama.
async function keyless() {
  const { Ollama } = await import(name);
  const client = new Ollama({ host: base });
  assert.ok((await client.list()).models.some((one) => one.name === `${model}:latest`));
  let seen = "";
  for await (const part of await client.chat({ model, messages: user("say:Hello, world"), stream: true })) seen += part.message.content;
  assert.equal(seen, "Hello, world");
}

async function ai() {
  const { createOpenAICompatible } = await import(name);
  const { embed, generateObject, jsonSchema, stepCountIs, streamText, tool } = await import("ai");
  const local = createOpenAICompatible({ name: "local", baseURL: `${base}/v1`, apiKey: key, includeUsage: true });
  const errors = [];
  const ask = (prompt, more) => streamText({ model: local(model), prompt, maxRetries: 0, onError: ({ error }) => errors.push(error), ...more });

  const hello = ask("say:Hello, world");
  assert.deepEqual([await hello.text, (await hello.totalUsage).totalTokens], ["Hello, world", 18]);
  const city = jsonSchema({ type: "object", properties: { city: { type: "string" } } });
  const execute = async ({ city }) => `say:rain in ${city}`;
  const steps = ask(call, { tools: { weather: tool({ description: "", inputSchema: city, execute }) }, stopWhen: stepCountIs(3) });
  assert.deepEqual([await steps.text, (await steps.steps).length, await steps.finishReason], ["rain in Oslo", 2, "stop"]);
  const thought = ask("think:Hmm");
  assert.deepEqual([await thought.reasoningText, await thought.text], ["Hmm", "done"]);
  const { object } = await generateObject({ model: local(model), prompt: 'say:{"city":"Oslo"}', schema: city });
  assert.deepEqual(object, { city: "Oslo" });
  assert.equal((await embed({ model: local.embeddingModel(model), value: "one" })).embedding[0], 3);

  const unknown = ask("say:x", { model: local("no-such") });
  await rejected(Promise.resolve(unknown.text));
  assert.deepEqual([errors[0].statusCode, /no-such/.test(errors[0].message)], [404, true], `${errors[0]}`);
  for (const [prompt, of, wanted] of [["late:internal", model, /the agent says internal/], ["die", mortal, /agent/]]) {
    errors.length = 0;
    await Promise.resolve(ask(prompt, { model: local(of) }).text).catch(() => {});
    assert.match(`${errors[0]?.message ?? errors[0]}`, wanted);
  }
}

await { openai, ollama, keyless, ai }[what]();
