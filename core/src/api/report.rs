//! Answers about the program itself. They are written without the hub's lock, from what was taken under it.

use super::metrics::{self, Form};
use super::status::ProgramStatus;
use super::{Endpoint, health};
use crate::exchange::{Reply, ReplyHead};
use crate::hub::metrics::Snapshot;
use crate::id::ExchangeId;

/// Answers a request for metrics or for deep health; `accept` is its `Accept` header.
pub fn report(
    endpoint: Endpoint,
    accept: Option<&str>,
    id: ExchangeId,
    snapshot: &Snapshot,
    status: &ProgramStatus,
    reply: &mut Reply,
) {
    let form = match endpoint {
        Endpoint::HealthDeep => {
            let (code, value) = health::deep(snapshot, status);
            return reply.json(id, code, |out| {
                // Writing to memory cannot fail, and every key is a string.
                *out = serde_json::to_vec(&value).unwrap_or_default();
            });
        }
        Endpoint::MetricsJson => Form::Json,
        _ => Form::accepted(accept),
    };
    reply.body.clear();
    metrics::write(form, snapshot, status, &mut reply.body);
    reply.head = Some(ReplyHead::new(200, form.content_type(), id));
}
