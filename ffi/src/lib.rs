//! Safe owners over DPDK, kernel rings and guest memory: the ports of Millrace
