//! Bringing in what new flows of a burst will need, all at once: a service's frontend, its backends, its Maglev slot.
//!
//! Resolving one new flow after the other would wait for memory at each step of each of them. Here every step is taken
//! for all new flows of the burst before the next one, so the waits overlap. It changes nothing but time.

use super::run::{Context, Slot};
use crate::port::{BURST, Burst, Frame};
use crate::sync::prefetch;
use crate::tables::{Address, Frontend, FrontendKey};
use arrayvec::ArrayVec;

/// Asks for the tables' lines that the packets without a guess will need.
#[cold]
pub(super) fn warm<F: Frame>(context: &Context<'_>, burst: &Burst<F>, slots: &[Slot]) {
    let services = &context.tables.services;
    let mut found: ArrayVec<(&Frontend, u64), BURST> = ArrayVec::new();
    for (frame, slot) in burst.iter().zip(slots).filter(|(_, slot)| slot.is_new()) {
        let Some(address) = destination(frame, slot) else { continue };
        let key = FrontendKey { address, port: (slot.tuple >> 32) as u16, protocol: slot.brief.protocol.0 };
        if let Some(frontend) = services.frontend(&key) {
            prefetch(&*frontend.inside.backends);
            found.push((frontend, slot.hash));
        }
    }
    for (frontend, hash) in found {
        frontend.inside.backends.prefetch(hash);
    }
}

fn destination<F: Frame>(frame: &F, slot: &Slot) -> Option<Address> {
    if !slot.brief.v6 {
        return Some(Address::from_v4(slot.addresses as u32));
    }
    let bytes = frame.head().get(38..)?.first_chunk::<16>()?;
    Some(Address::from_v6(u128::from_be_bytes(*bytes)))
}
