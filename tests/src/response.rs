//! A response as its client reads it, from the bytes of the connection (RFC 9112). The reader takes nothing but what this program
//! may write: anything else is a fault of the program.

/// Headers that frame a message or belong to its connection, and the time.
const OF_THE_CONNECTION: [&str; 4] = ["content-length", "transfer-encoding", "connection", "date"];

/// Status and headers of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
}

impl Head {
    fn read(text: &str) -> Self {
        let mut lines = text.split("\r\n");
        let line = lines.next().expect("a status line");
        let status = line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3));
        let status = status.and_then(|status| status.parse().ok());
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").expect("name and value");
            let lower = name.bytes().all(|byte| !byte.is_ascii_uppercase());
            assert!(lower && !value.is_empty(), "the header {line:?}");
            (name.to_owned(), value.as_bytes().to_vec())
        };
        let head = Self {
            status: status.unwrap_or_else(|| panic!("the status line {line:?}")),
            headers: lines.map(header).collect(),
        };
        for (name, _) in &head.headers {
            let same = head.headers.iter().filter(|(other, _)| other == name);
            assert_eq!(same.count(), 1, "the header {name}");
        }
        head
    }

    fn value(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(own, _)| own == name)?;
        Some(std::str::from_utf8(&header.1).expect("UTF-8"))
    }

    /// The status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// Calls `each` with every header that says something of the answer.
    pub fn headers(&self, mut each: impl FnMut(&str, &[u8])) {
        let said = |(name, _): &&(String, _)| !OF_THE_CONNECTION.contains(&name.as_str());
        for (name, value) in self.headers.iter().filter(said) {
            each(name, value);
        }
    }

    /// True when the body comes in pieces whose number is not known.
    #[must_use]
    pub fn is_streamed(&self) -> bool {
        self.value("transfer-encoding").is_some()
    }

    /// True when nothing follows on the connection.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.value("connection") == Some("close")
    }
}

/// A whole response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status and headers.
    pub head: Head,
    /// The body.
    pub body: Vec<u8>,
}

/// The place up to which a response was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Head,
    /// So many bytes of the body are missing.
    Counted(usize),
    /// The size of a chunk follows.
    Size,
    /// So many bytes of a chunk are missing, and the line break behind them.
    Chunk(usize),
    End,
}

/// Reads one response.
#[derive(Debug)]
pub struct Reader {
    place: Place,
    unread: Vec<u8>,
    /// The request's method allows a body.
    has_body: bool,
}

impl Reader {
    /// Reads the response to a request with this method.
    #[must_use]
    pub fn new(method: &str) -> Self {
        Self {
            place: Place::Head,
            unread: Vec::new(),
            has_body: method != "HEAD",
        }
    }

    /// True once the response is whole.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.place == Place::End
    }

    /// Takes bytes, and gives the head where it ends in them, with what they add to the body.
    pub fn read(&mut self, bytes: &[u8]) -> (Option<Head>, Vec<u8>) {
        self.unread.extend_from_slice(bytes);
        let (mut head, mut body) = (None, Vec::new());
        loop {
            match self.place {
                Place::Head => {
                    let Some(text) = self.line("\r\n\r\n") else {
                        break;
                    };
                    let read = Head::read(&text);
                    self.place = self.body_of(&read);
                    head = Some(read);
                }
                Place::Size => {
                    let Some(line) = self.line("\r\n") else { break };
                    let size = usize::from_str_radix(&line, 16).expect("the size of a chunk");
                    self.place = Place::Chunk(size);
                }
                Place::Chunk(0) => {
                    let Some(line) = self.line("\r\n") else { break };
                    assert_eq!(line, "", "a trailer");
                    self.place = Place::End;
                }
                Place::Chunk(size) => {
                    if self.unread.len() < size + 2 {
                        break;
                    }
                    body.extend(self.unread.drain(..size));
                    assert_eq!(self.line("\r\n").as_deref(), Some(""), "the end of a chunk");
                    self.place = Place::Size;
                }
                Place::Counted(0) => self.place = Place::End,
                Place::Counted(missing) => {
                    let count = missing.min(self.unread.len());
                    if count == 0 {
                        break;
                    }
                    body.extend(self.unread.drain(..count));
                    self.place = Place::Counted(missing - count);
                }
                Place::End => {
                    assert!(self.unread.is_empty(), "bytes behind the response");
                    break;
                }
            }
        }
        (head, body)
    }

    fn body_of(&self, head: &Head) -> Place {
        let none = !self.has_body || matches!(head.status, 101 | 204 | 304);
        match (
            head.value("content-length"),
            head.value("transfer-encoding"),
        ) {
            (None, None) if none => Place::End,
            (Some(_), None) if none => Place::Counted(0),
            (Some(length), None) => Place::Counted(length.parse().expect("a length")),
            (None, Some("chunked")) => Place::Size,
            other => panic!("the response is framed by {other:?}"),
        }
    }

    /// Takes the text before a mark, and the mark.
    fn line(&mut self, mark: &str) -> Option<String> {
        let at = memchr::memmem::find(&self.unread, mark.as_bytes())?;
        let text = self.unread.drain(..at).collect();
        self.unread.drain(..mark.len());
        Some(String::from_utf8(text).expect("UTF-8"))
    }
}
