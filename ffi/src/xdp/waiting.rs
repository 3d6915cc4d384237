//! Claims that there was no room for.

use super::claims::ClaimMap;
use super::error::{ClaimError, XdpError};
use millrace_fastpath::port::{Claim, ClaimChanges};
use std::collections::{BTreeMap, HashSet};

/// Claims that wait until others are given up, and what was said of the first of them.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    claims: HashSet<Claim>,
    said: Option<String>,
}

impl Waiting {
    /// Makes changes by `claim` and `release`. What is new is claimed before anything is released, so that a packet that one
    /// claim gives up to another comes all the time; only what that does not allow comes last, and with it what waits.
    /// What finds no room then waits, and the rest is made all the same.
    ///
    /// # Errors
    /// That of the first claim that fails for another reason.
    pub(super) fn make(
        &mut self,
        changes: &ClaimChanges,
        claim: impl Fn(&Claim) -> Result<(), XdpError>,
        release: impl Fn(&Claim) -> Result<(), XdpError>,
    ) -> Result<(), XdpError> {
        let mut last = Vec::new();
        for new in &changes.claimed {
            match claim(new) {
                Err(XdpError::Claim {
                    reason: ClaimError::Contradicts(_) | ClaimError::Full { .. }, ..
                }) => {
                    last.push(*new);
                }
                outcome => outcome?,
            }
        }
        for old in &changes.released {
            self.claims.remove(old);
            release(old)?;
        }
        if !changes.released.is_empty() {
            last.extend(self.claims.drain());
        }
        self.claim(last, claim)
    }

    fn claim(
        &mut self,
        claims: Vec<Claim>,
        claim: impl Fn(&Claim) -> Result<(), XdpError>,
    ) -> Result<(), XdpError> {
        // Once a map has no room, it has none for the others.
        let mut full = BTreeMap::new();
        for new in claims {
            if full.contains_key(&ClaimMap::of(new)) {
                self.claims.insert(new);
                continue;
            }
            match claim(&new) {
                Err(error @ XdpError::Claim { reason: ClaimError::Full { .. }, .. }) => {
                    full.insert(ClaimMap::of(new), error.to_string());
                    self.claims.insert(new);
                }
                outcome => outcome?,
            }
        }
        if let Some(said) = full.into_values().next() {
            self.said = Some(said);
        }
        Ok(())
    }

    /// How many wait and why, for people; nothing if none does.
    pub(super) fn told(&self) -> Option<String> {
        let said = self.said.as_deref().filter(|_| !self.claims.is_empty())?;
        Some(format!("{said}; left to the kernel until there is room: {} in all", self.claims.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    /// Maps with room for two claims each.
    #[derive(Default)]
    struct Maps(RefCell<BTreeMap<ClaimMap, Vec<Claim>>>);

    impl Maps {
        fn claim(&self, claim: &Claim) -> Result<(), XdpError> {
            let mut maps = self.0.borrow_mut();
            let map = maps.entry(ClaimMap::of(*claim)).or_default();
            if map.len() < 2 {
                map.push(*claim);
                return Ok(());
            }
            let reason = ClaimError::Full { most: 2 };
            Err(XdpError::Claim { interface: "eth0".to_owned(), claim: *claim, reason })
        }

        fn release(&self, claim: &Claim) -> Result<(), XdpError> {
            if let Some(map) = self.0.borrow_mut().get_mut(&ClaimMap::of(*claim)) {
                map.retain(|held| held != claim);
            }
            Ok(())
        }

        fn holds(&self, claim: Claim) -> bool {
            self.0.borrow().values().flatten().any(|held| *held == claim)
        }
    }

    fn host(number: u8) -> Claim {
        Claim::Host([192, 0, 2, number].into())
    }

    fn source(number: u8) -> Claim {
        Claim::Source(ipnet::IpNet::new([10, number, 0, 0].into(), 16).unwrap())
    }

    fn make(waiting: &mut Waiting, maps: &Maps, released: &[Claim], claimed: &[Claim]) {
        let changes = ClaimChanges { released: released.to_vec(), claimed: claimed.to_vec() };
        waiting.make(&changes, |claim| maps.claim(claim), |claim| maps.release(claim)).unwrap();
    }

    #[test]
    fn what_finds_no_room_waits_and_the_rest_is_made() {
        let (mut waiting, maps) = (Waiting::default(), Maps::default());
        make(&mut waiting, &maps, &[], &[host(1), host(2), host(3), host(4), source(1)]);
        assert!([host(1), host(2), source(1)].iter().all(|claim| maps.holds(*claim)));
        let told = waiting.told().unwrap();
        assert!(
            told.contains("192.0.2.3") && told.contains("2 entries") && told.ends_with("2 in all"),
            "{told}"
        );
        // Another map has room all the time.
        make(&mut waiting, &maps, &[], &[source(2)]);
        assert!(maps.holds(source(2)));
        make(&mut waiting, &maps, &[host(1)], &[]);
        assert!(maps.holds(host(3)) != maps.holds(host(4)), "one of them has the room");
        make(&mut waiting, &maps, &[host(2)], &[]);
        assert!(maps.holds(host(3)) && maps.holds(host(4)));
        assert_eq!(waiting.told(), None);
    }

    #[test]
    fn what_is_given_up_while_it_waits_is_not_claimed_later() {
        let (mut waiting, maps) = (Waiting::default(), Maps::default());
        make(&mut waiting, &maps, &[], &[host(1), host(2), host(3)]);
        make(&mut waiting, &maps, &[host(3)], &[]);
        assert_eq!(waiting.told(), None);
        make(&mut waiting, &maps, &[host(1)], &[]);
        assert!(!maps.holds(host(3)));
    }

    #[test]
    fn room_that_is_made_by_the_same_changes_is_used() {
        let (mut waiting, maps) = (Waiting::default(), Maps::default());
        make(&mut waiting, &maps, &[], &[host(1), host(2)]);
        make(&mut waiting, &maps, &[host(1)], &[host(3)]);
        assert!(maps.holds(host(3)));
        assert_eq!(waiting.told(), None);
    }
}
