//! The parts of a template, and what may not stand in one: fuel bounds neither the depth of the engine's calls nor all that it allocates.

/// Longest source in bytes.
pub(crate) const SOURCE: usize = 64 << 10;
/// Words and signs of one tag. The engine calls itself once for each of them: 211 used up 384 KiB of stack.
const TOKENS: usize = 96;
/// Brackets and blocks within one another. The engine's parser took 20 KiB of stack for each.
const NESTING: usize = 6;
/// Branches `elif` of one template.
const ELIFS: usize = 16;

/// Filters that a template may use.
pub(super) const FILTERS: [&str; 25] = [
    "lower",
    "upper",
    "title",
    "capitalize",
    "replace",
    "length",
    "count",
    "trim",
    "join",
    "split",
    "lines",
    "default",
    "d",
    "round",
    "abs",
    "int",
    "float",
    "first",
    "last",
    "min",
    "max",
    "sort",
    "string",
    "tojson",
    "urlencode",
];

/// Forms of templates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    /// Text without a tag.
    Literal,
    /// One expression alone, whose value keeps its type: the bytes between its braces.
    Value {
        /// First byte of the expression.
        from: usize,
        /// End of it.
        to: usize,
    },
    /// Text with tags in it.
    Text,
}

/// A template that is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Refused {
    /// Line in its source, from 1.
    pub(crate) line: usize,
    /// A sentence for people.
    pub(crate) message: String,
}

/// Reads a template.
pub(crate) fn template(source: &str) -> Result<Shape, Refused> {
    let mut scan = Scan::new(source)?;
    let mut blocks = 0_usize;
    let mut elifs = 0_usize;
    let mut shape = Shape::Literal;
    while let Some(open) = scan.next_tag() {
        let begin = scan.at;
        let first = shape == Shape::Literal && begin == 0;
        scan.at += 2;
        match open {
            Open::Comment => {
                scan.at = match scan.rest().find("#}") {
                    Some(end) => scan.at + end + 2,
                    None => return Err(scan.refused("a comment has no end: `#}` is missing")),
                };
                shape = Shape::Text;
            }
            Open::Value => {
                let trims = scan.rest().starts_with(['-', '+']);
                let from = scan.at + usize::from(trims);
                let (end, _) = scan.tag("}}", blocks)?;
                shape = if first && scan.at == source.len() {
                    let to = source.len() - 2 - usize::from(end);
                    Shape::Value { from, to }
                } else {
                    Shape::Text
                };
            }
            Open::Block => {
                shape = Shape::Text;
                let (_, word) = scan.tag("%}", blocks)?;
                match word.as_str() {
                    "if" | "for" => blocks += 1,
                    "endif" | "endfor" => blocks = blocks.saturating_sub(1),
                    "elif" => elifs += 1,
                    "else" => {}
                    other => {
                        let message = format!(
                            "`{other}` is not available in templates; available are if, elif, else and for"
                        );
                        return Err(scan.refused(message));
                    }
                }
                if blocks > NESTING || elifs > ELIFS {
                    let message = format!(
                        "blocks may be nested {NESTING} deep, with {ELIFS} times `elif` in all"
                    );
                    return Err(scan.refused(message));
                }
            }
        }
    }
    Ok(shape)
}

/// Reads an expression without braces.
pub(crate) fn expression(source: &str) -> Result<(), Refused> {
    let mut scan = Scan::new(source)?;
    scan.tag("", 0)?;
    Ok(())
}

enum Open {
    Value,
    Block,
    Comment,
}

struct Scan<'s> {
    source: &'s str,
    at: usize,
}

impl<'s> Scan<'s> {
    fn new(source: &'s str) -> Result<Self, Refused> {
        if source.len() > SOURCE {
            let message = format!("a template may have {SOURCE} bytes");
            return Err(Refused { line: 1, message });
        }
        Ok(Self { source, at: 0 })
    }

    fn rest(&self) -> &'s str {
        self.source.get(self.at..).unwrap_or_default()
    }

    fn refused(&self, message: impl Into<String>) -> Refused {
        let before = self.source.get(..self.at).unwrap_or(self.source);
        Refused {
            line: before.matches('\n').count() + 1,
            message: message.into(),
        }
    }

    /// Goes to the next tag.
    fn next_tag(&mut self) -> Option<Open> {
        loop {
            let found = self.rest().find('{')?;
            self.at += found;
            match self.rest().as_bytes().get(1) {
                Some(b'{') => return Some(Open::Value),
                Some(b'%') => return Some(Open::Block),
                Some(b'#') => return Some(Open::Comment),
                _ => self.at += 1,
            }
        }
    }

    /// Goes behind the end of a tag, or of all where `end` is empty. Gives whether it trims blanks there, and the first word.
    fn tag(&mut self, end: &str, blocks: usize) -> Result<(bool, String), Refused> {
        let mut first = None;
        let (mut tokens, mut depth, mut filter) = (0_usize, 0_usize, false);
        loop {
            if depth == 0 && !end.is_empty() {
                for (trims, mark) in [(false, ""), (true, "-"), (true, "+")] {
                    let closed = self.rest().strip_prefix(mark);
                    if closed.is_some_and(|rest| rest.starts_with(end)) {
                        self.at += mark.len() + end.len();
                        return Ok((trims, first.unwrap_or_default()));
                    }
                }
            }
            let Some(letter) = self.rest().chars().next() else {
                if end.is_empty() {
                    return Ok((false, first.unwrap_or_default()));
                }
                return Err(self.refused(format!("a tag has no end: `{end}` is missing")));
            };
            if letter.is_whitespace() {
                self.at += letter.len_utf8();
                continue;
            }
            tokens += 1;
            if tokens > TOKENS {
                let message = format!("an expression may have {TOKENS} words and signs");
                return Err(self.refused(message));
            }
            let after_bar = std::mem::replace(&mut filter, letter == '|');
            match letter {
                '"' | '\'' => self.string(letter)?,
                '(' | '[' | '{' => {
                    depth += 1;
                    if depth + blocks > NESTING {
                        let message = format!("brackets and blocks may be nested {NESTING} deep");
                        return Err(self.refused(message));
                    }
                    self.at += 1;
                }
                ')' | ']' | '}' => {
                    depth = depth.saturating_sub(1);
                    self.at += 1;
                }
                '*' | '~' => {
                    let message = format!("`{letter}` is not available in templates");
                    return Err(self.refused(message));
                }
                _ if letter.is_alphanumeric() || letter == '_' => {
                    let word: String = self
                        .rest()
                        .chars()
                        .take_while(|it| it.is_alphanumeric() || *it == '_')
                        .collect();
                    if word == "recursive" {
                        return Err(self.refused("`recursive` is not available in templates"));
                    }
                    if after_bar && !FILTERS.contains(&word.as_str()) {
                        let known = FILTERS.join(", ");
                        let message = format!("there is no filter `{word}`; there are {known}");
                        return Err(self.refused(message));
                    }
                    self.at += word.len();
                    first.get_or_insert(word);
                }
                // The end of a block is a sign of its own even where a trim mark was before it.
                _ => self.at += letter.len_utf8(),
            }
        }
    }

    fn string(&mut self, quote: char) -> Result<(), Refused> {
        let mut escaped = false;
        for (at, letter) in self.rest().char_indices().skip(1) {
            match letter {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                _ if letter == quote => {
                    self.at += at + quote.len_utf8();
                    return Ok(());
                }
                _ => {}
            }
        }
        Err(self.refused("a string in a tag has no end"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_template_is_text_or_a_value_or_a_literal() {
        let value = |from, to| Ok(Shape::Value { from, to });
        assert_eq!(template(""), Ok(Shape::Literal));
        assert_eq!(template("a { b } %}"), Ok(Shape::Literal));
        assert_eq!(template("{{ a }}"), value(2, 5));
        assert_eq!(template("{{- a -}}"), value(3, 6));
        assert_eq!(template("{{ '}}' }}"), value(2, 8));
        assert_eq!(template("{{ {'a': {'b': 1}} }}"), value(2, 19));
        assert_eq!(template("{{ a }} "), Ok(Shape::Text));
        assert_eq!(template("{{ a }}{{ b }}"), Ok(Shape::Text));
        assert_eq!(template("{% if a %}b{% endif %}"), Ok(Shape::Text));
        assert_eq!(template("{# * #}"), Ok(Shape::Text));
        assert_eq!(template("* ~ {{ '*~' }}"), Ok(Shape::Text));
    }

    #[test]
    fn unbounded_things_are_refused_with_their_line() {
        for bad in [
            "a\n{{ 'x' * 1000 }}",
            "a\n{{ 2 ** 9 }}",
            "a\n{{ a ~ b }}",
            "a\n{% set x = 1 %}",
            "a\n{%- set x = 1 %}",
            "a\n{% macro m() %}{% endmacro %}",
            "a\n{% raw %}{% endraw %}",
            "a\n{% include 'x' %}",
            "a\n{% for a in b recursive %}",
            "a\n{{ a",
            "a\n{{ 'a }}",
            "a\n{# a",
        ] {
            assert_eq!(template(bad).unwrap_err().line, 2, "{bad}");
        }
        let long = format!("{{{{ a{} }}}}", "+a".repeat(TOKENS));
        assert!(template(&long).is_err());
        let (open, close) = ("(".repeat(NESTING + 1), ")".repeat(NESTING + 1));
        assert!(template(&format!("{{{{ {open}a{close} }}}}")).is_err());
        assert!(template(&"{% for a in b %}".repeat(NESTING + 1)).is_err());
        assert!(template(&"{% elif a %}".repeat(ELIFS + 1)).is_err());
        assert!(template(&" ".repeat(SOURCE + 1)).is_err());
        assert!(expression("a * b").is_err());
        assert!(expression("steps.a.is_error and args.x == '*'").is_ok());
    }
}
