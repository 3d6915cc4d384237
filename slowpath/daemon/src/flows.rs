//! The memory and rules of the flow table and of session affinity, from the configuration.

use crate::StartError;
use crate::kept::Kept;
use millrace_config::{Config, FlowTable as Wanted};
use millrace_fastpath::conntrack::{AffinityTable, FlowTable, FlowTableConfig, Timeouts};
use millrace_fastpath::sync::Domain;
use millrace_ffi::flow_memory::{FlowMemory, on_demand};
use std::io::Read;
use std::sync::Arc;

/// The flow table, with the connections of an earlier daemon if it has left any. It outlives this one where there is a place
/// for that, and goes with it otherwise.
pub(crate) fn flow_table(
    config: &Config,
    kept: &Kept,
    hugepages: bool,
    domain: &Arc<Domain>,
) -> Result<FlowTable, StartError> {
    let wanted = &config.flow_table;
    let connections = wanted.connections.get();
    let lines = FlowTable::lines(connections);
    let (memory, file) = match kept.flows(lines, hugepages) {
        Some((memory, file)) => (memory, Some(file.display().to_string())),
        None => (FlowMemory::try_new(lines, hugepages)?, None),
    };
    let table_config = FlowTableConfig { connections, secret: random()?, timeouts: timeouts(wanted) };
    let table = FlowTable::try_new(table_config, memory.region, domain)?;
    tracing::info!(connections, known = table.len(), hugepages = memory.hugepages, file, "flow table");
    Ok(table)
}

/// The table of session affinity, in memory that is there as soon as it is used and not before. It outlives the daemon like
/// the flow table.
pub(crate) fn affinity_table(config: &Config, kept: &Kept) -> Result<AffinityTable, StartError> {
    let clients = config.services.affinity_clients.get();
    let lines = AffinityTable::lines(clients);
    let memory = match kept.affinity(lines) {
        Some(memory) => memory,
        None => on_demand(lines).map_err(StartError::AffinityMemory)?,
    };
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
    fn session_affinity_starts_empty_and_remembers_over_restarts() {
        let client = Address::from_v4(0xc000_0201);
        let in_memory = tempfile::tempdir_in("/dev/shm").unwrap();
        for directory in [tempfile::tempdir().unwrap(), in_memory] {
            let mut config = Config::default();
            config.api.socket = directory.path().join("api.sock");
            let kept = Kept::of(&config);
            let table = affinity_table(&config, &kept).unwrap();
            assert!(table.is_empty());
            table.keep(ServiceId(1), client, 7, Ticks(1));
            drop(table);
            let found = affinity_table(&config, &kept).unwrap().find(ServiceId(1), client, Ticks(1), 10_800);
            // A disk is no place for it.
            assert_eq!(found, directory.path().starts_with("/dev/shm").then_some(7));
            kept.remove_all();
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        }
    }
}
