//! Sessions whose id is told before they are opened: the client of a stream of HTTP+SSE hears first where it is to send `initialize`.

use super::{Address, Client, Gateway, SessionCell, SessionName};
use crate::ranked::{LEAF, Ranked};
use mcp_local_provider_mcp::streams::StreamId;
use std::sync::Arc;
use std::task::Waker;

/// A session that was opened, and the stream with the answer to its `initialize`.
type Opened = (Arc<SessionCell>, StreamId);

/// A session that a stream waits for.
pub(crate) struct Reservation {
    /// The name that the session will have.
    pub(crate) name: SessionName,
    pub(crate) client: Client,
    pub(crate) address: Address,
    state: Ranked<State, LEAF>,
}

#[derive(Default)]
struct State {
    step: Step,
    /// Who reads the stream.
    waker: Option<Waker>,
}

#[derive(Default)]
enum Step {
    #[default]
    Waiting,
    /// `initialize` has come.
    Opening,
    Opened(Opened),
    /// The stream has the session, or is gone.
    Passed,
}

impl Reservation {
    /// True for the only one who may open the session now.
    pub(crate) fn claim(&self) -> bool {
        let mut state = self.state.lock();
        let is_waiting = matches!(state.step, Step::Waiting);
        if is_waiting {
            state.step = Step::Opening;
        }
        is_waiting
    }

    /// The session could not be opened: another one may try.
    pub(crate) fn release(&self) {
        let mut state = self.state.lock();
        if matches!(state.step, Step::Opening) {
            state.step = Step::Waiting;
        }
    }

    /// The session was opened. False when the stream is gone.
    pub(crate) fn open(&self, cell: Arc<SessionCell>, stream: StreamId) -> bool {
        let mut state = self.state.lock();
        let is_there = matches!(state.step, Step::Opening);
        let mut waker = None;
        if is_there {
            state.step = Step::Opened((cell, stream));
            waker = state.waker.take();
        }
        drop(state);
        waker.into_iter().for_each(Waker::wake);
        is_there
    }

    /// Takes the session for its stream; `waker` is woken when there is one.
    pub(crate) fn poll(&self, waker: &Waker) -> Option<Opened> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut state.step, Step::Passed) {
            Step::Opened(opened) => Some(opened),
            step @ (Step::Waiting | Step::Opening | Step::Passed) => {
                state.step = step;
                state.waker = Some(waker.clone());
                None
            }
        }
    }

    fn wake(&self) {
        let waker = self.state.lock().waker.take();
        waker.into_iter().for_each(Waker::wake);
    }
}

impl SessionCell {
    /// The name of its server, if it has one alone.
    pub(crate) fn only_server(&self) -> Option<&str> {
        match self.servers() {
            [only] => Some(&only.name),
            _ => None,
        }
    }
}

impl Gateway {
    /// The session of that id, if this key has opened it.
    pub(crate) fn session(&self, id: &str, client: &Client) -> Option<Arc<SessionCell>> {
        let cell = self.table.lock().sessions.get(id).cloned()?;
        (cell.client.key == client.key).then_some(cell)
    }

    /// Makes the id of a session that this client is to open at that address.
    pub(crate) fn reserve(&self, client: Client, address: Address) -> Arc<Reservation> {
        let name = self.mint();
        let id = name.0.clone();
        let reservation = Arc::new(Reservation {
            name,
            client,
            address,
            state: Ranked::default(),
        });
        self.reservations.lock().insert(id, reservation.clone());
        reservation
    }

    /// The session of that id that this key is to open.
    pub(crate) fn reservation(&self, id: &str, client: &Client) -> Option<Arc<Reservation>> {
        let reservation = self.reservations.lock().get(id).cloned()?;
        (reservation.client.key == client.key).then_some(reservation)
    }

    /// The stream is gone: nobody may open its session any more. Gives the session that it has not taken.
    pub(crate) fn shut(&self, reservation: &Reservation) -> Option<Arc<SessionCell>> {
        self.reservations.lock().remove(&reservation.name.0);
        let mut state = reservation.state.lock();
        match std::mem::replace(&mut state.step, Step::Passed) {
            Step::Opened((cell, _)) => Some(cell),
            Step::Waiting | Step::Opening | Step::Passed => None,
        }
    }

    /// Wakes the streams and sockets that may wait for a session.
    pub(super) fn wake_reservations(&self) {
        let reservations: Vec<_> = self.reservations.lock().values().cloned().collect();
        reservations
            .iter()
            .for_each(|reservation| reservation.wake());
        let sockets: Vec<_> = self.sockets.lock().values().cloned().collect();
        sockets.into_iter().for_each(Waker::wake);
    }

    /// Has the socket of this number woken when the program drains.
    pub(crate) fn hear_of_drain(&self, socket: u64, waker: &Waker) {
        let mut sockets = self.sockets.lock();
        match sockets.get_mut(&socket) {
            Some(kept) => kept.clone_from(waker),
            None => drop(sockets.insert(socket, waker.clone())),
        }
    }

    /// The socket of this number is gone.
    pub(crate) fn forget_waker(&self, socket: u64) {
        self.sockets.lock().remove(&socket);
    }
}
