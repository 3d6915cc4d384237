//! The memory and rules of the flow table and of session affinity, from the configuration.

use crate::StartError;
use millrace_config::FlowTable as Wanted;
use millrace_fastpath::conntrack::{AffinityTable, FlowTable, FlowTableConfig, Timeouts};
use millrace_fastpath::sync::Domain;
use millrace_ffi::flow_memory::{FlowMemory, on_demand};
use std::io::Read;
use std::sync::Arc;

/// An empty table, in hugepages if they are used at all and there are enough.
pub(crate) fn flow_table(
    wanted: &Wanted,
    hugepages: bool,
    domain: &Arc<Domain>,
) -> Result<FlowTable, StartError> {
    let connections = wanted.connections.get();
    let memory = FlowMemory::try_new(FlowTable::lines(connections), hugepages)?;
    tracing::info!(connections, hugepages = memory.hugepages, "flow table");
    let config = FlowTableConfig { connections, secret: random()?, timeouts: timeouts(wanted) };
    Ok(FlowTable::try_new(config, memory.region, domain)?)
}

/// An empty table of session affinity, in memory that is there as soon as it is used and not before.
pub(crate) fn affinity_table(clients: u32) -> Result<AffinityTable, StartError> {
    let memory = on_demand(AffinityTable::lines(clients)).map_err(StartError::AffinityMemory)?;
    Ok(AffinityTable::try_new(clients, random()?, memory)?)
}

/// Random words from the kernel.
pub(crate) fn random<const N: usize>() -> Result<[u64; N], StartError> {
    let mut words = [0; N];
    let mut source =
        std::fs::File::open("/dev/urandom").map_err(StartError::system("opening /dev/urandom"))?;
    for word in &mut words {
        let mut bytes = [0; 8];
        source.read_exact(&mut bytes).map_err(StartError::system("reading /dev/urandom"))?;
        *word = u64::from_ne_bytes(bytes);
    }
    Ok(words)
}

fn timeouts(wanted: &Wanted) -> Timeouts {
    let seconds = &wanted.timeouts;
    Timeouts {
        tcp_syn_sent: seconds.tcp_syn_sent.get(),
        tcp_syn_received: seconds.tcp_syn_received.get(),
        tcp_established: seconds.tcp_established.get(),
        tcp_unacknowledged: seconds.tcp_unacknowledged.get(),
        tcp_fin_wait: seconds.tcp_fin_wait.get(),
        tcp_time_wait: seconds.tcp_time_wait.get(),
        tcp_close: seconds.tcp_close.get(),
        udp_unreplied: seconds.udp_unreplied.get(),
        udp_stream: seconds.udp_stream.get(),
        sctp_unreplied: seconds.sctp_unreplied.get(),
        sctp_established: seconds.sctp_established.get(),
        sctp_shutdown: seconds.sctp_shutdown.get(),
        sctp_closed: seconds.sctp_closed.get(),
        icmp: seconds.icmp.get(),
        fragments: seconds.fragments.get(),
        other: seconds.other.get(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_fastpath::conntrack::Ticks;
    use millrace_fastpath::tables::{Address, ServiceId};

    #[test]
    fn session_affinity_starts_empty_and_remembers() {
        let table = affinity_table(1024).unwrap();
        assert!(table.is_empty());
        let client = Address::from_v4(0xc000_0201);
        table.keep(ServiceId(1), client, 7, Ticks(1));
        assert_eq!(table.find(ServiceId(1), client, Ticks(1), 10_800), Some(7));
        assert!(matches!(affinity_table(0), Err(StartError::AffinityTable(_))));
    }
}
