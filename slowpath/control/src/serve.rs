//! The control thread.

use crate::control::Control;
use crate::progress::Progress;
use millrace_fastpath::port::Frame;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// How many times as long as a publication took the next one waits, and for how long at most. A change that comes alone is
/// published at once. Those that come in numbers are published together, the more the longer they take: a rolling update
/// costs a few publications, not thousands, and requests find the control thread free in between.
const REST: u32 = 4;
const LONGEST_REST: Duration = Duration::from_millis(3);
/// How long it takes at most until what workers tell is heard, as for which neighbour a packet waits.
const HEAR: Duration = Duration::from_millis(5);
/// Interval of housekeeping.
const TICK: Duration = Duration::from_secs(1);
/// Requests that may wait. Who asks when it is full is told that the daemon is busy.
const WAITING: usize = 1_024;

/// Something to be done with everything that the control thread owns.
type Job<F> = Box<dyn FnOnce(&mut Control<F>) + Send>;

/// Work for the control thread.
enum Message<F> {
    /// A question or an order from the API.
    Request(Job<F>),
    /// A change of the model, to be published soon.
    Change(Job<F>),
    /// End.
    Stop,
}

/// Hands work to the control thread, from any thread.
pub struct ControlHandle<F> {
    inbox: SyncSender<Message<F>>,
    progress: Progress,
}

impl<F> Clone for ControlHandle<F> {
    fn clone(&self) -> Self {
        ControlHandle { inbox: self.inbox.clone(), progress: self.progress.clone() }
    }
}

/// The control thread is busy beyond measure, or has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the control thread takes no requests now")]
pub struct Busy;

impl<F: Frame + 'static> ControlHandle<F> {
    /// Runs `request` on the control thread, later. It is to answer by a channel of its own.
    pub fn request(&self, request: impl FnOnce(&mut Control<F>) + Send + 'static) -> Result<(), Busy> {
        self.inbox.try_send(Message::Request(Box::new(request))).map_err(|_| Busy)
    }

    /// Runs a change of the model on the control thread and publishes it: at once, or together with what else comes within
    /// 3 ms after the last publication. Waits while the inbox is full.
    pub fn change(&self, change: impl FnOnce(&mut Control<F>) + Send + 'static) -> Result<(), Busy> {
        self.progress.note_queued(Instant::now());
        self.inbox.send(Message::Change(Box::new(change))).map_err(|_| Busy)
    }

    /// Runs a change of the model on the control thread that nobody is to see before a later one is published. Waits while
    /// the inbox is full.
    pub fn prepare(&self, change: impl FnOnce(&mut Control<F>) + Send + 'static) -> Result<(), Busy> {
        self.inbox.send(Message::Request(Box::new(change))).map_err(|_| Busy)
    }

    /// Ends [`ControlLoop::run`] after what was handed over before.
    pub fn stop(&self) -> Result<(), Busy> {
        self.inbox.send(Message::Stop).map_err(|_| Busy)
    }
}

/// The control thread's loop.
pub struct ControlLoop<F> {
    control: Control<F>,
    inbox: Receiver<Message<F>>,
}

impl<F: Frame + 'static> ControlLoop<F> {
    /// A loop around `control`, and the handle to it.
    pub fn new(control: Control<F>) -> (Self, ControlHandle<F>) {
        let (sender, inbox) = sync_channel(WAITING);
        let progress = control.progress();
        (ControlLoop { control, inbox }, ControlHandle { inbox: sender, progress })
    }

    /// Works until it is told to stop; gives the state back.
    pub fn run(mut self) -> Control<F> {
        let progress = self.control.progress();
        let mut next_tick = Instant::now() + TICK;
        // When the changes applied until now are to be published.
        let mut due: Option<Instant> = None;
        // Not before this.
        let mut earliest = Instant::now();
        loop {
            let mut until = due.map_or(next_tick, |due| due.min(next_tick));
            if self.control.hears_workers() {
                until = until.min(Instant::now() + HEAR);
            }
            until = self.control.next_look().map_or(until, |look| look.min(until));
            match self.inbox.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Message::Change(change)) => {
                    change(&mut self.control);
                    due.get_or_insert(earliest);
                }
                Ok(Message::Request(request)) => request(&mut self.control),
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return self.control,
            }
            self.control.look_at_workers();
            self.control.hear_workers();
            let now = Instant::now();
            progress.note_beat(now);
            if due.is_some_and(|due| due <= now) {
                self.control.publish();
                due = None;
                let published = Instant::now();
                earliest = published + rest_after(published - now);
            }
            if next_tick <= now {
                self.control.tick();
                next_tick = now + TICK;
            }
        }
    }
}

/// How long to wait after a publication that took so long.
fn rest_after(publication: Duration) -> Duration {
    LONGEST_REST.min(publication * REST)
}
