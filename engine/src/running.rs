//! Answers that take their time: one type for all of them, which polls, and records how each ends.

use super::account::Account;
use super::answer::Head;
use super::inbound::Inbound;
use mcp_local_provider_core::api::Page;
use mcp_local_provider_core::exchange::Reply;
use mcp_local_provider_core::hub::Outcome;
use mcp_local_provider_core::time::Instant;
use std::fmt;
use std::task::Waker;

/// Produces an answer over time. It belongs to the task or thread of its request and has no lock.
pub(crate) trait Respond: Send {
    /// Goes on, and adds to `reply` what is there for the client: the head first, and once. A head that is not streamed
    /// comes with the whole body. `account` is the request's, for what becomes known of it. It is not called again after
    /// [`Polled::Ended`].
    fn poll(
        &mut self,
        now: Instant,
        waker: &Waker,
        account: &mut Account,
        reply: &mut Reply,
    ) -> Polled;

    /// The client left before the end: stops what works for the answer, and gives its account. Nothing is called after it.
    fn client_gone(&mut self, now: Instant, account: &mut Account) -> Outcome;

    /// Charge of what waits for it and was not taken yet, in bytes. See [`Running::unread`].
    fn unread(&self) -> usize {
        0
    }
}

/// Result of a poll of a [`Respond`].
#[must_use]
pub(crate) enum Polled {
    /// There is something in the reply.
    Ready,
    /// There is nothing: poll again when woken, or when it is this late.
    Until(Option<Instant>),
    /// The reply holds the last of the answer.
    Ended(Outcome),
}

/// Result of a poll of a [`Running`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Progress {
    /// There is something to write, or the answer has ended.
    Ready,
    /// Nothing: poll again when woken, or when it is this late.
    Until(Option<Instant>),
}

/// An answer on its way. Dropping it before its end means that the client has gone: who works for the answer is told, and
/// the end is recorded, at once.
pub struct Running {
    pub(super) respond: Box<dyn Respond>,
    /// Until the answer has ended.
    pub(super) account: Option<Account>,
    /// The page that asks, until the head is taken.
    page: Option<Page>,
    reply: Reply,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Running({:?}, {:?})", self.account, self.reply)
    }
}

impl Running {
    pub(super) fn new(respond: Box<dyn Respond>, inbound: Inbound) -> Box<Self> {
        Box::new(Self {
            respond,
            account: Some(inbound.account),
            page: inbound.page,
            reply: Reply::default(),
        })
    }

    /// True when nothing will follow what was produced.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.account.is_none()
    }

    /// The head of the answer, once it is there.
    pub fn take_head(&mut self) -> Option<Head> {
        let head = self.reply.head.take()?;
        Some(Head::new(head, self.page.take()))
    }

    /// Bytes of the body for the client. The driver takes them as it likes: it may leave the allocation.
    pub const fn body(&mut self) -> &mut Vec<u8> {
        &mut self.reply.body
    }

    /// True when there are bytes for the client.
    #[must_use]
    pub const fn has_body(&self) -> bool {
        !self.reply.body.is_empty()
    }

    /// Goes on with the answer and with its deadlines. `now` is that of [`Engine::clock`](crate::Engine::clock); `waker` is woken
    /// when there is more.
    pub fn poll(&mut self, now: Instant, waker: &Waker) -> Progress {
        let Some(account) = &mut self.account else {
            return Progress::Ready;
        };
        let polled = self.respond.poll(now, waker, account, &mut self.reply);
        account.tell_limits(&mut self.reply);
        match polled {
            Polled::Ready => Progress::Ready,
            Polled::Until(at) => Progress::Until(at),
            Polled::Ended(outcome) => {
                self.end(now, &outcome);
                Progress::Ready
            }
        }
    }

    fn end(&mut self, now: Instant, outcome: &Outcome) {
        if let Some(account) = self.account.take() {
            account.close(now, outcome);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(account) = &mut self.account {
            let now = account.engine().clock();
            let outcome = self.respond.client_gone(now, account);
            self.end(now, &outcome);
        }
    }
}
