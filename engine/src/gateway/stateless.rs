//! Requests of revision 2026-07-28, and the processes that serve them: one that all share, and one each while a request runs that may
//! ask its client.

use super::cell::{Client, ServerCell};
use super::{Gateway, hex_id};
use crate::Engine;
use crate::ranked::{Ranked, SESSION};
use mcp_local_provider_core::hub::keys::{Caller, Keys, digest};
use mcp_local_provider_core::rpc::Message;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_mcp::config::Interactive;
use mcp_local_provider_mcp::mirrored::Given;
use mcp_local_provider_mcp::refusal::{Reason, Refusal};
use mcp_local_provider_mcp::revision::Era;
use mcp_local_provider_mcp::stateless::{Exchange, Wanted};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

/// The refusal of a server that does not exist, or not for the caller.
pub(crate) fn unknown_server() -> Refusal {
    Refusal::new(
        Reason::ServerNotFound,
        "there is no MCP server of this name",
    )
}

/// Capabilities that the gateway declares to a process that several clients share, and that is not the only one of its server. A server that asks for one of them fails the
/// request of a client that does not have it, which the client learns by an error of its own.
const SHARED: &str = r#"{"sampling":{},"elicitation":{},"roots":{}}"#;

/// One request of a client, with those that go on with it.
pub(crate) struct RequestCell {
    number: u64,
    pub(crate) machine: Ranked<Exchange, SESSION>,
    pub(super) server: Arc<ServerCell>,
    client: Client,
    /// Who makes it.
    pub(super) caller: Caller,
    /// The capabilities that the process was told, where it is this request's alone.
    lease: Option<Box<str>>,
}

impl RequestCell {
    /// Number of the request, which tells it from all others.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Ends the answer to one that listens.
    pub(crate) fn end_listening(&self) {
        self.call(|exchange, wake| exchange.handle_over(wake));
    }

    /// Fails it where these keys do not permit its caller to use the server.
    pub(crate) fn uphold(&self, keys: &Keys) {
        if !keys.uphold_server(self.caller.authority, &self.server.name) {
            let refusal = unknown_server();
            self.call(|exchange, wake| exchange.handle_failed(&refusal, wake));
        }
    }

    /// Calls the machine, and wakes whom that wakes.
    pub(super) fn call<R>(&self, call: impl FnOnce(&mut Exchange, &mut Vec<Waker>) -> R) -> R {
        let mut wake = Vec::new();
        let result = call(&mut self.machine.lock(), &mut wake);
        wake.into_iter().for_each(Waker::wake);
        result
    }
}

/// A process that waits for the next request of its client.
struct Lease {
    client: Client,
    told: Box<str>,
    cell: Arc<ServerCell>,
}

/// Processes that belong to no session, and requests whose questions are with their clients.
#[derive(Default)]
pub(super) struct Pools {
    shared: HashMap<Arc<str>, Arc<ServerCell>>,
    idle: Vec<Lease>,
    /// Processes that are one request's each, by its number. One that a reload has struck out is not kept for the next request.
    leased: HashMap<u64, Arc<ServerCell>>,
    suspended: HashMap<Box<str>, (Arc<RequestCell>, Instant)>,
    made: u64,
}

impl Pools {
    /// The processes of all requests that are not at work, and those that are shared.
    pub(super) fn cells(&self) -> Vec<Arc<ServerCell>> {
        let suspended = self.suspended.values().map(|(cell, _)| &cell.server);
        let idle = self.idle.iter().map(|lease| &lease.cell);
        let leased = self.leased.values().chain(idle);
        let all = self.shared.values().chain(leased).chain(suspended);
        all.cloned().collect()
    }

    fn next(&mut self) -> u64 {
        self.made += 1;
        self.made
    }
}

impl Gateway {
    /// Passes a request on.
    pub(crate) fn ask(
        &self,
        engine: &Arc<Engine>,
        (client, caller): (Client, &Caller),
        server: &Arc<str>,
        (wanted, text): (&Wanted<'_>, &str),
    ) -> Result<Arc<RequestCell>, Refusal> {
        let leases = self.interactive(server) == Interactive::Lease;
        // A process without sessions asks by its answers.
        let asks =
            leases && wanted.may_ask() && wanted.capabilities.any() && !self.is_stateless(server);
        let told = asks.then(|| wanted.told().into());
        let mut pools = self.pools.lock();
        let number = pools.next();
        let process = match &told {
            None => {
                drop(pools);
                self.shared(engine, server, Era::Stateless)
            }
            Some(told) => {
                let fits = |lease: &Lease| {
                    lease.client == client && lease.told == *told && lease.cell.name == *server
                };
                let idle = pools.idle.iter().position(fits);
                let idle = idle.map(|at| pools.idle.swap_remove(at).cell);
                let made = || self.process(engine, server, told, (false, Era::Stateless));
                let process = idle.unwrap_or_else(made);
                pools.leased.insert(number, process.clone());
                drop(pools);
                process
            }
        };
        let cell = Arc::new(RequestCell {
            number,
            machine: Ranked::new(Exchange::new(wanted)),
            server: process,
            client,
            caller: caller.clone(),
            lease: told,
        });
        let sent = cell.server.attach_request(engine, &cell).and_then(|()| {
            let is_own = matches!(
                &*wanted.call.method,
                "server/discover" | "subscriptions/listen"
            );
            if is_own {
                Ok(())
            } else {
                send(engine, &cell, text, wanted.given.clone())
            }
        });
        let run = sent.and_then(|()| self.run(engine, &cell.server));
        match run {
            Ok(()) => Ok(cell),
            Err(refusal) => {
                self.finish(engine, &cell);
                Err(refusal)
            }
        }
    }

    /// Goes on with a request whose questions this client has answered.
    pub(crate) fn go_on(
        &self,
        engine: &Arc<Engine>,
        client: &Client,
        server: &str,
        state: &str,
        wanted: &Wanted<'_>,
    ) -> Result<Arc<RequestCell>, Refusal> {
        let known = self
            .pools
            .lock()
            .suspended
            .get(state)
            .map(|(cell, _)| cell.clone());
        let own = known.filter(|cell| cell.client == *client && *cell.server.name == *server);
        let Some(cell) = own else {
            let message = "`requestState` is not known: its request is over, or it was changed; leave it out to begin anew";
            return Err(Refusal::new(Reason::BadParams, message));
        };
        let lines = cell.call(|exchange, _| exchange.resume(engine.clock(), wanted))?;
        self.pools.lock().suspended.remove(state);
        for line in lines {
            cell.server.call(engine, |server, now, out, _| {
                server.send(now, &line, None, out)
            });
        }
        Ok(cell)
    }

    /// Gives the questions of a request to its client. Returns the message.
    pub(crate) fn suspend(&self, now: Instant, cell: &Arc<RequestCell>) -> String {
        let mut pools = self.pools.lock();
        let number = pools.next();
        let seed = digest(&[&self.seed[..], b"states of requests"].concat());
        let state = hex_id(&seed, number);
        pools.suspended.insert(state.clone(), (cell.clone(), now));
        drop(pools);
        cell.call(|exchange, _| exchange.suspend(&state))
    }

    /// Ends a request. A process that was its own waits for the next one of the client where all was said and no reload has changed
    /// its server, and else ends.
    pub(crate) fn finish(&self, engine: &Arc<Engine>, cell: &Arc<RequestCell>) {
        let Some(end) = cell.call(|exchange, _| exchange.end()) else {
            return;
        };
        if let Some(call) = end.call {
            cell.server.call(engine, |server, now, out, _| {
                server.cancel(now, call, None, out);
            });
        }
        cell.server.detach_request(engine, cell);
        let Some(told) = &cell.lease else {
            return;
        };
        let mut pools = self.pools.lock();
        let is_current = pools.leased.remove(&cell.number).is_some();
        if end.is_clean && is_current {
            pools.idle.push(Lease {
                client: cell.client.clone(),
                told: told.clone(),
                cell: cell.server.clone(),
            });
            return;
        }
        drop(pools);
        cell.server
            .call(engine, |server, now, out, _| server.stop(now, out));
    }

    /// Ends requests whose clients have not answered for too long.
    pub(super) fn sweep_requests(&self, engine: &Arc<Engine>, now: Instant) {
        let keep = self.config().timeouts.request;
        self.end_suspended(engine, |_, since| since + keep <= now);
    }

    /// Ends the processes of these servers, with all that waits for them. A process that is one request's ends with that.
    pub(super) fn end_pools(&self, engine: &Arc<Engine>, is_over: impl Fn(&str) -> bool) {
        self.end_suspended(engine, |cell, _| is_over(&cell.server.name));
        let mut pools = self.pools.lock();
        let mut over = Vec::new();
        pools.shared.retain(|name, cell| {
            let stays = !is_over(name);
            if !stays {
                over.push(cell.clone());
            }
            stays
        });
        pools.idle.retain(|lease| {
            let stays = !is_over(&lease.cell.name);
            if !stays {
                over.push(lease.cell.clone());
            }
            stays
        });
        pools.leased.retain(|_, cell| !is_over(&cell.name));
        drop(pools);
        for cell in over {
            cell.end_listeners();
            cell.call(engine, |server, now, out, deliver| {
                server.end(now, out, deliver);
            });
        }
    }

    fn end_suspended(&self, engine: &Arc<Engine>, is_over: impl Fn(&RequestCell, Instant) -> bool) {
        let mut over = Vec::new();
        self.pools.lock().suspended.retain(|_, (cell, since)| {
            let stays = !is_over(cell, *since);
            if !stays {
                over.push(cell.clone());
            }
            stays
        });
        over.iter().for_each(|cell| self.finish(engine, cell));
    }

    /// Has all requests look again at their servers and at what their callers may use, which a reload may have changed.
    pub(super) fn look_again(&self) {
        self.reloads.fetch_add(1, Ordering::AcqRel);
        for cell in self.cells().iter().flat_map(|cell| cell.requests()) {
            cell.call(Exchange::wake);
        }
    }

    /// The number of reloads until now.
    pub(crate) fn reloads(&self) -> u64 {
        self.reloads.load(Ordering::Acquire)
    }

    /// Ends the answers to all listeners: the program drains.
    pub(super) fn end_listeners(&self) {
        let pools = self.pools.lock();
        let shared: Vec<_> = pools.shared.values().cloned().collect();
        drop(pools);
        shared.iter().for_each(|cell| cell.end_listeners());
    }

    /// Forgets a process that nobody runs any more and no request has.
    pub(super) fn forget_lease(&self, cell: &Arc<ServerCell>) {
        let mut pools = self.pools.lock();
        pools.idle.retain(|lease| !Arc::ptr_eq(&lease.cell, cell));
    }

    /// The process of a server that all share. `first` is the form of the protocol that it is asked for, where it is not there yet.
    pub(super) fn shared(&self, engine: &Engine, server: &Arc<str>, first: Era) -> Arc<ServerCell> {
        let told = match self.interactive(server) {
            Interactive::Lease => SHARED,
            Interactive::Refuse => "{}",
        };
        let mut pools = self.pools.lock();
        let made = || self.process(engine, server, told, (true, first));
        let shared = pools.shared.entry(server.clone()).or_insert_with(made);
        shared.clone()
    }

    /// True when requests of 2026-07-28 reach a process that speaks it.
    pub(crate) fn is_stateless(&self, server: &str) -> bool {
        let pools = self.pools.lock();
        let shared = pools.shared.get(server).cloned();
        drop(pools);
        let speaks = self.known(server).stateless == Some(true);
        speaks && shared.is_none_or(|shared| shared.era() == Era::Stateless)
    }

    /// True when questions with this state are with a client.
    pub(crate) fn is_suspended(&self, state: &str) -> bool {
        self.pools.lock().suspended.contains_key(state)
    }

    fn interactive(&self, server: &str) -> Interactive {
        let config = self.config();
        let server = config.server(server);
        server.map(|server| server.interactive).unwrap_or_default()
    }

    fn process(
        &self,
        engine: &Engine,
        server: &Arc<str>,
        told: &str,
        (is_shared, first): (bool, Era),
    ) -> Arc<ServerCell> {
        let hello = format!(
            r#"{{"protocolVersion":"2025-11-25","capabilities":{told},"clientInfo":{{"name":"mcp-local-provider","version":"{}"}}}}"#,
            env!("CARGO_PKG_VERSION")
        );
        ServerCell::new(
            engine,
            server,
            &hello,
            &self.config(),
            (is_shared, first),
            (self.counts(server), self.known(server)),
        )
    }
}

/// Gives the request to the process.
fn send(
    engine: &Arc<Engine>,
    cell: &Arc<RequestCell>,
    text: &str,
    given: Option<Given>,
) -> Result<(), Refusal> {
    let Ok(Message::Request { id, call }) = Message::read(text) else {
        return Err(Refusal::new(
            Reason::BadRequest,
            "the body is no request of JSON-RPC",
        ));
    };
    let sent = cell
        .server
        .request_for(engine, cell, (text, id, &call), given)?;
    cell.call(|exchange, _| exchange.sent(sent));
    Ok(())
}
