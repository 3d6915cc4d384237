//! A node in memory: drivers and plumbing that fail when told to, and say what they hold.

use crate::link::{HostRoutes, Obstacle};
use crate::uplink::takeover::Nic;
use crate::*;
use ipnet::IpNet;
use millrace_api::Route;
use millrace_config::{Config, InterfaceName, PortConfig, PortName};
use millrace_fastpath::conntrack::{AffinityTable, FlowTable, FlowTableConfig, Line, Timeouts};
use millrace_fastpath::pipeline::{Waker, Worker, WorkerCounters, WorkerParts, handover_mesh, mailbox};
use millrace_fastpath::port::{
    BufferFrame, Burst, ClaimChanges, PortCounters, PortId, PortQueue, Shortcut, WorkerId,
};
use millrace_fastpath::sync::{Domain, Region, Snapshot};
use millrace_fastpath::tables::{Gateway, TableSet};
use millrace_fastpath::wire::ethernet::MacAddr;
use millrace_model::{Model, ModelConfig};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Commands that may wait for a worker, and so two more than the queues that it can take.
pub(super) const MAILBOX: usize = 64;

/// What the outside of a port sees: frames that wait to be received, and those that were sent.
#[derive(Default)]
pub(super) struct Wire {
    pub(super) arrived: VecDeque<BufferFrame>,
    pub(super) sent: Vec<BufferFrame>,
}

/// What the node's outside holds at a moment, and what is to fail next.
#[derive(Default)]
pub(super) struct Outside {
    pub(super) devices: AtomicUsize,
    pub(super) queues: AtomicUsize,
    pub(super) sites: AtomicUsize,
    pub(super) wires: Mutex<BTreeMap<PortId, Arc<Mutex<Wire>>>>,
    pub(super) failing: Mutex<Option<Step>>,
    /// Ports whose pods have something that outlives the process.
    pub(super) lasting: Mutex<BTreeSet<String>>,
    /// Network namespaces that are not there.
    pub(super) gone: Mutex<BTreeSet<PathBuf>>,
    pub(super) host: Mutex<Host>,
    /// What is claimed on each port that was opened with nothing taken.
    pub(super) claims: Mutex<BTreeMap<PortId, BTreeSet<String>>>,
    /// The MTU that each port was opened with.
    pub(super) mtus: Mutex<BTreeMap<PortId, u16>>,
    /// NICs whose later addresses were moved to the leg.
    pub(super) followed: Mutex<Vec<Nic>>,
    /// Open ports take no larger MTU, if any.
    pub(super) most_mtu: Mutex<Option<u16>>,
    /// Whether steering fails.
    pub(super) steering_fails: AtomicUsize,
    /// On how many queues each NIC receives, if its driver says so.
    pub(super) receive_queues: Mutex<Option<u32>>,
    /// What shared uplinks have no room for.
    pub(super) unclaimed: Mutex<Option<String>>,
    /// The kernel's interfaces behind ports, by number.
    pub(super) ends: Mutex<BTreeMap<PortId, u32>>,
    /// What the kernel was told to carry, each time.
    pub(super) shortened: Mutex<Vec<Shortcut>>,
    /// How often all that ended.
    pub(super) ended: AtomicUsize,
    /// Whether ending it fails.
    pub(super) ending_fails: AtomicUsize,
}

impl Outside {
    fn fail(&self, step: Step) -> Result<(), Refusal> {
        match *self.failing.lock().unwrap() {
            Some(failing) if failing == step => Err(format!("{step} refused").into()),
            _ => Ok(()),
        }
    }

    /// Devices, queues and sites that are there.
    pub(super) fn held(&self) -> (usize, usize, usize) {
        let read = |count: &AtomicUsize| count.load(Ordering::SeqCst);
        (read(&self.devices), read(&self.queues), read(&self.sites))
    }
}

/// Counts itself while it lives.
struct Counted(Arc<Outside>, fn(&Outside) -> &AtomicUsize);

impl Counted {
    fn new(outside: &Arc<Outside>, which: fn(&Outside) -> &AtomicUsize) -> Self {
        which(outside).fetch_add(1, Ordering::SeqCst);
        Counted(Arc::clone(outside), which)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Ordering::SeqCst);
    }
}

struct MemoryDriver(Arc<Outside>);

struct MemoryDevice {
    id: PortId,
    take: crate::Take,
    outside: Arc<Outside>,
    _counted: Counted,
}

struct MemoryPort {
    counters: Arc<PortCounters>,
    wire: Arc<Mutex<Wire>>,
    _counted: Counted,
}

impl Driver<BufferFrame> for MemoryDriver {
    fn open(&mut self, request: &OpenRequest<'_>) -> Result<Opened<BufferFrame>, Refusal> {
        self.0.fail(Step::Open)?;
        let wire = Arc::new(Mutex::new(Wire::default()));
        self.0.wires.lock().unwrap().insert(request.id, Arc::clone(&wire));
        self.0.mtus.lock().unwrap().insert(request.id, request.mtu);
        if request.take == crate::Take::Claimed {
            self.0.claims.lock().unwrap().insert(request.id, BTreeSet::new());
        }
        let queue = |_| {
            let counted = Counted::new(&self.0, |outside| &outside.queues);
            Box::new(MemoryPort {
                wire: Arc::clone(&wire),
                counters: request.counters.clone(),
                _counted: counted,
            }) as Box<dyn PortQueue<BufferFrame>>
        };
        let counted = Counted::new(&self.0, |outside| &outside.devices);
        Ok(Opened {
            device: Box::new(MemoryDevice {
                id: request.id,
                take: request.take,
                outside: Arc::clone(&self.0),
                _counted: counted,
            }),
            queues: (0..request.config.queues.get()).map(queue).collect(),
        })
    }

    fn receive_queues(&self, _: &millrace_config::InterfaceName) -> Option<u32> {
        *self.0.receive_queues.lock().unwrap()
    }

    fn shorten(&mut self, shortcut: &Shortcut) -> Result<(), Refusal> {
        self.0.shortened.lock().unwrap().push(shortcut.clone());
        Ok(())
    }

    fn end_shortcuts(&mut self) -> Result<(), Refusal> {
        if self.0.ending_fails.load(Ordering::SeqCst) > 0 {
            return Err("ending refused".into());
        }
        self.0.ended.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

impl Device for MemoryDevice {
    fn unclaimed(&self) -> Option<String> {
        self.outside.unclaimed.lock().unwrap().clone()
    }

    fn link(&self) -> Link {
        Link::Up
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        vec![("driver", "memory".to_owned())]
    }

    fn steer(&self, changes: &ClaimChanges) -> Result<(), Refusal> {
        assert_eq!(self.take, crate::Take::Claimed, "only what is shared is steered");
        if self.outside.steering_fails.load(Ordering::SeqCst) > 0 {
            return Err("steering refused".into());
        }
        let mut claims = self.outside.claims.lock().unwrap();
        let claims = claims.get_mut(&self.id).unwrap();
        for claim in &changes.released {
            claims.remove(&format!("{claim:?}"));
        }
        claims.extend(changes.claimed.iter().map(|claim| format!("{claim:?}")));
        Ok(())
    }

    fn follow_mtu(&self, mtu: u16) -> Result<bool, Refusal> {
        Ok(self.outside.most_mtu.lock().unwrap().is_none_or(|most| mtu <= most))
    }

    fn shortcut_end(&self) -> Option<u32> {
        self.outside.ends.lock().unwrap().get(&self.id).copied()
    }
}

impl Drop for MemoryDevice {
    fn drop(&mut self) {
        assert!(self.outside.failing.lock().is_ok());
        self.outside.claims.lock().unwrap().remove(&self.id);
    }
}

impl PortQueue<BufferFrame> for MemoryPort {
    fn rx_burst(&mut self, into: &mut Burst<BufferFrame>) -> usize {
        let mut wire = self.wire.lock().unwrap();
        let count = wire.arrived.len().min(into.remaining_capacity());
        into.extend(wire.arrived.drain(..count));
        self.counters.received(count as u64, 0);
        count
    }

    fn tx_burst(&mut self, frames: &mut Burst<BufferFrame>) -> usize {
        let count = frames.len();
        self.wire.lock().unwrap().sent.extend(frames.drain(..));
        self.counters.sent(count as u64, 0);
        count
    }
}

/// The host's addresses, the routes that are in the way, and where the host was led last.
#[derive(Default)]
pub(super) struct Host {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) routes: Vec<IpNet>,
    pub(super) led: Option<HostRoutes>,
    /// The neighbours that were asked for, each time.
    pub(super) solicited: Vec<(u32, IpAddr)>,
}

struct MemoryStack(Arc<Outside>);

impl HostStack for MemoryStack {
    fn addresses(&mut self) -> Result<Vec<IpAddr>, Refusal> {
        Ok(self.0.host.lock().unwrap().addresses.clone())
    }

    fn lead(&mut self, wanted: &HostRoutes) -> Result<Vec<Obstacle>, Refusal> {
        let mut host = self.0.host.lock().unwrap();
        host.led = Some(wanted.clone());
        let obstacle = |&range: &IpNet| {
            let route =
                host.routes.iter().copied().find(|route| range.contains(route) || route.contains(&range));
            route.map(|route| Obstacle { range, route, interface: None })
        };
        Ok(wanted.ranges.iter().filter_map(obstacle).collect())
    }

    fn is_led(&mut self, wanted: &HostRoutes) -> Result<bool, Refusal> {
        Ok(self.0.host.lock().unwrap().led.as_ref() == Some(wanted))
    }

    fn solicit(&mut self, neighbours: &[(u32, IpAddr)]) -> Result<(), Refusal> {
        self.0.host.lock().unwrap().solicited.extend_from_slice(neighbours);
        Ok(())
    }
}

struct MemoryPlumbing(Arc<Outside>);

impl Plumbing for MemoryPlumbing {
    fn prepare(&mut self, site: &Site<'_>) -> Result<Option<InterfaceName>, Refusal> {
        self.0.fail(Step::Prepare)?;
        let name = site.config.name.to_string();
        match site.lasting {
            None => drop(self.0.sites.fetch_add(1, Ordering::SeqCst)),
            Some(lasting) if !lasting.adopted => {
                assert!(self.0.lasting.lock().unwrap().insert(name), "it is there already");
            }
            Some(_) if !self.0.lasting.lock().unwrap().contains(&name) => return Err("it is gone".into()),
            Some(_) => {}
        }
        Ok(None)
    }

    fn finish(&mut self, _: &Site<'_>) -> Result<Vec<Route>, Refusal> {
        self.0.fail(Step::Finish)?;
        Ok(vec![Route::to("0.0.0.0/0".parse().unwrap())])
    }

    fn undo(&mut self, site: &Site<'_>) -> Result<(), Refusal> {
        if site.lasting.is_some() {
            self.0.fail(Step::Undo)?;
            self.0.lasting.lock().unwrap().remove(site.config.name.as_str());
            return Ok(());
        }
        let (_, queues, sites) = self.0.held();
        assert!(sites > 0, "undone once for each time it was made");
        assert!(self.0.devices.load(Ordering::SeqCst) == 0 || queues > 0, "devices go after their queues");
        self.0.sites.fetch_sub(1, Ordering::SeqCst);
        self.0.fail(Step::Undo)
    }

    fn undoing(&self, site: &Site<'_>) -> Option<Undoing> {
        site.lasting?;
        let (outside, name) = (Arc::clone(&self.0), site.config.name.to_string());
        Some(Box::new(move || {
            outside.fail(Step::Undo)?;
            outside.lasting.lock().unwrap().remove(&name);
            Ok(())
        }))
    }

    fn check(&mut self, site: &Site<'_>, _: &[Route]) -> Result<(), Refusal> {
        let is_there = self.0.lasting.lock().unwrap().contains(site.config.name.as_str());
        if is_there { Ok(()) } else { Err("its address is gone".into()) }
    }

    fn has_namespace(&self, file: &Path) -> bool {
        !self.0.gone.lock().unwrap().contains(file)
    }

    fn follow_nic(&mut self, nic: &Nic) -> Result<(), Refusal> {
        self.0.followed.lock().unwrap().push(nic.clone());
        Ok(())
    }
}

/// A node: its control state, its running workers, its outside.
pub(super) struct Node {
    pub(super) control: Control<BufferFrame>,
    pub(super) outside: Arc<Outside>,
    /// The state directory.
    pub(super) state: Arc<TempDir>,
    workers: Vec<JoinHandle<()>>,
}

impl Node {
    pub(super) fn new(workers: usize) -> Self {
        let state = Arc::new(TempDir::new().unwrap());
        Node::at(workers, Config::default(), state, Arc::default())
    }

    /// A node with a state directory and an outside that were there before it.
    pub(super) fn at(workers: usize, config: Config, state: Arc<TempDir>, outside: Arc<Outside>) -> Self {
        let gateway = Gateway {
            mac: MacAddr([2, 0x4d, 0x52, 0, 0, 1]),
            ipv4: "169.254.1.1".parse().unwrap(),
            ipv6: "fe80::4d:52ff:fe00:1".parse().unwrap(),
        };
        let domain = Domain::new(workers);
        let tables = Arc::new(Snapshot::new(&domain, Box::new(TableSet::empty(gateway))));
        let flow_config =
            FlowTableConfig { connections: 1024, secret: [3; 4], timeouts: Timeouts::default() };
        let memory = Region::from_heap(Line::zeroed(FlowTable::lines(1024)));
        let flows = Arc::new(FlowTable::try_new(flow_config, memory, &domain).unwrap());
        let memory = Region::from_heap(Line::zeroed(AffinityTable::lines(64)));
        let affinity = Arc::new(AffinityTable::try_new(64, [5; 4], memory).unwrap());
        let wakers: Vec<Waker> = (0..workers).map(|_| Arc::new(|| {}) as Waker).collect();
        let (mut handles, mut threads) = (Vec::new(), Vec::new());
        for (number, handover) in handover_mesh(&wakers, 64).into_iter().enumerate() {
            let id = WorkerId(number as u16);
            let (end, mailbox) = mailbox(MAILBOX);
            let counters = Arc::new(WorkerCounters::default());
            let mut worker = Worker::new(WorkerParts {
                id,
                seed: 7 + number as u64,
                flows: Arc::clone(&flows),
                affinity: Arc::clone(&affinity),
                tables: Arc::clone(&tables),
                reader: domain.register().unwrap(),
                counters: Arc::clone(&counters),
                mailbox,
                handover,
            });
            let waker = Arc::clone(&wakers[number]);
            handles.push(WorkerHandle::new(id, None, end, waker, counters, Arc::new(Load::default())));
            threads.push(std::thread::spawn(move || {
                while !worker.is_stopped() {
                    if worker.poll(now()) == 0 {
                        std::thread::yield_now();
                    }
                }
            }));
        }
        let model = Model::new(ModelConfig::new("node", gateway));
        let control = Control::new(Parts {
            attachments: Attachments::open(state.path()).unwrap(),
            config,
            node: "node".parse().unwrap(),
            hugepages: false,
            model,
            tables,
            domain,
            flows,
            affinity,
            workers: handles,
            driver: Box::new(MemoryDriver(Arc::clone(&outside))),
            plumbing: Box::new(MemoryPlumbing(Arc::clone(&outside))),
            host: Box::new(MemoryStack(Arc::clone(&outside))),
            pools: Box::new(Vec::new),
        });
        Node { control, outside, state, workers: threads }
    }

    pub(super) fn fail(&self, step: Option<Step>) {
        *self.outside.failing.lock().unwrap() = step;
    }

    pub(super) fn wire(&self, id: PortId) -> Arc<Mutex<Wire>> {
        Arc::clone(&self.outside.wires.lock().unwrap()[&id])
    }

    /// Ends the node: everything must be gone, but what containers have.
    pub(super) fn end(mut self) {
        self.fail(None);
        self.control.shut_down().unwrap();
        for worker in self.workers.drain(..) {
            worker.join().unwrap();
        }
        assert_eq!(self.outside.held(), (0, 0, 0));
    }
}

/// A DPDK port: the kind that wants nothing of the host.
pub(super) fn port(number: u8, queues: u16) -> PortConfig {
    serde_json::from_value(serde_json::json!({
        "name": format!("port-{number}"),
        "kind": "dpdk",
        "addresses": [format!("10.0.0.{number}"), format!("fd00::{number:x}")],
        "mac": format!("02:00:00:00:00:{number:02x}"),
        "queues": queues,
        "dpdk": { "devargs": format!("net_null{number}") },
    }))
    .unwrap()
}

pub(super) fn name(number: u8) -> PortName {
    format!("port-{number}").parse().unwrap()
}

pub(super) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
