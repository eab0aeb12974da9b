//! Lines of the log on their way to its output: threads that serve append them to a buffer, and a thread of its own writes
//! those that have gathered, many with one call.

use crate::writer_thread::{Ending, WriterThread};
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

/// Bytes that may wait for an output that takes none, such as a terminal that is held; later lines are lost.
const BUFFER: usize = 1 << 20;
/// Time after the first line of a batch in which more are gathered. A person does not see it.
const DELAY: Duration = Duration::from_millis(10);
/// Time that the last lines have to be written.
const PATIENCE: Duration = Duration::from_secs(1);

/// Destination of the log. Its errors are dropped, since there is no place to tell them.
pub(super) type Output = Box<dyn Write + Send>;

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// Lines that found no room since the last one that did.
    lost: u64,
}

/// Lines that wait for the output. A line is one call of `write`.
pub(super) struct Lines {
    waiting: Mutex<Waiting>,
    output: Mutex<Output>,
    writer: OnceLock<Thread>,
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lines")
    }
}

impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.bytes.len() + line.len() > BUFFER {
            waiting.lost += 1;
            return Ok(line.len());
        }
        let first = waiting.bytes.is_empty();
        waiting.bytes.extend_from_slice(line);
        drop(waiting);
        if first && let Some(writer) = self.writer.get() {
            writer.unpark();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// Writes what waits. False when nothing does.
    fn write_out(&self, output: &mut Output, batch: &mut Vec<u8>) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut waiting.bytes, batch);
        let lost = std::mem::take(&mut waiting.lost);
        drop(waiting);
        if lost > 0 {
            tracing::warn!(
                lost,
                "the log's output took no more lines, and some are lost"
            );
        }
        let some = !batch.is_empty();
        if some {
            let _ = output.write_all(batch);
            batch.clear();
        }
        some
    }

    /// Writes what waits, unless the output is being written to.
    pub(super) fn write_out_at_once(&self) {
        if let Ok(mut output) = self.output.try_lock() {
            self.write_out(&mut output, &mut Vec::new());
        }
    }

    fn write_until(&self, ending: &Ending) {
        let mut batch = Vec::new();
        loop {
            // Read before the lines, so that those from before the end are written.
            let ends = ending.is_near();
            let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
            let some = self.write_out(&mut output, &mut batch);
            drop(output);
            if some {
                continue;
            }
            if ends {
                return;
            }
            thread::park();
            ending.gather(DELAY);
        }
    }
}

/// The thread that writes the lines. Dropped, it writes those that wait and ends.
#[derive(Debug)]
pub(super) struct Writer {
    lines: Arc<Lines>,
    thread: WriterThread,
}

impl Writer {
    /// Starts to write to `output`.
    ///
    /// # Errors
    /// Fails when no thread can be started.
    pub(super) fn start(output: Output) -> io::Result<Writer> {
        let lines = Arc::new(Lines {
            waiting: Mutex::default(),
            output: Mutex::new(output),
            writer: OnceLock::new(),
        });
        let own = lines.clone();
        let thread = WriterThread::start("log", move |ending| own.write_until(ending))?;
        // The first line comes later.
        let _ = lines.writer.set(thread.thread().clone());
        Ok(Writer { lines, thread })
    }

    /// Writes the lines that wait and ends, but waits no longer than [`PATIENCE`].
    pub(super) fn finish(&self) {
        // An output that takes nothing must not keep the program from ending.
        self.thread.finish(PATIENCE);
    }

    /// The lines that are written.
    pub(super) fn lines(&self) -> Arc<Lines> {
        self.lines.clone()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::mpsc::{Receiver, Sender};

    /// Gives what is written to a test, which holds it up by its receiver's bound.
    struct Told(Sender<Vec<u8>>, Option<Receiver<()>>);

    impl Write for Told {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(held) = self.1.take() {
                held.recv().unwrap();
            }
            let _ = self.0.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_end_writes_all_lines_whole_and_in_the_order_of_each_thread() {
        let (told, written) = std::sync::mpsc::channel();
        let writer = Writer::start(Box::new(Told(told, None))).unwrap();
        thread::scope(|scope| {
            for name in 0..4 {
                let lines = writer.lines();
                scope.spawn(move || {
                    for number in 0..1000 {
                        (&*lines)
                            .write_all(format!("{name} {number}\n").as_bytes())
                            .unwrap();
                    }
                });
            }
        });
        drop(writer);
        let text = String::from_utf8(written.iter().flatten().collect()).unwrap();
        for name in 0..4 {
            let own = format!("{name} ");
            let numbers = text.lines().filter_map(|line| line.strip_prefix(&own));
            let numbers: Vec<usize> = numbers.map(|number| number.parse().unwrap()).collect();
            assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
        }
    }

    #[test]
    fn nobody_waits_for_an_output_that_takes_nothing() {
        let (told, written) = std::sync::mpsc::channel();
        let (release, held) = std::sync::mpsc::channel();
        let writer = Writer::start(Box::new(Told(told, Some(held)))).unwrap();
        let lines = writer.lines();
        let line = [b'x'; 1 << 10];
        for _ in 0..4 << 10 {
            (&*lines).write_all(&line).unwrap();
        }
        release.send(()).unwrap();
        drop((lines, writer));
        let bytes = written.iter().flatten().count();
        // The writer took some before it was held, and then a full buffer.
        assert!((BUFFER..=2 * BUFFER).contains(&bytes), "{bytes} bytes");
    }
}
