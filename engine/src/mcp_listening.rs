//! Reading of a session's own stream by a transport on which everything comes in one order: HTTP+SSE, `/events`, a WebSocket.

use super::Engine;
use super::gateway::SessionCell;
use mcp_local_provider_mcp::session::State;
use mcp_local_provider_mcp::streams::Reader;
use mcp_local_provider_mcp::streams::{Position, StreamId, Taken};
use std::sync::Arc;
use std::task::Waker;

/// The reader of a session's own stream. Where it has opened the session, it reads the answer to that before.
pub(super) struct Listening {
    engine: Arc<Engine>,
    pub(super) cell: Arc<SessionCell>,
    stream: StreamId,
    reader: Reader,
}

impl Listening {
    /// Takes the session's own stream over, behind the other stream where that is given. `None` when that is gone.
    pub(super) fn new(
        engine: &Arc<Engine>,
        cell: &Arc<SessionCell>,
        stream: StreamId,
    ) -> Option<Self> {
        let reader = cell.call(|session, wake| {
            let (reader, before) = session.streams_mut().read(stream)?;
            wake.extend(before);
            Some(reader)
        })?;
        cell.attend(engine);
        Some(Self {
            engine: engine.clone(),
            cell: cell.clone(),
            stream,
            reader,
        })
    }

    /// Gives the messages that wait, in their order. `waker` is woken when there are more.
    pub(super) fn take(&mut self, waker: &Waker, each: &mut dyn FnMut(Position, &str)) -> Taken {
        let cell = self.cell.clone();
        cell.call(|session, wake| {
            loop {
                let is_over = session.state() == State::Ended;
                let streams = session.streams_mut();
                match streams.take_each(self.stream, self.reader, waker, each) {
                    Taken::Ended if self.stream != StreamId::SESSION => {
                        // That was the answer to what has opened the session.
                        streams.close(self.stream);
                        let Some((reader, before)) = streams.read(StreamId::SESSION) else {
                            return Taken::Ended;
                        };
                        wake.extend(before);
                        (self.stream, self.reader) = (StreamId::SESSION, reader);
                    }
                    Taken::Waiting if is_over => return Taken::Ended,
                    taken @ (Taken::Waiting | Taken::Ended | Taken::Replaced) => return taken,
                }
            }
        })
    }

    /// True when there is something to take, the end among it. `waker` is woken when there is.
    pub(super) fn has_news(&mut self, waker: &Waker) -> bool {
        let (stream, reader) = (self.stream, self.reader);
        self.cell.call(|session, _| {
            let is_over = session.state() == State::Ended;
            let streams = session.streams_mut();
            let taken = streams.listen(stream, reader, waker);
            is_over || taken != Taken::Waiting || streams.has_news(stream)
        })
    }

    /// True when nothing that the client waits for is on its way.
    pub(super) fn is_at_rest(&self) -> bool {
        self.cell.machine.lock().open_requests() == 0
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let now = self.engine.clock();
        let (stream, reader) = (self.stream, self.reader);
        self.cell
            .call(|session, _| session.streams_mut().leave(now, stream, reader));
        self.cell.attend(&self.engine);
    }
}
