//! Sending at a rate, and counting what comes back.

use crate::arguments::Arguments;
use crate::latency::{Histogram, Summary};
use crate::stream::{Stream, StreamError};
use millrace_fastpath::port::{BURST, Burst, Frame, PortCounters, PortQueue};
use millrace_ffi::device::Opened;
use millrace_ffi::dpdk::{self, DpdkConfig, DpdkError};
use millrace_ffi::eal::{Eal, EalConfig, EalError, Memory};
use millrace_ffi::mbuf::Mbuf;
use millrace_ffi::mempool::{Mempool, MempoolConfig, MempoolError};
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;

/// Frames sent in one go.
const TX_BURST: usize = 32;
/// How long stragglers are waited for.
const DRAIN: Duration = Duration::from_millis(200);

/// Why there is no load.
#[derive(Debug, Error)]
pub enum LoadError {
    /// DPDK.
    #[error(transparent)]
    Eal(#[from] EalError),
    /// Packet memory.
    #[error(transparent)]
    Pool(#[from] MempoolError),
    /// A device.
    #[error(transparent)]
    Device(#[from] DpdkError),
    /// The stream.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// A device without queues.
    #[error("device {0} has no queue")]
    NoQueue(String),
}

/// What one trial has come to.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Frames sent, and of these received.
    pub sent: u64,
    /// Received again.
    pub received: u64,
    /// Part of the frames that was lost, in percent.
    pub loss_percent: f64,
    /// Millions of frames a second, sent.
    pub sent_mpps: f64,
    /// Millions of frames a second, received.
    pub received_mpps: f64,
    /// Time from sending to receipt in microseconds; absent when nothing came.
    pub latency_micros: Option<Summary>,
}

/// The two devices and the stream between them.
pub struct Tester {
    stream: Stream,
    flows: u64,
    new_flows: u64,
    pool: Mempool,
    // Queues go before their devices.
    tx: Box<dyn PortQueue<Mbuf>>,
    rx: Option<Box<dyn PortQueue<Mbuf>>>,
    _devices: Vec<Opened>,
    _eal: Eal,
    origin: Instant,
    number: u64,
}

impl Tester {
    /// Opens what the arguments say.
    pub fn try_new(arguments: &Arguments) -> Result<Tester, LoadError> {
        let stream = Stream::try_new(
            (arguments.source_mac, arguments.destination_mac),
            arguments.source,
            (arguments.destination, arguments.port),
            arguments.protocol,
            &arguments.size,
        )?;
        let prefix =
            arguments.file_prefix.clone().unwrap_or_else(|| format!("pktgen-{}", std::process::id()));
        let memory = match arguments.hugepages {
            0 => Memory::Ordinary { mib: 128 },
            limit_mib => Memory::Hugepages { limit_mib },
        };
        let eal = Eal::try_new(&EalConfig { prefix, memory, ..EalConfig::default() })?;
        let pool = Mempool::try_new(&eal, &MempoolConfig::new("pktgen", 16_383))?;
        let mut devices = Vec::new();
        let mut open = |devargs: &str| {
            let counters = Arc::new(PortCounters::default());
            let mut opened = dpdk::open(&DpdkConfig::new(devargs), &eal, &pool, &counters)?;
            let queue = opened.queues.pop().ok_or_else(|| LoadError::NoQueue(devargs.to_owned()));
            devices.push(opened);
            queue
        };
        let tx = open(&arguments.tx)?;
        let rx = arguments.rx.as_deref().map(&mut open).transpose()?;
        Ok(Tester {
            stream,
            flows: u64::from(arguments.flows),
            new_flows: arguments.new_flows,
            pool,
            tx,
            rx,
            _devices: devices,
            _eal: eal,
            origin: Instant::now(),
            number: 0,
        })
    }

    /// Sends `rate` frames a second (0: as many as go) and measures after `warm_up`.
    pub fn trial(&mut self, rate: u64, warm_up: Duration, measure: Duration) -> Report {
        let mut latency = Histogram::default();
        self.send_and_count(rate, warm_up, &mut latency);
        self.drain(&mut latency);
        latency.clear();
        let begin = Instant::now();
        let (sent, mut received) = self.send_and_count(rate, measure, &mut latency);
        let seconds = begin.elapsed().as_secs_f64();
        received += self.drain(&mut latency);
        let lost = sent.saturating_sub(received);
        Report {
            sent,
            received,
            loss_percent: 100.0 * lost as f64 / (sent.max(1)) as f64,
            sent_mpps: sent as f64 / seconds / 1e6,
            received_mpps: received as f64 / seconds / 1e6,
            latency_micros: latency.summary(),
        }
    }

    fn send_and_count(&mut self, rate: u64, time: Duration, latency: &mut Histogram) -> (u64, u64) {
        let begin = Instant::now();
        let (mut sent, mut received) = (0, 0);
        loop {
            let elapsed = begin.elapsed();
            if elapsed >= time {
                return (sent, received);
            }
            let due = match rate {
                0 => u64::MAX,
                rate => (elapsed.as_secs_f64() * rate as f64) as u64,
            };
            if sent < due {
                sent += self.send((due - sent).min(TX_BURST as u64) as usize);
            }
            received += self.receive(latency);
        }
    }

    /// Sends up to `count` frames; gives how many the device took.
    fn send(&mut self, count: usize) -> u64 {
        let nanos = self.origin.elapsed().as_nanos() as u64;
        let replaced = (u128::from(nanos) * u128::from(self.new_flows) / 1_000_000_000) as u64;
        let mut frames = Burst::new();
        let mut bytes = [0; 1514];
        for _ in 0..count {
            let flow = replaced + self.number % self.flows;
            let len = self.stream.write(flow, self.number, nanos, &mut bytes);
            let Some(frame) = self.pool.alloc_with(&bytes[..len]) else { break };
            self.number += 1;
            frames.push(frame);
        }
        let sent = self.tx.tx_burst(&mut frames);
        self.tx.flush();
        // What the device has no room for is not sent, and not counted as lost.
        Mbuf::free_bulk(&mut frames);
        sent as u64
    }

    fn receive(&mut self, latency: &mut Histogram) -> u64 {
        let mut frames: Burst<Mbuf> = Burst::new();
        let mut ours = 0;
        let queue = self.rx.as_mut().unwrap_or(&mut self.tx);
        while queue.rx_burst(&mut frames) > 0 {
            let now = self.origin.elapsed().as_nanos() as u64;
            let full = frames.len() == BURST;
            for sent in frames.iter().filter_map(|frame| Stream::sent_at(frame.head())) {
                latency.record(now.saturating_sub(sent));
                ours += 1;
            }
            Mbuf::free_bulk(&mut frames);
            if !full {
                break;
            }
        }
        ours
    }

    /// Waits for what is still on its way.
    fn drain(&mut self, latency: &mut Histogram) -> u64 {
        let begin = Instant::now();
        let mut received = 0;
        while begin.elapsed() < DRAIN {
            received += self.receive(latency);
        }
        received
    }
}
