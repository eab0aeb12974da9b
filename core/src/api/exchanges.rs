//! Routes that an agent answers. Their handlers are the readers of the dialects.

use super::route::Route;
use crate::dialect::{anthropic, ollama, openai, responses};

pub(super) const ROUTES: &[Route] = &[
    Route::ask(
        "POST /v1/chat/completions",
        &["/v1/chat/completions", "/api/v0/chat/completions"],
        openai::CHAT,
    ),
    Route::ask("POST /v1/messages", &["/v1/messages"], anthropic::MESSAGES),
    Route::ask("POST /api/chat", &["/api/chat"], ollama::CHAT),
    Route::ask("POST /v1/responses", &["/v1/responses"], responses::CREATE),
    Route::ask("POST /api/generate", &["/api/generate"], ollama::GENERATE),
    Route::ask(
        "POST /v1/messages/count_tokens",
        &["/v1/messages/count_tokens"],
        anthropic::COUNT_TOKENS,
    ),
    Route::ask(
        "POST /v1/completions",
        &["/v1/completions", "/api/v0/completions"],
        openai::COMPLETION,
    ),
    // Mistral's form of the same.
    Route::ask(
        "POST /v1/fim/completions",
        &["/v1/fim/completions"],
        openai::FIM,
    ),
    Route::ask(
        "POST /v1/embeddings",
        &["/v1/embeddings", "/api/v0/embeddings"],
        openai::EMBEDDING,
    ),
    Route::ask("POST /api/embed", &["/api/embed"], ollama::EMBED),
    // The older form.
    Route::ask(
        "POST /api/embeddings",
        &["/api/embeddings"],
        ollama::EMBEDDINGS,
    ),
];
