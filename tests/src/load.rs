//! As much traffic as a pod can send, or a given rate of it, counted where it arrives.

use crate::pod::{Family, Pod};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a thread may look away from the order to stop.
const BLINK: Duration = Duration::from_millis(100);
/// Payload of a datagram.
const DATAGRAM: usize = 1_200;
/// Bytes of a frame around a datagram's payload: Ethernet, IPv4 and UDP.
const UDP_HEADERS: usize = 14 + 20 + 8;
/// Bytes of a frame around a segment's payload: Ethernet, IPv4 and TCP with timestamps.
const TCP_HEADERS: usize = 14 + 20 + 32;
/// An IPv6 header is longer by so much.
const LONGER: usize = 20;
/// The IP packets that TCP fills.
const MTU: usize = 1_500;

/// One flow. It ends with this value.
#[derive(Debug)]
pub struct Load {
    received: Arc<AtomicU64>,
    /// Bytes on the link for a byte of payload.
    inflation: f64,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Datagrams of 1,200 bytes, so many bits of frames a second.
    pub fn udp(from: &Pod, to: &Pod, family: Family, port: u16, rate: u64) -> Self {
        let (source, target) = (from.at(family, 0), to.at(family, port));
        let receiver = to.netns().within(move || UdpSocket::bind(target).expect("the port is free"));
        let sender = from.netns().within(move || {
            let socket = UdpSocket::bind(source).expect("an address of its own");
            socket.connect(target).map(|()| socket).expect("there is a route")
        });
        receiver.set_read_timeout(Some(BLINK)).expect("a timeout can be set");
        let frame = DATAGRAM + UDP_HEADERS + longer(family);
        let mut load = Self::new(frame as f64 / DATAGRAM as f64);
        load.spawn(move |stop, received| {
            let mut buffer = [0; 2 * DATAGRAM];
            while !stop.load(Ordering::Relaxed) {
                let count = receiver.recv(&mut buffer).unwrap_or(0);
                received.fetch_add(count as u64, Ordering::Relaxed);
            }
        });
        load.spawn(move |stop, _| {
            let (begin, mut sent) = (Instant::now(), 0_u64);
            while !stop.load(Ordering::Relaxed) {
                let due = begin.elapsed().as_secs_f64() * rate as f64 / (frame * 8) as f64;
                while sent < due as u64 {
                    // A full queue is what it is for.
                    let _ = sender.send(&[0; DATAGRAM]);
                    sent += 1;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        load
    }

    /// A TCP connection that is never idle.
    pub fn tcp(from: &Pod, to: &Pod, family: Family, port: u16) -> Self {
        let target: SocketAddr = to.at(family, port);
        let listener = to.netns().within(move || TcpListener::bind(target).expect("the port is free"));
        let mut sender = from.netns().within(move || TcpStream::connect(target).expect("a connection"));
        let (mut receiver, _) = listener.accept().expect("a connection");
        sender.set_write_timeout(Some(BLINK)).expect("a timeout can be set");
        receiver.set_read_timeout(Some(BLINK)).expect("a timeout can be set");
        let headers = TCP_HEADERS + longer(family);
        let mut load = Self::new((MTU + 14) as f64 / (MTU + 14 - headers) as f64);
        load.spawn(move |stop, received| {
            let mut buffer = vec![0; 1 << 18];
            while !stop.load(Ordering::Relaxed) {
                let count = receiver.read(&mut buffer).unwrap_or(0);
                received.fetch_add(count as u64, Ordering::Relaxed);
            }
        });
        load.spawn(move |stop, _| {
            let buffer = vec![0; 1 << 18];
            while !stop.load(Ordering::Relaxed) {
                let _ = sender.write(&buffer);
            }
        });
        load
    }

    fn new(inflation: f64) -> Self {
        Load { received: Arc::default(), inflation, stop: Arc::default(), threads: Vec::new() }
    }

    fn spawn(&mut self, work: impl FnOnce(&AtomicBool, &AtomicU64) + Send + 'static) {
        let (stop, received) = (Arc::clone(&self.stop), Arc::clone(&self.received));
        self.threads.push(std::thread::spawn(move || work(&stop, &received)));
    }

    /// Bits of frames, without FCS, that have arrived until now.
    fn bits(&self) -> f64 {
        self.received.load(Ordering::Relaxed) as f64 * self.inflation * 8.0
    }

    /// Bits of frames a second that each load brings, measured over `time`.
    pub fn rates(loads: &[Load], time: Duration) -> Vec<f64> {
        let before: Vec<_> = loads.iter().map(|load| (Instant::now(), load.bits())).collect();
        std::thread::sleep(time);
        let rate = |(load, (then, bits)): (&Load, &(Instant, f64))| {
            (load.bits() - bits) / then.elapsed().as_secs_f64()
        };
        loads.iter().zip(&before).map(rate).collect()
    }
}

fn longer(family: Family) -> usize {
    if family == Family::V6 { LONGER } else { 0 }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
