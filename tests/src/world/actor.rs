//! A scripted agent: what it has been asked, what it has sent, what is on its way.

use super::words::Said;
use crate::agent::Heard;
use crate::driver::Wire;
use arbitrary::{Result, Unstructured};
use mcp_local_provider_core::id::{ExchangeId, LinkId};
use std::collections::{HashMap, VecDeque};

/// One agent.
#[derive(Debug)]
pub(super) struct Actor {
    pub(super) name: &'static str,
    /// The key that it shows.
    pub(super) key: Option<&'static str>,
    /// The program starts it.
    pub(super) of_program: bool,
    /// Exchanges that it takes at once.
    pub(super) most: Option<u64>,
    /// It says much at a time.
    pub(super) is_wordy: bool,
    /// Its connection.
    pub(super) link: Option<LinkId>,
    /// Sessions that it was given.
    pub(super) sessions: Vec<String>,
    /// The token of the last of them.
    pub(super) token: Option<String>,
    /// Invocations that it has to answer.
    pub(super) jobs: Vec<Job>,
    /// Frames that it has sent and that have not arrived.
    pub(super) flight: VecDeque<Sent>,
}

/// A frame on its way.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) text: String,
    /// A bridge in between may repeat it or let the next one pass: it has a `chunk_index`.
    pub(super) indexed: bool,
}

/// One invocation.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) id: ExchangeId,
    next: u64,
    /// The second dialect: no `chunk_index`.
    plain: bool,
    /// Texts that are to become vectors.
    inputs: usize,
    /// It has forgotten a chunk, so that the rest is worth nothing.
    pub(super) gap: bool,
}

impl Actor {
    pub(super) fn new(name: &'static str, key: Option<&'static str>, most: Option<u64>) -> Self {
        Self {
            name,
            key,
            of_program: false,
            most,
            is_wordy: false,
            link: None,
            sessions: Vec::new(),
            token: None,
            jobs: Vec::new(),
            flight: VecDeque::new(),
        }
    }

    /// The connection is new.
    pub(super) fn connected(&mut self, link: LinkId) {
        self.disconnected();
        self.link = Some(link);
    }

    /// The connection is gone, and what was on its way.
    pub(super) fn disconnected(&mut self) {
        self.link = None;
        self.jobs.clear();
        self.flight.clear();
    }

    /// Reads what the provider has written.
    pub(super) fn read(&mut self, wire: &mut Wire) {
        while let Some(frame) = wire.inbox.pop_front() {
            match Heard::read(&frame) {
                Heard::Invoke {
                    id,
                    session,
                    inputs,
                    ..
                } => {
                    assert!(!session.is_empty(), "{id} is for a session");
                    self.jobs.push(Job {
                        id,
                        next: 0,
                        plain: id.serial() % 4 == 0,
                        inputs,
                        gap: false,
                    });
                }
                Heard::Cancel { id, .. } => {
                    self.jobs.retain(|job| job.id != id);
                }
                Heard::Registered { session, token } => {
                    self.sessions.push(session);
                    self.token = token.or(self.token.take());
                }
                Heard::Error(_) | Heard::Ping | Heard::Other(_) => {}
            }
        }
    }

    pub(super) fn send(&mut self, text: String) {
        self.flight.push_back(Sent {
            text,
            indexed: false,
        });
    }

    /// Goes on with a job in one of the ways that an agent has.
    pub(super) fn work(
        &mut self,
        at: usize,
        said: &mut HashMap<ExchangeId, Said>,
        u: &mut Unstructured<'_>,
    ) -> Result<()> {
        let how = u.int_in_range(0..=15u8)?;
        let Job { id, inputs, .. } = self.jobs[at];
        if inputs > 0 && how < 8 {
            // Once in a while there are too few or too many.
            let count = if how == 0 {
                u.int_in_range(0..=3)?
            } else {
                inputs
            };
            let vectors = vec!["[1,-2.5e-3]"; count].join(",");
            self.send(format!(
                "{{\"type\":\"model_result\",\"id\":\"{id}\",\"result\":{{\"embeddings\":[{vectors}]}}}}"
            ));
            self.jobs.remove(at);
            return Ok(());
        }
        let said = said.entry(id).or_default();
        match how {
            0..=9 => {
                let members = said.more(self.is_wordy, u)?;
                self.chunk(at, &members, "null");
            }
            10 => {
                let members = said.more(self.is_wordy, u)?;
                self.end(at, said, &members);
            }
            11 => self.end(at, said, ""),
            12 => self.result(at, said, u)?,
            13 => {
                let code = *u.choose(&["overloaded", "rate_limited", "internal", "timeout"])?;
                self.send(crate::agent::failed(id, code));
                self.jobs.remove(at);
            }
            14 => {
                self.send(format!(
                    "{{\"type\":\"error\",\"id\":\"{id}\",\"error\":\"I give up\"}}"
                ));
                self.jobs.remove(at);
            }
            _ => {
                // It forgets a chunk: the client is not to see what comes after.
                let job = &mut self.jobs[at];
                job.next += u64::from(!job.plain);
                job.gap |= !job.plain;
            }
        }
        Ok(())
    }

    fn chunk(&mut self, at: usize, members: &str, finish: &str) {
        let job = &mut self.jobs[at];
        let (id, index) = (job.id, job.next);
        job.next += 1;
        self.flight.push_back(if job.plain {
            let finished = finish != "null";
            Sent {
                text: format!(
                    "{{\"type\":\"model_stream_chunk\",\"id\":\"{id}\",\"chunk\":{{\"delta\":{{{members}}},\"finish_reason\":{finish}}},\"finished\":{finished}}}"
                ),
                indexed: false,
            }
        } else {
            Sent {
                text: crate::agent::delta(id, index, members, finish),
                indexed: true,
            }
        });
    }

    /// Ends a job with a last chunk.
    pub(super) fn end(&mut self, at: usize, said: &mut Said, members: &str) {
        said.ended = true;
        self.chunk(at, members, "\"stop\"");
        self.jobs.remove(at);
    }

    /// Ends a job with a result, which is the whole answer when nothing was said before.
    fn result(&mut self, at: usize, said: &mut Said, u: &mut Unstructured<'_>) -> Result<()> {
        let job = self.jobs.remove(at);
        let members = if job.next == 0 {
            said.more(self.is_wordy, u)?
        } else {
            String::new()
        };
        said.ended = true;
        let id = job.id;
        self.send(format!(
            "{{\"type\":\"model_result\",\"id\":\"{id}\",\"choices\":[{{\"message\":{{{members}}},\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":5}}}}"
        ));
        Ok(())
    }
}
