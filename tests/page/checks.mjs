// The checks of the test page: checks.mjs BASE KEY FOLDER TRANSPORT…

import { join } from "node:path";
import { Fault, Person, browser, check } from "./person.mjs";

const [base, key, pictures, ...transports] = process.argv.slice(2);
const NAMES = { http: "Streamable HTTP", socket: "WebSocket (/ws)", rest: "REST and /events" };
const same = (left, right) => JSON.stringify(left) === JSON.stringify(right);

let shell;
let failed = 0;
let passed = 0;

/** Runs one check, and says how it went. */
async function step(name, work) {
  const began = Date.now();
  try {
    await work();
    passed += 1;
    console.log(`    ok ${name} (${Date.now() - began} ms)`);
  } catch (why) {
    failed += 1;
    console.log(`    FAILED ${name}: ${why instanceof Fault ? why.message : why.stack}`);
  }
}

/** Sends a message to the session of a page, beside the page. */
async function post(message, session) {
  const headers = { Authorization: `Bearer ${key}`, "Content-Type": "application/json", Accept: "application/json, text/event-stream" };
  if (session) headers["Mcp-Session-Id"] = session;
  const answer = await fetch(`${base}/mcp`, { method: "POST", headers, body: JSON.stringify({ jsonrpc: "2.0", ...message }) });
  return { status: answer.status, session: answer.headers.get("Mcp-Session-Id"), text: await answer.text() };
}

async function tool(name, session) {
  const { text } = await post({ id: `beside-${name}`, method: "tools/call", params: { name } }, session);
  return JSON.parse(text.split("data: ").pop()).result.content[0].text;
}

const sessionOf = (person) => person.page.$eval("#session", (element) => element.value);

async function open(transport, address = `${base}/test`) {
  const person = await Person.at(shell, address);
  await person.put("Transport", NAMES[transport]);
  await person.put("Key", key);
  return person;
}

/** A page with a session and the list of its tools. */
async function opened(transport) {
  const person = await open(transport);
  await person.press("Create session");
  await person.shows("Session open with forms 1");
  await person.press("List tools");
  await person.shows("5 tools");
  return person;
}

async function withoutComplaints(person) {
  check(person.complaints.length === 0, person.complaints.join("\n"));
  await person.page.close();
}

async function lists(person) {
  await person.press("List resources");
  await person.shows("2 resources");
  await person.press("one", "#offers");
  await person.press("Read resource");
  check(same((await person.json()).contents, [{ uri: "note:one", text: "a note" }]), "the resource");
  await person.press("List prompts");
  await person.shows("1 prompt");
  await person.press("greet", "#offers");
  await person.put("who", "Ann");
  await person.press("Get prompt");
  check((await person.json()).messages[0].content.text === "Hello Ann", "the prompt");
}

async function form(person) {
  await person.press("All <b>fields</b>", "#offers");
  const shown = await person.page.$$eval("#ask .field", (items) =>
    items.map((item) => {
      const control = item.querySelector("input, select, textarea");
      const about = document.getElementById(control.getAttribute("aria-describedby"));
      return [item.querySelector("label").textContent, control.localName, about?.textContent ?? ""].join("|");
    }),
  );
  const expected = [
    "text string *|textarea|Any text, of several lines too",
    "count integer *|input|at least 1, at most 9",
    "ratio number|input|",
    "flag boolean *|select|",
    "color string|select|",
    "sizes array|select|",
    "list array *|textarea|",
    "node object|textarea|Any object",
    "maybe string|textarea|",
    "left_out number|input|",
  ];
  check(same(shown, expected), JSON.stringify(shown));
  const images = await person.page.$$eval("img, b", (found) => found.length);
  check(images === 0, "markup of the server was taken for markup");
  // What does not fit is not sent.
  await person.press("Call tool");
  await person.put("flag", "true");
  await person.put("list", "{}");
  await person.press("Call tool");
  check((await person.page.$$eval("#calls > li", (items) => items.length)) === 2, "a form that does not fit was sent");
  await person.put("text", "für <i>dich</i>\n2");
  await person.put("count", "7");
  await person.put("ratio", "1.5e3");
  await person.put("sizes", ["S", "L"]);
  await person.put("list", "[1, 12345678901234567890]");
  await person.put("node", '{"a":[]}');
  await person.press("Call tool");
  const answer = await person.json();
  const wanted = { text: "für <i>dich</i>\n2", count: 7, ratio: 1500, flag: true, color: "green", sizes: ["S", "L"], list: [1, 12345678901234567890], node: { a: [] } };
  check(same(answer, wanted), JSON.stringify(answer));
  const frames = await person.frames();
  const sent = frames.some((frame) => frame.direction === "sent" && frame.text.includes("12345678901234567890") && frame.text.includes("1.5e3"));
  check(sent, "the log does not show the call as it was sent");
  await person.press("fail", "#offers");
  await person.press("Call tool");
  await person.call("the tool failed");
}

async function hold(person, steps, text) {
  await person.press("count", "#offers");
  await person.put("steps", steps);
  await person.put("text", text);
  await person.press("Call tool");
  await person.call("running");
}

/** Waits until the server has got something. */
async function heard(session, text, count = 1) {
  const end = Date.now() + 10_000;
  while ((await tool("heard", session)).split(text).length <= count) check(Date.now() < end, `the server has not heard ${text}`);
}

async function cancel(person, transport) {
  await hold(person, 3, "never");
  if (transport !== "rest") {
    await person.until("progress", () => document.querySelector("#calls > li .head").textContent.includes("3 of 3: step 3"));
    const bar = await person.page.$eval("#calls progress", ({ value, max }) => value / max);
    check(bar === 1, `the bar shows ${bar}`);
  }
  const session = await sessionOf(person);
  await heard(session, '"never"');
  await person.press("Cancel", "#calls");
  await person.call("cancelled");
  await heard(session, "notifications/cancelled");
}

async function questions(person) {
  const answered = async (button, values = {}) => {
    await person.press("confirm", "#offers");
    await person.press("Call tool");
    await person.shows("asks a question");
    for (const [name, value] of Object.entries(values)) await person.put(name, value, "#questions");
    await person.press(button, "#questions");
    return person.json();
  };
  const values = { "Your name (name)": "Ann", mail: "ann@example.com", "plan": "Large (l)" };
  const accepted = await answered("Accept", values);
  check(same(accepted, { action: "accept", content: { name: "Ann", mail: "ann@example.com", news: true, plan: "l" } }), JSON.stringify(accepted));
  check(same(await answered("Decline"), { action: "decline" }), "declined");
  check(same(await answered("Cancel"), { action: "cancel" }), "cancelled");
  await person.press("withdraw", "#offers");
  await person.press("Call tool");
  check((await person.answer()) === "never mind", "withdrawn");
  await person.until("end of the questions", () => document.getElementById("questions-section").hidden);
}

async function cut(person, transport) {
  await hold(person, 2, "kept-1");
  const session = await sessionOf(person);
  await heard(session, '"kept-1"');
  // The stream of the call has begun.
  if (transport !== "rest") await person.until("progress", () => document.querySelector("#calls > li .head").textContent.includes("2 of 2"));
  await person.press("Cut");
  await person.shows("Cut by you");
  const before = await person.count("list_changed");
  check((await tool("release", session)) === "released", "released");
  check((await tool("release", session)) === "released", "released");
  await person.press("Resume");
  check((await person.answer()) === "kept-1", "the answer after the cut");
  await person.until("what the server told", (wanted) => [...document.querySelectorAll("#frames pre")].filter((item) => item.textContent.includes("list_changed")).length >= wanted, before + 2);
  // Once more, so that whatever came twice is here by now.
  await person.press("List tools");
  await person.shows("5 tools");
  check((await person.count("kept-1")) === 1, "the answer came twice");
  check((await person.count("list_changed")) === before + 2, "a message came twice");
}

async function end(person) {
  const session = await sessionOf(person);
  await person.press("End session");
  await person.shows("Session ended");
  const gone = await post({ id: 1, method: "ping" }, session);
  check(gone.status === 404, `the session is still there: ${gone.status}`);
}

async function attach(transport) {
  const params = { protocolVersion: "2025-11-25", capabilities: {}, clientInfo: { name: "beside", version: "1" } };
  const { session } = await post({ id: 0, method: "initialize", params });
  await post({ method: "notifications/initialized" }, session);
  const person = await open(transport);
  await person.put("Session id", session);
  await person.press("Attach");
  await person.shows("Session open");
  await person.press("List tools");
  await person.shows("5 tools");
  check((await tool("release", session)) === "released", "released");
  await person.shows("list them again");
  await person.press("End session");
  await person.shows("Session ended");
  await withoutComplaints(person);
}

async function refused(transport) {
  const person = await open(transport);
  await person.put("Key", "wrong");
  await person.press("Create session");
  await person.shows("No session.");
  await person.put("Key", key);
  await person.put("Server", "nowhere");
  await person.press("Create session");
  await person.shows("no MCP server of this name");
  // The browser itself tells of each answer that is an error; nothing else is told.
  const others = person.complaints.filter((line) => !/Failed to load resource|WebSocket connection to/.test(line));
  check(others.length === 0, others.join("\n"));
  await person.page.close();
}

async function keyboard(transport) {
  const person = await open(transport);
  const { keyboard } = person.page;
  await person.page.evaluate(() => document.activeElement.blur());
  await person.tab("server");
  await keyboard.type("forms");
  await person.tab("create");
  await keyboard.press("Enter");
  await person.shows("Session open");
  check((await person.focused()).id === "create", "the focus was lost");
  await person.tab("list-tools");
  await keyboard.press("Enter");
  await person.shows("5 tools");
  await person.tab("confirm");
  await keyboard.press("Enter");
  check((await person.focused()).text === "Call tool", "the focus is not in the form");
  await keyboard.press("Enter");
  await person.shows("asks a question");
  await person.tab("Decline");
  await keyboard.press("Enter");
  check(same(await person.json(), { action: "decline" }), "the question was not answered");
  check((await person.focused()).id === "calls-title", "the focus was lost with the question");
  for (const name of ["cut", "resume", "end"]) {
    await keyboard.down("Shift");
    await person.tab("transport");
    await keyboard.up("Shift");
    await person.tab(name);
    await keyboard.press("Enter");
    await person.shows({ cut: "Cut by you", resume: "open again", end: "Session ended" }[name]);
  }
  await withoutComplaints(person);
}

async function labels(person) {
  const nameless = await person.page.$$eval("input, select, textarea, button", (items) =>
    items.filter((item) => !item.labels?.length && !item.ariaLabel && !item.textContent.trim()).map((item) => item.outerHTML),
  );
  check(nameless.length === 0, nameless.join("\n"));
  const ids = await person.page.$$eval("[id]", (items) => items.map((item) => item.id));
  check(new Set(ids).size === ids.length, "two elements have one id");
}

async function picture(person, transport) {
  await hold(person, 3, "a call that runs");
  await person.press("confirm", "#offers");
  await person.press("Call tool");
  await person.shows("asks a question");
  await person.press("All <b>fields</b>", "#offers");
  const backs = [];
  for (const scheme of ["light", "dark"]) {
    await person.page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
    for (const [form, width] of [["wide", 1280], ["narrow", 400]]) {
      await person.page.setViewport({ width, height: 1200 });
      await person.page.evaluate(() => scrollTo(0, 0));
      const overflow = await person.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      check(overflow <= 0, `${form}: the page is ${overflow} px too wide`);
      await person.page.screenshot({ path: join(pictures, `${transport}-${scheme}-${form}.png`), fullPage: form === "narrow" });
    }
    backs.push(await person.page.evaluate(() => getComputedStyle(document.body).backgroundColor));
  }
  check(backs[0] !== backs[1], "light and dark are the same");
}

async function all(transport) {
  const name = (what) => `${NAMES[transport]}: ${what}`;
  let person;
  await step(name("create, list"), async () => (person = await opened(transport)));
  if (!person) return;
  await step(name("call through the form"), () => lists(person).then(() => person.press("List tools")).then(() => form(person)));
  await step(name("progress, cancel"), () => cancel(person, transport));
  await step(name("questions"), () => questions(person));
  await step(name("cut and resume"), () => cut(person, transport));
  await step(name("labels"), () => labels(person));
  if (transport === transports[0]) await step(name("pictures"), () => picture(person, transport));
  await step(name("end"), () => end(person));
  await step(name("no complaint of the browser"), () => withoutComplaints(person));
  await step(name("attach"), () => attach(transport));
  await step(name("refusals"), () => refused(transport));
  await step(name("keyboard alone"), () => keyboard(transport));
}

shell = await browser();
try {
  for (const transport of transports) await all(transport);
} finally {
  await shell.close();
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
