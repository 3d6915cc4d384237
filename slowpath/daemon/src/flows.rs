//! The memory and rules of the flow table and of session affinity, from the configuration.
//!
//! Both are files in memory that the next process maps again, however this one ends: the flow table in hugepages if they are
//! used at all, in a file beside the API socket otherwise. Where neither is to be had, they go with the process.

use crate::StartError;
use millrace_config::{Config, FlowTable as Wanted};
use millrace_fastpath::conntrack::{AffinityTable, FlowTable, FlowTableConfig, Line, Timeouts};
use millrace_fastpath::sync::{Domain, Region};
use millrace_ffi::flow_memory::{FlowMemory, kept, on_demand};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The flow table: with the connections of an earlier daemon, if it has left any.
pub(crate) fn flow_table(
    config: &Config,
    hugepages: bool,
    domain: &Arc<Domain>,
) -> Result<FlowTable, StartError> {
    let wanted = &config.flow_table;
    let connections = wanted.connections.get();
    let lines = FlowTable::lines(connections);
    let files = Files::of(config);
    let (memory, file) = match files.flows(lines, hugepages) {
        Some((memory, file)) => (memory, Some(file)),
        None => (FlowMemory::try_new(lines, hugepages)?, None),
    };
    files.remove_flows_but(file.as_deref())?;
    let table_config = FlowTableConfig { connections, secret: random()?, timeouts: timeouts(wanted) };
    let table = FlowTable::try_new(table_config, memory.region, domain)?;
    let file = file.map(|file| file.display().to_string());
    tracing::info!(connections, known = table.len(), hugepages = memory.hugepages, file, "flow table");
    Ok(table)
}

/// The table of session affinity, in memory that is there as soon as it is used and not before.
pub(crate) fn affinity_table(config: &Config) -> Result<AffinityTable, StartError> {
    let clients = config.services.affinity_clients.get();
    let lines = AffinityTable::lines(clients);
    let file = Files::of(config).affinity;
    let memory = match keep(&file, lines) {
        Some(memory) => memory,
        None => on_demand(lines).map_err(StartError::AffinityMemory)?,
    };
    Ok(AffinityTable::try_new(clients, random()?, memory)?)
}

/// Removes what tables have left for a next process.
pub(crate) fn remove(config: &Config) -> Result<(), StartError> {
    let files = Files::of(config);
    files.remove_flows_but(None)?;
    remove_file(&files.affinity)
}

/// Where this daemon's tables are kept.
struct Files {
    /// The flow table's place in hugepages, if there is a file system for them.
    huge: Option<PathBuf>,
    /// Its other place.
    ordinary: PathBuf,
    affinity: PathBuf,
}

impl Files {
    fn of(config: &Config) -> Files {
        let prefix = config.eal_file_prefix();
        let flows = format!("{prefix}.flows");
        let beside = config.api.socket.parent().unwrap_or(Path::new("/"));
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        Files {
            huge: hugepage_mount(&mounts).map(|mount| mount.join(&flows)),
            ordinary: beside.join(&flows),
            affinity: beside.join(format!("{prefix}.affinity")),
        }
    }

    /// The memory of the flow table, and its file.
    fn flows(&self, lines: usize, hugepages: bool) -> Option<(FlowMemory, PathBuf)> {
        let huge = self.huge.as_ref().filter(|_| hugepages);
        let in_file = |file: &PathBuf, hugepages| {
            keep(file, lines).map(|region| (FlowMemory { region, hugepages }, file.clone()))
        };
        huge.and_then(|file| in_file(file, true)).or_else(|| in_file(&self.ordinary, false))
    }

    /// Removes files of the flow table that are not used: what is in them would come back later as if nothing had happened.
    fn remove_flows_but(&self, used: Option<&Path>) -> Result<(), StartError> {
        let unused = self.huge.iter().chain([&self.ordinary]).filter(|file| used != Some(file.as_path()));
        unused.into_iter().try_for_each(|file| remove_file(file))
    }
}

fn keep(file: &Path, lines: usize) -> Option<Region<Line>> {
    kept(file, lines)
        .inspect_err(
            |error| tracing::info!(file = %file.display(), %error, "not kept for a next daemon here"),
        )
        .ok()
}

fn remove_file(file: &Path) -> Result<(), StartError> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StartError::KeptTable { file: file.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

/// The first place of files in hugepages of 2 MiB, as `/proc/PID/mounts` tells them (proc(5)).
fn hugepage_mount(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (place, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
        let mut options = options.split(',');
        let fits =
            kind == "hugetlbfs" && options.next() == Some("rw") && options.any(|it| it == "pagesize=2M");
        fits.then(|| PathBuf::from(place))
    })
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

    /// A daemon's configuration with its socket in a directory.
    fn config(directory: &Path) -> Config {
        let mut config = Config::default();
        config.api.socket = directory.join("api.sock");
        config
    }

    #[test]
    fn session_affinity_starts_empty_and_remembers_over_restarts() {
        let client = Address::from_v4(0xc000_0201);
        let in_memory = tempfile::tempdir_in("/dev/shm").unwrap();
        for directory in [tempfile::tempdir().unwrap(), in_memory] {
            let config = config(directory.path());
            let table = affinity_table(&config).unwrap();
            assert!(table.is_empty());
            table.keep(ServiceId(1), client, 7, Ticks(1));
            drop(table);
            let found = affinity_table(&config).unwrap().find(ServiceId(1), client, Ticks(1), 10_800);
            // A disk is no place for it.
            assert_eq!(found, directory.path().starts_with("/dev/shm").then_some(7));
            remove(&config).unwrap();
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn the_flow_table_is_in_one_place_only() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let config = config(directory.path());
        let files = Files::of(&config);
        for hugepages in [false, true, false] {
            let table = flow_table(&config, hugepages, &Domain::new(1)).unwrap();
            assert!(table.is_empty());
            let places = [files.huge.as_ref().is_some_and(|file| file.exists()), files.ordinary.exists()];
            assert_eq!(places.into_iter().filter(|there| *there).count(), 1, "{places:?}");
        }
        remove(&config).unwrap();
        remove(&config).unwrap();
        assert!(!files.ordinary.exists() && !files.huge.is_some_and(|file| file.exists()));
    }

    #[test]
    fn the_place_of_hugepages_is_one_of_2_mib_that_can_be_written() {
        let mounts = "tmpfs /dev/shm tmpfs rw,relatime 0 0\n\
            none /mnt/1g hugetlbfs rw,relatime,pagesize=1024M 0 0\n\
            none /mnt/ro hugetlbfs ro,relatime,pagesize=2M 0 0\n\
            hugetlbfs /dev/hugepages hugetlbfs rw,relatime,pagesize=2M 0 0\n";
        assert_eq!(hugepage_mount(mounts), Some("/dev/hugepages".into()));
        assert_eq!(hugepage_mount("tmpfs /dev/shm tmpfs rw 0 0"), None);
    }
}
