//! From start to end.

use crate::control_end::ControlEnd;
use crate::data_path::DataPath;
use crate::http::{self, ApiSocket};
use crate::objects::Objects;
use crate::readiness::Readiness;
use crate::reserved_ports::ReservedPorts;
use crate::state_directory::StateDirectory;
use crate::{StartError, kube_proxy, metrics, worker};
use axum::Router;
use millrace_config::Config;
use millrace_control::link::Leftover;
use millrace_control::{Attachments, ControlHandle, KernelPlumbing, WorkerError};
use millrace_ffi::mbuf::Mbuf;
use std::net::TcpListener;
use std::path::Path;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Exit status after a second signal: that of a process that the shell saw interrupted.
const INTERRUPTED: i32 = 130;
/// This very program, also when its file has been replaced.
const ITSELF: &str = "/proc/self/exe";

/// Runs the daemon with the configuration in `file`, until SIGTERM or SIGINT. What is cheap and may fail comes first:
/// a daemon that cannot run says so before it has touched anything.
pub(crate) fn run(file: &Path) -> Result<(), StartError> {
    let config = millrace_config::load(file)?;
    let node = config.node_name()?;
    let places = worker::places(&config.workers.cores)?;
    let _state = StateDirectory::take(&config.state_directory)?;
    let socket = ApiSocket::bind(&config.api.socket)?;
    let metrics_listener = metrics::bind(config.metrics.address)?;
    let objects = Objects::open(&config, &node)?;
    let mut plumbing = KernelPlumbing::open(&config)?;
    give_back_nics(&mut plumbing)?;
    for (leftover, reason) in plumbing.remove_leftovers()? {
        tracing::warn!(
            leftover = name(&leftover),
            reason,
            "left over by an earlier instance and not removed"
        );
    }
    let attachments = Attachments::open(&config.state_directory)?;
    let _reserved = reserve_ports(&config);
    raise_descriptor_limit();

    let data_path = DataPath::start(&config, &node, &places, plumbing, attachments)?;
    let readiness = Readiness::default();
    let source = objects.follow(&config, &data_path.handle, readiness.clone())?;
    let served = serve(&config, &socket, metrics_listener, data_path, readiness);
    drop(source);
    served
}

/// What was taken from the kernel by an instance that was killed goes back first; what will be is watched over.
fn give_back_nics(plumbing: &mut KernelPlumbing) -> Result<(), StartError> {
    let takeover = plumbing.takeover();
    for interface in takeover.give_back_leftovers()? {
        tracing::warn!(interface, "given back to the kernel, from which an earlier instance had taken it");
    }
    takeover.guard_with(ITSELF.into());
    Ok(())
}

fn name(leftover: &Leftover) -> String {
    match leftover {
        Leftover::Veth(name) => name.clone(),
        Leftover::Socket(path) => path.display().to_string(),
    }
}

/// Keeps the host's programs off the ports to masquerade with. Where /proc/sys is read-only, as in a container without
/// privileges, the daemon runs all the same, and the administrator can reserve them.
fn reserve_ports(config: &Config) -> Option<ReservedPorts> {
    let range = config.services.masquerade_ports;
    match ReservedPorts::take(range, &config.state_directory) {
        Ok(reserved) => Some(reserved),
        Err(error) => {
            tracing::warn!(
                ports = %range,
                %error,
                "the ports to masquerade with are not reserved: a program of the host may get one of them; \
                 add them to net.ipv4.ip_local_reserved_ports"
            );
            None
        }
    }
}

/// Every port takes a few descriptors: as many as the kernel lets us have. With fewer, ports fail one by one.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

/// Answers requests until a signal comes, then ends the data path.
fn serve(
    config: &Config,
    socket: &ApiSocket,
    metrics_listener: TcpListener,
    data_path: DataPath,
    readiness: Readiness,
) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StartError::system("starting the runtime"))?;
    let DataPath { handle, progress, checks, mut ended, threads } = data_path;
    let outcome = runtime.block_on(async {
        let mut signals = Signals::try_new()?;
        let control = ControlEnd::new(handle.clone());
        spawn_server(socket.listener()?, http::router(control.clone()));
        let listener = tokio::net::TcpListener::from_std(metrics_listener)
            .map_err(|source| StartError::Metrics { address: config.metrics.address, source })?;
        let sources = kube_proxy::Sources { progress, checks, control: control.clone() };
        let probes = kube_proxy::spawn(&config.services, sources);
        let metrics = metrics::router(control, readiness, probes);
        kube_proxy::spawn_status(&config.services, metrics.clone());
        spawn_server(listener, metrics);
        tracing::info!(api = %config.api.socket.display(), metrics = %config.metrics.address, "serving");
        tokio::select! {
            name = signals.next() => tracing::info!(signal = name, "ending"),
            _ = &mut ended => return Err(StartError::Thread("control")),
        }
        end(&handle, ended, &mut signals).await
    });
    // After a failure some thread may hang: the end of the process ends it, too.
    if outcome.is_ok() {
        threads.join();
    }
    outcome
}

/// Has the control thread remove all ports and stop the workers. A second signal ends the process at once.
async fn end(
    handle: &ControlHandle<Mbuf>,
    ended: oneshot::Receiver<Result<(), WorkerError>>,
    signals: &mut Signals,
) -> Result<(), StartError> {
    handle.stop().map_err(|_| StartError::Thread("control"))?;
    tokio::select! {
        result = ended => Ok(result.map_err(|_| StartError::Thread("control"))??),
        _ = signals.next() => std::process::exit(INTERRUPTED),
    }
}

fn spawn_server<L>(listener: L, router: Router)
where
    L: axum::serve::Listener,
    L::Addr: std::fmt::Debug,
{
    // It ends with the runtime only: `axum::serve` survives every error of a connection.
    tokio::spawn(async move { axum::serve(listener, router).await });
}

/// The signals that end the daemon.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn try_new() -> Result<Self, StartError> {
        let listen = |kind| signal(kind).map_err(StartError::system("listening to signals"));
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
