//! Metrics of upstreams: circuits, attempts and models.

use super::super::status::ProgramStatus;
use super::{Family, Kind, Value, counter, number};
use alloc::vec::Vec;

/// Adds the metrics of upstreams.
pub(super) fn add<'s>(status: &'s ProgramStatus, table: &mut Vec<Family<'s>>) {
    if status.upstreams.is_empty() {
        return;
    }
    let gauge = |name, help| Family::new(name, Kind::Gauge, help);
    let mut circuit = gauge(
        "mcp_local_provider_upstream_circuit",
        "State of an upstream's circuit: 1 for the state that it is in.",
    );
    let mut failed = counter(
        "mcp_local_provider_upstream_failed_attempts",
        "Attempts that failed by the fault of an upstream: connection, time, 5xx or 529.",
    );
    let mut requests = counter(
        "mcp_local_provider_upstream_requests",
        "Requests that an upstream was given.",
    );
    let mut in_flight = gauge(
        "mcp_local_provider_upstream_in_flight",
        "Requests that an upstream answers now.",
    );
    let mut models = gauge(
        "mcp_local_provider_upstream_models",
        "Models of an upstream.",
    );
    for upstream in &status.upstreams {
        let name = ("upstream", &*upstream.name);
        for state in ["closed", "open", "probing"] {
            let is = usize::from(upstream.circuit == state);
            circuit = circuit.with(&[name, ("state", state)], number(is));
        }
        failed = failed.with(&[name], Value::Count(upstream.failed));
        requests = requests.with(&[name], Value::Count(upstream.requests));
        in_flight = in_flight.with(&[name], number(upstream.in_flight));
        models = models.with(&[name], number(upstream.models));
    }
    table.extend([circuit, failed, requests, in_flight, models]);
}
