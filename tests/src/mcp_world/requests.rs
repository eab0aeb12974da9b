//! What scripted clients do: they open sessions, ask, take back, listen, lose connections and come back, answer, read and end.

use super::alone::{self, Alone};
use super::client::Session;
use super::{IDS, KEYS, REQUESTS, SERVERS, SESSIONS, World};
use arbitrary::{Result, Unstructured};
use serde_json::{Value, json};

impl World {
    /// A client opens a session. Another one of its client may end for it.
    pub(super) fn open(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if self.sessions.len() >= SESSIONS {
            return Ok(());
        }
        let (key, server) = (*u.choose(&KEYS)?, *u.choose(&SERVERS)?);
        let own = self.sessions.iter_mut();
        let own = own.filter(|session| session.key == key && (!session.is_over || session.is_lost));
        let own: Vec<_> = own.collect();
        if own.len() >= self.per_client {
            own.into_iter().for_each(|session| session.may_end = true);
        }
        let hello = json!({ "jsonrpc": "2.0", "id": "open", "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": { "sampling": {} }, "clientInfo": { "name": "world", "version": "1" } } });
        let exchange = self.send(key, server, None, "POST", &[], &hello.to_string());
        let name = format!("S{}", self.sessions.len());
        self.tell(|| format!("{name} is opened by {key} for {server}"));
        self.sessions
            .push(Session::new(name, key, server, exchange));
        Ok(())
    }

    /// A client calls a tool, under an id that it has used before, or that another client uses.
    pub(super) fn call(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let Some(at) = self.used(u)? else {
            return Ok(());
        };
        let id: Value = serde_json::from_str(u.choose(&IDS)?).unwrap();
        let token = u.ratio(3, 4)?.then(|| id.clone());
        let session = &self.sessions[at];
        if session.is_open(&id) || session.requests.len() >= REQUESTS {
            return Ok(());
        }
        let canary = format!("{}-{}", session.name, session.requests.len());
        let mut params = json!({ "name": "echo", "arguments": { "canary": canary } });
        if let Some(token) = &token {
            params["_meta"] = json!({ "progressToken": token });
        }
        let exchange = self.post(
            at,
            &json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params }),
        );
        self.tell(|| format!("{canary} is asked under {id}"));
        self.sessions[at].expect(exchange, id, token, canary);
        Ok(())
    }

    /// A client takes one of its requests back.
    pub(super) fn cancel(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let Some(at) = self.used(u)? else {
            return Ok(());
        };
        let session = &mut self.sessions[at];
        let open = session.requests.iter().enumerate().skip(1);
        let open: Vec<usize> = open
            .filter(|(_, request)| request.answers == 0 && !request.is_given_up)
            .map(|(which, _)| which)
            .collect();
        if open.is_empty() {
            return Ok(());
        }
        let which = *u.choose(&open)?;
        let id = session.requests[which].id.clone();
        session.requests[which].is_given_up = true;
        session.requests[which].is_cancelled = true;
        for stream in session
            .streams
            .iter_mut()
            .filter(|stream| stream.request == Some(which))
        {
            stream.exchange.cut();
            stream.is_over = true;
        }
        let cancelled = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": id } });
        self.tell(|| format!("session {at} takes {cancelled} back"));
        let exchange = self.post(at, &cancelled);
        self.others.push(exchange);
        Ok(())
    }

    /// A client subscribes to the resource that bears the name of its session.
    pub(super) fn subscribe(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let Some(at) = self.used(u)? else {
            return Ok(());
        };
        let id: Value = serde_json::from_str(u.choose(&IDS)?).unwrap();
        let session = &self.sessions[at];
        if session.is_open(&id) || session.requests.len() >= REQUESTS {
            return Ok(());
        }
        let canary = format!("{}-{}", session.name, session.requests.len());
        let params = json!({ "uri": format!("file:///{}", session.name), "canary": canary });
        let exchange = self.post(
            at,
            &json!({ "jsonrpc": "2.0", "id": id, "method": "resources/subscribe", "params": params }),
        );
        self.tell(|| format!("session {at} subscribes"));
        self.sessions[at].has_subscribed = true;
        self.sessions[at].expect(exchange, id, None, canary);
        Ok(())
    }

    /// A client uses the id of a session that another key has opened, or that belongs to another server.
    pub(super) fn intrude(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let Some(at) = self.used(u)? else {
            return Ok(());
        };
        let session = &self.sessions[at];
        let (key, server) = (*u.choose(&KEYS)?, *u.choose(&SERVERS)?);
        if (key, server) == (session.key, session.server) {
            return Ok(());
        }
        let method = *u.choose(&["GET", "POST", "DELETE"])?;
        let ping = json!({ "jsonrpc": "2.0", "id": 0, "method": "ping" }).to_string();
        let body = if method == "POST" { &*ping } else { "" };
        let exchange = self.send(key, server, session.id.as_deref(), method, &[], body);
        self.tell(|| format!("{key} wants session {at} by {method} at {server}"));
        self.intruders.push(exchange);
        Ok(())
    }

    /// A client listens to what belongs to no request of its.
    pub(super) fn listen(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let Some(at) = self.used(u)? else {
            return Ok(());
        };
        if self.sessions[at].streams.len() < 2 * REQUESTS {
            // The one before it ends, with what is on its way; a client that wants that resumes.
            let own = self.sessions[at].streams.iter_mut();
            for stream in own.filter(|stream| stream.request.is_none()) {
                stream.exchange.cut();
                stream.is_over = true;
            }
            self.tell(|| format!("session {at} listens"));
            let exchange = self.get(at, None);
            self.sessions[at].listen(exchange, None);
        }
        Ok(())
    }

    /// A client's connection is lost.
    pub(super) fn cut(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if !self.sessions.is_empty() {
            let which = u.choose_index(self.sessions.len())?;
            let at = u.choose_index(self.sessions[which].streams.len())?;
            self.tell(|| format!("stream {at} of session {which} is cut"));
            self.sessions[which].cut(at);
        }
        Ok(())
    }

    pub(super) fn resume(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if let Some(at) = self.used(u)? {
            self.resume_all(at);
        }
        Ok(())
    }

    /// A client comes back for the streams that were cut.
    pub(super) fn resume_all(&mut self, at: usize) {
        for which in 0..self.sessions[at].streams.len() {
            let stream = &self.sessions[at].streams[which];
            if stream.is_cut && !stream.is_over {
                self.tell(|| {
                    format!(
                        "session {at} resumes stream {which} behind {:?}",
                        stream.last
                    )
                });
                let exchange = self.get(at, stream.last.clone());
                self.sessions[at].listen(exchange, Some(which));
            }
        }
    }

    /// A client ends a session.
    pub(super) fn delete(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if let Some(at) = self.used(u)? {
            self.end(at);
        }
        Ok(())
    }

    pub(super) fn end(&mut self, at: usize) {
        self.tell(|| format!("session {at} is ended"));
        let session = &mut self.sessions[at];
        session.is_over = true;
        session.is_ended = true;
        let session = &self.sessions[at];
        let exchange = self.send(
            session.key,
            session.server,
            session.id.as_deref(),
            "DELETE",
            &[],
            "",
        );
        self.others.push(exchange);
    }

    /// A client answers a question of its server.
    pub(super) fn answer(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let Some(at) = self.used(u)? else {
            return Ok(());
        };
        let session = &mut self.sessions[at];
        if !session.questions.is_empty() {
            let which = u.choose_index(session.questions.len())?;
            let id = session.questions.remove(which);
            let answer =
                json!({ "jsonrpc": "2.0", "id": id, "result": { "canary": session.name } });
            let exchange = self.post(at, &answer);
            self.others.push(exchange);
        }
        Ok(())
    }

    /// A client reads, one of its streams or all.
    pub(super) fn read(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if !self.sessions.is_empty() {
            let session = u.choose_index(self.sessions.len())?;
            self.read_all(session);
        }
        Ok(())
    }

    pub(super) fn read_all(&mut self, at: usize) {
        for which in 0..self.sessions[at].streams.len() {
            self.sessions[at].read(which);
        }
    }

    /// A client asks for the tools of its server, which must be no older than what it was told of their changes.
    pub(super) fn list(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let Some(at) = self.used(u)? else {
            return Ok(());
        };
        let id: Value = serde_json::from_str(u.choose(&IDS)?).unwrap();
        let session = &self.sessions[at];
        if session.is_open(&id) || session.requests.len() >= REQUESTS {
            return Ok(());
        }
        let exchange = self.post(
            at,
            &json!({ "jsonrpc": "2.0", "id": id, "method": "tools/list" }),
        );
        self.tell(|| format!("session {at} lists under {id}"));
        self.sessions[at].expect_list(exchange, id);
        Ok(())
    }

    /// A client without a session calls a tool, or closes the answer to a call.
    pub(super) fn ask_alone(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if !self.alone.is_empty() && u.ratio(1, 3)? {
            let at = u.choose_index(self.alone.len())?;
            self.tell(|| format!("request {at} without a session is closed"));
            self.alone[at].read();
            self.alone[at].cut();
            return Ok(());
        }
        if self.alone.len() >= REQUESTS {
            return Ok(());
        }
        let (key, server) = (*u.choose(&KEYS)?, *u.choose(&SERVERS)?);
        let canary = format!("A{}-0", self.alone.len());
        // By the address of its server, or by that of all.
        let (at, tool) = match u.arbitrary()? {
            true => (server, "echo".to_owned()),
            false => ("", format!("{server}__echo")),
        };
        // Its header for an argument may say something else than that.
        let lies = u.ratio(1, 4)?;
        let repeated = if lies { "another" } else { &*canary };
        let more = [
            ("mcp-protocol-version", "2026-07-28".to_owned()),
            ("mcp-method", "tools/call".to_owned()),
            ("mcp-name", tool.clone()),
            ("mcp-param-canary", repeated.to_owned()),
        ];
        let body = alone::body(&tool, &canary).to_string();
        let exchange = self.send(key, at, None, "POST", &more, &body);
        self.tell(|| format!("{canary} is asked by {key} for {tool} at {at:?}, lies: {lies}"));
        self.alone.push(Alone::new(exchange, canary, lies));
        Ok(())
    }
}
