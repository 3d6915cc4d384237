//! Any DPDK ethdev as a port: NICs by PCI address, and virtual devices by their arguments (`net_null0`,
//! `net_pcap0,rx_pcap=…`, `net_af_packet0,iface=…`, `net_virtio_user0,path=…`, `net_memif0,…`).
//!
//! The device gets every offload that frames here can use and it has; what it has not is settled in software.
//! Queues can only be polled.

mod queue;

use crate::device::{Device, Link, Opened};
use crate::eal::{Eal, error_name};
use crate::gso::Caps;
use crate::mbuf::Mbuf;
use crate::mempool::Mempool;
use crate::open_checksum;
use crate::xdp::Single;
use dpdk_sys as sys;
use millrace_fastpath::port::{PortCounters, PortQueue};
use millrace_fastpath::wire::ethernet::MacAddr;
use queue::DpdkQueue;
use std::collections::VecDeque;
use std::ffi::{CString, NulError};
use std::sync::Arc;

/// Names of devices that read an interface of the kernel packet by packet, and drop what is larger than a buffer.
const PACKET_SOCKET_DEVICES: [&str; 2] = ["net_af_packet", "net_pcap"];

/// A DPDK port.
#[derive(Clone, Debug)]
pub struct DpdkConfig {
    /// PCI address, or virtual device with its arguments.
    pub devargs: String,
    /// Receive and transmit queues, of each as many.
    pub queues: u16,
    /// Descriptors in each queue; the device may take fewer or more.
    pub descriptors: u16,
    /// Bytes of an IP packet, at most.
    pub mtu: u16,
}

impl DpdkConfig {
    /// One queue of 512 descriptors, 1500 bytes.
    pub fn new(devargs: impl Into<String>) -> Self {
        DpdkConfig { devargs: devargs.into(), queues: 1, descriptors: 512, mtu: 1500 }
    }
}

/// Why a DPDK port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DpdkError {
    /// Arguments that cannot be given to C.
    #[error("device arguments with a zero byte in them")]
    Devargs(#[from] NulError),
    /// It has not so many queues.
    #[error("device {device} has {most} queues, {wanted} are wanted")]
    Queues {
        /// The device.
        device: String,
        /// Queues it has.
        most: u16,
        /// Queues wanted.
        wanted: u16,
    },
    /// Somebody has opened it already.
    #[error("device {0} is in use")]
    InUse(String),
    /// DPDK, or the driver, refused.
    #[error("device {device}: {step}: {reason}")]
    Refused {
        /// The device.
        device: String,
        /// What was to be done.
        step: &'static str,
        /// DPDK's word for the error.
        reason: String,
    },
}

/// Opens a port: probes the device, configures and starts it. `pool` fills its receive queues.
///
/// # Errors
/// [`DpdkError`]; the device is removed again.
pub fn open(
    config: &DpdkConfig,
    eal: &Eal,
    pool: &Mempool,
    counters: &Arc<PortCounters>,
) -> Result<Opened, DpdkError> {
    let name = config.devargs.split(',').next().unwrap_or_default().to_owned();
    let mut device = DpdkDevice {
        name,
        port: u16::MAX,
        started: false,
        driver: String::new(),
        single: None,
        pool: pool.clone(),
        eal: eal.clone(),
    };
    device.single = interface_of(&config.devargs).and_then(Single::packets_of);
    device.probe(&config.devargs)?;
    let caps = device.configure(config)?;
    let queue = |queue| -> Box<dyn PortQueue<Mbuf>> {
        Box::new(DpdkQueue {
            port: device.port,
            queue,
            caps,
            chains: device.chains(),
            open_checksums: open_checksum::may_come_by(&device.driver),
            pool: pool.clone(),
            counters: Arc::clone(counters),
            pending: VecDeque::new(),
        })
    };
    let queues = (0..config.queues).map(queue).collect();
    Ok(Opened { device: Box::new(device), queues })
}

/// The kernel's interface that a device reads by packet sockets, if it is one of that kind.
fn interface_of(devargs: &str) -> Option<&str> {
    let (device, arguments) = devargs.split_once(',')?;
    let reads = PACKET_SOCKET_DEVICES.iter().any(|driver| device.starts_with(driver));
    arguments.split(',').find_map(|argument| argument.strip_prefix("iface=")).filter(|_| reads)
}

/// Owns the ethdev.
struct DpdkDevice {
    name: String,
    /// DPDK's number; `u16::MAX` until there is one.
    port: u16,
    started: bool,
    driver: String,
    /// Of a device whose buffers take single packets of an interface of the kernel.
    single: Option<Single>,
    pool: Mempool,
    #[expect(dead_code, reason = "keeps the environment while there is a device")]
    eal: Eal,
}

impl DpdkDevice {
    fn probe(&mut self, devargs: &str) -> Result<(), DpdkError> {
        let (c_devargs, c_name) = (CString::new(devargs)?, CString::new(self.name.as_str())?);
        let find = || {
            let mut port = u16::MAX;
            // SAFETY: reads the C string and writes one number.
            let result = unsafe { sys::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &raw mut port) };
            (result == 0).then_some(port)
        };
        // A NIC may have been found when the environment was set up; a virtual device has not.
        if find().is_some() && self.name.starts_with("net_") {
            return Err(DpdkError::InUse(self.name.clone()));
        }
        if find().is_none() {
            // SAFETY: a C string, copied by DPDK.
            let probed = unsafe { sys::rte_dev_probe(c_devargs.as_ptr()) };
            self.check(probed, "cannot be probed")?;
        }
        self.port = find().ok_or_else(|| self.refused("makes no port", -libc::ENODEV))?;
        Ok(())
    }

    fn info(&self) -> sys::rte_eth_dev_info {
        let mut info = sys::rte_eth_dev_info::default();
        // SAFETY: fills in the structure; checks the port itself, and then leaves zeroes.
        unsafe { sys::rte_eth_dev_info_get(self.port, &raw mut info) };
        info
    }

    /// Whether the device takes chains of segments.
    fn chains(&self) -> bool {
        self.info().tx_offload_capa & sys::MILLRACE_ETH_TX_MULTI_SEGS != 0
    }

    fn configure(&mut self, config: &DpdkConfig) -> Result<Caps, DpdkError> {
        let info = self.info();
        if !info.driver_name.is_null() {
            // SAFETY: a driver's name is a C string that lives as long as the driver.
            self.driver =
                unsafe { std::ffi::CStr::from_ptr(info.driver_name) }.to_string_lossy().into_owned();
        }
        let most = info.max_rx_queues.min(info.max_tx_queues);
        if config.queues == 0 || config.queues > most {
            return Err(DpdkError::Queues { device: self.name.clone(), most, wanted: config.queues });
        }
        let wanted = self.conf(&info, config.queues);
        // SAFETY: reads the structure during the call; the numbers are checked by DPDK.
        let done =
            unsafe { sys::rte_eth_dev_configure(self.port, config.queues, config.queues, &raw const wanted) };
        self.check(done, "cannot be configured")?;
        // Not every virtual device has an MTU to set; frames are measured here anyway.
        // SAFETY: takes two numbers.
        unsafe { sys::rte_eth_dev_set_mtu(self.port, config.mtu) };
        self.set_up_queues(config)?;
        // SAFETY: configured, and its queues are set up.
        let started = unsafe { sys::rte_eth_dev_start(self.port) };
        self.check(started, "cannot be started")?;
        self.started = true;
        // Neighbour discovery goes to multicast addresses. Not every driver filters them, or can be told not to.
        // SAFETY: takes a number; checks the port itself.
        unsafe { sys::rte_eth_allmulticast_enable(self.port) };
        let has = |bits: u64| wanted.txmode.offloads & bits == bits;
        let checksum = has(sys::MILLRACE_ETH_TX_TCP_CKSUM | sys::MILLRACE_ETH_TX_UDP_CKSUM);
        let tso = checksum && has(sys::MILLRACE_ETH_TX_TCP_TSO | sys::MILLRACE_ETH_TX_MULTI_SEGS);
        Ok(Caps { checksum, tso4: tso, tso6: tso, uso: false, max_frame: usize::from(config.mtu) + 18 })
    }

    /// Every offload that the device has and that is of use here.
    fn conf(&self, info: &sys::rte_eth_dev_info, queues: u16) -> sys::rte_eth_conf {
        let mut conf = sys::rte_eth_conf::default();
        conf.txmode.offloads = info.tx_offload_capa
            & (sys::MILLRACE_ETH_TX_MULTI_SEGS
                | sys::MILLRACE_ETH_TX_IPV4_CKSUM
                | sys::MILLRACE_ETH_TX_TCP_CKSUM
                | sys::MILLRACE_ETH_TX_UDP_CKSUM
                | sys::MILLRACE_ETH_TX_TCP_TSO);
        let mut receive = sys::MILLRACE_ETH_RX_SCATTER;
        // With it a virtio device would hand over unfinished checksums, and say so as a NIC says "not looked at".
        if !self.driver.contains("virtio") {
            receive |= sys::MILLRACE_ETH_RX_CHECKSUM;
        }
        // It does them in software, and what it fails at it refuses for ever, as if its queue were full.
        if self.driver.contains("net_tap") {
            conf.txmode.offloads &= sys::MILLRACE_ETH_TX_MULTI_SEGS;
        }
        conf.rxmode.offloads = info.rx_offload_capa & receive;
        let hashes = info.flow_type_rss_offloads & sys::MILLRACE_ETH_RSS_IP;
        if queues > 1 && hashes != 0 {
            conf.rxmode.mq_mode = sys::RTE_ETH_MQ_RX_RSS;
            conf.rx_adv_conf.rss_conf.rss_hf = hashes;
        }
        conf
    }

    fn set_up_queues(&self, config: &DpdkConfig) -> Result<(), DpdkError> {
        let (mut receive, mut transmit) = (config.descriptors, config.descriptors);
        // SAFETY: writes the two numbers; checks the port itself.
        unsafe { sys::rte_eth_dev_adjust_nb_rx_tx_desc(self.port, &raw mut receive, &raw mut transmit) };
        for queue in 0..config.queues {
            // SAFETY: a configured port; null asks for the driver's own defaults, which include the port's offloads;
            // the pool is held until the device is closed.
            let done = unsafe {
                sys::rte_eth_rx_queue_setup(
                    self.port,
                    queue,
                    receive,
                    0,
                    std::ptr::null(),
                    self.pool.as_ptr(),
                )
            };
            self.check(done, "a receive queue cannot be set up")?;
            // SAFETY: as above.
            let done =
                unsafe { sys::rte_eth_tx_queue_setup(self.port, queue, transmit, 0, std::ptr::null()) };
            self.check(done, "a transmit queue cannot be set up")?;
        }
        Ok(())
    }

    fn check(&self, result: i32, step: &'static str) -> Result<(), DpdkError> {
        if result < 0 { Err(self.refused(step, result)) } else { Ok(()) }
    }

    fn refused(&self, step: &'static str, errno: i32) -> DpdkError {
        DpdkError::Refused { device: self.name.clone(), step, reason: error_name(errno) }
    }
}

impl Drop for DpdkDevice {
    fn drop(&mut self) {
        if self.port == u16::MAX {
            return;
        }
        let device = self.info().device;
        if self.started {
            // SAFETY: started; its queues have been dropped, so nobody polls it.
            unsafe { sys::rte_eth_dev_stop(self.port) };
        }
        // SAFETY: stopped.
        unsafe { sys::rte_eth_dev_close(self.port) };
        if !device.is_null() {
            // SAFETY: the device behind the port, still on its bus until this call.
            let removed = unsafe { sys::rte_dev_remove(device) };
            if removed < 0 {
                tracing::warn!(device = self.name, reason = error_name(removed), "the device stays in DPDK");
            }
        }
    }
}

impl Device for DpdkDevice {
    fn kind(&self) -> &'static str {
        "dpdk"
    }

    fn link(&self) -> Link {
        let mut link = sys::rte_eth_link::default();
        // SAFETY: fills in the structure; checks the port itself.
        let result = unsafe { sys::rte_eth_link_get_nowait(self.port, &raw mut link) };
        if result < 0 {
            return Link::Down { reason: error_name(result) };
        }
        if link_is_up(&link) { Link::Up } else { Link::Down { reason: "no carrier".to_owned() } }
    }

    fn mac(&self) -> Option<MacAddr> {
        let mut address = sys::rte_ether_addr::default();
        // SAFETY: fills in the structure; checks the port itself.
        let result = unsafe { sys::rte_eth_macaddr_get(self.port, &raw mut address) };
        (result == 0).then_some(MacAddr(address.addr_bytes))
    }

    fn mtu(&self) -> Option<u16> {
        let mut mtu = 0;
        // SAFETY: writes one number; checks the port itself.
        let result = unsafe { sys::rte_eth_dev_get_mtu(self.port, &raw mut mtu) };
        (result == 0).then_some(mtu)
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        let info = self.info();
        vec![
            ("device", self.name.clone()),
            ("driver", self.driver.clone()),
            ("ethdev", self.port.to_string()),
            ("receive-offloads", format!("{:#x}", info.rx_offload_capa)),
            ("transmit-offloads", format!("{:#x}", info.tx_offload_capa)),
        ]
    }
}

fn link_is_up(link: &sys::rte_eth_link) -> bool {
    u32::from(link.link_status()) == sys::RTE_ETH_LINK_UP
}
