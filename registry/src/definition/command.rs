//! Tools of kind `command`: one program that the configuration lists, without a shell.

use crate::failure::Failure;
use crate::json::{Fields, element, member, must_be};
use crate::need::CommandNeed;
use crate::permits::Permits;
use crate::template::{Count, Stop, Template};
use minijinja::Value;

/// One program with its arguments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Command {
    argv: Box<[Template]>,
    env: Box<[(Box<str>, Template)]>,
    stdin: Option<Template>,
}

impl Command {
    pub(crate) const FIELDS: [&str; 3] = ["command", "env", "stdin"];

    pub(crate) fn read(fields: &Fields<'_>, permits: &dyn Permits) -> Result<Self, Failure> {
        let mut count = Count::default();
        let texts = fields.texts("command")?;
        let texts = texts.ok_or_else(|| fields.missing("command"))?;
        let path = fields.at("command");
        let mut argv = Vec::new();
        for (at, text) in texts.iter().enumerate() {
            let place = element(&path, at);
            let template = Template::read(text, &place, &mut count)?;
            if at == 0 {
                let literal = template.literal().filter(|it| it.starts_with('/'));
                let Some(program) = literal.or_else(|| windows(&template)) else {
                    let message =
                        "the program must be an absolute path, and may not come from a template";
                    return Err(Failure::wrong_at(place, message));
                };
                let permitted = permits.command(program);
                permitted.map_err(|why| Failure::wrong_at(place, why))?;
            }
            argv.push(template);
        }
        if argv.is_empty() {
            return Err(fields.wrong("command", "`command` must name a program"));
        }
        let mut env = Vec::new();
        if let Some(value) = fields.object("env")? {
            let path = fields.at("env");
            for (name, value) in Fields::any(value, &path)?.members() {
                let place = member(&path, name);
                let text = value.text().ok_or_else(|| must_be(&place, "a string"))?;
                if name.is_empty() || name.contains(['=', '\0']) {
                    let message = format!("`{name}` is no name of a variable");
                    return Err(Failure::wrong_at(place, message));
                }
                env.push((name.into(), Template::read(&text, &place, &mut count)?));
            }
        }
        let stdin = fields.text("stdin")?;
        let stdin = stdin.map(|text| Template::read(&text, &fields.at("stdin"), &mut count));
        Ok(Self {
            argv: argv.into(),
            env: env.into(),
            stdin: stdin.transpose()?,
        })
    }

    pub(crate) fn need(&self, scope: &Value) -> Result<CommandNeed, Stop> {
        let render = |template: &Template, what: &str| {
            let text = template.text(scope).map_err(|it| it.of(what))?;
            if text.contains('\0') {
                let message = format!("`{what}` has a zero byte, which no program takes");
                return Err(Stop::Error(message));
            }
            Ok(text)
        };
        let argv = self.argv.iter().enumerate();
        let argv = argv.map(|(at, template)| render(template, &element("command", at)));
        let argv: Vec<String> = argv.collect::<Result<_, _>>()?;
        let env = self.env.iter().map(|(name, template)| {
            let value = render(template, &member("env", name))?;
            Ok((name.clone(), value))
        });
        let env: Vec<(Box<str>, String)> = env.collect::<Result<_, Stop>>()?;
        let stdin = self.stdin.as_ref();
        let stdin = stdin.map(|it| it.text(scope).map_err(|it| it.of("stdin")));
        Ok(CommandNeed {
            argv,
            env,
            stdin: stdin.transpose()?,
        })
    }
}

/// A program of Windows, as `C:\x.exe`.
fn windows(template: &Template) -> Option<&str> {
    let path = template.literal()?;
    let drive = path.bytes().next()?.is_ascii_alphabetic();
    let rooted = path.get(1..3).is_some_and(|it| it == ":\\" || it == ":/");
    (drive && rooted).then_some(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::permits::Anything;
    use mcp_local_provider_core::text::JsonValue;

    fn read(json: &str) -> Result<Command, Failure> {
        Command::read(
            &Fields::any(JsonValue::read(json).unwrap(), "").unwrap(),
            &Anything,
        )
    }

    #[test]
    fn a_value_stays_one_argument() {
        let tool = read(
            r#"{"command":["/bin/echo","{{ args.a }}","x={{ args.a }}"],"env":{"A":"{{ args.a }}"},"stdin":"{{ args.a }}"}"#,
        );
        let tool = tool.unwrap();
        for value in [
            "a b",
            "'; rm -rf /",
            "\n\"$(x)\"",
            "--help",
            "@file",
            "",
            "é",
        ] {
            let scope = serde_json::json!({"args": {"a": value}});
            let need = tool.need(&crate::template::value(&scope)).unwrap();
            let whole = format!("x={value}");
            assert_eq!(need.argv, ["/bin/echo", value, &whole]);
            assert_eq!(need.env, [("A".into(), value.to_owned())]);
            assert_eq!(need.stdin.as_deref(), Some(value));
        }
        let scope = serde_json::json!({"args": {"a": "a\u{0}b"}});
        let stopped = tool.need(&crate::template::value(&scope));
        assert!(matches!(stopped, Err(Stop::Error(_))));
    }

    #[test]
    fn the_program_is_absolute_and_literal() {
        for (json, param) in [
            ("{}", "command"),
            (r#"{"command":[]}"#, "command"),
            (r#"{"command":"/bin/date"}"#, "command"),
            (r#"{"command":["date"]}"#, "command[0]"),
            (r#"{"command":["../date"]}"#, "command[0]"),
            (r#"{"command":["{{ args.a }}"]}"#, "command[0]"),
            (r#"{"command":["/bin/{{ args.a }}"]}"#, "command[0]"),
            (r#"{"command":["/bin/date",1]}"#, "command[1]"),
            (r#"{"command":["/bin/date"],"env":{"A=B":"x"}}"#, "env.A=B"),
            (r#"{"command":["/bin/date"],"env":{"A":1}}"#, "env.A"),
        ] {
            let failure = read(json).unwrap_err();
            assert_eq!(failure.param.as_deref(), Some(param), "{json}");
        }
    }
}
