//! Bringing in what new flows of a burst will need, all at once: a service's frontend, its backends, its Maglev slot, and
//! the flow table's lines for the replies.
//!
//! Resolving one new flow after the other would wait for memory at each step of each of them. Here every step is taken
//! for all new flows of the burst before the next one, so the waits overlap. It changes nothing but time.

use super::run::{Context, Slot, addresses_v6};
use super::service::frontend_key;
use crate::conntrack::{FlowKey, FlowView};
use crate::port::{BURST, Burst, Frame};
use crate::sync::prefetch;
use crate::tables::{Address, BackendSet};
use arrayvec::ArrayVec;

/// Asks for the tables' lines that the packets without a guess will need.
#[cold]
pub(super) fn warm<F: Frame>(context: &Context<'_>, flows: &FlowView<'_>, burst: &Burst<F>, slots: &[Slot]) {
    let services = &context.tables.services;
    let mut found: ArrayVec<(&BackendSet, FlowKey, u64), BURST> = ArrayVec::new();
    for (frame, slot) in burst.iter().zip(slots).filter(|(_, slot)| slot.is_new()) {
        let Some(key) = flow_key(frame, slot) else { continue };
        if let Some(frontend) = services.frontend(&frontend_key(&key)) {
            let origin = context.tables.origin(context.port.role, key.source);
            let backends = &*frontend.pool(origin).backends;
            prefetch(backends);
            flows.prefetch_both(slot.hash);
            found.push((backends, key, slot.hash));
        }
    }
    for (backends, _, hash) in &found {
        backends.prefetch(*hash);
    }
    for (backends, key, hash) in &found {
        // As if neither affinity nor masquerading said otherwise.
        let Some(backend) = backends.choose(*hash) else { continue };
        let rewritten = FlowKey { destination: backend.address, destination_port: backend.port, ..*key };
        flows.prefetch_both(rewritten.reversed().words().hash(flows.secret()));
    }
}

fn flow_key<F: Frame>(frame: &F, slot: &Slot) -> Option<FlowKey> {
    let (source, destination) = match slot.brief.v6 {
        false => (Address::from_v4((slot.addresses >> 32) as u32), Address::from_v4(slot.addresses as u32)),
        true => {
            let [source, destination] = addresses_v6(frame.head())?;
            let address = |[upper, lower]: [u64; 2]| u128::from(upper) << 64 | u128::from(lower);
            (Address::from_v6(address(source)), Address::from_v6(address(destination)))
        }
    };
    Some(FlowKey {
        source,
        destination,
        source_port: (slot.tuple >> 48) as u16,
        destination_port: (slot.tuple >> 32) as u16,
        protocol: (slot.tuple >> 24) as u8,
        fragment: false,
    })
}
