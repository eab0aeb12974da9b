//! Disposition of a connection after an answer, and the times and sizes of a client's connection that no owner has to
//! decide about.

use core::time::Duration;

/// Longest head of a request, and most that is buffered for one client, in bytes.
pub const HEAD: usize = 64 << 10;

/// Longest wait of a connection for its next request. Longer than clients keep theirs, so that a request seldom meets a
/// connection that is just being closed.
pub const IDLE: Duration = Duration::from_secs(75);

/// Longest time that a connection without a request has for its first one, once the program shuts down.
pub const FIRST_REQUEST: Duration = Duration::from_millis(500);

/// Time for which the driver reads the rest of a body that nobody wants: a client that is cut while it sends does not
/// read the reason.
pub const DISCARD: Duration = Duration::from_secs(1);

/// Time in which a client that was refused may read the reason.
pub const LINGER: Duration = Duration::from_secs(1);

/// Room that is made for a body before any of it came, whatever its announced length, in bytes.
pub const FIRST_ROOM: usize = 16 << 10;

/// Longest rest of a body that is read so that its connection can be kept, in bytes.
pub const SMALL_REST: u64 = 64 << 10;

/// Rest of a request's body that is unread when its answer begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    /// Nothing.
    Nothing,
    /// As many bytes as were announced.
    Announced(u64),
    /// Chunks, nobody knows how many.
    Chunks,
    /// Its end cannot be found: it is too large, came too late, broke off, or is framed wrongly.
    Lost,
}

/// A connection whose answer begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ending {
    /// The client means to send another request on it.
    pub keep_alive: bool,
    /// Rest of the body that is unread.
    pub rest: Rest,
    /// The client was not told `100 Continue`, and so may send the rest or not (RFC 9110, 10.1.1).
    pub awaits_continue: bool,
    /// The program is shutting down.
    pub shuts_down: bool,
    /// The answer forbids that another request follows.
    pub closes: bool,
}

/// The driver's next step with a connection after its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// The next request may follow.
    Keep,
    /// The next request may follow, once the rest is read within [`DISCARD`] and [`SMALL_REST`].
    Skip,
    /// Nothing follows, and nothing is unread: close it.
    Close,
    /// Nothing follows: read the rest for [`DISCARD`] and close it. To close while something is unread resets the
    /// connection, and the client loses the answer.
    Discard,
}

impl Disposition {
    /// True when the answer need not say `Connection: close`.
    #[must_use]
    pub const fn keeps(self) -> bool {
        match self {
            Self::Keep | Self::Skip => true,
            Self::Close | Self::Discard => false,
        }
    }
}

impl Ending {
    /// Decides the next step with the connection.
    #[must_use]
    pub const fn disposition(self) -> Disposition {
        let keep = self.keep_alive && !self.shuts_down && !self.closes;
        match (self.rest, keep) {
            (Rest::Nothing, true) => Disposition::Keep,
            (Rest::Nothing, false) => Disposition::Close,
            (Rest::Announced(bytes), true) if bytes <= SMALL_REST && !self.awaits_continue => {
                Disposition::Skip
            }
            // Most are small; one that is not ends the connection when that is known.
            (Rest::Chunks, true) if !self.awaits_continue => Disposition::Skip,
            (Rest::Announced(_) | Rest::Chunks | Rest::Lost, _) => Disposition::Discard,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_dispositions() {
        use Disposition::{Close, Discard, Keep, Skip};
        let kept = Ending {
            keep_alive: true,
            rest: Rest::Nothing,
            awaits_continue: false,
            shuts_down: false,
            closes: false,
        };
        let (little, much) = (Rest::Announced(SMALL_REST), Rest::Announced(SMALL_REST + 1));
        for (rest, alive, awaits, last) in [
            (Rest::Nothing, Keep, Keep, Close),
            (little, Skip, Discard, Discard),
            (much, Discard, Discard, Discard),
            (Rest::Chunks, Skip, Discard, Discard),
            (Rest::Lost, Discard, Discard, Discard),
        ] {
            let kept = Ending { rest, ..kept };
            let of = |ending: Ending| ending.disposition();
            assert_eq!(of(kept), alive, "{rest:?}");
            let awaits_continue = true;
            assert_eq!(
                of(Ending {
                    awaits_continue,
                    ..kept
                }),
                awaits,
                "{rest:?}"
            );
            for ending in [
                Ending {
                    keep_alive: false,
                    ..kept
                },
                Ending {
                    shuts_down: true,
                    ..kept
                },
                Ending {
                    closes: true,
                    ..kept
                },
            ] {
                assert_eq!(of(ending), last, "{ending:?}");
                assert!(!of(ending).keeps());
            }
        }
    }
}
