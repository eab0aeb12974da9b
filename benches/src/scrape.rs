//! A monitoring system that asks the working program for metrics and for health, often.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::Error;
use crate::answer::Answer;
use crate::setup::OPERATOR_KEY;

/// Each of the routes is asked for so often: twenty times a second.
const INTERVAL: Duration = Duration::from_millis(50);
const ROUTES: [&str; 2] = ["/metrics", "/health/deep"];

/// Asks on a thread of its own until it is stopped.
#[derive(Debug)]
pub struct Scraper {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64, String>>,
}

impl Scraper {
    /// Begins.
    ///
    /// # Errors
    /// Fails when the program cannot be reached.
    pub fn start(addr: SocketAddr) -> Result<Self, Error> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        let ended = stop.clone();
        let thread = thread::spawn(move || {
            let mut answers = 0;
            let mut next = Instant::now();
            while !ended.load(Ordering::Relaxed) {
                for route in ROUTES {
                    ask(&mut stream, addr, route).map_err(|e| format!("{route}: {e}"))?;
                    answers += 1;
                }
                next += INTERVAL;
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            Ok(answers)
        });
        Ok(Self { stop, thread })
    }

    /// Ends. The answer is how many answers there were.
    ///
    /// # Errors
    /// Fails when an answer was not what it should be.
    pub fn stop(self) -> Result<u64, Error> {
        self.stop.store(true, Ordering::Relaxed);
        let answers = self.thread.join().map_err(|_| "the scraper failed")??;
        Ok(answers)
    }
}

/// Asks and reads the whole answer.
fn ask(stream: &mut TcpStream, addr: SocketAddr, route: &str) -> Result<(), Error> {
    let request = format!(
        "GET {route} HTTP/1.1\r\nHost: {addr}\r\nAuthorization: Bearer {OPERATOR_KEY}\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let answer = Answer::read(stream)?;
    if answer.status != 200 {
        return Err(answer.head.into());
    }
    Ok(())
}
