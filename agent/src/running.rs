//! An agent while it is served: its machine, the frames that wait to be written, and those who wait for either.

use crate::Failed;
use event_listener::{Event as Change, EventListener};
use mcp_local_provider_core::agent::{
    Action, Agent, Cancelled, Event, InvocationId, Lost, Piece, Request, Stopped, Times,
};
use mcp_local_provider_core::agents::websocket;
use mcp_local_provider_core::link::{CloseCode, Ending, Registration};
use mcp_local_provider_core::{End, Finish, Instant, Usage};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{self, Duration};

/// Bytes that may wait to be written before those who answer wait too.
const UNWRITTEN: usize = 256 << 10;

/// Shared by the connection and all answers.
pub(crate) struct Running {
    state: Mutex<State>,
    /// There is room again, or an answer was cancelled.
    changed: Change,
    begin: time::Instant,
}

struct State {
    agent: Agent,
    /// Left by the machine, sorted at the end of each call.
    actions: VecDeque<Action>,
    orders: VecDeque<Order>,
    frames: VecDeque<Frame>,
    /// Bytes of frames that are not yet written out.
    unwritten: usize,
    /// Woken by a cancel, once each.
    cancel_wakers: BTreeMap<InvocationId, Waker>,
    /// Woken by what answers write.
    io: Waker,
}

/// One thing to do for whoever drives the agent.
pub(crate) enum Order {
    Dial,
    Invoke(Request),
    Cancel(
        #[cfg_attr(
            not(feature = "smol"),
            expect(dead_code, reason = "the threads of answers know")
        )]
        InvocationId,
    ),
    Tell(Event),
    Stop(Stopped),
}

/// One thing to write.
pub(crate) enum Frame {
    Text(String),
    Ping,
    Close(CloseCode),
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Running")
    }
}

impl State {
    /// Sorts what a call of the machine has left. An answer that was cancelled knows it from here on.
    fn sort(&mut self, changed: &Change) {
        while let Some(action) = self.actions.pop_front() {
            match action {
                Action::Send(frame) => {
                    self.unwritten = self.unwritten.saturating_add(frame.len());
                    self.frames.push_back(Frame::Text(frame));
                }
                Action::Ping => self.frames.push_back(Frame::Ping),
                Action::Close(code) => self.frames.push_back(Frame::Close(code)),
                Action::Dial => {
                    // What was not written is nobody's any more.
                    self.frames.clear();
                    self.unwritten = 0;
                    self.orders.push_back(Order::Dial);
                }
                Action::Invoke(request) => self.orders.push_back(Order::Invoke(request)),
                Action::Cancel(id) => {
                    if let Some(waker) = self.cancel_wakers.remove(&id) {
                        waker.wake();
                    }
                    changed.notify(usize::MAX);
                    self.orders.push_back(Order::Cancel(id));
                }
                Action::Tell(event) => self.orders.push_back(Order::Tell(event)),
                Action::Stop(stopped) => self.orders.push_back(Order::Stop(stopped)),
            }
        }
    }
}

impl Running {
    pub(crate) fn new(registration: Registration, times: Times) -> Self {
        let seed = RandomState::new().hash_one(());
        Self {
            state: Mutex::new(State {
                agent: Agent::new(registration, times, seed, Instant::ZERO),
                actions: VecDeque::new(),
                orders: VecDeque::new(),
                frames: VecDeque::new(),
                unwritten: 0,
                cancel_wakers: BTreeMap::new(),
                io: Waker::noop().clone(),
            }),
            changed: Change::new(),
            begin: time::Instant::now(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A machine that panicked is no worse than one that did not: each call leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls the machine. The thread or task that does input and output is woken by answers alone: it calls the others itself.
    fn call<R>(&self, call: impl FnOnce(&mut Agent, Instant, &mut VecDeque<Action>) -> R) -> R {
        let micros = u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut state = self.lock();
        let State { agent, actions, .. } = &mut *state;
        let result = call(agent, Instant::from_micros(micros), actions);
        state.sort(&self.changed);
        result
    }

    /// Serves timers, and returns the time until the next one.
    pub(crate) fn serve_timers(&self) -> Option<Duration> {
        let timeout = self.call(|agent, now, out| {
            agent.handle_timeout(now, out);
            agent.poll_timeout().map(|next| next.at.since(now))
        });
        // Timers count whole microseconds: one more, so that the timer is due then.
        timeout.map(|timeout| timeout + Duration::from_micros(1))
    }

    pub(crate) fn connected(&self) {
        self.call(|agent, now, out| agent.handle_connected(now, out));
    }

    pub(crate) fn lost(&self, lost: Lost) {
        self.call(|agent, now, out| agent.handle_lost(now, lost, out));
    }

    pub(crate) fn alive(&self) {
        self.call(|agent, now, _| agent.handle_alive(now));
    }

    pub(crate) fn frame(&self, frame: &str) {
        self.call(|agent, now, out| agent.handle_frame(now, frame, out));
    }

    pub(crate) fn stop(&self) {
        self.call(|agent, _, out| agent.stop(out));
    }

    pub(crate) fn session_token(&self) -> Option<String> {
        self.lock().agent.session_token().map(str::to_owned)
    }

    pub(crate) fn next_order(&self) -> Option<Order> {
        self.lock().orders.pop_front()
    }

    pub(crate) fn next_frame(&self) -> Option<Frame> {
        self.lock().frames.pop_front()
    }

    /// All frames that were taken are written.
    pub(crate) fn written(&self) {
        let mut state = self.lock();
        if state.frames.is_empty() && state.unwritten > 0 {
            state.unwritten = 0;
            self.changed.notify(usize::MAX);
        }
    }

    /// Has `waker` woken by what answers write.
    pub(crate) fn wake_for_frames(&self, waker: &Waker) {
        self.lock().io.clone_from(waker);
    }

    pub(crate) fn is_open(&self, id: &InvocationId) -> bool {
        self.lock().agent.is_open(id)
    }

    /// Wakes `waker` when the answer is cancelled; at once where it is.
    pub(crate) fn wake_on_cancel(&self, id: &InvocationId, waker: Waker) {
        let mut state = self.lock();
        if state.agent.is_open(id) {
            state.cancel_wakers.insert(id.clone(), waker);
        } else {
            waker.wake();
        }
    }

    /// Writes to an answer, whatever `call` does.
    fn answer<R>(&self, call: impl FnOnce(&mut Agent, &mut VecDeque<Action>) -> R) -> R {
        let result = self.call(|agent, _, out| call(agent, out));
        let io = self.lock().io.clone();
        io.wake();
        result
    }
}

/// One answer, for threads and for tasks. When it is dropped before its end, it fails.
pub(crate) struct Writer {
    running: Arc<Running>,
    id: InvocationId,
    told: Mutex<Told>,
}

/// Numbers of an answer.
#[derive(Clone, Copy, Default)]
struct Told {
    usage: Option<Usage>,
    /// Tool calls so far.
    calls: u32,
}

impl Writer {
    pub(crate) const fn new(running: Arc<Running>, id: InvocationId) -> Self {
        Self {
            running,
            id,
            told: Mutex::new(Told {
                usage: None,
                calls: 0,
            }),
        }
    }

    pub(crate) const fn id(&self) -> &InvocationId {
        &self.id
    }

    pub(crate) fn is_open(&self) -> bool {
        self.running.is_open(&self.id)
    }

    pub(crate) fn wake_on_cancel(&self, waker: Waker) {
        self.running.wake_on_cancel(&self.id, waker);
    }

    /// Whoever writes waits for this first, while too much waits to be written.
    pub(crate) fn room(&self) -> Result<Option<EventListener>, Cancelled> {
        let listener = self.running.changed.listen();
        let state = self.running.lock();
        if !state.agent.is_open(&self.id) {
            return Err(Cancelled);
        }
        Ok((state.unwritten > UNWRITTEN).then_some(listener))
    }

    pub(crate) fn write(&self, piece: &Piece<'_>) -> Result<(), Cancelled> {
        self.running
            .answer(|agent, out| agent.write(&self.id, piece, out))
    }

    /// Takes the number of the next tool call.
    pub(crate) fn next_call(&self) -> u32 {
        let mut told = self.told();
        let index = told.calls;
        told.calls = index.saturating_add(1);
        index
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes one JSON object. Returns true when the answer has ended with it.
    pub(crate) fn write_json(&self, line: &str) -> Result<bool, JsonError> {
        let (delta, ending) = websocket::piece(line).map_err(JsonError::Wrong)?;
        let (id, usage) = (&self.id, self.told().usage);
        self.running.answer(|agent, out| {
            agent.write_delta(id, &delta, out)?;
            match ending {
                None => return Ok(false),
                Some(Ending::End(end)) => {
                    let usage = end.usage.or(usage);
                    agent.finish(id, End { usage, ..end }, out)?;
                }
                Some(Ending::Failed(failure)) => agent.fail(id, &failure, out)?,
            }
            Ok(true)
        })
    }

    pub(crate) fn set_usage(&self, usage: Usage) {
        self.told().usage = Some(usage);
    }

    pub(crate) fn finish(&self, finish: Finish) -> Result<(), Cancelled> {
        let usage = self.told().usage;
        let end = End { finish, usage };
        self.running
            .answer(|agent, out| agent.finish(&self.id, end, out))
    }

    pub(crate) fn embed(&self, vectors: &[Vec<f32>]) -> Result<(), Cancelled> {
        let usage = self.told().usage;
        self.running
            .answer(|agent, out| agent.embed(&self.id, vectors, usage, out))
    }

    /// The handler is done.
    pub(crate) fn end(&self, result: Result<(), Failed>) {
        let ended = match result {
            Ok(()) => {
                let called = self.told().calls > 0;
                self.finish(match called {
                    true => Finish::ToolCalls,
                    false => Finish::Stop,
                })
            }
            Err(failed) => self
                .running
                .answer(|agent, out| agent.fail(&self.id, &failed.failure(), out)),
        };
        // It may have ended before, or nobody waits for it.
        let _ = ended;
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.is_open() {
            self.end(Err(Failed::internal("the agent gave this answer up")));
        }
        self.running.lock().cancel_wakers.remove(&self.id);
    }
}

/// Reason why a JSON object was not written.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// It is no piece of an answer; told without its content.
    #[error("{0}")]
    Wrong(String),
    /// Nobody waits for the answer any more.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}
