//! The command line.

use crate::service_name::ServiceName;
use clap::{Args, Parser, Subcommand, ValueEnum};
use millrace_api::{DEFAULT_SOCKET, Destination, FlowFilter, Protocol, Sender, TraceRequest};
use std::net::IpAddr;
use std::path::PathBuf;

/// Looks into the Millrace daemon of this node, and changes its ports.
#[derive(Debug, Parser)]
#[command(name = "millrace", version)]
pub struct Arguments {
    /// The daemon's socket.
    #[arg(long, global = true, default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,
    /// How to show answers.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How to show answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For machines.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the state of the daemon.
    Status,
    /// Show and change ports.
    #[command(subcommand)]
    Port(PortCommand),
    /// Show services.
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Show other nodes and the ways to them.
    #[command(subcommand)]
    Peer(ListCommand),
    /// Show routes.
    #[command(subcommand)]
    Route(RouteCommand),
    /// Show the flow table.
    #[command(subcommand)]
    Flow(FlowCommand),
    /// Tell what a packet would meet, stage by stage, without sending one.
    Trace(TraceArguments),
    /// Show how many frames were dropped, and why.
    Drops {
        /// Show reasons without a drop, too.
        #[arg(long)]
        all: bool,
    },
    /// Show worker threads.
    #[command(subcommand)]
    Worker(ListCommand),
    /// Show the sizes and generations of the tables.
    Tables,
    /// Show manifests that could not be used.
    Errors,
}

/// The one thing to do with most things.
#[derive(Debug, Subcommand)]
pub enum ListCommand {
    /// Show all.
    List,
}

/// What to do with routes.
#[derive(Debug, Subcommand)]
pub enum RouteCommand {
    /// Show all routes, or the one to an address.
    List {
        /// Only the route that packets to this address take.
        #[arg(long)]
        to: Option<IpAddr>,
    },
}

/// What to do with services.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Show the addresses of all services.
    List,
    /// Explain a service: where it answers, which endpoints it may use and why not the others, its clients and flows.
    Show {
        /// Its namespace/name, or name for one in namespace default.
        name: ServiceName,
    },
}

/// What to do with ports.
#[derive(Debug, Subcommand)]
pub enum PortCommand {
    /// Show all ports.
    List,
    /// Add a port.
    Add(Box<PortArguments>),
    /// Remove ports.
    Del {
        /// Their names.
        #[arg(required = true)]
        names: Vec<String>,
    },
}

/// A new port.
#[derive(Debug, Args)]
pub struct PortArguments {
    /// Its name on this node.
    pub name: String,
    /// tap, veth, af-xdp, vhost-user or dpdk.
    #[arg(long)]
    pub kind: String,
    /// The network namespace that gets the interface: a name or a path. A veth always has one.
    #[arg(long)]
    pub netns: Option<String>,
    /// The name of the interface [default: eth0 in a namespace].
    #[arg(long)]
    pub interface: Option<String>,
    /// The pod behind the port, as namespace/name.
    #[arg(long)]
    pub pod: Option<String>,
    /// Who is behind the port: pod, host or uplink [default: uplink without a pod and with a default route, else pod].
    #[arg(long)]
    pub role: Option<String>,
    /// The peer's MAC address [default: derived from the name].
    #[arg(long)]
    pub mac: Option<String>,
    /// An address or prefix that the peer owns; may be repeated.
    #[arg(long = "address")]
    pub addresses: Vec<String>,
    /// The MTU in bytes [default: the node's].
    #[arg(long)]
    pub mtu: Option<u64>,
    /// Let the peer send from any address.
    #[arg(long)]
    pub no_spoof_check: bool,
    /// Queue pairs.
    #[arg(long)]
    pub queues: Option<u64>,
    /// vhost-user: the socket.
    #[arg(long)]
    pub vhost_socket: Option<PathBuf>,
    /// vhost-user: server or client.
    #[arg(long)]
    pub vhost_mode: Option<String>,
    /// dpdk: the device.
    #[arg(long)]
    pub devargs: Option<String>,
    /// af-xdp: auto, native or generic (uplinks in the configuration also: tc).
    #[arg(long)]
    pub xdp_mode: Option<String>,
}

/// What to do with flows.
#[derive(Debug, Subcommand)]
pub enum FlowCommand {
    /// Show flows.
    List(FlowArguments),
}

/// Which flows to show: those that match all that is given.
#[derive(Debug, Args)]
pub struct FlowArguments {
    /// tcp, udp, sctp, icmp, icmpv6 or a number.
    #[arg(long)]
    pub proto: Option<Protocol>,
    /// Source, destination or backend.
    #[arg(long)]
    pub address: Option<IpAddr>,
    /// Source, destination or backend port.
    #[arg(long)]
    pub port: Option<u16>,
    /// The service, as namespace/name.
    #[arg(long)]
    pub service: Option<String>,
    /// The state, as in `established`.
    #[arg(long)]
    pub state: Option<String>,
    /// How many to show at most.
    #[arg(long)]
    pub limit: Option<u32>,
}

impl FlowArguments {
    /// As the API wants it.
    pub(crate) fn filter(&self) -> FlowFilter {
        FlowFilter {
            proto: self.proto,
            address: self.address,
            port: self.port,
            service: self.service.clone(),
            state: self.state.clone(),
            limit: self.limit,
        }
    }
}

/// A packet that begins a connection.
#[derive(Debug, Args)]
pub struct TraceArguments {
    /// Who sends it: a pod of this node, as namespace/name or name, or whoever is behind port:NAME.
    #[arg(long)]
    pub from: Sender,
    /// Where to: IP:PORT, [IP]:PORT, or for icmp IP.
    #[arg(long)]
    pub to: Destination,
    /// tcp, udp, sctp, icmp or a number.
    #[arg(long)]
    pub proto: Protocol,
    /// Its source port, or the identifier of an ICMP echo [default: 40000].
    #[arg(long)]
    pub source_port: Option<u16>,
    /// Its source address [default: the sender's own; of an uplink it must be given].
    #[arg(long)]
    pub source: Option<IpAddr>,
    /// Bytes of the IP packet [default: those of a usual TCP SYN].
    #[arg(long)]
    pub size: Option<u16>,
    /// TTL or hop limit [default: 64].
    #[arg(long)]
    pub ttl: Option<u8>,
}

impl TraceArguments {
    /// As the API wants it.
    pub(crate) fn request(&self) -> TraceRequest {
        TraceRequest {
            from: self.from.clone(),
            to: self.to,
            proto: self.proto,
            source_port: self.source_port,
            source: self.source,
            size: self.size,
            ttl: self.ttl,
        }
    }
}
