//! The workers' threads.

use super::idle::IdlePolicy;
use super::sleep::Bed;
use super::{Doorbell, Place};
use crate::StartError;
use crate::flows::random;
use millrace_config::Idle;
use millrace_control::{Load, WorkerHandle, now};
use millrace_fastpath::conntrack::{AffinityTable, FlowTable};
use millrace_fastpath::pipeline::{Waker, Worker, WorkerCounters, WorkerParts, handover_mesh, mailbox};
use millrace_fastpath::port::WorkerId;
use millrace_fastpath::sync::{Domain, Snapshot};
use millrace_fastpath::tables::TableSet;
use millrace_ffi::eal::Eal;
use millrace_ffi::mbuf::Mbuf;
use millrace_ffi::schedule;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Commands that may wait for a worker. It bounds the queues that a worker can take, which therefore are as many as the
/// ports of a node and more.
const MAILBOX: usize = 8_192;
/// Frames in each ring from worker to worker: what one worker may take in while the other is kept from its core for a
/// millisecond.
const HANDOVER: usize = 4_096;

/// A worker goes before the pods that share its core, as the kernel's own soft interrupts do: it works for a few
/// microseconds at a time, and their packets wait for it.
const NICE: i32 = -10;

/// What all workers share.
pub(crate) struct Supplies<'a> {
    pub(crate) eal: &'a Eal,
    pub(crate) flows: &'a Arc<FlowTable>,
    pub(crate) affinity: &'a Arc<AffinityTable>,
    pub(crate) tables: &'a Arc<Snapshot<TableSet>>,
    pub(crate) domain: &'a Arc<Domain>,
    pub(crate) idle: Idle,
}

/// The running workers.
pub(crate) struct Staff(Vec<JoinHandle<()>>);

impl Staff {
    /// Starts a worker at each place; gives them and the control thread's handles to them.
    pub(crate) fn start(
        supplies: &Supplies<'_>,
        places: &[Place],
    ) -> Result<(Staff, Vec<WorkerHandle<Mbuf>>), StartError> {
        let bells: Vec<(Doorbell, Doorbell)> = places
            .iter()
            .map(|_| Ok((Doorbell::try_new()?, Doorbell::try_new()?)))
            .collect::<Result<_, StartError>>()?;
        let wakers: Vec<Waker> = bells.iter().map(|(_, handover)| waker(handover)).collect();
        let meshes = handover_mesh::<Mbuf>(&wakers, HANDOVER);
        let (mut staff, mut handles) = (Staff(Vec::new()), Vec::new());
        for (number, ((place, (commands, handover_bell)), handover)) in
            places.iter().zip(bells).zip(meshes).enumerate()
        {
            let id = WorkerId(number as u16);
            let (control, mailbox) = mailbox(MAILBOX);
            let counters = Arc::new(WorkerCounters::default());
            let load = Arc::new(Load::default());
            let reader = supplies.domain.register().ok_or(StartError::Thread("worker"))?;
            let [seed] = random()?;
            let worker = Worker::new(WorkerParts {
                id,
                seed,
                flows: Arc::clone(supplies.flows),
                affinity: Arc::clone(supplies.affinity),
                tables: Arc::clone(supplies.tables),
                reader,
                counters: Arc::clone(&counters),
                mailbox,
                handover,
            });
            let policy = IdlePolicy::new(supplies.idle, Bed::try_new(commands.clone(), handover_bell)?);
            handles.push(WorkerHandle::new(
                id,
                place.0,
                control,
                waker(&commands),
                counters,
                Arc::clone(&load),
            ));
            staff.0.push(spawn(supplies.eal.clone(), *place, worker, policy, load)?);
        }
        Ok((staff, handles))
    }

    /// Waits for workers that were told to stop.
    pub(crate) fn join(self) {
        for thread in self.0 {
            // A worker that panics has ended the process before this.
            let _ = thread.join();
        }
    }
}

fn waker(bell: &Doorbell) -> Waker {
    let bell = bell.clone();
    Arc::new(move || bell.ring())
}

fn spawn(
    eal: Eal,
    place: Place,
    worker: Worker<Mbuf>,
    policy: IdlePolicy,
    load: Arc<Load>,
) -> Result<JoinHandle<()>, StartError> {
    let name = format!("worker-{}", worker.id().0);
    let run = move || {
        let _alarm = Alarm;
        place.take();
        // Timers of this thread are to be exact to a microsecond, instead of 50.
        let _ = nix::sys::prctl::set_timerslack(1_000);
        if let Err(error) = schedule::set_nice(NICE) {
            tracing::warn!(%error, "the worker is scheduled like any other thread");
        }
        let _registered = eal
            .register_thread()
            .inspect_err(|error| tracing::warn!(%error, "the worker works without caches before the pools"));
        work(worker, policy, &load);
    };
    std::thread::Builder::new().name(name).spawn(run).map_err(StartError::system("starting a worker"))
}

/// Polls until the worker was told to stop.
fn work(mut worker: Worker<Mbuf>, mut policy: IdlePolicy, load: &Load) {
    let (mut last, mut worked) = (now(), false);
    while !worker.is_stopped() {
        let now = now();
        if worked {
            load.add_busy(now.0 - last.0);
        }
        last = now;
        let frames = worker.poll(now);
        worked = frames > 0;
        policy.after_poll(&mut worker, frames, now);
    }
}

/// Ends the process when its thread panics: a worker that is gone would leave its ports dead and the control thread
/// waiting, while a new process has everything right in a second.
struct Alarm;

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("a worker panicked: the process ends");
            std::process::abort();
        }
    }
}
