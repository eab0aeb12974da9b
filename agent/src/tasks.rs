//! An agent on smol: one task for the connection, and one for each answer.

use crate::agent::Agent;
use crate::connection::{Address, Connection, not_reached};
use crate::running::{Order, Running, Writer};
use crate::stream::Stream;
use crate::{Error, Failed, Request, Token};
use async_executor::{Executor, Task};
use async_io::{Async, Timer};
use blocking::unblock;
use mcp_local_provider_core::agent::{Cancelled, InvocationId, Lost, Piece, Stopped};
use mcp_local_provider_core::{Finish, Usage};
use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A socket whose reads and writes do not wait; the reactor tells when to repeat them.
struct Socket(Async<TcpStream>);

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.get_ref().read(buf)
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.get_ref().write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

type Dialled = Result<Connection<Stream<Socket>>, Lost>;

impl Agent {
    /// Serves the agent as [`Agent::serve`] does, as a future for smol. Each question is answered by a future that `handler` makes; it
    /// is polled within this one, and dropped when the question is cancelled. Dropping this future drops the connection.
    ///
    /// # Errors
    /// When the URL cannot be used, or the provider wants nothing of this agent.
    pub async fn serve_async<H, F>(self, url: &str, token: &Token, handler: H) -> Result<(), Error>
    where
        H: Fn(Request, AsyncAnswer) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), Failed>> + Send + 'static,
    {
        let executor = Executor::new();
        let address = Address::parse(url)?;
        let mut serving = Serving {
            running: Arc::new(Running::new(self.registration.clone(), self.times)),
            agent: self,
            token: token.clone(),
            address,
            handler,
            executor: &executor,
            tasks: BTreeMap::new(),
            dial: None,
            connection: None,
            timer: Timer::never(),
        };
        executor.run(poll_fn(|cx| serving.poll(cx))).await
    }
}

struct Serving<'e, H> {
    agent: Agent,
    running: Arc<Running>,
    token: Token,
    address: Address,
    handler: H,
    executor: &'e Executor<'static>,
    tasks: BTreeMap<InvocationId, Task<()>>,
    dial: Option<Pin<Box<dyn Future<Output = Dialled> + Send>>>,
    connection: Option<Connection<Stream<Socket>>>,
    timer: Timer,
}

impl<H, F> Serving<'_, H>
where
    H: Fn(Request, AsyncAnswer) -> F,
    F: Future<Output = Result<(), Failed>> + Send + 'static,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.running.wake_for_frames(cx.waker());
        loop {
            if self.agent.stopper.poll_asked(cx.waker()) {
                self.running.stop();
            }
            let timeout = self.running.serve_timers();
            let mut is_full = false;
            if let Some(dial) = &mut self.dial
                && let Poll::Ready(dialled) = dial.as_mut().poll(cx)
            {
                self.dial = None;
                match dialled {
                    Ok(dialled) => self.connection = Some(dialled),
                    Err(lost) => self.running.lost(lost),
                }
            }
            if let Some(open) = &mut self.connection {
                match open.turn(&self.running) {
                    Ok(full) => is_full = full,
                    Err(lost) => {
                        self.connection = None;
                        self.running.lost(lost);
                    }
                }
            }
            let mut obeyed = false;
            while let Some(order) = self.running.next_order() {
                obeyed = true;
                if let Some(ended) = self.obey(order) {
                    return Poll::Ready(ended);
                }
            }
            if obeyed {
                continue;
            }
            match timeout {
                Some(timeout) => self.timer.set_after(timeout),
                None => self.timer = Timer::never(),
            }
            let is_due = Pin::new(&mut self.timer).poll(cx).is_ready();
            if !is_due && !self.is_ready(is_full, cx) {
                return Poll::Pending;
            }
        }
    }

    /// Returns true when the socket can be read, or written where that was full.
    fn is_ready(&self, is_full: bool, cx: &mut Context<'_>) -> bool {
        let stream = self.connection.as_ref().and_then(Connection::stream);
        let Some(Socket(socket)) = stream.map(Stream::socket) else {
            return false;
        };
        socket.poll_readable(cx).is_ready() || (is_full && socket.poll_writable(cx).is_ready())
    }

    /// Carries an order out. `Some` is the end.
    fn obey(&mut self, order: Order) -> Option<Result<(), Error>> {
        match order {
            Order::Dial => {
                let token = self.running.session_token();
                let token = token.or_else(|| self.token.text().map(str::to_owned));
                self.connection = None;
                self.dial = Some(Box::pin(dial(self.address.clone(), token)));
            }
            Order::Invoke(request) => {
                self.tasks.retain(|_, task| !task.is_finished());
                let (id, running) = (request.id().clone(), self.running.clone());
                let answer = AsyncAnswer(Arc::new(Writer::new(running, id.clone())));
                let writer = answer.0.clone();
                let answering = (self.handler)(request, answer);
                let task = self.executor.spawn(async move {
                    let result = answering.await;
                    writer.end(result);
                });
                self.tasks.insert(id, task);
            }
            Order::Cancel(id) => drop(self.tasks.remove(&id)),
            Order::Tell(event) => (self.agent.observer)(&event),
            Order::Stop(Stopped::Asked) => return Some(Ok(())),
            Order::Stop(stopped) => return Some(Err(Error::Stopped(stopped))),
        }
        None
    }
}

async fn dial(address: Address, token: Option<String>) -> Dialled {
    let connect = async {
        let names = (address.host.clone(), address.port);
        let addresses = unblock(move || names.to_socket_addrs()).await?;
        let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for address in addresses.collect::<Vec<SocketAddr>>() {
            match Async::<TcpStream>::connect(address).await {
                Ok(socket) => {
                    socket.get_ref().set_nodelay(true)?;
                    return Ok(Socket(socket));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    let socket = connect.await.map_err(|error| not_reached(&error))?;
    Connection::begin(Stream::over(socket, &address)?, &address, token.as_deref())
}

/// An answer, piece by piece, as [`Answer`](crate::Answer) is. The client has each piece as soon as it is written.
///
/// A write waits while 256 KiB are not yet sent. The future that answers is dropped once nobody waits for the answer any more.
pub struct AsyncAnswer(Arc<Writer>);

impl fmt::Debug for AsyncAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsyncAnswer({})", self.0.id())
    }
}

impl AsyncAnswer {
    /// Adds text.
    ///
    /// # Errors
    /// When nobody waits for the answer any more.
    pub async fn text(&mut self, text: &str) -> Result<(), Cancelled> {
        self.write(&Piece::Text(text)).await
    }

    /// Adds text that the model thinks aloud.
    ///
    /// # Errors
    /// When nobody waits for the answer any more.
    pub async fn reasoning(&mut self, text: &str) -> Result<(), Cancelled> {
        self.write(&Piece::Reasoning(text)).await
    }

    /// Calls one of the caller's tools, see [`Answer::tool_call`](crate::Answer::tool_call).
    ///
    /// # Errors
    /// When nobody waits for the answer any more.
    pub async fn tool_call(
        &mut self,
        id: &str,
        name: &str,
        arguments: &str,
    ) -> Result<(), Cancelled> {
        let index = self.0.next_call();
        let piece = Piece::ToolCall {
            index,
            id,
            name,
            arguments,
        };
        self.write(&piece).await
    }

    /// Adds any piece.
    ///
    /// # Errors
    /// When nobody waits for the answer any more.
    pub async fn write(&mut self, piece: &Piece<'_>) -> Result<(), Cancelled> {
        while let Some(room) = self.0.room()? {
            room.await;
        }
        self.0.write(piece)
    }

    /// Counts tokens. Without it the provider estimates them.
    pub fn usage(&mut self, prompt_tokens: u64, completion_tokens: u64) {
        self.0.set_usage(Usage {
            prompt_tokens,
            completion_tokens,
            estimated: false,
        });
    }

    /// Ends the answer with vectors, one for each of [`Request::input`].
    ///
    /// # Errors
    /// When nobody waits for the answer any more.
    pub fn vectors(&mut self, vectors: &[Vec<f32>]) -> Result<(), Cancelled> {
        self.0.embed(vectors)
    }

    /// Ends the answer, see [`Answer::finish`](crate::Answer::finish).
    ///
    /// # Errors
    /// When nobody waits for the answer any more.
    pub fn finish(&mut self, finish: Finish) -> Result<(), Cancelled> {
        self.0.finish(finish)
    }
}
