//! Black-box tests: the daemon in a network namespace of its own, pods in theirs, real kernel stacks, real packets.
//!
//! [`Network`] puts a daemon and pods together; dropping it removes everything, also when a test panics. All of it
//! needs root, and the programs `millraced` and `millrace` of the same build (`MILLRACE_BIN` names another
//! directory). Nothing is skipped: what is missing fails the test with the reason.

#![forbid(unsafe_code)]
// A test says what went wrong by panicking; so does the harness of tests.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::missing_panics_doc)]

mod ask;
mod attached;
mod capture;
mod cluster;
mod cni;
mod daemon;
mod fabric;
mod follow;
mod guest;
mod http;
mod judge;
mod load;
mod manifest;
mod metrics;
mod netns;
mod network;
mod pod;
mod process;
mod raw;
mod runtime;
mod session;
mod testpmd;
mod traffic;
mod wire;

pub use ask::{Answer, Protocol, UdpClient, ask, ask_as, assert_refused, assert_silent, count_answers};
pub use attached::Attached;
pub use capture::Capture;
pub use cluster::{Size, cluster_ip, pod, slice};
pub use cni::{CNI_NETWORK, CniCall, CniError, Started};
pub use daemon::{Daemon, binary};
pub use fabric::{
    EDGES, Fabric, NIC, Node, Plan, Role, VXLAN, Way, assert_mtu, everything, hops, request, sizes, vtep_mac,
};
pub use follow::{own_node, serve, serve_next};
pub use guest::{Card, Guest};
pub use http::{HttpAnswer, http_get, serve_files};
pub use judge::{Judge, Verdict};
pub use load::Load;
pub use manifest::{EndpointSpec, Manifests, ServiceSpec, expose};
pub use metrics::{Metrics, Observed};
pub use netns::Netns;
pub use network::{Network, eventually};
pub use pod::{Family, Kind, Pod};
pub use process::{Child, Output, run};
pub use raw::{ask_arp, ask_sctp, send_garbage, send_spoofed, serve_sctp};
pub use runtime::{Container, Containerd, Deployed, Deployment, Podman, Runtime, Wanted, attachments, fetch};
pub use session::{Pings, Session, Told};
pub use testpmd::Testpmd;
pub use traffic::{Conversation, Echo, datagram, exchange, ping, ping_sizes, who_answers};
pub use wire::{Seen, Wire};
