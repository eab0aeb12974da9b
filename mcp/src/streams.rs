//! The streams of one session: what the client is to be told, in order, until it has been told and for a while longer.
//!
//! All messages of a session are numbered together. A stream's event id is `STREAM-NUMBER`, so that an id says which stream it
//! belongs to, and a stream is resumed behind any message that is still kept.

#[cfg(test)]
mod tests;

use crate::config::Resume;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str;
use core::task::Waker;
use mcp_local_provider_core::budget::{ENTRY_CHARGE, Share};
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_core::wire::sse;

/// One stream of a session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId(u64);

impl StreamId {
    /// The stream of what belongs to no request.
    pub const SESSION: Self = Self(0);
}

/// The place behind a message of a stream, as its event id says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// The stream.
    pub stream: StreamId,
    /// Number of the message in the session.
    pub number: u64,
}

impl Position {
    /// Reads an event id; `None` for anything that this program cannot have written.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (stream, number) = text.split_once('-')?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(stream) || !digits(number) {
            return None;
        }
        Some(Self {
            stream: StreamId(stream.parse().ok()?),
            number: number.parse().ok()?,
        })
    }

    /// Appends it as an event id.
    pub fn write(self, out: &mut Vec<u8>) {
        let mut buffer = itoa::Buffer::new();
        out.extend_from_slice(buffer.format(self.stream.0).as_bytes());
        out.push(b'-');
        out.extend_from_slice(buffer.format(self.number).as_bytes());
    }
}

/// Kinds of messages, by what their loss would mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weight {
    /// Progress or a log message, which may be left out.
    Light,
    /// An answer, a request, or a notification that a client relies on.
    Heavy,
    /// The same, and the last but so many of a stream: one answer less is to come.
    Answer,
}

/// The reader of a stream, told from those before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reader(u64);

/// Messages that the client has not got are more than may be kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overflow;

/// Result of a [`Streams::take`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// There is nothing more at the moment.
    Waiting,
    /// All was said: the stream has ended.
    Ended,
    /// Another reader has taken the stream over.
    Replaced,
}

struct Entry {
    number: u64,
    stream: StreamId,
    weight: Weight,
    text: String,
}

#[derive(Debug, Default)]
struct Stream {
    /// The client has got everything up to this number.
    told: u64,
    /// A message with this number was dropped.
    dropped: u64,
    /// Answers that are still to come.
    answers: usize,
    /// It ends with its last answer. The session's own does not.
    ends: bool,
    /// Its answers go to the session's own stream, as one array, when all are there.
    gathers: bool,
    /// It has answers alone: its reader takes nothing else.
    is_whole: bool,
    reader: Option<(Reader, Option<Waker>)>,
    /// Since when it has been complete, or unread.
    left: Option<Instant>,
}

/// The streams of one session, and the messages that are kept for them.
pub struct Streams {
    limits: Resume,
    /// Bytes that may wait for readers.
    most_unread: usize,
    streams: BTreeMap<StreamId, Stream>,
    log: VecDeque<Entry>,
    bytes: usize,
    last_number: u64,
    last_stream: u64,
    last_reader: u64,
    /// Streams that are read.
    readers: usize,
    share: Option<Share>,
}

impl fmt::Debug for Streams {
    /// Messages are never shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (streams, kept) = (self.streams.len(), self.log.len());
        write!(
            f,
            "Streams({streams}, {kept} messages, {} bytes)",
            self.bytes
        )
    }
}

impl Streams {
    /// Makes the session's own stream. `most_unread` in bytes may wait for readers that are there; `share` counts what is kept
    /// against the memory that all queues have together.
    #[must_use]
    pub fn new(limits: Resume, most_unread: usize, share: Option<Share>) -> Self {
        let mut streams = BTreeMap::new();
        streams.insert(StreamId::SESSION, Stream::default());
        Self {
            limits,
            most_unread,
            streams,
            log: VecDeque::new(),
            bytes: 0,
            last_number: 0,
            last_stream: 0,
            last_reader: 0,
            readers: 0,
            share,
        }
    }

    /// Opens a stream that ends with the last of so many answers.
    pub fn open(&mut self, answers: usize) -> StreamId {
        self.last_stream += 1;
        let id = StreamId(self.last_stream);
        self.streams.insert(
            id,
            Stream {
                told: self.last_number,
                answers,
                ends: true,
                ..Stream::default()
            },
        );
        id
    }

    /// Opens a stream for the answers to a batch, of so many requests: when all are there, they go to the session's own stream as one
    /// array. What else is pushed to it goes there at once.
    pub fn gather(&mut self, answers: usize) -> StreamId {
        let id = self.open(answers);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.gathers = true;
        }
        id
    }

    /// Opens a stream for one answer, whose reader takes nothing else: what else is put on it goes to the session's own.
    pub fn open_whole(&mut self) -> StreamId {
        let id = self.open(1);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.is_whole = true;
        }
        id
    }

    /// Returns true when somebody reads the stream.
    #[must_use]
    pub fn is_read(&self, stream: StreamId) -> bool {
        self.streams
            .get(&stream)
            .is_some_and(|stream| stream.reader.is_some())
    }

    /// Returns true when somebody reads any stream.
    #[must_use]
    pub const fn is_attended(&self) -> bool {
        self.readers > 0
    }

    /// Returns the number of streams that are kept, the session's own among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Always false: there is the session's own stream.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Adds a message to a stream, and gives who is to be woken. A stream that is gone drops it.
    ///
    /// # Errors
    /// More waits for the client than may: the session is to end.
    pub fn push(
        &mut self,
        now: Instant,
        id: StreamId,
        weight: Weight,
        text: String,
    ) -> Result<Option<Waker>, Overflow> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(None);
        };
        if (stream.gathers || stream.is_whole) && weight != Weight::Answer {
            return self.push(now, StreamId::SESSION, weight, text);
        }
        if weight == Weight::Answer {
            stream.answers = stream.answers.saturating_sub(1);
            if stream.gathers && stream.answers == 0 {
                return self.gathered(now, id, Some(text));
            }
            if stream.answers == 0 && stream.reader.is_none() {
                stream.left = Some(now);
            }
        }
        self.last_number += 1;
        self.bytes = self.bytes.saturating_add(charge(&text));
        self.log.push_back(Entry {
            number: self.last_number,
            stream: id,
            weight,
            text,
        });
        self.make_room()?;
        let reader = self.streams.get_mut(&id).and_then(|of| of.reader.as_mut());
        Ok(reader.and_then(|(_, waker)| waker.take()))
    }

    /// Moves the answers to a batch to the session's own stream.
    fn gathered(
        &mut self,
        now: Instant,
        id: StreamId,
        last: Option<String>,
    ) -> Result<Option<Waker>, Overflow> {
        let before = self.log.iter().filter(|entry| entry.stream == id);
        let answers = before.map(|entry| &*entry.text).chain(last.as_deref());
        let answers: Vec<&str> = answers.collect();
        let array = (!answers.is_empty()).then(|| alloc::format!("[{}]", answers.join(",")));
        self.close(id);
        match array {
            Some(array) => self.push(now, StreamId::SESSION, Weight::Answer, array),
            None => Ok(None),
        }
    }

    /// An answer will not come: its request was taken back. Gives who is to be woken.
    ///
    /// # Errors
    /// It was the last one of a batch, and more waits for the client than may: the session is to end.
    pub fn give_up(&mut self, now: Instant, id: StreamId) -> Result<Option<Waker>, Overflow> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(None);
        };
        stream.answers = stream.answers.saturating_sub(1);
        if stream.answers > 0 {
            return Ok(None);
        }
        if stream.gathers {
            return self.gathered(now, id, None);
        }
        if stream.reader.is_none() {
            stream.left = Some(now);
        }
        let reader = stream.reader.as_mut();
        Ok(reader.and_then(|(_, waker)| waker.take()))
    }

    /// Takes a stream over from whoever reads it, who is to be woken.
    pub fn read(&mut self, id: StreamId) -> Option<(Reader, Option<Waker>)> {
        self.last_reader += 1;
        let reader = Reader(self.last_reader);
        let stream = self.streams.get_mut(&id)?;
        let before = stream.reader.replace((reader, None));
        self.readers += usize::from(before.is_none());
        Some((reader, before.and_then(|(_, waker)| waker)))
    }

    /// Goes back to a place of a stream: what comes behind it is told again. False when that is not kept any more.
    #[must_use]
    pub fn rewind(&mut self, to: Position) -> bool {
        let last = self.last_number;
        match self.streams.get_mut(&to.stream) {
            Some(stream) if stream.dropped <= to.number && to.number <= last => {
                stream.told = to.number;
                true
            }
            Some(_) | None => false,
        }
    }

    /// The reader has left. It is not there any more if another one has taken the stream over.
    pub fn leave(&mut self, now: Instant, id: StreamId, reader: Reader) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.reader.as_ref().is_some_and(|(of, _)| *of == reader)
        {
            stream.reader = None;
            self.readers = self.readers.saturating_sub(1);
            if stream.ends && stream.answers == 0 {
                stream.left = Some(now);
            }
        }
    }

    /// Forgets a stream whose only message the client has got as a whole answer, without any event.
    pub fn close(&mut self, id: StreamId) {
        if id != StreamId::SESSION {
            let gone = self.streams.remove(&id);
            let was_read = gone.is_some_and(|stream| stream.reader.is_some());
            self.readers = self.readers.saturating_sub(usize::from(was_read));
            self.drop_where(|entry| entry.stream == id);
        }
    }

    /// Returns the only message of a stream that it ends with, when it is to be given without events: nothing was told, and nothing
    /// else waits.
    #[must_use]
    pub fn sole_answer(&self, id: StreamId) -> Option<&str> {
        let stream = self.streams.get(&id).filter(|stream| stream.answers == 0)?;
        let mut waiting = self.waiting(id, stream.told);
        match (waiting.next(), waiting.next()) {
            (Some(entry), None) if entry.weight == Weight::Answer => Some(&entry.text),
            _ => None,
        }
    }

    /// Returns true when something waits on a stream.
    #[must_use]
    pub fn has_news(&self, id: StreamId) -> bool {
        let stream = self.streams.get(&id);
        stream.is_some_and(|stream| self.waiting(id, stream.told).next().is_some())
    }

    /// Returns the number of messages that wait on a stream.
    #[must_use]
    pub fn news(&self, id: StreamId) -> usize {
        let stream = self.streams.get(&id);
        stream.map_or(0, |stream| self.waiting(id, stream.told).count())
    }

    /// Returns true when no answer is to come on a stream any more, or it is gone.
    #[must_use]
    pub fn is_complete(&self, id: StreamId) -> bool {
        self.streams
            .get(&id)
            .is_none_or(|stream| stream.ends && stream.answers == 0)
    }

    fn waiting(&self, id: StreamId, told: u64) -> impl Iterator<Item = &Entry> {
        let from = self.log.partition_point(|entry| entry.number <= told);
        let rest = self.log.range(from..);
        rest.filter(move |entry| entry.stream == id)
    }

    /// Appends the messages that a stream's client has not got, each as an event with its id, and marks them as told. `waker` is
    /// woken when there are more.
    pub fn take(
        &mut self,
        id: StreamId,
        reader: Reader,
        waker: &Waker,
        out: &mut Vec<u8>,
    ) -> Taken {
        self.take_each(id, reader, waker, &mut |at, text| {
            out.extend_from_slice(b"id: ");
            at.write(out);
            out.push(b'\n');
            write_message(text, out);
        })
    }

    /// Gives the messages that a stream's client has not got, each with its place, and marks them as told. `waker` is woken when
    /// there are more.
    pub fn take_each(
        &mut self,
        id: StreamId,
        reader: Reader,
        waker: &Waker,
        each: &mut dyn FnMut(Position, &str),
    ) -> Taken {
        let taken = self.listen(id, reader, waker);
        let last = self.last_number;
        let Some(stream) = self.streams.get_mut(&id) else {
            return taken;
        };
        if taken == Taken::Replaced {
            return taken;
        }
        let told = core::mem::replace(&mut stream.told, last);
        for entry in self.waiting(id, told) {
            let at = Position {
                stream: id,
                number: entry.number,
            };
            each(at, &entry.text);
        }
        // What was told may be too much to keep.
        let _ = self.make_room();
        taken
    }

    /// Leaves the waker of a reader that takes nothing yet: it is woken by the next message. The result is that of a
    /// [`Streams::take`].
    pub fn listen(&mut self, id: StreamId, reader: Reader, waker: &Waker) -> Taken {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Taken::Ended;
        };
        let complete = stream.ends && stream.answers == 0;
        match &mut stream.reader {
            Some((of, _)) if *of != reader => Taken::Replaced,
            None => Taken::Replaced,
            Some((_, known)) => {
                if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
                    *known = Some(waker.clone());
                }
                if complete {
                    Taken::Ended
                } else {
                    Taken::Waiting
                }
            }
        }
    }

    /// Appends an event without data, from which a stream that has told nothing yet can be resumed.
    pub fn prime(&self, id: StreamId, out: &mut Vec<u8>) {
        let number = self.streams.get(&id).map_or(0, |stream| stream.told);
        out.extend_from_slice(b"id: ");
        Position { stream: id, number }.write(out);
        out.extend_from_slice(b"\ndata: \n\n");
    }

    /// Forgets streams that have been complete and unread for [`Resume::keep`]. Gives when to call again.
    pub fn sweep(&mut self, now: Instant) -> Option<Instant> {
        let keep = self.limits.keep;
        let over = |stream: &Stream| {
            stream.reader.is_none() && stream.left.is_some_and(|left| left + keep <= now)
        };
        let gone: Vec<StreamId> = self
            .streams
            .iter()
            .filter(|(_, stream)| over(stream))
            .map(|(id, _)| *id)
            .collect();
        gone.into_iter().for_each(|id| self.close(id));
        let left = self
            .streams
            .values()
            .filter(|stream| stream.reader.is_none());
        left.filter_map(|stream| stream.left)
            .min()
            .map(|left| left + keep)
    }

    /// Wakes every reader: the session has ended.
    pub fn wake_all(&mut self) -> Vec<Waker> {
        let readers = self.streams.values_mut();
        let readers = readers.filter_map(|stream| stream.reader.as_mut());
        readers.filter_map(|(_, waker)| waker.take()).collect()
    }

    /// Drops messages until the rest may be kept: first what clients have got, the oldest first, then what they can do without.
    fn make_room(&mut self) -> Result<(), Overflow> {
        let fits = |streams: &Self| {
            streams.bytes <= streams.limits.bytes && streams.log.len() <= streams.limits.events
        };
        while !fits(self) {
            let is_told = |entry: &Entry| {
                let stream = self.streams.get(&entry.stream);
                stream.is_none_or(|stream| entry.number <= stream.told)
            };
            let told = self.log.iter().position(is_told);
            let light = || {
                self.log
                    .iter()
                    .position(|entry| entry.weight == Weight::Light)
            };
            let Some(at) = told.or_else(light) else {
                break;
            };
            self.remove(at);
        }
        self.hold();
        if fits(self) || self.log.len() < 2 {
            // One message is taken whatever its length.
            return Ok(());
        }
        // What is left waits for the client. What somebody reads may be more, because it leaves in a moment.
        let (mut unread, mut messages) = (0, 0);
        for entry in self.log.iter().filter(|entry| !self.is_read(entry.stream)) {
            unread += charge(&entry.text);
            messages += 1;
        }
        let is_over = messages > 1 && (unread > self.limits.bytes || messages > self.limits.events);
        if is_over || self.bytes > self.most_unread {
            Err(Overflow)
        } else {
            Ok(())
        }
    }

    fn remove(&mut self, at: usize) {
        if let Some(entry) = self.log.remove(at) {
            self.bytes = self.bytes.saturating_sub(charge(&entry.text));
            if let Some(stream) = self.streams.get_mut(&entry.stream) {
                stream.dropped = stream.dropped.max(entry.number);
            }
        }
    }

    fn drop_where(&mut self, mut goes: impl FnMut(&Entry) -> bool) {
        let mut bytes = 0_usize;
        self.log.retain(|entry| {
            let goes = goes(entry);
            if goes {
                bytes = bytes.saturating_add(charge(&entry.text));
            }
            !goes
        });
        self.bytes = self.bytes.saturating_sub(bytes);
        self.hold();
    }

    fn hold(&mut self) {
        if let Some(share) = &mut self.share {
            // New work is refused where it comes in.
            let _ = share.hold(self.bytes);
        }
    }
}

/// Appends a message as an event, behind its id where it has one.
pub fn write_message(text: &str, out: &mut Vec<u8>) {
    // Every client understands the usual type, and old ones want to see it.
    out.extend_from_slice(b"event: message\n");
    sse::begin(out, None);
    // JSON may stand on several lines, of which each would end the event's line.
    out.extend(text.bytes().map(|byte| match byte {
        b'\n' | b'\r' => b' ',
        byte => byte,
    }));
    sse::end(out);
}

fn charge(text: &str) -> usize {
    text.len().max(ENTRY_CHARGE)
}
