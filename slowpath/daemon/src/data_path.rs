//! Everything that carries packets, and the control thread over it.

use crate::StartError;
use crate::drivers::Drivers;
use crate::flows::{affinity_table, flow_table};
use crate::kept::Kept;
use crate::memory::PacketMemory;
use crate::objects;
use crate::worker::{Place, Staff, Supplies};
use millrace_config::{Config, InterfaceName, NodeName};
use millrace_control::uplink::kernel::Follower;
use millrace_control::{
    Attachments, Control, ControlHandle, ControlLoop, HealthChecks, KernelPlumbing, KernelStack, Parts,
    Progress, WorkerError,
};
use millrace_fastpath::sync::{Domain, Snapshot};
use millrace_fastpath::tables::TableSet;
use millrace_ffi::mbuf::Mbuf;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{oneshot, watch};

/// The running data path.
pub(crate) struct DataPath {
    /// To the control thread.
    pub(crate) handle: ControlHandle<Mbuf>,
    /// How the control thread gets on.
    pub(crate) progress: Progress,
    /// The health checks that the node is to answer.
    pub(crate) checks: watch::Receiver<HealthChecks>,
    /// Said by the control thread when it has ended, with how the workers did.
    pub(crate) ended: oneshot::Receiver<Result<(), WorkerError>>,
    pub(crate) threads: Threads,
}

/// The threads to wait for at the end.
pub(crate) struct Threads {
    control: JoinHandle<()>,
    staff: Staff,
    /// Tells the control thread what the kernel knows of uplinks.
    follower: Option<Follower>,
    /// Dropped last: ports and workers are gone by then.
    memory: PacketMemory,
}

impl Threads {
    /// Waits for all of them, and gives the packet memory back.
    pub(crate) fn join(self) {
        if self.control.join().is_err() {
            tracing::error!("the control thread panicked");
            return;
        }
        drop(self.follower);
        self.staff.join();
        drop(self.memory);
    }
}

impl DataPath {
    /// Takes memory, starts the workers and the control thread.
    pub(crate) fn start(
        config: &Config,
        node: &NodeName,
        places: &[Place],
        plumbing: KernelPlumbing,
        attachments: Attachments,
    ) -> Result<Self, StartError> {
        let kept = Kept::of(config);
        let memory = PacketMemory::try_new(config, &kept)?;
        let domain = Domain::new(places.len());
        let flows = Arc::new(flow_table(config, &kept, memory.hugepages, &domain)?);
        let affinity = Arc::new(affinity_table(config, &kept)?);
        let model = objects::model(config, node);
        let tables = Arc::new(Snapshot::new(&domain, Box::new(TableSet::empty(objects::gateway(config)))));
        let supplies = Supplies {
            eal: &memory.eal,
            flows: &flows,
            affinity: &affinity,
            tables: &tables,
            domain: &domain,
            idle: config.workers.idle,
        };
        let (staff, workers) = Staff::start(&supplies, places)?;
        let pools = memory.clone();
        let control = Control::new(Parts {
            config: config.clone(),
            node: node.clone(),
            hugepages: memory.hugepages,
            model,
            tables,
            domain: Arc::clone(&domain),
            flows,
            affinity,
            workers,
            driver: Box::new(Drivers::new(memory.clone(), domain, config, places.len())),
            plumbing: Box::new(plumbing),
            attachments,
            host: Box::new(KernelStack),
            pools: Box::new(move || pools.pools()),
        });
        let (progress, checks) = (control.progress(), control.health_checks());
        let interfaces = control.uplink_interfaces();
        let (control_loop, handle) = ControlLoop::new(control);
        let follower = follow(interfaces, &handle)?;
        let (say, ended) = oneshot::channel();
        let work = move || {
            let result = control_loop.run().shut_down();
            let _ = say.send(result);
        };
        let control = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(work)
            .map_err(StartError::system("starting the control thread"))?;
        Ok(DataPath {
            handle,
            progress,
            checks,
            ended,
            threads: Threads { control, staff, follower, memory },
        })
    }
}

/// Has the control thread told what the kernel knows of these interfaces, if there are any.
fn follow(
    interfaces: BTreeSet<InterfaceName>,
    handle: &ControlHandle<Mbuf>,
) -> Result<Option<Follower>, StartError> {
    if interfaces.is_empty() {
        return Ok(None);
    }
    let handle = handle.clone();
    let tell = move |view| handle.change(move |control| control.set_kernel_view(view)).is_ok();
    Ok(Some(Follower::start(interfaces, tell)?))
}
