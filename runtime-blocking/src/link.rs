//! The two threads of each WebSocket that was accepted: one reads, the other one writes and serves the deadlines of what is behind it.
//!
//! Another thread that has something for the peer writes it itself, as far as the socket has room, and leaves the rest to the one
//! that writes.

use crate::parker::Parker;
use crate::peer::Peer;
use crate::threads::Threads;
use crate::websocket::{Reader, Writer};
use mcp_local_provider_core::link::CloseCode;
use mcp_local_provider_engine::Clock;
use mcp_local_provider_engine::converse::{Converse, Frame, Turn};
use mcp_local_provider_engine::run_queue::{self, Task};
use mcp_local_provider_engine::websocket::{CLOSING, Ended, message};
use rustix::event::PollFlags;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Wake, Waker};
use std::thread;
use std::time::Instant;
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::Utf8Bytes;

/// Passes of another thread over what there is to write, before it leaves the rest to the writer.
const PASSES: usize = 8;

/// State that both threads share.
struct Both {
    threads: Threads,
    link: Box<dyn Converse>,
    outgoing: Mutex<Outgoing>,
    from_reader: Mutex<FromReader>,
    received: Arc<AtomicU64>,
    /// The reader has taken all that was there, and waits for more.
    reader_waits: AtomicBool,
    /// The writer wants to hear of that.
    asked: AtomicBool,
}

/// The way to the peer, for one thread at a time.
struct Outgoing {
    writer: Writer,
    /// Taken from the link and not yet given to the socket.
    frames: VecDeque<Frame>,
    /// Found by another thread.
    failed: Option<Ended>,
}

/// State that the reader leaves for the writer.
#[derive(Default)]
struct FromReader {
    /// Only the latest ping is answered, as RFC 6455 allows, so that pings without end take no room.
    pong: Option<Message>,
    /// The peer's close frame, to be sent back.
    close: Option<Option<CloseFrame>>,
    ended: Option<Ended>,
    /// Nothing is read any more.
    is_done: bool,
}

impl Both {
    fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what there is, a batch with one flush. False when the socket is full.
    fn write(&self, outgoing: &mut Outgoing) -> Result<bool, Ended> {
        if let Some(failed) = outgoing.failed.take() {
            return Err(failed);
        }
        let Outgoing { writer, frames, .. } = outgoing;
        loop {
            if let Some(pong) = self.reader(|reader| reader.pong.take()) {
                writer.queue(pong)?;
            }
            // In this order: nothing is taken before all that was taken is written.
            if !writer.flush()? {
                return Ok(false);
            }
            if frames.is_empty() {
                self.link.take_frames(frames);
            }
            if frames.is_empty() {
                return Ok(true);
            }
            while let Some(frame) = frames.pop_front()
                && writer.queue(message(frame))?
            {}
        }
    }

    /// Writes in the place of the writer. False when that has to go on itself.
    fn write_for_another(&self, waker: &Waker) -> bool {
        let Ok(mut outgoing) = self.outgoing.try_lock() else {
            return false;
        };
        if self.threads.are_many_served() {
            // Threads that are about to have something too go first, so that one write carries it all.
            thread::yield_now();
        }
        for _ in 0..PASSES {
            match self.write(&mut outgoing) {
                Ok(true) => {}
                Ok(false) => return false,
                Err(failed) => {
                    outgoing.failed = Some(failed);
                    return false;
                }
            }
            let more = self.link.wait_to_write(waker, true);
            if more.close.is_some() || more.sooner {
                return false;
            }
            if !more.frames {
                return true;
            }
        }
        false
    }

    fn reader<R>(&self, call: impl FnOnce(&mut FromReader) -> R) -> R {
        let from_reader = self.from_reader.lock();
        call(&mut from_reader.unwrap_or_else(PoisonError::into_inner))
    }
}

/// Wakes the thread that writes, or has another one write in its place.
struct Writes {
    both: Weak<Both>,
    writer: Arc<Parker>,
}

impl Wake for Writes {
    fn wake(self: Arc<Self>) {
        run_queue::wake(self);
    }
}

impl Task for Writes {
    fn run(self: Arc<Self>) {
        let waker = Waker::from(self.clone());
        let both = self.both.upgrade();
        if both.is_some_and(|both| !both.write_for_another(&waker)) {
            self.unpark();
        }
    }

    fn unpark(&self) {
        self.writer.unpark();
    }
}

/// Serves the connection to its end.
pub(crate) fn run(threads: &Threads, link: Box<dyn Converse>, peer: &Arc<Peer>, reader: Reader) {
    let _open = threads.engine().open_socket();
    let both = Arc::new(Both {
        threads: threads.clone(),
        link,
        outgoing: Mutex::new(Outgoing {
            writer: Writer::new(peer.clone()),
            frames: VecDeque::new(),
            failed: None,
        }),
        from_reader: Mutex::default(),
        received: reader.received(),
        reader_waits: AtomicBool::new(false),
        asked: AtomicBool::new(false),
    });
    let parker = Parker::new();
    let (reading, ringing) = (both.clone(), parker.waker());
    let read = threads.spawn("agent-reader", move || read(&reading, reader, &ringing));
    if let Err(error) = read {
        tracing::warn!(%error, "there is no thread for an agent");
        return;
    }
    let id = both.link.number();
    let waker = Waker::from(Arc::new(Writes {
        both: Arc::downgrade(&both),
        writer: parker.clone(),
    }));
    let writing = Writing {
        both: &both,
        peer,
        parker: &parker,
        waker: &waker,
        clock: threads.clock(),
    };
    let end = writing.run();
    both.link.disconnect();
    let close = match end {
        End::Close(code) => {
            let (number, reason) = (code.code(), code.reason());
            tracing::info!(link = id, code = number, "closing a link: {reason}");
            writing.take_last_frames();
            Some(close_frame(number, reason))
        }
        End::Ended(Ended::Fault(code, what)) => {
            tracing::warn!(link = id, code, "closing a link: {what}");
            Some(close_frame(code, ""))
        }
        End::Ended(ended) => {
            tracing::info!(link = id, "a link ended: {ended}");
            both.reader(|reader| reader.close.take())
                .unwrap_or_default()
        }
    };
    writing.close(close);
    peer.end();
}

fn close_frame(code: u16, reason: &'static str) -> CloseFrame {
    CloseFrame {
        code: code.into(),
        reason: Utf8Bytes::from_static(reason),
    }
}

/// Reads to the end.
fn read(both: &Both, mut reader: Reader, writer: &Waker) {
    let mut turn = Turn::default();
    // Something may have come behind the handshake.
    let mut waits = false;
    let ended = loop {
        if waits {
            both.reader_waits.store(true, Ordering::SeqCst);
            if both.asked.swap(false, Ordering::SeqCst) {
                writer.wake_by_ref();
            }
            let waited = reader.wait(None);
            both.reader_waits.store(false, Ordering::SeqCst);
            if let Err(error) = waited {
                break Ended::Lost(error.to_string());
            }
        }
        both.link.begin(&mut turn);
        let read = read_turn(both, &mut reader, &mut turn);
        let wants_writer = run_queue::enter(|| both.link.finish(&mut turn));
        if wants_writer || both.reader(|reader| reader.pong.is_some()) {
            writer.wake_by_ref();
        }
        match read {
            Ok(drained) => waits = drained,
            Err(ended) => break ended,
        }
    };
    // At once, whatever the writer waits for.
    both.link.disconnect();
    both.reader(|reader| {
        let code = reader.close.as_ref();
        let code = code.map(|frame| frame.as_ref().map(|frame| frame.code.into()));
        reader.ended = Some(code.map_or(ended, Ended::Closed));
        reader.is_done = true;
    });
    writer.wake_by_ref();
}

/// Takes messages until the turn is full. False when there may be more.
fn read_turn(both: &Both, reader: &mut Reader, turn: &mut Turn) -> Result<bool, Ended> {
    while !turn.is_full() {
        match reader.receive()? {
            None => return Ok(true),
            Some(Message::Text(text)) => both.link.receive(turn, &text),
            Some(Message::Binary(_)) => both.link.receive_binary(turn),
            Some(Message::Ping(payload)) => {
                both.link.alive(turn);
                both.reader(|reader| reader.pong = Some(Message::Pong(payload)));
            }
            Some(Message::Pong(_)) => both.link.alive(turn),
            Some(Message::Close(frame)) => both.reader(|reader| reader.close = Some(frame)),
            Some(Message::Frame(_)) => {}
        }
    }
    Ok(false)
}

/// Reason for the end of a link.
enum End {
    /// We close it.
    Close(CloseCode),
    /// The peer closed it, broke the protocol or is lost.
    Ended(Ended),
}

struct Writing<'w> {
    both: &'w Both,
    peer: &'w Arc<Peer>,
    parker: &'w Parker,
    waker: &'w Waker,
    clock: Clock,
}

impl Writing<'_> {
    fn run(&self) -> End {
        let mut turn = Turn::default();
        let mut received = 0;
        let (mut next, mut late) = (None::<Instant>, false);
        loop {
            if !late || self.reader_has_looked() {
                self.both.link.begin(&mut turn);
                let count = self.both.received.load(Ordering::Relaxed);
                let until = self.both.link.serve_timers(&mut turn, count != received);
                received = count;
                self.both.link.finish(&mut turn);
                next = until.map(|until| self.clock.system(until));
                late = next.is_some_and(|next| next <= Instant::now());
            }
            if let Some(ended) = self.both.reader(|reader| reader.ended.take()) {
                return End::Ended(ended);
            }
            let (flushed, stalled) = {
                let mut outgoing = self.both.outgoing();
                match self.both.write(&mut outgoing) {
                    Ok(flushed) => (flushed, outgoing.writer.stalled()),
                    Err(ended) => return End::Ended(ended),
                }
            };
            let more = self.both.link.wait_to_write(self.waker, flushed);
            if let Some(code) = more.close {
                return End::Close(code);
            }
            if flushed && more.frames {
                continue;
            }
            if late && self.reader_has_looked() {
                continue;
            }
            let mut until = next.filter(|_| !late);
            let mut watched = None;
            if !flushed {
                let stalled = stalled.unwrap_or_else(Instant::now);
                let stalled = stalled + self.peer.write_timeout();
                if Instant::now() >= stalled {
                    self.peer.reset_on_close();
                    return End::Ended(Ended::Lost("the peer does not read".into()));
                }
                until = Some(until.map_or(stalled, |until| until.min(stalled)));
                watched = Some((self.peer.socket(), PollFlags::OUT));
            }
            self.parker.wait(watched, until);
        }
    }

    /// True when the reader has taken all that there was. Else it wakes this thread once it has.
    fn reader_has_looked(&self) -> bool {
        self.both.asked.store(true, Ordering::SeqCst);
        // In this order: what the reader takes after the first look, it takes while it does not wait.
        !self.peer.is_readable() && self.both.reader_waits.load(Ordering::SeqCst)
    }

    /// Queues the frames that are left to write before the close frame, as far as there is room.
    fn take_last_frames(&self) {
        let mut outgoing = self.both.outgoing();
        let Outgoing { writer, frames, .. } = &mut *outgoing;
        self.both.link.take_frames(frames);
        while let Some(frame) = frames.pop_front() {
            if !matches!(writer.queue(message(frame)), Ok(true)) {
                return;
            }
        }
    }

    /// Sends the close frame, and gives the peer a moment to read that and to close its side.
    fn close(&self, frame: Option<CloseFrame>) {
        let until = Instant::now() + CLOSING;
        let mut written = self.both.outgoing().writer.close(frame);
        while let Ok(false) = written
            && Instant::now() < until
        {
            self.parker
                .wait(Some((self.peer.socket(), PollFlags::OUT)), Some(until));
            written = self.both.outgoing().writer.flush();
        }
        if !matches!(written, Ok(true)) {
            return;
        }
        // To close while something is unread would reset the connection, and the peer would lose the code.
        self.peer.finish();
        while !self.both.reader(|reader| reader.is_done) && Instant::now() < until {
            self.parker.wait(None, Some(until));
        }
        self.peer
            .discard(until.saturating_duration_since(Instant::now()));
    }
}
