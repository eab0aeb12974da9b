// The page itself: what a person presses, and what is shown.

const FRAMES = 500;
const $ = (id) => document.getElementById(id);

let transport = null;
/** Calls that run. */
const running = new Set();
let calls = 0;
/** `none`, `busy`, `open` or `cut`. */
let phase = "none";

const BUTTONS = {
  create: ["none", "open", "cut"],
  attach: ["none", "open", "cut"],
  cut: ["open"],
  resume: ["cut"],
  end: ["open", "cut"],
  "list-tools": ["open"],
  "list-resources": ["open"],
  "list-prompts": ["open"],
};

/** Shows where the session stands. `tone` is a phase, or `wrong`. */
function say(sentence, tone = phase) {
  $("status").textContent = sentence;
  $("status").dataset.phase = tone;
}

function enter(next, sentence, tone = next) {
  phase = next;
  for (const [id, phases] of Object.entries(BUTTONS)) {
    // A button that is disabled would lose the focus.
    $(id).setAttribute("aria-disabled", String(!phases.includes(phase)));
  }
  for (const call of running) call.button.setAttribute("aria-disabled", String(phase !== "open"));
  say(sentence, tone);
}

const wrong = (why) => say(String(why?.message ?? why), "wrong");

/** Does `work` when the button may be pressed now. */
const press = (id, work) => async (event) => {
  event?.preventDefault();
  if ($(id).getAttribute("aria-disabled") === "true") return;
  try {
    await work();
  } catch (why) {
    wrong(why);
  }
};

function frame(direction, about, text) {
  const list = $("frames");
  const now = new Date();
  const time = `${now.toTimeString().slice(0, 8)}.${String(now.getMilliseconds()).padStart(3, "0")}`;
  const isSent = direction === "sent";
  const arrow = make("span", { className: `arrow ${direction}`, role: "img", aria: { label: isSent ? "sent" : "received" } }, isSent ? "→" : "←");
  const line = make("div", { className: "frame" }, arrow, make("time", { dateTime: now.toISOString() }, time), make("span", {}, about));
  list.prepend(make("li", { data: { direction } }, line, text ? make("pre", {}, pretty(text)) : null));
  while (list.children.length > FRAMES) list.lastElementChild.remove();
}

function lost(why) {
  if (phase !== "open") return;
  transport.cut();
  enter("cut", `Cut: ${why}`);
}

/** Opens or finds a session in place of the one that this page had. */
async function begin(work) {
  if (transport) transport.isEnding = true;
  transport?.cut();
  forget("another session was opened");
  const settings = {
    key: $("key").value.trim(),
    server: $("server").value.trim(),
    client: $("client").value,
    elicitation: $("elicitation").checked,
  };
  const next = new TRANSPORTS[$("transport").value](settings, { frame, question, withdrawn, notice, lost, wrong });
  transport = next;
  enter("busy", "Opening…");
  try {
    const info = await work(next);
    $("session").value = next.session;
    const name = info?.name ? ` with ${info.title ?? info.name} ${info.version ?? ""}` : "";
    enter("open", `Session open${name}`);
  } catch (why) {
    next.isEnding = true;
    next.cut();
    transport = null;
    enter("none", `No session. ${why.message ?? why}`, "wrong");
  }
}

/** Nothing of a session that is gone is shown as if it were there. */
function forget(why) {
  for (const call of [...running]) call.finish("failed", why);
  $("questions").replaceChildren();
  $("questions-section").hidden = true;
  $("offers").replaceChildren();
  $("ask-section").hidden = true;
}

$("connection").addEventListener("submit", press("create", () => begin((next) => next.create())));
$("attaching").addEventListener("submit", press("attach", () => begin((next) => next.attach($("session").value.trim()))));

$("cut").addEventListener("click", press("cut", () => {
  enter("cut", "Cut by you: what comes meanwhile is kept for Resume");
  transport.cut();
}));

$("resume").addEventListener("click", press("resume", async () => {
  enter("busy", "Resuming…");
  try {
    await transport.resume();
    enter("open", "Session open again");
  } catch (why) {
    enter("cut", `Still cut. ${why.message ?? why}`, "wrong");
  }
}));

$("end").addEventListener("click", press("end", async () => {
  const before = phase;
  enter("busy", "Ending…");
  try {
    await transport.end();
  } catch (why) {
    transport.isEnding = false;
    return enter(before, String(why.message ?? why), "wrong");
  }
  transport = null;
  forget("the session was ended");
  enter("none", "Session ended");
}));

$("clear").addEventListener("click", () => $("frames").replaceChildren());

// What the server has.

const text = (value) => (typeof value === "string" ? value : "");

const UNIQUE = { tools: "tool", resources: "resource", prompts: "prompt" };

/** The form for one of the things that a server has. */
function schemaOf(kind, item) {
  if (kind === "tools") return item.inputSchema;
  if (kind === "resources") {
    const uri = text(item.uri) || text(item.uriTemplate);
    const description = item.uri ? "" : "Put values in place of what stands in braces.";
    return { properties: { uri: { type: "string", minLength: 1, default: uri, description } }, required: ["uri"] };
  }
  const given = Array.isArray(item.arguments) ? item.arguments : [];
  const properties = Object.fromEntries(given.map((one) => [one.name, { type: "string", title: one.title, description: one.description }]));
  return { properties, required: given.filter((one) => one.required).map((one) => one.name), additionalProperties: false };
}

async function list(kind) {
  say("Listing…", "busy");
  const from = transport;
  const items = await from.list(kind);
  if (from !== transport) return;
  const buttons = items.map((item) => {
    const name = text(item.title) || text(item.name) || text(item.uri) || text(item.uriTemplate);
    const about = [text(item.uri) || text(item.uriTemplate), text(item.description)].filter((part) => part && part !== name).join(" · ");
    const button = make("button", { type: "button", aria: { pressed: "false" } }, name, make("span", { className: "hint" }, about));
    button.addEventListener("click", () => choose(button, kind, item));
    return make("li", {}, button);
  });
  $("offers").replaceChildren(...buttons);
  const many = items.length === 1 ? UNIQUE[kind] : kind;
  say(`${items.length} ${many}`);
}

for (const kind of Object.keys(UNIQUE)) {
  $(`list-${kind}`).addEventListener("click", press(`list-${kind}`, () => list(kind)));
}

function choose(button, kind, item) {
  for (const other of $("offers").querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
  const name = text(item.name) || text(item.uri);
  $("ask-title").textContent = `${{ tools: "Call", resources: "Read", prompts: "Get" }[kind]} ${text(item.title) || name}`;
  $("ask-about").textContent = text(item.description);
  const form = make("form", { id: "ask" });
  const read = fill(form, schemaOf(kind, item));
  const verb = { tools: "Call tool", resources: "Read resource", prompts: "Get prompt" }[kind];
  form.append(make("div", { className: "buttons" }, make("button", { className: "first" }, verb)));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (phase === "open") run(kind, name, read());
    else say(phase === "cut" ? "The connection is cut: press Resume first" : "There is no session", "wrong");
  });
  $("ask").replaceWith(form);
  $("ask-section").hidden = false;
  (form.querySelector("input, select, textarea") ?? form.querySelector("button")).focus();
}

// Calls.

/** A result as a person reads it: the texts of a tool's answer as they are. The log has all of it as it came. */
function readable(result) {
  const content = Array.isArray(result?.content) ? result.content : [];
  const isText = content.length > 0 && content.every((part) => part?.type === "text" && typeof part.text === "string");
  if (!isText || result.structuredContent !== undefined) return JSON.stringify(result, null, 2);
  return content.map((part) => pretty(part.text)).join("\n\n");
}

function run(kind, name, given) {
  if (running.size >= transport.most) {
    return say(`A browser has few connections to one address: wait, or cancel one of ${running.size} calls`, "wrong");
  }
  calls += 1;
  const state = make("span", { className: "state", role: "status", data: { state: "running" } }, "running");
  const bar = make("progress", { aria: { label: `Progress of call ${calls}` } });
  const told = make("span", { className: "hint" });
  const button = make("button", { type: "button", aria: { label: `Cancel call ${calls}, ${name}` } }, "Cancel");
  const out = make("pre", { tabIndex: 0, aria: { label: `Result of call ${calls}` } });
  const head = make("div", { className: "head" }, make("h3", {}, `${calls}. ${name}`), state, bar, told, button);
  const sent = given === "{}" ? null : make("p", { className: "hint" }, "with ", make("code", {}, given));
  $("calls").prepend(make("li", {}, head, sent));
  $("no-calls").hidden = true;
  const call = { button };
  call.finish = (as, sentence, result) => {
    if (!running.delete(call)) return;
    state.dataset.state = as;
    state.textContent = sentence;
    bar.remove();
    // The focus must not be lost with the button.
    if (document.activeElement === button) $("calls-title").focus();
    button.remove();
    if (result !== undefined) {
      out.textContent = readable(result);
      head.parentElement.append(out);
    }
  };
  running.add(call);
  const progress = (params) => {
    if (typeof params.total === "number") bar.max = params.total;
    if (typeof params.total === "number" && typeof params.progress === "number") bar.value = params.progress;
    const of = typeof params.total === "number" ? ` of ${params.total}` : "";
    told.textContent = `${params.progress}${of}${params.message ? `: ${params.message}` : ""}`;
  };
  const { answer, cancel } = transport.run(kind, name, given, progress);
  button.addEventListener("click", async () => {
    if (button.getAttribute("aria-disabled") === "true") return;
    call.finish("cancelled", "cancelled");
    await Promise.resolve(cancel()).catch(wrong);
  });
  answer.then(
    (result) => call.finish(result?.isError ? "failed" : "answered", result?.isError ? "the tool failed" : "answered", result ?? null),
    (why) => call.finish("failed", String(why.message ?? why)),
  );
}

// What the server asks and tells.

function notice(message) {
  const changed = /^notifications\/(tools|resources|prompts)\/list_changed$/.exec(message.method);
  if (changed) say(`The server has other ${changed[1]} now: list them again`);
}

function question(message) {
  if (message.method === "ping") return void transport.answer(message, '"result":{}').catch(wrong);
  if (message.method !== "elicitation/create") {
    const error = { code: -32601, message: `this page does not answer ${message.method}` };
    return void transport.answer(message, `"error":${JSON.stringify(error)}`).catch(wrong);
  }
  const params = message.params ?? {};
  const form = make("form", {});
  const isAddress = params.mode === "url";
  const read = isAddress ? null : fill(form, { additionalProperties: false, ...params.requestedSchema });
  if (isAddress) form.append(address(text(params.url)));
  const card = make("li", { data: { question: JSON.stringify(message.id) } }, make("h3", {}, text(params.message)), form);
  const give = (action, content) => {
    if (phase !== "open") return say("The connection is cut: press Resume first", "wrong");
    const given = content === undefined ? "" : `,"content":${content}`;
    remove(card);
    transport.answer(message, `"result":{"action":"${action}"${given}}`).catch(wrong);
  };
  const decline = make("button", { type: "button" }, "Decline");
  const dismiss = make("button", { type: "button" }, "Cancel");
  decline.addEventListener("click", () => give("decline"));
  dismiss.addEventListener("click", () => give("cancel"));
  form.append(make("div", { className: "buttons" }, make("button", { className: "first" }, "Accept"), decline, dismiss));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    give("accept", read?.());
  });
  $("questions").append(card);
  $("questions-section").hidden = false;
  say("The server asks a question");
}

/** An address that the server wants the person to visit. Nothing is fetched from it before. */
function address(url) {
  const isWeb = /^https?:\/\//i.test(url);
  const shown = isWeb ? make("a", { href: url, target: "_blank", rel: "noopener noreferrer" }, url) : make("code", {}, url);
  return make("p", {}, "The server asks you to visit ", shown);
}

function remove(card) {
  const hadFocus = card.contains(document.activeElement);
  card.remove();
  $("questions-section").hidden = $("questions").children.length === 0;
  if (hadFocus) $($("questions-section").hidden ? "calls-title" : "questions-title").focus();
}

function withdrawn(id) {
  const card = [...$("questions").children].find((one) => one.dataset.question === JSON.stringify(id));
  if (card) {
    remove(card);
    say("The server has taken its question back");
  }
}

enter("none", "No session");
