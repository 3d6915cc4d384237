//! The admin API: what daemon and command say to each other, and a small client.
//!
//! HTTP/1.1 with JSON over a Unix socket. Every path starts with `/v1`; within a version fields are only added, so
//! readers ignore those that they do not know.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status` | [`Status`] |
//! | `GET /v1/ports` | [`PortList`] |
//! | `POST /v1/ports` with a [`PortConfig`](millrace_config::PortConfig) | [`Port`], 201 |
//! | `GET /v1/ports/{name}` | [`Port`] |
//! | `DELETE /v1/ports/{name}` | 204 |
//! | `POST /v1/attachments` with an [`AttachmentRequest`] | [`Attachment`], 201 |
//! | `GET /v1/attachments` | [`AttachmentList`] |
//! | `GET /v1/attachments/{containerId}/{ifName}` | [`Attachment`], after a look whether all of it is there: else 409 |
//! | `DELETE /v1/attachments/{containerId}/{ifName}` | 204, also when there is none |
//! | `POST /v1/attachments/gc` with a [`GarbageRequest`] | [`GarbageList`] |
//! | `GET /v1/services`, `GET /v1/services/{namespace}/{name}` | [`ServiceList`], [`Service`] |
//! | `GET /v1/flows?`[`FlowFilter`] | [`FlowList`] |
//! | `GET /v1/trace?`[`TraceRequest`] | [`Trace`] |
//! | `GET /v1/peers` | [`PeerList`] |
//! | `GET /v1/routes?`[`RouteFilter`] | [`RouteList`] |
//! | `GET /v1/drops` | [`DropList`] |
//! | `GET /v1/workers` | [`WorkerList`] |
//! | `GET /v1/tables` | [`Tables`] |
//! | `GET /v1/objects/errors` | [`ObjectErrorList`] |
//!
//! Any refusal has a body of [`ErrorBody`].

#![forbid(unsafe_code)]

mod attachments;
mod client;
mod drops;
mod error;
mod flows;
pub mod path;
mod ports;
mod routes;
mod services;
mod status;
mod trace;

pub use attachments::{
    AddressSource, Attachment, AttachmentId, AttachmentList, AttachmentRequest, AttachmentStatus, Bandwidth,
    ContainerId, DELETIONS_DIRECTORY, GarbageList, GarbageRequest, HostInterface, HostPort,
    InvalidContainerId, PodIdentity, QueuedDeletion, Route, VhostUserFiles, is_cni_name,
};
pub use client::{Client, ClientError, HttpError};
pub use drops::{DropCount, DropList};
pub use error::{ErrorBody, ErrorCode, Refusal};
pub use flows::{DEFAULT_FLOW_LIMIT, Flow, FlowFilter, FlowList, Protocol};
pub use millrace_config::{DEFAULT_SOCKET, PortConfig};
pub use ports::{LinkState, Port, PortCounts, PortList};
pub use routes::{NextHop, Peer, PeerList, RouteFilter, RouteList, TableRoute};
pub use services::{
    Affinity, AffinityClient, Endpoint, EndpointPool, Frontend, Reason, Service, ServiceFlows, ServiceList,
    ServicePort, Slice, WhenEmpty,
};
pub use status::{
    KindStatus, ObjectError, ObjectErrorList, Pool, ServerStatus, SourceStatus, Status, TableSizes, Tables,
    Worker, WorkerList,
};
pub use trace::{
    DEFAULT_SOURCE_PORT, DEFAULT_TTL, Destination, NotADestination, Sender, Trace, TraceOutcome,
    TraceRequest, TraceStep, TraceVerdict, TracedPacket, Tuple, Untraceable,
};
