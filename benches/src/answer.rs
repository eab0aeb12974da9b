//! A whole answer on a kept connection, whose length is in its head.

use std::io::Read;
use std::net::TcpStream;

use crate::Error;

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: u16,
    /// Its head, in small letters.
    pub(crate) head: String,
    /// Its body.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Reads to the end of the body.
    pub(crate) fn read(stream: &mut TcpStream) -> Result<Self, Error> {
        let mut bytes = Vec::new();
        let mut piece = vec![0; 64 * 1024];
        loop {
            let count = stream.read(&mut piece)?;
            if count == 0 {
                return Err("the server closed a connection".into());
            }
            bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
            let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") else {
                continue;
            };
            let head = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
            let head = head.to_lowercase();
            let mut lines = head.lines();
            let length = lines.find_map(|line| line.strip_prefix("content-length:"));
            let length = length.ok_or("an answer has no length")?;
            if bytes.len() >= end + 4 + length.trim().parse::<usize>()? {
                let status = head.split(' ').nth(1).ok_or("an answer has no status")?;
                return Ok(Self {
                    status: status.parse()?,
                    body: bytes.split_off(end + 4),
                    head,
                });
            }
        }
    }
}
