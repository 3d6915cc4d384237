//! The control thread's view of a worker.

use crate::port::{PortError, Step};
use millrace_config::PortName;
use millrace_fastpath::pipeline::{Command, ControlEnd, Nanos, Reply, Report, Waker, WorkerCounters};
use millrace_fastpath::port::{Frame, PortId, PortQueue, WorkerId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use thiserror::Error;

/// How long a worker may take to look into its mailbox. It does so in every poll and is woken for it: a worker that
/// does not answer for this long hangs.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two looks for an answer.
const PAUSE: Duration = Duration::from_micros(50);

/// A worker as the control thread sees it.
pub struct WorkerHandle<F> {
    id: WorkerId,
    core: Option<u16>,
    control: ControlEnd<F>,
    waker: Waker,
    counters: Arc<WorkerCounters>,
    load: Arc<Load>,
    /// Queues that it has been given, by port.
    queues: Vec<PortId>,
}

/// Time that a worker spent with frames in hand. The worker's thread writes, anyone reads.
#[derive(Debug, Default)]
pub struct Load {
    busy: AtomicU64,
    recent: AtomicU64,
}

impl Load {
    /// Adds time with work, in nanoseconds. For the worker's thread.
    pub fn add_busy(&self, nanos: u64) {
        self.busy.store(self.busy.load(Ordering::Relaxed) + nanos, Ordering::Relaxed);
    }

    /// Time with work since the start.
    pub fn busy(&self) -> Duration {
        Duration::from_nanos(self.busy.load(Ordering::Relaxed))
    }

    /// Share of time with work, 0 to 1, as [`LoadMeter`] last measured it.
    pub fn recent(&self) -> f64 {
        f64::from_bits(self.recent.load(Ordering::Relaxed))
    }
}

/// Measures the share of busy time between two looks.
#[derive(Debug)]
pub(crate) struct LoadMeter {
    at: Nanos,
    busy: Vec<Duration>,
}

impl LoadMeter {
    pub(crate) fn new(workers: usize, now: Nanos) -> Self {
        LoadMeter { at: now, busy: vec![Duration::ZERO; workers] }
    }

    /// To be called every few seconds.
    pub(crate) fn measure<F>(&mut self, workers: &[WorkerHandle<F>], now: Nanos) {
        let span = now.0.saturating_sub(self.at.0).max(1) as f64;
        for (worker, before) in workers.iter().zip(&mut self.busy) {
            let busy = worker.load.busy();
            let share = busy.saturating_sub(*before).as_nanos() as f64 / span;
            worker.load.recent.store(share.min(1.0).to_bits(), Ordering::Relaxed);
            *before = busy;
        }
        self.at = now;
    }
}

/// A worker that does not do as it is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum WorkerError {
    /// No worker has room for another queue.
    #[error("no worker can take a further queue")]
    Full,
    /// It does not take commands or does not answer.
    #[error("worker {} has not answered for {} s", .0.0, PATIENCE.as_secs())]
    Silent(WorkerId),
}

impl<F: Frame> WorkerHandle<F> {
    /// A worker without queues; `core` is where it is pinned.
    pub fn new(
        id: WorkerId,
        core: Option<u16>,
        control: ControlEnd<F>,
        waker: Waker,
        counters: Arc<WorkerCounters>,
        load: Arc<Load>,
    ) -> Self {
        WorkerHandle { id, core, control, waker, counters, load, queues: Vec::new() }
    }

    /// Its number.
    pub fn id(&self) -> WorkerId {
        self.id
    }

    /// The core that it is pinned to.
    pub fn core(&self) -> Option<u16> {
        self.core
    }

    /// What it has done.
    pub fn counters(&self) -> &WorkerCounters {
        &self.counters
    }

    /// How busy it is.
    pub fn load(&self) -> &Load {
        &self.load
    }

    /// What it has to tell, oldest first.
    pub(crate) fn reports(&mut self) -> impl Iterator<Item = Report> {
        std::iter::from_fn(|| self.control.reports.pop().ok())
    }

    /// How many queues of a port it has.
    pub(crate) fn queues_of(&self, port: PortId) -> usize {
        self.queues.iter().filter(|&&own| own == port).count()
    }

    /// Queues that it has.
    pub(crate) fn queues(&self) -> usize {
        self.queues.len()
    }

    /// Queues that it can take in all. When it is told to stop it gives each of them back in a reply of its own, and takes no
    /// command without room for that.
    fn most_queues(&self) -> usize {
        self.control.replies.buffer().capacity().saturating_sub(2)
    }

    /// Sends a command and wakes the worker; waits while the mailbox is full.
    pub(crate) fn send(&mut self, command: Command<F>) -> Result<(), WorkerError> {
        let attached = if let Command::Attach { port, .. } = &command { Some(*port) } else { None };
        let deadline = Instant::now() + PATIENCE;
        let mut command = command;
        loop {
            match self.control.commands.push(command) {
                Ok(()) => break,
                Err(rtrb::PushError::Full(back)) if Instant::now() < deadline => {
                    command = back;
                    (self.waker)();
                    std::thread::sleep(PAUSE);
                }
                Err(rtrb::PushError::Full(_)) => return Err(WorkerError::Silent(self.id)),
            }
        }
        (self.waker)();
        self.queues.extend(attached);
        Ok(())
    }

    /// Waits until the worker has taken all commands out of its mailbox. It has carried them out when it is next
    /// quiescent.
    pub(crate) fn await_empty_mailbox(&mut self) -> Result<(), WorkerError> {
        let deadline = Instant::now() + PATIENCE;
        while self.control.commands.slots() < self.control.commands.buffer().capacity() {
            if Instant::now() > deadline {
                return Err(WorkerError::Silent(self.id));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Takes all queues of a port back.
    pub(crate) fn detach(&mut self, port: PortId) -> Result<Vec<Box<dyn PortQueue<F>>>, WorkerError> {
        self.send(Command::Detach { port })?;
        loop {
            match self.answer()? {
                Reply::Detached { port: answered, queues } if answered == port => {
                    self.queues.retain(|&own| own != port);
                    return Ok(queues);
                }
                // The answer to an earlier question that was given up on.
                Reply::Detached { port: answered, .. } => self.queues.retain(|&own| own != answered),
                Reply::Stopped => return Err(WorkerError::Silent(self.id)),
            }
        }
    }

    /// Tells the worker to end; it gives all queues back before.
    pub(crate) fn stop(&mut self) -> Result<(), WorkerError> {
        self.send(Command::Stop)?;
        while !matches!(self.answer()?, Reply::Stopped) {}
        Ok(())
    }

    fn answer(&mut self) -> Result<Reply<F>, WorkerError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.control.replies.pop() {
                Ok(reply) => return Ok(reply),
                Err(_) if Instant::now() < deadline => std::thread::sleep(PAUSE),
                Err(_) => return Err(WorkerError::Silent(self.id)),
            }
        }
    }
}

/// Which worker gets which queue of a new port: queues of one port go to different workers as long as there are
/// any, and among those to the one with the fewest queues.
pub(crate) fn assign<F: Frame>(
    workers: &[WorkerHandle<F>],
    queues: usize,
) -> Result<Vec<usize>, WorkerError> {
    let mut given = vec![0; workers.len()];
    (0..queues)
        .map(|_| {
            let all = |worker: usize| workers[worker].queues() + given[worker];
            let with_room = (0..workers.len()).filter(|&worker| all(worker) < workers[worker].most_queues());
            let chosen =
                with_room.min_by_key(|&worker| (given[worker], all(worker))).ok_or(WorkerError::Full)?;
            given[chosen] += 1;
            Ok(chosen)
        })
        .collect()
}

impl WorkerError {
    pub(crate) fn at(self, port: &PortName, step: Step) -> PortError {
        PortError::step(port, step, self)
    }
}
