//! Why the daemon does not start, or not end well.

use millrace_config::ConfigError;
use millrace_control::link::RecordError;
use millrace_fastpath::conntrack::{AffinityError, FlowTableError};
use millrace_ffi::eal::EalError;
use millrace_ffi::flow_memory::FlowMemoryError;
use millrace_ffi::mempool::MempoolError;
use millrace_ffi::xdp::ArenaError;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use thiserror::Error;

/// Why the daemon does not start, or not end well. One line each, naming the offending value.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The log level is none.
    #[error("--log (or MILLRACE_LOG) {value:?}: {reason}")]
    Log {
        /// What was given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The state directory cannot be used.
    #[error("stateDirectory {path}: {source}")]
    StateDirectory {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another daemon uses the state directory.
    #[error("stateDirectory {0}: in use by another millraced")]
    StateInUse(PathBuf),
    /// What an earlier instance recorded cannot be read.
    #[error("stateDirectory: {0}")]
    Record(#[from] RecordError),
    /// What containers have cannot be read.
    #[error("stateDirectory: {0}")]
    Attachments(#[from] millrace_control::StoreError),
    /// The API's socket cannot be made.
    #[error("api.socket {path}: {source}")]
    Socket {
        /// Its path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The metrics' address cannot be used.
    #[error("metrics.address {address}: {source}")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// Hugepages are required and there are too few.
    #[error("memory.hugepages: required, but {free_mib} MiB are free where {wanted_mib} MiB are wanted")]
    Hugepages {
        /// MiB in free hugepages of 2 MiB.
        free_mib: u64,
        /// MiB wanted.
        wanted_mib: u64,
    },
    /// DPDK's environment cannot be set up.
    #[error("memory: {0}")]
    Eal(#[from] EalError),
    /// A packet pool cannot be made.
    #[error("memory: {0}")]
    Pool(#[from] MempoolError),
    /// The arena of AF_XDP ports cannot be made.
    #[error("memory.afXdpFrames: {0}")]
    Arena(#[from] ArenaError),
    /// The pool for TAPs' large frames cannot be made.
    #[error("memory.mebibytes: {0}")]
    TapPool(#[from] millrace_ffi::tap::TapError),
    /// The flow table has no memory.
    #[error("flowTable.connections: {0}")]
    FlowMemory(#[from] FlowMemoryError),
    /// The flow table cannot be made.
    #[error("flowTable.connections: {0}")]
    FlowTable(#[from] FlowTableError),
    /// Session affinity has no memory.
    #[error("services.affinityClients: {0}")]
    AffinityMemory(#[source] FlowMemoryError),
    /// The table of session affinity cannot be made.
    #[error("services.affinityClients: {0}")]
    AffinityTable(#[from] AffinityError),
    /// A worker is to be on a core that this process may not use.
    #[error("workers.cores: core {0} is not among those that this process may run on")]
    Core(u16),
    /// A thread, or what it needs of the kernel, cannot be made.
    #[error("{what}: {source}")]
    System {
        /// What was to be made.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The source of objects does not start.
    #[error("source: {0}")]
    Source(#[from] millrace_source::SourceError),
    /// The CNI network configuration cannot be removed.
    #[error("cni.confFile {}: {source}", file.display())]
    CniConfiguration {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
    /// The API server cannot be followed.
    #[error(transparent)]
    Kubernetes(#[from] millrace_source::KubernetesError),
    /// What the kernel knows of uplinks cannot be followed.
    #[error("uplinks: {0}")]
    Kernel(#[from] millrace_control::uplink::kernel::KernelError),
    /// A NIC that an earlier instance had taken cannot be given back.
    #[error("uplinks: {0}")]
    Takeover(#[from] millrace_control::uplink::takeover::TakeoverError),
    /// A thread ended that should not have.
    #[error("the {0} thread ended before its time")]
    Thread(&'static str),
    /// A worker did not end.
    #[error(transparent)]
    Worker(#[from] millrace_control::WorkerError),
}

impl StartError {
    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
        move |source| StartError::System { what, source }
    }

    /// 2 for what the configuration's author can mend, 1 for the rest.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            StartError::Config(_) | StartError::Log { .. } | StartError::Core(_) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}
