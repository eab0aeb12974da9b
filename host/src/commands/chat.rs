//! The command `run`: one answer, or a chat in the terminal.

use super::Failure;
use crate::control::{Cancel, ControlClient, error_message};
use serde_json::{Value, json};
use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;
use std::io::{self, BufRead, IsTerminal, Read, Write};

/// Size in bytes above which a prompt on standard input is refused.
const MAX_PROMPT_BYTES: u64 = 32 << 20;
/// Text before a line that the person types.
const PROMPT: &str = ">>> ";
/// Text before a further line of the same message.
const MORE: &str = "... ";
/// Mark at the beginning and at the end of a message of several lines.
const QUOTES: &str = "\"\"\"";
const HELP: &str = "\
/clear       begin a new conversation
/bye         end (Ctrl-D too)
\"\"\"          begin and end a message of several lines
Ctrl-C       cancel the answer
";

/// Asks `model` the prompt of the command line, of standard input where that is no terminal, or of both, and writes the answer.
/// Without a prompt it chats.
pub(super) fn run(
    client: &ControlClient,
    model: &str,
    words: &[String],
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let on_terminal = io::stdin().is_terminal();
    let mut prompt = String::new();
    if !on_terminal {
        let limit = MAX_PROMPT_BYTES + 1;
        io::stdin().lock().take(limit).read_to_string(&mut prompt)?;
        if prompt.len() as u64 > MAX_PROMPT_BYTES {
            let message = format!("the prompt is longer than {MAX_PROMPT_BYTES} bytes");
            return Err(Failure(message));
        }
        prompt.truncate(prompt.trim_end().len());
    }
    if !words.is_empty() && !prompt.is_empty() {
        prompt.push_str("\n\n");
    }
    prompt.push_str(&words.join(" "));
    let mut chat = Chat {
        client,
        model,
        cancel: Cancel::default(),
        transcript: Vec::new(),
        styled: io::stdout().is_terminal(),
    };
    if !prompt.is_empty() {
        return chat.ask(&prompt, out);
    }
    if !on_terminal {
        let message = "there is no prompt: give one after the model, or on standard input";
        return Err(Failure(message.to_owned()));
    }
    chat.talk(out)
}

struct Chat<'a> {
    client: &'a ControlClient,
    model: &'a str,
    cancel: Cancel,
    transcript: Vec<Value>,
    /// True when a terminal shows the answers, which must not act on what is in them.
    styled: bool,
}

impl Chat<'_> {
    /// Talks until the end of standard input.
    fn talk(&mut self, out: &mut dyn Write) -> Result<(), Failure> {
        // An unknown model is told before anything is typed.
        self.client
            .post("/api/show", &json!({ "model": self.model }))?;
        let mut signals = Signals::new([SIGINT])?;
        let ear = signals.handle();
        let cancel = self.cancel.clone();
        let listener = std::thread::spawn(move || {
            for _ in signals.forever() {
                if !cancel.cancel() {
                    // When the terminal is gone there is nobody to tell.
                    let _ = write!(io::stderr(), "\nCtrl-D or /bye ends the chat.\n{PROMPT}");
                }
            }
        });
        writeln!(
            io::stderr(),
            "Chat with {}; /? shows the commands.",
            self.model
        )?;
        let ended = self.turns(out);
        ear.close();
        // The thread has nothing to tell.
        let _ = listener.join();
        ended
    }

    fn turns(&mut self, out: &mut dyn Write) -> Result<(), Failure> {
        while let Some(message) = typed()? {
            match message.trim() {
                "" => {}
                "/bye" | "/exit" => return Ok(()),
                "/clear" => self.transcript.clear(),
                "/?" | "/help" => write!(io::stderr(), "{HELP}")?,
                message => {
                    if let Err(Failure(why)) = self.ask(message, out) {
                        writeln!(io::stderr(), "{why}")?;
                    }
                }
            }
        }
        Ok(writeln!(io::stderr())?)
    }

    /// Returns a code for the terminal where codes are wanted.
    fn style(&self, code: &'static str) -> &'static str {
        let wanted = self.styled && std::env::var_os("NO_COLOR").is_none();
        if wanted { code } else { "" }
    }

    /// Asks for the next answer and writes it as it comes. A question without an answer leaves the transcript again.
    fn ask(&mut self, message: &str, out: &mut dyn Write) -> Result<(), Failure> {
        self.transcript
            .push(json!({ "role": "user", "content": message }));
        let mut answer = String::new();
        let done = self.answer(&mut answer, out);
        let cancelled = self.cancel.end();
        if cancelled && self.styled {
            write!(out, "{}", self.style("\x1b[0m"))?;
        }
        if answer.is_empty() {
            self.transcript.pop();
            if cancelled {
                writeln!(io::stderr())?;
            }
        } else {
            let ended = answer.ends_with('\n');
            self.transcript
                .push(json!({ "role": "assistant", "content": answer }));
            if !ended && writeln!(out).is_err() {
                return Ok(());
            }
        }
        if cancelled { Ok(()) } else { done }
    }

    fn answer(&self, answer: &mut String, out: &mut dyn Write) -> Result<(), Failure> {
        let body = json!({ "model": self.model, "stream": true, "messages": self.transcript });
        let mut stream = self
            .client
            .stream("/v1/chat/completions", &body, &self.cancel)?;
        let mut line = String::new();
        let mut thinks = false;
        loop {
            line.clear();
            let read = stream.read_line(&mut line);
            if read.map_err(|error| self.client.broken(error))? == 0 {
                return Err(Failure("the answer broke off".to_owned()));
            }
            let Some(data) = line.trim_end().strip_prefix("data: ") else {
                continue;
            };
            if data == "[DONE]" {
                return Ok(());
            }
            let event: Value = serde_json::from_str(data)?;
            if let Some(message) = error_message(&event) {
                return Err(Failure(message));
            }
            let delta = |field: &str| {
                let text = event.pointer("/choices/0/delta")?.get(field)?.as_str()?;
                (!text.is_empty()).then(|| text.to_owned())
            };
            let (thought, text) = (delta("reasoning_content"), delta("content"));
            let mut shown = String::new();
            if let Some(thought) = thought.filter(|_| self.styled) {
                if !thinks {
                    shown.push_str(self.style("\x1b[2m"));
                    thinks = true;
                }
                shown.push_str(&harmless(&thought));
            }
            if let Some(text) = text {
                if thinks {
                    shown.push_str(self.style("\x1b[0m"));
                    shown.push_str("\n\n");
                    thinks = false;
                }
                if self.styled {
                    shown.push_str(&harmless(&text));
                } else {
                    shown.push_str(&text);
                }
                answer.push_str(&text);
            }
            match out.write_all(shown.as_bytes()).and_then(|()| out.flush()) {
                // The reader has enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                written => written?,
            }
        }
    }
}

/// Removes what a terminal would act on, but for line ends and tabs.
fn harmless(text: &str) -> String {
    let kept = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
    text.chars().filter(kept).collect()
}

/// Reads the next message from the terminal, for which standard error asks: standard output has answers alone. `None` at its end. One between triple quotes has several lines.
fn typed() -> io::Result<Option<String>> {
    let line = |prompt: &str| {
        write!(io::stderr(), "{prompt}")?;
        let mut line = String::new();
        let count = io::stdin().lock().read_line(&mut line)?;
        Ok::<_, io::Error>((count > 0).then_some(line))
    };
    let Some(first) = line(PROMPT)? else {
        return Ok(None);
    };
    let Some(begun) = first.trim_start().strip_prefix(QUOTES) else {
        return Ok(Some(first));
    };
    let mut message = begun.to_owned();
    while !message.trim_end().ends_with(QUOTES) {
        match line(MORE)? {
            Some(more) => message.push_str(&more),
            None => return Ok(None),
        }
    }
    let message = message.trim_end();
    Ok(Some(
        message.strip_suffix(QUOTES).unwrap_or(message).to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_cannot_act_on_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2J\r\n\tb\u{7}"), "a[2J\n\tb");
    }
}
