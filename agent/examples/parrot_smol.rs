//! The agent of `parrot.rs` on smol: each question is answered by a future, which is dropped when it is cancelled.
use mcp_local_provider_agent::{Agent, Error, Token};

fn main() -> Result<(), Error> {
    let url = std::env::var("PROVIDER_URL").unwrap_or("ws://127.0.0.1:8788/agent".to_owned());
    let token = Token::read("env:PROVIDER_TOKEN")?;
    let agent = Agent::new("parrot");
    async_io::block_on(
        agent.serve_async(&url, &token, |request, mut answer| async move {
            for word in request.prompt().split_inclusive(' ') {
                answer.text(word).await?;
            }
            Ok(())
        }),
    )
}
