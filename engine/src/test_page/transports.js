// Ways to a session: Streamable HTTP, frames on `/ws`, and REST with `/events`.

const REVISION = "2025-11-25";
const JSON_TYPE = "application/json";
const EVENTS_TYPE = "text/event-stream";

/** Connections that a browser opens to one address; one is for what is heard and one for answers and cancellation. */
const CALLS_BY_HTTP = 6 - 2;

/** What all ways have in common. `page` is told of `frame`, `question`, `withdrawn`, `notice` and `lost`. */
class Transport {
  constructor(settings, page) {
    Object.assign(this, settings);
    this.page = page;
    this.session = null;
    this.pending = new Map();
    this.made = 0;
    // Another page may have requests open in the same session.
    this.mark = crypto.getRandomValues(new Uint16Array(1))[0].toString(16);
    this.most = Infinity;
  }

  get capabilities() {
    return this.elicitation ? { elicitation: { form: {}, url: {} } } : {};
  }

  /** Sends an HTTP request and shows it. Gives the answer when its status is that of success. */
  async ask(method, path, { body, headers = {}, signal } = {}) {
    const all = new Headers(headers);
    if (this.key) all.set("Authorization", `Bearer ${this.key}`);
    if (body !== undefined) all.set("Content-Type", JSON_TYPE);
    this.page.frame("sent", `${method} ${path}`, body);
    const answer = await fetch(BASE + path, { method, headers: all, body, signal, cache: "no-store", referrerPolicy: "same-origin" });
    const type = answer.headers.get("Content-Type") ?? "";
    if (answer.ok && type.startsWith(EVENTS_TYPE)) {
      this.page.frame("got", `${answer.status} ${EVENTS_TYPE}`);
      return { answer, events: answer.body };
    }
    const text = await answer.text();
    this.page.frame("got", `${answer.status} ${answer.statusText}`, text);
    if (!answer.ok) throw new Refused(sentence(text, answer.status));
    return { answer, text };
  }

  /** Takes one message, or the answers to several. */
  take(text) {
    const value = parsed(text);
    for (const message of Array.isArray(value) ? value : [value]) {
      if (!isObject(message)) continue;
      if (typeof message.method === "string" && "id" in message) this.page.question(message);
      else if (typeof message.method === "string") this.notified(message);
      else this.settle(message.id, message);
    }
  }

  notified(message) {
    const params = message.params ?? {};
    if (message.method === "notifications/progress") this.pending.get(params.progressToken)?.progress?.(params);
    else if (message.method === "notifications/cancelled") this.page.withdrawn(params.requestId);
    else this.page.notice(message);
  }

  settle(id, { result, error }) {
    const waiting = this.pending.get(id);
    this.pending.delete(id);
    if (error) waiting?.reject(new Refused(`${error.code}: ${error.message}`));
    else waiting?.resolve(result);
  }

  /** Whoever waits for the answer to `id` gets none. */
  fail(id, why) {
    const waiting = this.pending.get(id);
    this.pending.delete(id);
    waiting?.reject(why instanceof Refused ? why : new Refused(String(why.message ?? why)));
  }

  /** Sends a request of JSON-RPC. `params` are the members of its parameters, as JSON. */
  request(method, params, progress) {
    this.made += 1;
    const id = `${this.mark}-${this.made}`;
    const token = progress ? [`"_meta":{"progressToken":${quoted(id)}}`] : [];
    const text = `{"jsonrpc":"2.0","id":${quoted(id)},"method":${quoted(method)},"params":{${[...params, ...token].join(",")}}}`;
    const answer = new Promise((resolve, reject) => this.pending.set(id, { resolve, reject, progress }));
    Promise.resolve(this.deliver(text, id)).catch((why) => this.fail(id, why));
    return { id, answer };
  }

  notify(method, params) {
    return this.deliver(`{"jsonrpc":"2.0","method":${quoted(method)},"params":{${params.join(",")}}}`, null);
  }

  /** Answers a question of the server; `rest` is the other member of the answer, as JSON. */
  answer(question, rest) {
    return this.deliver(`{"jsonrpc":"2.0","id":${JSON.stringify(question.id)},${rest}}`, null);
  }

  /** All pages of a list. */
  async all(method, member) {
    const found = [];
    let cursor;
    do {
      const params = cursor === undefined ? [] : [`"cursor":${quoted(cursor)}`];
      const page = await this.request(method, params).answer;
      found.push(...(page?.[member] ?? []));
      cursor = page?.nextCursor;
    } while (typeof cursor === "string");
    return found;
  }

  /** Lists what the server has of a kind: `tools`, `resources` with their templates, or `prompts`. */
  async list(kind) {
    const found = await this.all(`${kind}/list`, kind);
    if (kind !== "resources") return found;
    // Many servers have no templates, and do not know the method.
    const templates = await this.all("resources/templates/list", "resourceTemplates").catch(() => []);
    return [...found, ...templates];
  }

  /** Asks for one of them. `given` are the arguments as a JSON object. */
  run(kind, name, given, progress) {
    const { id, answer } =
      kind === "resources"
        ? this.request("resources/read", given === "{}" ? [] : [given.slice(1, -1)], progress)
        : this.request(kind === "tools" ? "tools/call" : "prompts/get", [`"name":${quoted(name)}`, `"arguments":${given}`], progress);
    const cancel = () => {
      this.fail(id, "cancelled");
      return this.notify("notifications/cancelled", [`"requestId":${quoted(id)}`, '"reason":"The person cancelled it."']);
    };
    return { answer, cancel };
  }
}

/** Reads streams of events, each of which can be cut and read on behind the last event that came. */
class Streams extends Transport {
  constructor(...of) {
    super(...of);
    this.streams = new Set();
    this.broken = new Set();
    this.most = CALLS_BY_HTTP;
  }

  /** Opens a stream with `ask`, and reads it in the background. `id` is the request that it answers, if it does. */
  async open(stream, ask) {
    const { signal } = (stream.control = new AbortController());
    this.streams.add(stream);
    try {
      const { answer, text, events } = await ask(signal);
      if (events) this.hear(stream, events, signal);
      else this.streams.delete(stream);
      return { answer, text };
    } catch (why) {
      this.streams.delete(stream);
      if (signal.aborted) throw new Refused("cut before the answer began, which is lost");
      throw why;
    }
  }

  async hear(stream, events, signal) {
    let why = "the stream has ended";
    try {
      await readEvents(events, (event) => {
        if (event.id) stream.last = event.id;
        const id = event.id === null ? "" : ` ${event.id}`;
        this.page.frame("got", `${event.name === "message" ? "event" : event.name}${id}`, event.data);
        why = this.heard(stream, event) ?? why;
      });
    } catch (error) {
      why = String(error.message ?? error);
    }
    if (signal.aborted) return;
    this.streams.delete(stream);
    const isAwaited = stream.id === null || this.pending.has(stream.id);
    if (this.isEnding || !isAwaited) return;
    this.broken.add(stream);
    this.page.lost(why);
  }

  heard(_, { data }) {
    if (data !== "") this.take(data);
  }

  cut() {
    for (const stream of this.streams) {
      stream.control.abort();
      if (stream.id === null || stream.last !== null) this.broken.add(stream);
    }
    this.streams.clear();
  }

  async resume() {
    const broken = [...this.broken].filter(({ id }) => id === null || this.pending.has(id));
    this.broken.clear();
    for (const stream of broken) {
      try {
        await this.listen(stream);
      } catch (why) {
        // The event may be gone; the session's own stream goes on without it.
        if (stream.id === null) this.broken.add({ id: null, last: null });
        else this.fail(stream.id, why);
        throw why;
      }
    }
  }
}

class Http extends Streams {
  get path() {
    return this.server ? `/servers/${encodeURIComponent(this.server)}/mcp` : "/mcp";
  }

  get headers() {
    const headers = {};
    if (this.session) headers["Mcp-Session-Id"] = this.session;
    if (this.version) headers["MCP-Protocol-Version"] = this.version;
    return headers;
  }

  async create() {
    const info = { name: this.client, version: "1" };
    const params = { protocolVersion: REVISION, capabilities: this.capabilities, clientInfo: info };
    const members = Object.entries(params).map(([name, value]) => `${quoted(name)}:${JSON.stringify(value)}`);
    const result = await this.request("initialize", members).answer;
    this.version = result?.protocolVersion;
    await this.notify("notifications/initialized", []);
    await this.listen({ id: null, last: null });
    return result?.serverInfo;
  }

  async attach(session) {
    this.session = session;
    await this.listen({ id: null, last: null });
  }

  async deliver(body, id) {
    const headers = { ...this.headers, Accept: `${JSON_TYPE}, ${EVENTS_TYPE}` };
    const { answer, text } = await this.open({ id, last: null }, (signal) => this.ask("POST", this.path, { body, headers, signal }));
    this.session ??= answer.headers.get("Mcp-Session-Id");
    if (text) this.take(text);
  }

  async listen(stream) {
    const headers = { ...this.headers, Accept: EVENTS_TYPE };
    if (stream.last !== null) headers["Last-Event-ID"] = stream.last;
    await this.open(stream, (signal) => this.ask("GET", this.path, { headers, signal }));
  }

  async end() {
    this.isEnding = true;
    await this.ask("DELETE", this.path, { headers: this.headers });
    this.cut();
  }
}

/** REST for what the person asks; the session's events for what the server asks and tells. */
class Rest extends Streams {
  /** What ends each call that runs. */
  controls = new Set();

  async create() {
    const body = { client_id: this.client, capabilities: this.capabilities, ...(this.server ? { server: this.server } : {}) };
    const { text } = await this.ask("POST", "/sessions", { body: JSON.stringify(body) });
    const told = parsed(text);
    this.session = told?.session_id;
    await this.listen({ id: null, last: null });
    return told?.server_info;
  }

  async attach(session) {
    this.session = session;
    await this.listen({ id: null, last: null });
  }

  async listen(stream) {
    const headers = { Accept: EVENTS_TYPE };
    if (stream.last !== null) headers["Last-Event-ID"] = stream.last;
    const path = `/events/${encodeURIComponent(this.session)}`;
    await this.open(stream, (signal) => this.ask("GET", path, { headers, signal }));
  }

  heard(stream, event) {
    if (event.name === "message") return super.heard(stream, event);
    const told = parsed(event.data);
    // Its answers go to the address of this server, or to that of all.
    if (event.name === "connected") this.server = told?.server ?? "";
    return event.name === "closed" ? `the stream was closed: ${told?.reason}` : undefined;
  }

  /** REST has no way for an answer to a question: it goes where messages of the session go. */
  async deliver(body) {
    const path = this.server ? `/servers/${encodeURIComponent(this.server)}/mcp` : "/mcp";
    const headers = { Accept: `${JSON_TYPE}, ${EVENTS_TYPE}`, "Mcp-Session-Id": this.session };
    await this.ask("POST", path, { body, headers });
  }

  async post(path, members, signal) {
    const body = `{"session_id":${quoted(this.session)}${members.map((member) => `,${member}`).join("")}}`;
    const { text } = await this.ask("POST", path, { body, signal });
    return parsed(text);
  }

  async list(kind) {
    const told = await this.post(`/${kind}/discover`, []);
    return [...(told?.[kind] ?? []), ...(told?.resource_templates ?? [])];
  }

  run(kind, name, given) {
    const control = new AbortController();
    const [path, members] = {
      tools: ["/tools/call", [`"tool":${quoted(name)}`, `"params":${given}`]],
      prompts: ["/prompts/get", [`"prompt":${quoted(name)}`, `"params":${given}`]],
      resources: ["/resources/read", given === "{}" ? [] : [given.slice(1, -1)]],
    }[kind];
    this.controls.add(control);
    const answer = this.post(path, members, control.signal).then((told) => told?.result);
    // Whoever hangs up takes the call back.
    const cancel = () => control.abort(new Refused("cancelled"));
    return { answer: answer.finally(() => this.controls.delete(control)), cancel };
  }

  async end() {
    this.isEnding = true;
    for (const control of this.controls) control.abort(new Refused("the session was ended"));
    await this.ask("DELETE", `/sessions/${encodeURIComponent(this.session)}`);
    this.cut();
  }
}

class Socket extends Transport {
  /** A browser sends no header with a WebSocket, so the key stands in the path. */
  get address() {
    const key = this.key && !BASE.includes("/k/") ? `/k/${encodeURI(this.key).replace(/[?#]/g, encodeURIComponent)}` : "";
    return `${location.origin.replace(/^http/, "ws")}${BASE}${key}/ws`;
  }

  /** Opens a socket and sends its first frame. Gives the frame by which the program has a session. */
  enter(first) {
    this.page.frame("sent", "WebSocket /ws");
    const socket = new WebSocket(this.address);
    this.socket = socket;
    return new Promise((resolve, reject) => {
      this.entering = { resolve, reject };
      socket.addEventListener("open", () => this.say(JSON.stringify(first)));
      socket.addEventListener("message", ({ data }) => this.got(data));
      socket.addEventListener("close", ({ code, reason }) => this.closed(socket, code, reason));
    });
  }

  say(text) {
    if (this.socket?.readyState !== WebSocket.OPEN) throw new Refused("the socket is not open");
    this.page.frame("sent", "frame", text);
    this.socket.send(text);
  }

  got(text) {
    const frame = parsed(text) ?? {};
    this.page.frame("got", `frame ${frame.event_id ?? ""}`, text);
    this.last = frame.event_id ?? this.last;
    if (frame.type === "session_created") {
      this.session = frame.session_id;
      this.entering?.resolve(frame);
      this.entering = null;
    } else if (frame.type === "error") {
      this.wrong(new Refused(`${frame.code}: ${frame.error}`), frame.id);
    } else {
      this.take(JSON.stringify(frame.data));
    }
  }

  wrong(why, id) {
    if (this.entering) this.entering.reject(why);
    else if (id !== undefined) this.fail(id, why);
    else if (!this.isEnding) this.page.wrong(why);
    this.entering = null;
  }

  closed(socket, code, reason) {
    if (socket !== this.socket) return;
    this.page.frame("got", `closed ${code} ${reason}`);
    const why = `the socket was closed (${code}${reason ? `: ${reason}` : ""})`;
    if (this.entering) this.wrong(new Refused(`${why}; is the key right?`));
    else if (!this.isEnding) this.page.lost(why);
    this.left?.();
  }

  async create() {
    const server = this.server ? { server: this.server } : {};
    const frame = await this.enter({ type: "create_session", client_id: this.client, ...server, capabilities: this.capabilities });
    return frame.server_info;
  }

  async attach(session) {
    const last = this.last ? { last_event_id: this.last } : {};
    const frame = await this.enter({ type: "attach_session", session_id: session, ...last });
    return frame.server_info;
  }

  async deliver(text) {
    this.say(text);
  }

  cut() {
    const socket = this.socket;
    this.socket = null;
    socket?.close();
    if (socket) this.page.frame("sent", "closed");
  }

  async resume() {
    await this.attach(this.session);
  }

  async end() {
    this.isEnding = true;
    const left = new Promise((resolve) => (this.left = resolve));
    if (this.socket?.readyState !== WebSocket.OPEN) await this.resume();
    this.say('{"type":"close_session"}');
    await left;
  }
}

const TRANSPORTS = { http: Http, socket: Socket, rest: Rest };
