//! Safe owners over DPDK, kernel rings and guest memory: the ports of Millrace

mod checksum;
pub mod device;
pub mod eal;
pub mod gso;
pub mod mbuf;
pub mod mempool;
