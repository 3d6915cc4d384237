//! Memory for the tables that workers write: one anonymous mapping for the flow table, in hugepages where there are any,
//! and a memory file for what is mostly empty.

use millrace_fastpath::conntrack::Line;
use millrace_fastpath::sync::Region;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr::NonNull;
use std::{io, ptr};

/// Bytes of a hugepage, as this maps them: the size of x86-64's and arm64's second level.
const HUGEPAGE: usize = 2 << 20;

/// Why there is no memory for a table.
#[derive(Debug, thiserror::Error)]
#[error("no memory for a table of {bytes} bytes: {source}")]
pub struct FlowMemoryError {
    bytes: usize,
    source: io::Error,
}

/// Memory for a flow table, all zeroes.
pub struct FlowMemory {
    /// The lines.
    pub region: Region<Line>,
    /// Whether they lie in hugepages that were reserved for it.
    pub hugepages: bool,
}

/// A mapping of this process alone, unmapped when dropped.
struct Mapping {
    start: NonNull<libc::c_void>,
    bytes: usize,
}

// SAFETY: a plain range of addresses, valid in all threads; only `Drop` uses it.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&Mapping` gives nothing.
unsafe impl Sync for Mapping {}

impl FlowMemory {
    /// Memory for `lines` lines. With `hugepages` they are tried first; ordinary memory is then asked to be merged into
    /// large pages by the kernel as it sees fit.
    ///
    /// # Errors
    /// [`FlowMemoryError`]: the kernel refused even ordinary memory.
    pub fn try_new(lines: usize, hugepages: bool) -> Result<FlowMemory, FlowMemoryError> {
        let bytes = (lines * size_of::<Line>()).max(1).next_multiple_of(HUGEPAGE);
        let reserved = if hugepages {
            Mapping::try_new(bytes, libc::MAP_HUGETLB | libc::MAP_POPULATE).ok()
        } else {
            None
        };
        let (mapping, hugepages) = match reserved {
            Some(mapping) => (mapping, true),
            None => {
                let mapping = Mapping::try_new(bytes, libc::MAP_NORESERVE)
                    .map_err(|source| FlowMemoryError { bytes, source })?;
                // SAFETY: exactly the mapping just made. It is advice: failure changes nothing.
                unsafe { libc::madvise(mapping.start.as_ptr(), bytes, libc::MADV_HUGEPAGE) };
                (mapping, false)
            }
        };
        Ok(FlowMemory { region: mapping.into_region(lines), hugepages })
    }
}

/// Memory for `lines` lines, all zeroes, in a memory file that has a page of ordinary size for every page that was
/// touched: until then it costs nothing. The file is named in `/proc/PID/maps` and goes with the region.
///
/// # Errors
/// [`FlowMemoryError`]: the kernel refused the file or its mapping.
pub fn on_demand(lines: usize) -> Result<Region<Line>, FlowMemoryError> {
    let bytes = (lines * size_of::<Line>()).max(1);
    let map = || {
        // SAFETY: the name is a C string; the call creates a descriptor and touches no memory.
        let fd = unsafe { libc::memfd_create(c"millrace-table".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was made just now, and nobody else knows it.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(bytes as u64)?;
        Mapping::of_file(&file, bytes)
    };
    let mapping = map().map_err(|source| FlowMemoryError { bytes, source })?;
    Ok(mapping.into_region(lines))
}

impl Mapping {
    fn try_new(bytes: usize, flag: libc::c_int) -> io::Result<Mapping> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flag;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
        Mapping::check(start, bytes)
    }

    /// Of a file that is `bytes` long. It needs the descriptor no more.
    fn of_file(file: &File, bytes: usize) -> io::Result<Mapping> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let fd = file.as_raw_fd();
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, libc::MAP_SHARED, fd, 0) };
        Mapping::check(start, bytes)
    }

    fn check(start: *mut libc::c_void, bytes: usize) -> io::Result<Mapping> {
        match NonNull::new(start) {
            Some(start) if start.as_ptr() != libc::MAP_FAILED => Ok(Mapping { start, bytes }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The first `lines` lines, or as many as there are room for.
    fn into_region(self, lines: usize) -> Region<Line> {
        let start = self.start.as_ptr().cast_const().cast::<Line>();
        let lines = lines.min(self.bytes / size_of::<Line>());
        // SAFETY: the mapping is page-aligned and at least `lines` lines long; a line is an array of atomics, valid as
        // zeroes, which fresh memory is; nobody else has the address (nor, of a file, the descriptor, so it does not
        // shrink), and the owner unmaps it on drop only.
        unsafe { Region::from_owner(start, lines, Box::new(self)) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `try_new`; the region that referred to it is gone.
        unsafe { libc::munmap(self.start.as_ptr(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use millrace_fastpath::conntrack::{AffinityTable, FlowTable, FlowTableConfig, Ticks, Timeouts};
    use millrace_fastpath::sync::Domain;
    use millrace_fastpath::tables::{Address, ServiceId};

    #[test]
    fn a_flow_table_fits_and_is_empty_with_and_without_hugepages() {
        for hugepages in [false, true] {
            let memory = FlowMemory::try_new(FlowTable::lines(2048), hugepages).unwrap();
            let config = FlowTableConfig { connections: 2048, secret: [1; 4], timeouts: Timeouts::default() };
            assert!(FlowTable::try_new(config, memory.region, &Domain::new(1)).unwrap().is_empty());
        }
    }
    /// KiB of this process's memory files of that name that are there, by `/proc/self/smaps`.
    fn resident() -> u64 {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let ours = maps.split("millrace-table").skip(1);
        let sizes = ours.filter_map(|map| map.lines().find_map(|line| line.strip_prefix("Rss:")));
        sizes.map(|size| size.trim().trim_end_matches(" kB").parse::<u64>().unwrap()).sum()
    }

    #[test]
    fn a_table_on_demand_is_empty_and_takes_memory_only_where_it_is_touched() {
        let clients = 1 << 20;
        let table =
            AffinityTable::try_new(clients, [1; 4], on_demand(AffinityTable::lines(clients)).unwrap())
                .unwrap();
        assert_eq!(resident(), 0);
        let client = Address::from_v4(0x0a00_0001);
        table.keep(ServiceId(1), client, 7, Ticks(1));
        assert_eq!(table.find(ServiceId(1), client, Ticks(1), 1), Some(7));
        assert!((4..=256).contains(&resident()), "{} KiB", resident());
    }
}
