//! Routes of the registry's completions, but `POST /completions`, which is OpenAI's too: its body decides. The engine answers them.

use super::route::{Handler, Responder, Route, Socket};
use crate::config::{Area, Role};
use crate::dialect::Dialect;

/// Requests about completions, one for each route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CompletionTask {
    /// Makes one, and waits for it unless it runs in the background.
    Create,
    /// Makes one, and tells what happens as events.
    Stream,
    /// Shows one.
    Show,
    /// Cancels one that is open, forgets one that is over.
    Delete,
}

impl CompletionTask {
    /// Says what the route does.
    pub(super) const fn summary(self) -> &'static str {
        match self {
            Self::Create => "Asks an integration of the registry, or a model.",
            Self::Stream => "The same, as events.",
            Self::Show => "Shows a completion.",
            Self::Delete => "Cancels a completion, or forgets it.",
        }
    }
}

const COMPLETION: &[&str] = &[
    "/completions/{completion_id}",
    "/registry/completions/{completion_id}",
];

pub(super) const ROUTES: &[Route] = &[
    route(
        "POST /registry/completions",
        &["POST"],
        &["/registry/completions"],
        CompletionTask::Create,
    )
    .with_body(),
    route(
        "POST /completions/stream",
        &["POST"],
        &["/completions/stream", "/registry/completions/stream"],
        CompletionTask::Stream,
    )
    .with_body(),
    Route::engine(
        "GET /completions/stream",
        &["GET"],
        &["/completions/stream", "/registry/completions/stream"],
        Handler::Upgrade(Socket::Completion),
    )
    .for_roles(&[Role::Client])
    .in_area(Area::Registry)
    .in_dialect(Dialect::Rest),
    route(
        "GET /completions/{completion_id}",
        &["GET"],
        COMPLETION,
        CompletionTask::Show,
    )
    .for_roles(&[Role::Client, Role::Operator]),
    route(
        "DELETE /completions/{completion_id}",
        &["DELETE"],
        COMPLETION,
        CompletionTask::Delete,
    )
    .for_roles(&[Role::Client, Role::Operator]),
];

const fn route(
    name: &'static str,
    methods: &'static [&'static str],
    paths: &'static [&'static str],
    task: CompletionTask,
) -> Route {
    Route::engine(
        name,
        methods,
        paths,
        Handler::Respond(Responder::Completion(task)),
    )
    .for_roles(&[Role::Client])
    .in_area(Area::Registry)
    .in_dialect(Dialect::Rest)
}
