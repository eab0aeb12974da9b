//! A bridge in virtual time, over pipes in memory: whatever happens to its first connection, it is connected in the end.
#![allow(clippy::unwrap_used, clippy::panic)]

use mcp_local_provider_core::config::HubConfig;
use mcp_local_provider_core::hub::sessions::Registration;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_engine::audit::Audit;
use mcp_local_provider_engine::pipe::{Endpoint, Pipe};
use mcp_local_provider_engine::{Background, Bridge, Engine, Handle, Outside};
use mcp_local_provider_tests::memory_pipe::{FarEnd, Fault, pipe};
use proptest::prelude::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::time::Duration;
use tungstenite::handshake::server::{NoCallback, ServerHandshake};
use tungstenite::handshake::{HandshakeError, MidHandshake};
use tungstenite::{Error, Message, WebSocket};

/// The world of one bridge. Its first connection has the fault and the script.
struct World {
    now: AtomicU64,
    first: Mutex<Option<(Fault, Vec<u8>)>>,
    accepted: Mutex<Vec<FarEnd>>,
    work: Mutex<Option<Box<dyn Background>>>,
}

impl Outside for World {
    fn now(&self) -> Instant {
        Instant::from_micros(self.now.load(Ordering::Relaxed))
    }

    fn unix(&self) -> Duration {
        Duration::from_secs(1_767_225_600) + Duration::from_micros(self.now().as_micros())
    }

    fn dial(&self, endpoint: &Endpoint) -> Box<dyn Pipe> {
        assert_eq!((endpoint.host.as_str(), endpoint.port), ("bridge.test", 80));
        let first = self.first.lock().unwrap().take();
        let (fault, script) = first.unwrap_or((Fault::None, Vec::new()));
        let (near, far) = pipe(fault, &script);
        self.accepted.lock().unwrap().push(far);
        Box::new(near)
    }

    fn spawn(&self, work: Box<dyn Background>) {
        *self.work.lock().unwrap() = Some(work);
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The WebSocket server on one connection.
enum Server {
    Shaking(MidHandshake<ServerHandshake<FarEnd, NoCallback>>),
    Open(WebSocket<FarEnd>),
    Ended,
}

impl Server {
    fn accept(far: FarEnd) -> Self {
        Self::shaken(tungstenite::accept(far))
    }

    fn shaken(
        step: Result<WebSocket<FarEnd>, HandshakeError<ServerHandshake<FarEnd, NoCallback>>>,
    ) -> Self {
        match step {
            Ok(mut socket) => {
                let ping = Message::text(r#"{"type":"ping","timestamp":"now"}"#);
                match socket.send(ping) {
                    Ok(()) => Self::Open(socket),
                    Err(_) => Self::Ended,
                }
            }
            Err(HandshakeError::Interrupted(step)) => Self::Shaking(step),
            Err(HandshakeError::Failure(_)) => Self::Ended,
        }
    }

    /// Goes on with what there is. True when the program has answered the ping.
    fn go_on(&mut self) -> bool {
        *self = match std::mem::replace(self, Self::Ended) {
            Self::Shaking(step) => Self::shaken(step.handshake()),
            Self::Open(mut socket) => loop {
                match socket.read() {
                    Ok(Message::Text(text)) if text.contains("pong") => return true,
                    Ok(_) => {}
                    Err(Error::Io(_)) => break Self::Open(socket),
                    Err(_) => break Self::Ended,
                }
            },
            Self::Ended => Self::Ended,
        };
        false
    }
}

/// Runs a bridge until the server has an answer over it; gives the number of dials and the virtual time.
fn run(fault: Fault, script: &[u8]) -> (usize, Duration) {
    let world = Arc::new(World {
        now: AtomicU64::new(1),
        first: Mutex::new(Some((fault, script.to_vec()))),
        accepted: Mutex::default(),
        work: Mutex::default(),
    });
    let engine = Engine::new(HubConfig::default(), [7; 32], world.clone(), Audit::off());
    let mut bridge = Bridge::new("out", "ws://bridge.test/agents".into(), None);
    bridge.session = Some(Registration {
        agent_id: "a".into(),
        ..Registration::default()
    });
    engine.dial([bridge]);
    let mut work = world.work.lock().unwrap().take().unwrap();
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Waker::from(woken.clone());
    let mut servers = Vec::new();
    let mut answered = false;
    for _ in 0..10_000 {
        let is_due = work.poll_timeout().is_some_and(|due| due <= world.now());
        if woken.0.swap(false, Ordering::Relaxed) || is_due {
            assert!(work.poll(&waker).is_pending(), "{fault:?}: it has ended");
        }
        let accepted = std::mem::take(&mut *world.accepted.lock().unwrap());
        servers.extend(accepted.into_iter().map(Server::accept));
        answered |= servers.iter_mut().any(Server::go_on);
        if answered {
            assert_eq!(engine.link_count(), 1, "{fault:?}");
            Handle::new(engine.clone()).stop();
            assert!(
                woken.0.load(Ordering::Relaxed),
                "nobody told it of the stop"
            );
            assert!(work.poll(&waker).is_ready());
            drop(work);
            assert_eq!(engine.link_count(), 0);
            return (
                servers.len(),
                Duration::from_micros(world.now().as_micros()),
            );
        }
        if !woken.0.load(Ordering::Relaxed) {
            let due = work.poll_timeout();
            let due = due.unwrap_or_else(|| panic!("{fault:?}: it sleeps for ever"));
            world.now.fetch_max(due.as_micros(), Ordering::Relaxed);
        }
    }
    panic!("{fault:?}: it was never connected");
}

#[test]
fn a_bridge_is_connected_at_once_where_nothing_happens() {
    let (dials, time) = run(Fault::None, &[]);
    // The server knows no subprotocols, so it is dialled again without.
    assert_eq!(dials, 2);
    assert_eq!(time, Duration::from_micros(1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_happens_to_a_connection_the_bridge_is_dialled_again(
        kind in 0u8..5,
        at in 0usize..400,
        script in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let fault = match kind {
            0 => Fault::None,
            1 => Fault::Cut(at),
            2 => Fault::Break(at),
            3 => Fault::DamageFromServer(at),
            _ => Fault::DamageToServer(at),
        };
        let (dials, _) = run(fault, &script);
        prop_assert!((1..=4).contains(&dials), "{dials} dials");
    }
}
