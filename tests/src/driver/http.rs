//! Requests as they come over HTTP, from their heads.

use super::Driver;
use mcp_local_provider_core::api::{self, Head};
use mcp_local_provider_core::exchange::Reply;
use mcp_local_provider_core::hub::HubOut;
use mcp_local_provider_core::hub::audit::RequestInfo;

/// What became of a request.
#[derive(Debug)]
pub enum Answered {
    /// It is a call, by index.
    Call(usize),
    /// That is the answer.
    Reply(Reply),
}

impl Driver {
    /// Takes a request with the session that its `X-MCP-Session` names.
    pub fn http(&mut self, head: &Head<'_>, body: &str, session: Option<&str>) -> Answered {
        let id = self.ids.next();
        let mut reply = Reply::default();
        let accepted = match api::accept(&self.config, &self.hub.keys(), head) {
            Ok(accepted) => accepted,
            Err(denied) => {
                reply.refuse(id, denied.dialect, &denied.refusal);
                let info = RequestInfo::new(id, self.now, head.address, denied.endpoint);
                self.hub.note_refusal(self.now, info, &denied.refusal);
                return Answered::Reply(reply);
            }
        };
        let endpoint = accepted.route.endpoint;
        if endpoint.is_inference()
            && let Some(caller) = &accepted.caller
        {
            return match self.ask(id, caller, endpoint, body, session) {
                Ok(at) => Answered::Call(at),
                Err(refusal) => {
                    reply.refuse(id, endpoint.dialect(), &refusal);
                    let info = RequestInfo::new(id, self.now, head.address, endpoint.name());
                    self.hub.note_refusal(self.now, info, &refusal);
                    Answered::Reply(reply)
                }
            };
        }
        let mut out = HubOut::default();
        let (hub, now) = (&mut self.hub, self.now);
        api::answer(
            hub,
            now,
            RequestInfo::new(id, now, head.address, endpoint.name()),
            &accepted,
            body.as_bytes(),
            &mut out,
            &mut reply,
        );
        self.absorb(out);
        self.flow();
        Answered::Reply(reply)
    }
}
