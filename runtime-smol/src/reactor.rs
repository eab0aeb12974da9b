//! Readiness of sockets, on `mio`: one poll of the system, edge-triggered, that the threads which run the tasks wait in themselves.
//!
//! A thread without a task to run waits for sockets and for the next deadline at once. What comes is served by the thread that
//! heard of it, without a switch to another one and without a system call for each wait of a task: a socket is registered once.

use crate::timer::Timers;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll as Kernel, Registry, Token};
use std::fmt;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// Events that one wait takes at most.
const EVENTS: usize = 1024;

/// The token of the waker, which no socket has.
const WAKER: Token = Token(usize::MAX);

/// Bits of a token that say the place of a socket. Those above them tell it from the others that had the place.
const PLACE_BITS: u32 = usize::BITS / 2;

/// The number of sockets that had a place begins anew there, so that no token is that of the waker.
const TURNS: usize = 1 << (PLACE_BITS - 1);

/// Waits for sockets and deadlines. A cheap handle.
#[derive(Clone)]
pub struct Reactor(Arc<Inner>);

struct Inner {
    registry: Registry,
    /// Ends a wait in the kernel.
    waker: mio::Waker,
    timers: Timers,
    sources: Mutex<Sources>,
    /// One thread at a time waits in the kernel.
    kernel: Mutex<(Kernel, Events)>,
    /// Threads that wait for nothing but to be woken, while another one is in the kernel.
    parked: Mutex<Vec<Thread>>,
    /// Their number.
    parked_count: AtomicUsize,
}

/// All registered sockets by their tokens.
#[derive(Default)]
struct Sources {
    places: Vec<Place>,
    free: Vec<usize>,
}

/// A place for one socket after the other.
#[derive(Default)]
struct Place {
    /// Number of the sockets that had it.
    turn: usize,
    readiness: Option<Arc<Readiness>>,
}

impl Sources {
    /// The socket of a token; `None` for one that is gone.
    fn find(&self, token: Token) -> Option<&Arc<Readiness>> {
        let place = self.places.get(token.0 & ((1 << PLACE_BITS) - 1))?;
        let is_of_now = place.turn == token.0 >> PLACE_BITS;
        place.readiness.as_ref().filter(|_| is_of_now)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources = lock(&self.0.sources);
        let count = sources.places.len() - sources.free.len();
        write!(f, "Reactor({count} sockets)")
    }
}

impl Reactor {
    /// A reactor that meets the deadlines of `timers` too.
    ///
    /// # Errors
    /// When the system gives no descriptors.
    pub fn new(timers: Timers) -> io::Result<Self> {
        let kernel = Kernel::new()?;
        let registry = kernel.registry().try_clone()?;
        let waker = mio::Waker::new(&registry, WAKER)?;
        Ok(Self(Arc::new(Inner {
            registry,
            waker,
            timers,
            sources: Mutex::default(),
            kernel: Mutex::new((kernel, Events::with_capacity(EVENTS))),
            parked: Mutex::default(),
            parked_count: AtomicUsize::new(0),
        })))
    }

    /// Clock and deadlines.
    #[must_use]
    pub fn timers(&self) -> &Timers {
        &self.0.timers
    }

    /// Registers a socket, which does not block from now on.
    ///
    /// # Errors
    /// When the system takes no more sockets.
    pub fn register<S: AsFd>(&self, socket: S) -> io::Result<Registered<S>> {
        let readiness = Arc::new(Readiness::default());
        let (place, token) = {
            let mut sources = lock(&self.0.sources);
            let place = sources.free.pop().unwrap_or(sources.places.len());
            if place >> PLACE_BITS != 0 {
                return Err(io::Error::other("there are too many sockets"));
            }
            if place == sources.places.len() {
                sources.places.push(Place::default());
            }
            let mut token = Token(place);
            if let Some(own) = sources.places.get_mut(place) {
                own.readiness = Some(readiness.clone());
                token.0 |= own.turn << PLACE_BITS;
            }
            (place, token)
        };
        let registered = Registered {
            place,
            readiness,
            reactor: self.clone(),
            socket,
        };
        let fd = registered.socket.as_fd().as_raw_fd();
        let both = Interest::READABLE | Interest::WRITABLE;
        self.0.registry.register(&mut SourceFd(&fd), token, both)?;
        Ok(registered)
    }

    /// Polls a future on this thread to its end. While it is pending, the thread waits for sockets and deadlines.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let parking = Arc::new(Parking {
            state: AtomicU8::new(RUNNING),
            reactor: self.0.clone(),
            thread: thread::current(),
        });
        let waker = Waker::from(parking.clone());
        let mut future = pin!(future);
        loop {
            parking.state.store(RUNNING, Ordering::SeqCst);
            if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return result;
            }
            self.0.turn(&parking, &waker);
        }
    }
}

impl Inner {
    /// Hears of sockets and deadlines, and waits for them unless the thread was woken.
    fn turn(&self, parking: &Parking, waker: &Waker) {
        let mut kernel = match self.kernel.try_lock() {
            Ok(kernel) => kernel,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return self.park(parking),
        };
        // What is due by now makes the wait short, and is fired behind it.
        let next = self.timers.arm(waker);
        let waits = parking.rest(IN_KERNEL);
        let timeout = match (waits, next) {
            (false, _) => Some(Duration::ZERO),
            (true, None) => None,
            (true, Some(next)) => Some(next.saturating_duration_since(Instant::now())),
        };
        let (poll, events) = &mut *kernel;
        if let Err(error) = poll.poll(events, timeout)
            && error.kind() != ErrorKind::Interrupted
        {
            // Nothing of it can be mended here, and a loop without a pause would help nobody.
            tracing::error!(%error, "the system does not tell of sockets");
            thread::sleep(Duration::from_millis(100));
        }
        parking.state.store(RUNNING, Ordering::SeqCst);
        for event in events.iter() {
            // Released before anybody is woken.
            let found = lock(&self.sources).find(event.token()).cloned();
            if let Some(readiness) = found {
                readiness.hear(event);
            }
        }
        drop(kernel);
        self.timers.fire();
        if self.parked_count.load(Ordering::SeqCst) > 0 {
            // While this thread works, another one waits in its place.
            let thread = lock(&self.parked).pop();
            thread.iter().for_each(Thread::unpark);
        }
    }

    /// Waits until the thread is woken, or is to wait in the kernel.
    fn park(&self, parking: &Parking) {
        let me = parking.thread.id();
        lock(&self.parked).push(parking.thread.clone());
        self.parked_count.fetch_add(1, Ordering::SeqCst);
        // Whoever was in the kernel may have left it before it saw this thread.
        if self.kernel.try_lock().is_err() && parking.rest(PARKED) {
            thread::park();
        }
        self.parked_count.fetch_sub(1, Ordering::SeqCst);
        lock(&self.parked).retain(|thread| thread.id() != me);
    }
}

/// The thread runs tasks.
const RUNNING: u8 = 0;
/// The same, and it is to go on before it waits.
const WOKEN: u8 = 1;
/// The thread waits in the kernel.
const IN_KERNEL: u8 = 2;
/// The thread waits to be woken.
const PARKED: u8 = 3;

/// One thread in [`Reactor::block_on`].
struct Parking {
    state: AtomicU8,
    reactor: Arc<Inner>,
    thread: Thread,
}

impl Parking {
    /// True when the thread may wait: nobody has woken it since its future was polled.
    fn rest(&self, how: u8) -> bool {
        let order = Ordering::SeqCst;
        self.state
            .compare_exchange(RUNNING, how, order, order)
            .is_ok()
    }
}

impl Wake for Parking {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        match self.state.swap(WOKEN, Ordering::SeqCst) {
            IN_KERNEL => {
                if let Err(error) = self.reactor.waker.wake() {
                    tracing::error!(%error, "a thread that waits for sockets cannot be woken");
                }
            }
            PARKED => self.thread.unpark(),
            _ => {}
        }
    }
}

/// One direction of a socket.
#[derive(Default)]
struct Direction {
    /// The system has told of it since the last look.
    is_ready: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Direction {
    fn set(&self) {
        self.is_ready.store(true, Ordering::SeqCst);
        let waker = lock(&self.waker).take();
        waker.into_iter().for_each(Waker::wake);
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_ready.swap(false, Ordering::SeqCst) {
            return Poll::Ready(());
        }
        let mut waker = lock(&self.waker);
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        drop(waker);
        match self.is_ready.swap(false, Ordering::SeqCst) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

/// All that the system has told of a socket.
#[derive(Default)]
struct Readiness {
    read: Direction,
    write: Direction,
    /// The peer has ended, or the connection is broken: it is told once, and stays so.
    is_over: AtomicBool,
}

impl Readiness {
    fn hear(&self, event: &mio::event::Event) {
        let is_over = event.is_read_closed() || event.is_error();
        if is_over {
            self.is_over.store(true, Ordering::SeqCst);
        }
        if is_over || event.is_readable() {
            self.read.set();
        }
        if event.is_writable() || event.is_error() || event.is_write_closed() {
            self.write.set();
        }
    }
}

/// A socket of which the reactor tells.
pub struct Registered<S: AsFd> {
    place: usize,
    readiness: Arc<Readiness>,
    reactor: Reactor,
    socket: S,
}

impl<S: AsFd + fmt::Debug> fmt::Debug for Registered<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.fmt(f)
    }
}

impl<S: AsFd> Registered<S> {
    /// The reactor.
    pub const fn reactor(&self) -> &Reactor {
        &self.reactor
    }

    /// The socket.
    pub const fn get_ref(&self) -> &S {
        &self.socket
    }

    /// Ready when a read may give more than the last one that gave nothing or less than it had room for.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.readiness.is_over.load(Ordering::SeqCst) {
            return Poll::Ready(());
        }
        self.readiness.read.poll(cx)
    }

    /// Ready when a write may take more than the last one that took nothing.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.readiness.write.poll(cx)
    }
}

impl<S: AsFd> Drop for Registered<S> {
    /// The system forgets a socket by itself once nobody has it open. A child that is being started has it until it is another
    /// program, and what is told of it meanwhile concerns nobody.
    fn drop(&mut self) {
        let mut sources = lock(&self.reactor.0.sources);
        if let Some(place) = sources.places.get_mut(self.place) {
            place.readiness = None;
            place.turn = (place.turn + 1) % TURNS;
            sources.free.push(self.place);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use async_executor::Executor;
    use futures_lite::future::{or, poll_once};
    use mcp_local_provider_engine::Clock;
    use std::future::poll_fn;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    fn reactor() -> Reactor {
        Reactor::new(Timers::new(Clock::start())).unwrap()
    }

    fn pair(reactor: &Reactor) -> (Registered<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = listener.accept().unwrap().0;
        socket.set_nonblocking(true).unwrap();
        (reactor.register(socket).unwrap(), peer)
    }

    /// Reads once, after a wait for it.
    async fn read(socket: &Registered<TcpStream>, into: &mut [u8]) -> usize {
        loop {
            poll_fn(|cx| socket.poll_readable(cx)).await;
            match socket.get_ref().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read.unwrap(),
            }
        }
    }

    #[test]
    fn an_end_that_comes_with_the_last_bytes_is_told_behind_them() {
        let reactor = reactor();
        let (socket, mut peer) = pair(&reactor);
        peer.write_all(b"last").unwrap();
        drop(peer);
        reactor.block_on(async {
            let mut into = [0; 16];
            assert_eq!(read(&socket, &mut into).await, 4);
            assert_eq!(read(&socket, &mut into).await, 0);
        });
    }

    #[test]
    fn a_place_is_used_again_and_wakes_for_its_new_socket() {
        let reactor = reactor();
        for text in [b"one", b"two"] {
            let (socket, mut peer) = pair(&reactor);
            assert_eq!(format!("{reactor:?}"), "Reactor(1 sockets)");
            let mut into = [0; 16];
            reactor.block_on(async {
                let written = async {
                    peer.write_all(text).unwrap();
                    std::future::pending().await
                };
                assert_eq!(or(read(&socket, &mut into), written).await, 3);
            });
            assert_eq!(&into[..3], text);
        }
        assert_eq!(format!("{reactor:?}"), "Reactor(0 sockets)");
    }

    #[test]
    fn what_is_told_of_a_socket_that_is_gone_does_not_concern_the_next_one_in_its_place() {
        let reactor = reactor();
        let (other, mut peer_of_other) = pair(&reactor);
        let (old, peer_of_old) = pair(&reactor);
        // As a child has it that is being started.
        let elsewhere = old.get_ref().try_clone().unwrap();
        let place = old.place;
        drop(old);
        let (new, mut peer_of_new) = pair(&reactor);
        assert_eq!(new.place, place);
        reactor.block_on(async {
            let mut into = [0; 16];
            drop(peer_of_old);
            peer_of_other.write_all(b"behind it").unwrap();
            assert_eq!(read(&other, &mut into).await, 9);
            let readable = poll_once(poll_fn(|cx| new.poll_readable(cx))).await;
            assert!(readable.is_none(), "nothing has come for the new one");
            peer_of_new.write_all(b"new").unwrap();
            assert_eq!(read(&new, &mut into).await, 3);
        });
        drop(elsewhere);
    }

    #[test]
    fn threads_share_the_sockets_and_none_of_them_misses_a_turn() {
        const PAIRS: usize = 8;
        const ROUNDS: usize = 200;
        let reactor = reactor();
        let (done, stop) = (AtomicUsize::new(0), event_listener::Event::new());
        let executor = Executor::new();
        thread::scope(|scope| {
            for _ in 0..PAIRS {
                let (socket, mut peer) = pair(&reactor);
                scope.spawn(move || {
                    let mut byte = [0];
                    for _ in 0..ROUNDS {
                        peer.write_all(&byte).unwrap();
                        peer.read_exact(&mut byte).unwrap();
                    }
                });
                let (done, stop) = (&done, &stop);
                executor
                    .spawn(async move {
                        let mut byte = [0];
                        for _ in 0..ROUNDS {
                            assert_eq!(read(&socket, &mut byte).await, 1);
                            socket.get_ref().write_all(&byte).unwrap();
                        }
                        if done.fetch_add(1, Ordering::SeqCst) + 1 == PAIRS {
                            stop.notify(usize::MAX);
                        }
                    })
                    .detach();
            }
            for _ in 0..3 {
                let stopped = async {
                    let stopped = stop.listen();
                    if done.load(Ordering::SeqCst) < PAIRS {
                        stopped.await;
                    }
                };
                let (reactor, executor) = (&reactor, &executor);
                scope.spawn(move || reactor.block_on(executor.run(stopped)));
            }
        });
        assert_eq!(done.load(Ordering::SeqCst), PAIRS);
    }

    #[test]
    fn a_deadline_that_another_thread_sets_interrupts_a_longer_wait() {
        let reactor = reactor();
        let (timers, executor) = (reactor.timers(), Executor::new());
        let (send, receive) = std::sync::mpsc::channel();
        thread::scope(|scope| {
            let own = &reactor;
            let stopped = event_listener::Event::new();
            let listener = stopped.listen();
            let executor = &executor;
            scope.spawn(move || {
                let mut long = own.timers().after(Duration::from_secs(600));
                own.block_on(executor.run(or(
                    async {
                        // In the table before anybody hears of it.
                        assert!(futures_lite::future::poll_once(&mut long).await.is_none());
                        let _ = send.send(());
                        long.await;
                    },
                    listener,
                )));
            });
            receive.recv().unwrap();
            // A task that this thread polls first, and the other one when its deadline has come.
            let task = executor.spawn(async move {
                timers.after(Duration::from_millis(5)).await;
            });
            futures_lite::future::block_on(task);
            stopped.notify(usize::MAX);
        });
    }
}
