//! What the command line says.

use crate::stream::{Protocol, Sizes};
use clap::Parser;
use ipnet::IpNet;
use millrace_fastpath::wire::MacAddr;
use std::net::IpAddr;

/// Sends flows by one DPDK device and counts what comes back by another. Prints one JSON object.
#[derive(Clone, Debug, Parser)]
#[command(name = "millrace-pktgen", version)]
pub struct Arguments {
    /// The device to send by: devargs, as in `net_virtio_user0,path=/run/a.sock`.
    #[arg(long)]
    pub tx: String,
    /// The device to receive by; default: the one to send by.
    #[arg(long)]
    pub rx: Option<String>,
    /// MAC address to send from.
    #[arg(long, default_value = "02:00:00:00:00:01")]
    pub source_mac: MacAddr,
    /// MAC address to send to: the gateway's.
    #[arg(long, default_value = "02:4d:52:00:00:01")]
    pub destination_mac: MacAddr,
    /// Addresses to send from.
    #[arg(long)]
    pub source: IpNet,
    /// Address to send to.
    #[arg(long)]
    pub destination: IpAddr,
    /// Port to send to.
    #[arg(long, default_value_t = 80)]
    pub port: u16,
    /// `udp`, or `tcp` (established segments: no handshake).
    #[arg(long, default_value = "udp")]
    pub protocol: Protocol,
    /// Bytes of a frame without FCS, or `imix` (60, 590 and 1514 bytes, 7 : 4 : 1).
    #[arg(long, default_value = "60")]
    pub size: Sizes,
    /// Flows that are sent in turn.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    pub flows: u32,
    /// Flows a second that are replaced by new ones.
    #[arg(long, default_value_t = 0)]
    pub new_flows: u64,
    /// Frames a second; 0: as many as go.
    #[arg(long, default_value_t = 0)]
    pub rate: u64,
    /// Seconds to measure.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Seconds to send before that.
    #[arg(long, default_value_t = 1.0)]
    pub warm_up: f64,
    /// Search the highest rate at which at most this part of the frames is lost, in percent.
    #[arg(long)]
    pub loss: Option<f64>,
    /// Prefix of DPDK's files; default: derived from the process.
    #[arg(long)]
    pub file_prefix: Option<String>,
    /// MiB of hugepages to take; 0: ordinary memory.
    #[arg(long, default_value_t = 128)]
    pub hugepages: u32,
}
