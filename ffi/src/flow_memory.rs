//! Memory for the flow table: one anonymous mapping, in hugepages where there are any.

use millrace_fastpath::conntrack::Line;
use millrace_fastpath::sync::Region;
use std::ptr::NonNull;
use std::{io, ptr};

/// Bytes of a hugepage, as this maps them: the size of x86-64's and arm64's second level.
const HUGEPAGE: usize = 2 << 20;

/// Why there is no memory for the flow table.
#[derive(Debug, thiserror::Error)]
#[error("no memory for a flow table of {bytes} bytes: {source}")]
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
        let reserved = if hugepages { Mapping::try_new(bytes, libc::MAP_HUGETLB).ok() } else { None };
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
        let start = mapping.start.as_ptr().cast_const().cast::<Line>();
        // SAFETY: the mapping is page-aligned and at least `lines` lines long; a line is an array of atomics, valid as
        // zeroes, which a fresh anonymous mapping is; nobody else has the address, and the owner unmaps it on drop only.
        let region = unsafe { Region::from_owner(start, lines, Box::new(mapping)) };
        Ok(FlowMemory { region, hugepages })
    }
}

impl Mapping {
    fn try_new(bytes: usize, flag: libc::c_int) -> io::Result<Mapping> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flag;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
        match NonNull::new(start) {
            Some(start) if start.as_ptr() != libc::MAP_FAILED => Ok(Mapping { start, bytes }),
            _ => Err(io::Error::last_os_error()),
        }
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

    use millrace_fastpath::conntrack::{FlowTable, FlowTableConfig, Timeouts};
    use millrace_fastpath::sync::Domain;

    #[test]
    fn a_flow_table_fits_and_is_empty_with_and_without_hugepages() {
        for hugepages in [false, true] {
            let memory = FlowMemory::try_new(FlowTable::lines(2048), hugepages).unwrap();
            let config = FlowTableConfig { connections: 2048, secret: [1; 4], timeouts: Timeouts::default() };
            assert!(FlowTable::try_new(config, memory.region, &Domain::new(1)).unwrap().is_empty());
        }
    }
}
