//! Safe owners over DPDK, kernel rings and guest memory: the ports of Millrace

pub mod batch;
mod bpf_key;
mod checksum;
pub mod device;
pub mod dpdk;
pub mod eal;
pub mod flow_memory;
pub mod gro;
pub mod gso;
mod interface;
mod mapping;
pub mod mbuf;
pub mod mempool;
mod netlink;
pub mod netns;
pub mod open_checksum;
mod plain_ip;
pub mod schedule;
pub mod shortcut;
pub mod tap;
mod tc;
pub mod veth;
pub mod vhost;
pub mod virtio_header;
pub mod xdp;
