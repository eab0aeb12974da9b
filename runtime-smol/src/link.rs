//! The one task of each WebSocket, which reads and writes it and serves the deadlines of what is behind it.

use crate::tasks::Tasks;
use crate::timer::{Sleep, Timers};
use crate::websocket::{Ended, Received, Socket};
use mcp_local_provider_core::link::CloseCode;
use mcp_local_provider_engine::converse::{Converse, Frame, Turn};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Serves the connection to its end.
pub(crate) async fn run(tasks: &Tasks, link: Box<dyn Converse>, socket: Socket) {
    let _open = tasks.engine.open_socket();
    let id = link.number();
    let mut task = Task {
        sleep: tasks.timers.after(Duration::MAX),
        timers: tasks.timers.clone(),
        link,
        turn: Turn::default(),
        socket,
        writing: VecDeque::new(),
        received_bytes: 0,
    };
    let end = poll_fn(|cx| task.poll(cx)).await;
    let Task {
        link,
        mut socket,
        mut writing,
        ..
    } = task;
    link.take_frames(&mut writing);
    drop(link);
    match end {
        End::Close(code) => {
            tracing::info!(
                link = id,
                code = code.code(),
                "closing a link: {}",
                code.reason()
            );
            for frame in writing {
                if !matches!(queue(&mut socket, frame), Ok(true)) {
                    break;
                }
            }
            socket.close(code.code(), code.reason()).await;
        }
        End::Ended(Ended::Fault(code, what)) => {
            tracing::warn!(link = id, code, "closing a link: {what}");
            socket.close(code, "").await;
        }
        End::Ended(ended) => {
            tracing::info!(link = id, "a link ended: {ended}");
            socket.answer_close().await;
        }
    }
}

/// Reason for the end of a link's task.
enum End {
    /// We close it.
    Close(CloseCode),
    /// The peer closed it, broke the protocol or is lost.
    Ended(Ended),
}

struct Task {
    link: Box<dyn Converse>,
    turn: Turn,
    timers: Timers,
    socket: Socket,
    /// Taken from the link and not yet given to the socket.
    writing: VecDeque<Frame>,
    sleep: Sleep,
    received_bytes: u64,
}

impl Task {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            self.link.begin(&mut self.turn);
            self.serve_timers();
            let mut waits = true;
            let read = self.read(cx, &mut waits);
            if self.link.finish(&mut self.turn) {
                // The agent may have left a gap, whose deadline comes before the one that is slept for.
                self.link.begin(&mut self.turn);
                self.serve_timers();
                self.link.finish(&mut self.turn);
            }
            if let Err(ended) = read {
                return Poll::Ready(End::Ended(ended));
            }
            match self.write(cx) {
                Err(ended) => return Poll::Ready(End::Ended(ended)),
                Ok(Some(code)) => return Poll::Ready(End::Close(code)),
                Ok(None) => {}
            }
            if !waits {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if Pin::new(&mut self.sleep).poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn serve_timers(&mut self) {
        let alive = self.socket.received_bytes() != self.received_bytes;
        self.received_bytes = self.socket.received_bytes();
        let Some(next) = self.link.serve_timers(&mut self.turn, alive) else {
            return self.sleep.reset_after(Duration::MAX);
        };
        let next = self.timers.clock().system(next);
        if next <= Instant::now() {
            self.socket.look();
        }
        self.sleep.reset(next);
    }

    /// Takes messages until the turn is full. `waits` is false when there may be more.
    fn read(&mut self, cx: &mut Context<'_>, waits: &mut bool) -> Result<(), Ended> {
        while !self.turn.is_full() {
            let Poll::Ready(received) = self.socket.poll_receive(cx) else {
                return Ok(());
            };
            match received? {
                Received::Text(text) => self.link.receive(&mut self.turn, &text),
                Received::Binary => self.link.receive_binary(&mut self.turn),
                Received::Alive => self.link.alive(&mut self.turn),
            }
        }
        *waits = false;
        Ok(())
    }

    /// Writes what there is, a batch with one flush. The code to close with, once all before it is written.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<Option<CloseCode>, Ended> {
        loop {
            if self.writing.is_empty() {
                self.link.take_frames(&mut self.writing);
            }
            let mut fed = false;
            while let Some(frame) = self.writing.pop_front() {
                fed = true;
                if !queue(&mut self.socket, frame)? {
                    break;
                }
            }
            let flushed = match self.socket.poll_flush(cx) {
                Poll::Ready(flushed) => {
                    flushed?;
                    true
                }
                Poll::Pending => false,
            };
            if flushed && fed {
                continue;
            }
            let more = self
                .link
                .wait_to_write(cx.waker(), flushed && self.writing.is_empty());
            if flushed && more.frames {
                continue;
            }
            return Ok(more.close);
        }
    }
}

/// False when the socket is full.
fn queue(socket: &mut Socket, frame: Frame) -> Result<bool, Ended> {
    match frame {
        Frame::Text(text) => socket.queue(text),
        Frame::Ping => socket.queue_ping(),
    }
}
