//! Server-sent events from anybody: however a stream is split, and again once it is written anew.

use mcp_local_provider_core::wire::sse::{Piece, Reader, write_event, write_retry};

/// Contents of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    /// Names and data of the events, and times to wait.
    pieces: Vec<(String, String)>,
    ids: Vec<String>,
    too_long: usize,
    /// All of it, written anew.
    anew: Vec<u8>,
}

fn read<'s>(limit: usize, parts: impl Iterator<Item = &'s [u8]>) -> Read {
    let mut read = Read::default();
    let mut reader = Reader::new(limit);
    for part in parts {
        reader.push(part, |piece| {
            match &piece {
                Piece::Event(event) => {
                    assert!(!event.name.is_empty() && !event.data.contains('\r'));
                    write_event(&mut read.anew, event).expect("it came in lines");
                    read.ids.push(event.id.clone().into_owned());
                }
                Piece::Retry(time) => write_retry(&mut read.anew, *time),
                Piece::TooLong(_) => {
                    read.too_long += 1;
                    return;
                }
            }
            read.pieces.push(match piece {
                Piece::Event(event) => (event.name.into_owned(), event.data.into_owned()),
                other => (format!("{other:?}"), String::new()),
            });
        });
    }
    read
}

/// Reads a stream in one part, in bytes and in parts as the head of `data` says: one byte for the limit, three for the lengths.
///
/// # Panics
/// Panics when the parts matter, or what was read is not read back.
pub fn sse(data: &[u8]) {
    let Some(([limit, lengths @ ..], stream)) = data.split_first_chunk::<4>() else {
        return;
    };
    let whole = read(usize::from(*limit), std::iter::once(stream));
    assert_eq!(whole, read(usize::from(*limit), stream.chunks(1)));
    let mut rest = stream;
    let mut lengths = lengths.iter().cycle();
    let parts = std::iter::from_fn(|| {
        let length = usize::from(*lengths.next()?).min(rest.len());
        let (part, after) = rest.split_at(length.max(1).min(rest.len()));
        rest = after;
        (!part.is_empty()).then_some(part)
    });
    assert_eq!(whole, read(usize::from(*limit), parts));
    let anew = read(usize::MAX, std::iter::once(&*whole.anew));
    assert_eq!(anew.pieces, whole.pieces);
    // The stream's id cannot be taken away by an event that has none.
    let mut ids = whole.ids;
    let mut last = String::new();
    for id in &mut ids {
        if id.is_empty() {
            id.clone_from(&last);
        }
        last.clone_from(id);
    }
    assert_eq!(anew.ids, ids);
}
