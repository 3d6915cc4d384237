//! How often an idle queue is asked for packets.
//!
//! An empty read costs 0.4 µs and a readiness check by `poll(2)` 0.3 µs, the clock 0.025 µs (Linux 6.18, TSC clock, in a
//! virtual machine). So there is nothing to be won by checking first; what helps is to ask less often. After an empty
//! read the queue is left alone for a short time that doubles up to a bound: an idle queue then costs a core 2 % at most,
//! and a packet waits no longer than the bound.

use std::time::{Duration, Instant};

/// After the first empty read.
const SHORTEST: Duration = Duration::from_micros(1);

/// The longest that a packet waits.
const LONGEST: Duration = Duration::from_micros(20);

/// Says when to read again.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// `None`: at once.
    rest: Option<(Instant, Duration)>,
}

impl Pace {
    /// Whether it is time to read.
    pub(super) fn due(&self) -> bool {
        self.rest.is_none_or(|(until, _)| Instant::now() >= until)
    }

    /// A read found a packet.
    pub(super) fn busy(&mut self) {
        self.rest = None;
    }

    /// A read found nothing.
    pub(super) fn idle(&mut self) {
        let pause = self.rest.map_or(SHORTEST, |(_, pause)| (pause * 2).min(LONGEST));
        self.rest = Some((Instant::now() + pause, pause));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_bound_and_end_with_a_packet() {
        let mut pace = Pace::default();
        assert!(pace.due());
        for micros in [1, 2, 4, 8, 16, 20, 20] {
            pace.idle();
            assert_eq!(pace.rest.map(|(_, pause)| pause), Some(Duration::from_micros(micros)));
        }
        std::thread::sleep(LONGEST);
        assert!(pace.due());
        pace.busy();
        assert!(pace.due());
    }
}
