//! An agent in ten lines: it repeats the prompt, word by word.
use mcp_local_provider_agent::{Agent, Error, Token};

fn main() -> Result<(), Error> {
    let url = std::env::var("PROVIDER_URL").unwrap_or("ws://127.0.0.1:8788/agent".to_owned());
    let token = Token::read("env:PROVIDER_TOKEN")?;
    Agent::new("parrot").serve(&url, &token, |request, answer| {
        for word in request.prompt().split_inclusive(' ') {
            answer.text(word)?;
        }
        Ok(())
    })
}
