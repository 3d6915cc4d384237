//! Which neighbours are to be known, and when the kernel is to look for them.

use super::kernel::{Trust, View};
use millrace_config::InterfaceName;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How soon a neighbour is asked for again that does not answer, at first and at most.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// How often a neighbour that nobody has confirmed of late is looked at: less than the 60 seconds after which the kernel
/// forgets those that it does not need (`gc_stale_time`).
const CONFIRM: Duration = Duration::from_secs(10);
/// How long packets for a neighbour that does not answer keep it being asked for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Neighbours that packets were for, at most. A scan of a link's addresses is no reason to remember them all.
const MOST: usize = 4_096;

/// A neighbour: the interface of its link, and its address.
pub(crate) type Place = (InterfaceName, IpAddr);

#[derive(Clone, Copy, Debug)]
struct Ask {
    /// Not before this.
    due: Instant,
    /// After this without an answer, again.
    wait: Duration,
    /// Whether it is to be known whether there are packets for it or not.
    wanted: bool,
    /// When there was last a packet that could not be sent.
    reported: Instant,
    /// Whether its MAC address was known when it was last looked at.
    known: bool,
}

/// The neighbours that are to be known.
#[derive(Debug, Default)]
pub(crate) struct Asked(BTreeMap<Place, Ask>);

impl Asked {
    /// Says which neighbours are to be known in any case: routers, other nodes.
    pub(crate) fn want(&mut self, wanted: &BTreeSet<Place>, now: Instant) {
        for (place, ask) in &mut self.0 {
            ask.wanted = wanted.contains(place);
        }
        for place in wanted {
            self.0.entry(place.clone()).or_insert_with(|| Ask::new(now, true));
        }
    }

    /// A packet waits for this neighbour.
    pub(crate) fn report(&mut self, place: Place, now: Instant) {
        if let Some(ask) = self.0.get_mut(&place) {
            ask.reported = now;
            // One that is awaited is not left alone for long.
            ask.due = ask.due.min(now + FIRST);
        } else if self.0.len() < MOST {
            self.0.insert(place, Ask::new(now, false));
        }
    }

    /// Those that the kernel is to look for now, with the numbers of their interfaces. Nothing is asked for where there is
    /// nobody to answer.
    pub(crate) fn due(&mut self, view: &View, now: Instant) -> Vec<(u32, IpAddr)> {
        let mut due = Vec::new();
        self.0.retain(|place, ask| {
            let trust = view.neighbours.get(place).map(|neighbour| neighbour.trust);
            let is_known = matches!(trust, Some(Trust::Permanent | Trust::Confirmed | Trust::Stale));
            if !ask.wanted && !is_known && now.saturating_duration_since(ask.reported) > PATIENCE {
                return false;
            }
            match view.interfaces.get(&place.0) {
                Some(interface) if interface.is_up => {
                    if ask.is_due(trust, now) {
                        due.push((interface.index, place.1));
                    }
                }
                // Once there is a link, at once.
                _ => (ask.due, ask.wait) = (now, FIRST),
            }
            true
        });
        due
    }
}

impl Ask {
    fn new(now: Instant, wanted: bool) -> Self {
        Ask { due: now, wait: FIRST, wanted, reported: now, known: false }
    }

    fn is_due(&mut self, trust: Option<Trust>, now: Instant) -> bool {
        let is_known = matches!(trust, Some(Trust::Permanent | Trust::Confirmed | Trust::Stale));
        if std::mem::replace(&mut self.known, is_known) && !is_known {
            // The kernel has lost it, as when the NIC's own MAC address changes.
            (self.due, self.wait) = (now, FIRST);
        }
        match trust {
            // Whoever set it, knows.
            Some(Trust::Permanent) => false,
            Some(Trust::Confirmed) => {
                (self.due, self.wait) = (now, FIRST);
                false
            }
            _ if self.due > now => false,
            Some(Trust::Stale) => {
                self.due = now + CONFIRM;
                true
            }
            Some(Trust::Failed) | None => {
                self.due = now + self.wait;
                self.wait = (self.wait * 2).min(LONGEST);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kernel::{Interface, Neighbour};
    use super::*;
    use millrace_fastpath::wire::ethernet::MacAddr;

    fn place(address: &str) -> Place {
        ("eth0".parse().unwrap(), address.parse().unwrap())
    }

    fn view(is_up: bool, known: &[(&str, Trust)]) -> View {
        let interface =
            Interface { index: 7, mac: MacAddr::default(), mtu: 1500, is_up, addresses: Vec::new() };
        let neighbour = |trust| Neighbour { mac: Some(MacAddr::default()), trust };
        View {
            interfaces: BTreeMap::from([("eth0".parse().unwrap(), interface)]),
            routes: Vec::new(),
            neighbours: known.iter().map(|&(address, trust)| (place(address), neighbour(trust))).collect(),
        }
    }

    /// How many are asked for in each second.
    fn seconds(asked: &mut Asked, view: &View, from: Instant, seconds: u64) -> Vec<u64> {
        (0..seconds)
            .filter(|&second| !asked.due(view, from + Duration::from_secs(second)).is_empty())
            .collect()
    }

    #[test]
    fn a_wanted_one_that_does_not_answer_is_asked_for_ever_more_rarely() {
        let (mut asked, now) = (Asked::default(), Instant::now());
        asked.want(&BTreeSet::from([place("192.0.2.1")]), now);
        assert_eq!(asked.due(&view(true, &[]), now), [(7, "192.0.2.1".parse().unwrap())]);
        let failed = view(true, &[("192.0.2.1", Trust::Failed)]);
        assert_eq!(seconds(&mut asked, &failed, now, 100), [1, 3, 7, 15, 31, 61, 91]);
        // A packet is a reason not to wait.
        let later = now + Duration::from_secs(100);
        asked.report(place("192.0.2.1"), later);
        assert_eq!(seconds(&mut asked, &failed, later, 5), [1]);
    }

    #[test]
    fn stale_ones_are_looked_at_now_and_then_and_permanent_ones_never() {
        let (mut asked, now) = (Asked::default(), Instant::now());
        asked.want(&BTreeSet::from([place("192.0.2.1"), place("192.0.2.2")]), now);
        let known = view(true, &[("192.0.2.1", Trust::Stale), ("192.0.2.2", Trust::Permanent)]);
        assert_eq!(seconds(&mut asked, &known, now, 30), [0, 10, 20]);
        let known = view(true, &[("192.0.2.1", Trust::Confirmed), ("192.0.2.2", Trust::Permanent)]);
        assert!(seconds(&mut asked, &known, now, 30).is_empty());
    }

    #[test]
    fn those_that_packets_were_for_are_kept_while_they_answer_and_forgotten_when_they_do_not() {
        let (mut asked, now) = (Asked::default(), Instant::now());
        asked.report(place("192.0.2.9"), now);
        let stale = view(true, &[("192.0.2.9", Trust::Stale)]);
        let hour = now + Duration::from_secs(3_600);
        assert_eq!(asked.due(&stale, hour).len(), 1);
        assert!(asked.due(&view(true, &[]), hour + Duration::from_secs(20)).is_empty());
        assert!(asked.0.is_empty());
    }

    #[test]
    fn without_a_link_nobody_is_asked_and_with_it_at_once() {
        let (mut asked, now) = (Asked::default(), Instant::now());
        asked.want(&BTreeSet::from([place("192.0.2.1")]), now);
        assert!(asked.due(&view(false, &[]), now).is_empty());
        assert!(asked.due(&View::default(), now).is_empty());
        assert_eq!(asked.due(&view(true, &[]), now).len(), 1);
    }

    #[test]
    fn one_that_the_kernel_has_lost_is_asked_for_at_once() {
        let (mut asked, now) = (Asked::default(), Instant::now());
        asked.want(&BTreeSet::from([place("192.0.2.1")]), now);
        let stale = view(true, &[("192.0.2.1", Trust::Stale)]);
        assert_eq!(asked.due(&stale, now).len(), 1);
        let later = now + Duration::from_millis(100);
        assert_eq!(asked.due(&view(true, &[]), later).len(), 1);
        assert!(asked.due(&view(true, &[]), later).is_empty(), "once");
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let (mut asked, now) = (Asked::default(), Instant::now());
        for number in 0..10_000_u32 {
            asked.report(("eth0".parse().unwrap(), std::net::Ipv4Addr::from(number).into()), now);
        }
        assert_eq!(asked.0.len(), MOST);
    }
}
