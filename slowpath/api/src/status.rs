//! The daemon as a whole: its state, workers, tables and the objects that it could not use.

use crate::attachments::AttachmentStatus;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The state of the daemon.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Name of the node.
    pub node: String,
    /// Process id of the daemon.
    pub pid: u32,
    /// Seconds since the daemon was ready.
    pub uptime_seconds: u64,
    /// Whether packet memory lies in hugepages.
    pub hugepages: bool,
    /// Prefix of DPDK's run-time files.
    pub eal_file_prefix: String,
    /// Where objects come from.
    pub source: SourceStatus,
    /// Ports whose link is up.
    pub ports_up: u64,
    /// All ports.
    pub ports: u64,
    /// Configured uplinks that are open and whose link is up.
    pub uplinks_up: u64,
    /// All configured uplinks.
    pub uplinks: u64,
    /// Other nodes that are reached.
    pub peers_reached: u64,
    /// All other nodes; none without uplinks.
    pub peers: u64,
    /// Services with a frontend on this node.
    pub services: u64,
    /// NetworkPolicies that are known and not enforced.
    pub policies_not_enforced: u64,
    /// Worker threads.
    pub workers: u64,
    /// Flows in the table: connections, not directions.
    pub flows: u64,
    /// Flows that the table can hold.
    pub flow_capacity: u64,
    /// Frames lost, all reasons together.
    pub dropped_frames: u64,
    /// Packet memory.
    pub pools: Vec<Pool>,
    /// Attachments of containers.
    pub attachments: AttachmentStatus,
}

/// Where objects come from.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SourceStatus {
    /// `directory` or `kubernetes`.
    pub kind: String,
    /// The directory's path, or the server's address.
    pub place: String,
    /// Whether everything that was there at the start has been read.
    pub synced: bool,
    /// Objects in the model.
    pub objects: u64,
    /// Objects and files that could not be used.
    pub errors: u64,
    /// What is known of the server, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerStatus>,
}

/// How the server of a source gets on. What it told last stays in force while it does not answer.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServerStatus {
    /// Its address.
    pub address: String,
    /// Whether it answers.
    pub connected: bool,
    /// Seconds since it last said anything; absent if it never did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<f64>,
    /// What went wrong last; absent while all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Each kind of objects.
    pub kinds: Vec<KindStatus>,
}

/// What a server has told of the objects of one kind.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KindStatus {
    /// The kind, as `EndpointSlice`.
    pub kind: String,
    /// Objects in force.
    pub objects: u64,
    /// Whole lists that came.
    pub lists: u64,
    /// Whether one came since the start.
    pub complete: bool,
    /// Failures, by what failed.
    pub errors: BTreeMap<String, u64>,
}

/// A pool of packet buffers.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Buffers in all.
    pub capacity: u64,
    /// Buffers that are not in the pool now.
    pub in_use: u64,
}

/// All workers.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct WorkerList {
    /// In the order of their numbers.
    pub workers: Vec<Worker>,
}

/// One worker thread.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Worker {
    /// Its number, from 0.
    pub id: u32,
    /// The core that it is pinned to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub core: Option<u32>,
    /// Port queues that it polls, as `port:queue`.
    pub queues: Vec<String>,
    /// What it has done since the start, by the names that the metrics use: `polls`, `frames`, `flows_made`, …
    pub counters: BTreeMap<String, u64>,
    /// Frames dropped by it, all reasons together.
    pub dropped: u64,
    /// Share of time with work, 0 to 1, over the last seconds.
    pub load: f64,
}

/// The tables that workers read.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tables {
    /// Counts publications.
    pub version: u64,
    /// Generation of verdicts: flows with an older one are resolved again.
    pub epoch: u32,
    /// How large they are.
    pub sizes: TableSizes,
}

/// Entries of each table.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TableSizes {
    /// Ports.
    pub ports: u64,
    /// Routes.
    pub routes: u64,
    /// Service frontends.
    pub frontends: u64,
    /// Endpoints, counted once for each service port.
    pub endpoints: u64,
    /// Entries of the flow table in use; a connection has two.
    pub flow_entries: u64,
    /// Entries of the flow table in all.
    pub flow_capacity: u64,
}

/// Objects and files that could not be used.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ObjectErrorList {
    /// In the order of files and documents.
    pub errors: Vec<ObjectError>,
}

/// One object or file that could not be used.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectError {
    /// The file.
    pub file: String,
    /// Which document of the file, from 0; absent when the whole file is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<u64>,
    /// The object's kind and name, as far as they could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// What is wrong.
    pub reason: String,
}
