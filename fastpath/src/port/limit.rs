//! Bandwidth limits of a port.

use super::{Checksum, Frame, Gso, GsoKind, Offload};
use crate::sync::atomics::{AtomicU64, Ordering};
use std::num::NonZeroU64;

/// The time of a byte is kept in units of 2⁻¹⁶ ns, times in units of 2⁻⁶ ns, which last for nine years: a small frame takes
/// 5 ns at 100 Gbit/s.
const FRACTION: u32 = 16;
const TIME_FRACTION: u32 = 6;
/// A burst lasts so long at most: a limit holds to 2 % over a second.
const LONGEST_BURST: u64 = 15_000_000;
/// A burst lets one full frame of any kind through.
const LEAST_BURST: u64 = 64 * 1024;

/// What a direction of a port may carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bandwidth {
    /// Bits a second, of Ethernet frames without FCS.
    pub bits_per_second: NonZeroU64,
    /// Bits that may go at once after a pause; more than 15 ms worth, or less than 64 KiB, is not taken as it is.
    pub burst_bits: Option<u64>,
}

/// A limit that all queues of a port share, each perhaps of another worker: one word, no lock.
///
/// The word is the time until which the frames that went by have used the link up. It may lie ahead of now by one frame:
/// that is how the limit stays exact whatever the frames' sizes.
#[derive(Debug)]
pub struct Limiter {
    used_until: AtomicU64,
    /// Time of a byte, in units of 2⁻¹⁶ ns.
    byte_time: u64,
    burst_nanos: u64,
    /// Bytes that may wait for their turn.
    most_waiting: u64,
}

/// How long frames may wait for their turn, in nanoseconds, as Kubernetes' `bandwidth` plugin has it for its token buckets.
const LONGEST_WAIT: u64 = 25_000_000;

impl Limiter {
    /// A limit that was not used for long.
    pub fn new(bandwidth: Bandwidth) -> Self {
        let rate = bandwidth.bits_per_second.get();
        let byte_time = (8_000_000_000_u128 << FRACTION) / u128::from(rate);
        let nanos =
            |bytes: u64| u64::try_from((u128::from(bytes) * byte_time) >> FRACTION).unwrap_or(u64::MAX);
        let bytes_in = |nanos: u64| (u128::from(nanos) * u128::from(rate) / 8_000_000_000) as u64;
        let burst = bandwidth.burst_bits.map_or(LONGEST_BURST, |bits| nanos(bits / 8));
        Limiter {
            used_until: AtomicU64::new(0),
            byte_time: byte_time as u64,
            // A slow link's burst may be one frame, though that takes longer than 15 ms.
            burst_nanos: burst.min(LONGEST_BURST).max(nanos(LEAST_BURST).min(LONGEST_BURST)),
            most_waiting: bytes_in(LONGEST_WAIT).max(2 * LEAST_BURST),
        }
    }

    /// Whether a frame may go now.
    #[inline]
    pub fn is_open(&self, now: u64) -> bool {
        self.used_until.load(Ordering::Relaxed) <= now << TIME_FRACTION
    }

    /// Counts a frame of so many bytes that goes now.
    #[inline]
    pub fn count(&self, now: u64, bytes: u64) {
        let time = (u128::from(bytes) * u128::from(self.byte_time)) >> (FRACTION - TIME_FRACTION);
        let time = u64::try_from(time).unwrap_or(u64::MAX);
        let earliest = now.saturating_sub(self.burst_nanos) << TIME_FRACTION;
        let advance = |used: u64| Some(used.max(earliest).saturating_add(time));
        // It never says no.
        let _ = self.used_until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, advance);
    }

    /// Bytes that may wait for their turn; what comes beyond is dropped.
    pub fn most_waiting(&self) -> u64 {
        self.most_waiting
    }
}

/// The limits of a port, seen from its peer.
#[derive(Debug, Default)]
pub struct PortLimits {
    /// What the peer may send.
    pub egress: Option<Limiter>,
    /// What the peer is sent.
    pub ingress: Option<Limiter>,
}

/// Bytes that a frame takes on a link: those of all segments that it stands for.
pub fn bytes_on_link<F: Frame>(frame: &F) -> u64 {
    let bytes = frame.total_len() as u64;
    let Offload { checksum: Checksum::Partial { start, .. }, gso: Some(Gso { kind, size }), .. } =
        frame.offload()
    else {
        return bytes;
    };
    // Each further segment has the headers again. TCP's length is in words in the upper half of its 13th byte (RFC 9293).
    let tcp = || frame.head().get(usize::from(start) + 12).map_or(20, |byte| u64::from(byte >> 4) * 4);
    let headers = u64::from(start) + if kind == GsoKind::Udp { 8 } else { tcp() };
    let segments = bytes.saturating_sub(headers).div_ceil(u64::from(size.max(1)));
    bytes + segments.saturating_sub(1) * headers
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn limiter(bits_per_second: u64, burst_bits: Option<u64>) -> Limiter {
        Limiter::new(Bandwidth { bits_per_second: NonZeroU64::new(bits_per_second).unwrap(), burst_bits })
    }

    /// Bits that go in ten seconds when there is always a frame of this size.
    fn carried(limiter: &Limiter, from: u64, seconds: u64, bytes: u64) -> u64 {
        let mut bits = 0;
        for now in (from..from + seconds * SECOND).step_by(5_000) {
            while limiter.is_open(now) {
                limiter.count(now, bytes);
                bits += bytes * 8;
            }
        }
        bits
    }

    #[test]
    fn a_limit_holds_to_two_percent_over_a_second_at_any_rate_and_size() {
        for rate in [1_000_000, 10_000_000, 1_000_000_000, 100_000_000_000] {
            for bytes in [60, 1_514, 65_226] {
                let limiter = limiter(rate, Some(i32::MAX as u64));
                let long = 40 * SECOND;
                let first = carried(&limiter, long, 1, bytes) as f64;
                let frame = (bytes * 8) as f64;
                let [least, most] = [0.98, 1.02].map(|part| rate as f64 * part);
                assert!(first >= least - frame && first <= most + frame, "{rate} {bytes}: {first}");
                let later = carried(&limiter, long + SECOND, 3, bytes) as f64 / 3.0;
                assert!(
                    (later - rate as f64).abs() <= rate as f64 * 0.001 + frame,
                    "{rate} {bytes}: {later}"
                );
            }
        }
    }

    #[test]
    fn a_small_burst_is_taken_as_it_is_down_to_one_large_frame() {
        let limiter = limiter(8_000_000_000, Some(1_000_000));
        let mut bytes = 0;
        while limiter.is_open(SECOND) {
            limiter.count(SECOND, 1000);
            bytes += 1000;
        }
        assert!((125_000..=127_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_large_frame_counts_as_the_segments_that_it_is_cut_into() {
        use crate::port::BufferFrame;
        // Ethernet, IPv4 or IPv6, TCP with timestamps or UDP.
        for (kind, start, header) in
            [(GsoKind::TcpV4, 34, 32), (GsoKind::TcpV6, 54, 32), (GsoKind::Udp, 34, 8), (GsoKind::Udp, 54, 8)]
        {
            let headers = start + header;
            let mut bytes = vec![0; headers + 10 * 1_400 + 1];
            bytes[start + 12] = 8 << 4;
            let mut frame = BufferFrame::new(&bytes);
            assert_eq!(bytes_on_link(&frame), bytes.len() as u64);
            let checksum = Checksum::Partial { start: start as u16, offset: 6 };
            frame.set_offload(Offload { checksum, gso: Some(Gso { kind, size: 1_400 }), outer: 0 });
            assert_eq!(bytes_on_link(&frame), (11 * headers + 10 * 1_400 + 1) as u64, "{kind:?}");
        }
    }

    #[test]
    fn several_workers_share_one_limit() {
        let limiter = limiter(100_000_000, None);
        let bits: u64 = std::thread::scope(|scope| {
            let workers: Vec<_> =
                (0..2).map(|_| scope.spawn(|| carried(&limiter, SECOND, 1, 1500))).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        // Their clocks are not in step here, so the later one finds everything used up.
        assert!(bits <= 102_000_000 + 24_000, "{bits}");
    }
}
