//! Memory for the tables that workers write: a file in memory that outlives the process; where there is no place for one, an
//! anonymous mapping, in hugepages where there are any, or a memory file for what is mostly empty.

use millrace_fastpath::conntrack::Line;
use millrace_fastpath::sync::Region;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::ptr::NonNull;
use std::{io, ptr};

/// Bytes of a hugepage, as this maps them: the size of x86-64's and arm64's second level.
const HUGEPAGE: usize = 2 << 20;

/// How often a file is opened that others remove.
const ATTEMPTS: usize = 4;

/// Why there is no memory for a table.
#[derive(Debug, thiserror::Error)]
#[error("no memory for a table of {bytes} bytes: {source}")]
pub struct FlowMemoryError {
    bytes: usize,
    source: io::Error,
}

/// Memory for a flow table.
pub struct FlowMemory {
    /// The lines.
    pub region: Region<Line>,
    /// Whether they lie in hugepages that were reserved for it.
    pub hugepages: bool,
}

/// A mapping of a file that stays locked as long as it is mapped.
struct KeptMapping {
    mapping: Mapping,
    _file: File,
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

/// Memory for `lines` lines that outlives the process: the contents of `file`, which is made if need be. What another process
/// of this machine has left there since it started is there again; all zeroes where there was nothing, or a file of another
/// length. With `reserve` all its memory is there when this returns, as always on hugetlbfs; without, on tmpfs, when it is touched:
/// who lets other files take its place gets a signal then (`SIGBUS`). One process at a time has it.
///
/// # Errors
/// [`FlowMemoryError`]: the file cannot be had (it is in use, no plain file, or somebody else's), lies on a file system whose files are not
/// memory, or there is not enough of that. Then there is no file.
pub fn kept(file: &Path, lines: usize, reserve: bool) -> Result<Region<Line>, FlowMemoryError> {
    let bytes = (lines * size_of::<Line>()).max(1).next_multiple_of(HUGEPAGE);
    let failed = |source| FlowMemoryError { bytes, source };
    let opened = open_alone(file).map_err(failed)?;
    match map_kept(&opened, bytes, reserve) {
        Ok(mapping) => Ok(KeptMapping { mapping, _file: opened }.into_region(lines)),
        Err(source) => {
            let _ = fs::remove_file(file);
            Err(failed(source))
        }
    }
}

/// Opens a plain file, or makes it, and keeps other processes away from it.
fn open_alone(file: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    // Somebody may remove it between opening and locking: then there is another one, or none.
    for _ in 0..ATTEMPTS {
        let opened = options.open(file)?;
        match opened.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, "another process has it"));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let found = opened.metadata()?;
        if !found.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file"));
        }
        // SAFETY: asks for a number.
        if found.uid() != unsafe { libc::geteuid() } || found.mode() & 0o077 != 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "others may write to it"));
        }
        if found.nlink() == 1 && fs::symlink_metadata(file).is_ok_and(|now| now.ino() == found.ino()) {
            return Ok(opened);
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "it is removed again and again, or has another name"))
}

fn map_kept(file: &File, bytes: usize, reserve: bool) -> io::Result<Mapping> {
    let system = file_system(file)?;
    let populate = match system.f_type {
        libc::HUGETLBFS_MAGIC => true,
        libc::TMPFS_MAGIC => false,
        _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "it is on neither hugetlbfs nor tmpfs")),
    };
    let found = file.metadata()?;
    if found.len() != bytes as u64 {
        file.set_len(0)?;
        file.set_len(bytes as u64)?;
    }
    // Who touches a page for which there is no room gets a signal.
    if reserve && !populate {
        // SAFETY: takes numbers only.
        if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, bytes as libc::off_t) } != 0 {
            return Err(io::Error::last_os_error());
        }
    } else if !populate && system.f_blocks > 0 {
        let room = system.f_bavail.saturating_mul(system.f_bsize as u64);
        let has = 512 * file.metadata()?.blocks();
        if room < (bytes as u64).saturating_sub(has) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
    }
    let mapping = Mapping::of_file(file, bytes)?;
    if populate {
        mapping.populate()?;
    }
    Ok(mapping)
}

fn file_system(file: &File) -> io::Result<libc::statfs> {
    let mut system = MaybeUninit::zeroed();
    // SAFETY: the descriptor is open, and the memory is as large as the structure.
    if unsafe { libc::fstatfs(file.as_raw_fd(), system.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all its fields are numbers, valid as zeroes, and the kernel has filled them in.
    Ok(unsafe { system.assume_init() })
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

    /// Has all its pages made now: without enough of them, the first touch would be a signal.
    fn populate(&self) -> io::Result<()> {
        // SAFETY: exactly this mapping; its contents stay as they are.
        if unsafe { libc::madvise(self.start.as_ptr(), self.bytes, libc::MADV_POPULATE_WRITE) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        // Before Linux 5.14 the kernel can only be asked to reserve pages, which it has done.
        if error.raw_os_error() == Some(libc::EINVAL) { Ok(()) } else { Err(error) }
    }

    fn check(start: *mut libc::c_void, bytes: usize) -> io::Result<Mapping> {
        match NonNull::new(start) {
            Some(start) if start.as_ptr() != libc::MAP_FAILED => Ok(Mapping { start, bytes }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The first `lines` lines, or as many as there are room for.
    fn into_region(self, lines: usize) -> Region<Line> {
        let (start, lines) = self.lines(lines);
        // SAFETY: the mapping is page-aligned and at least `lines` lines long; a line is an array of atomics, valid as
        // zeroes, which fresh memory is; nobody else has the address (nor, of a file, the descriptor, so it does not
        // shrink), and the owner unmaps it on drop only.
        unsafe { Region::from_owner(start, lines, Box::new(self)) }
    }

    /// Where the lines begin, and how many there are, of `lines` at most.
    fn lines(&self, lines: usize) -> (*const Line, usize) {
        (self.start.as_ptr().cast_const().cast(), lines.min(self.bytes / size_of::<Line>()))
    }
}

impl KeptMapping {
    fn into_region(self, lines: usize) -> Region<Line> {
        let (start, lines) = self.mapping.lines(lines);
        // SAFETY: the mapping is page-aligned and at least `lines` lines long; a line is an array of atomics, for which any
        // contents are valid; only this process has the file, by its lock, and only root may open it, so nobody shrinks
        // it; the owner unmaps it on drop only.
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
    use std::os::unix::fs::PermissionsExt;

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

    /// Where files are memory; `None` on a machine that has no such place.
    fn places() -> impl Iterator<Item = tempfile::TempDir> {
        let make = |place: &str| tempfile::Builder::new().prefix("mrt").tempdir_in(place).ok();
        ["/dev/shm", "/dev/hugepages"].into_iter().filter_map(make)
    }

    const LINES: usize = 40_000;

    fn flows(region: Region<Line>, connections: u32, secret: u64) -> FlowTable {
        let config = FlowTableConfig { connections, secret: [secret; 4], timeouts: Timeouts::default() };
        FlowTable::try_new(config, region, &Domain::new(1)).unwrap()
    }

    #[test]
    fn what_was_kept_is_there_again_for_one_process_at_a_time() {
        let lines = FlowTable::lines(2048);
        for place in places() {
            let file = place.path().join("flows");
            let first = flows(kept(&file, lines, true).unwrap(), 2048, 1);
            assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
            let error = kept(&file, lines, true).err().unwrap();
            assert!(error.to_string().contains("another process has it"), "{error}");
            drop(first);
            // The secret is that of the first.
            assert_eq!(flows(kept(&file, lines, true).unwrap(), 2048, 2).secret(), &[1; 4]);
            // Another size is another table.
            let other = flows(kept(&file, FlowTable::lines(200_000), true).unwrap(), 200_000, 3);
            assert_eq!(other.secret(), &[3; 4]);
            drop(other);
            assert_eq!(flows(kept(&file, lines, true).unwrap(), 2048, 4).secret(), &[4; 4]);
            // Nobody else can have been at it.
            fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
            let error = kept(&file, lines, true).err().unwrap();
            assert!(error.to_string().contains("others may write to it"), "{error}");
            assert!(file.exists());
        }
    }

    #[test]
    fn what_would_be_written_to_a_disk_or_is_no_file_or_too_large_is_refused_and_leaves_nothing() {
        let refused = |file: &Path, lines| kept(file, lines, true).err().unwrap().to_string();
        for place in places() {
            let file = place.path().join("flows");
            let error = refused(&file, 1 << 40);
            assert!(error.contains(&(64u64 << 40).to_string()), "{error}");
            assert!(!file.exists());
            // Not every such file system has links.
            if std::os::unix::fs::symlink("elsewhere", &file).is_ok() {
                refused(&file, LINES);
                assert!(!place.path().join("elsewhere").exists());
            }
        }
        let directory = tempfile::tempdir().unwrap();
        refused(directory.path(), LINES);
        let file = directory.path().join("flows");
        let system = file_system(&File::open(directory.path()).unwrap()).unwrap();
        if system.f_type != libc::TMPFS_MAGIC {
            let error = refused(&file, LINES);
            assert!(error.contains("neither hugetlbfs nor tmpfs"), "{error}");
            assert!(!file.exists());
        }
    }

    #[test]
    fn a_table_on_demand_is_empty_and_takes_memory_only_where_it_is_touched() {
        let clients = 1 << 20;
        let table =
            AffinityTable::try_new(clients, [1; 4], on_demand(AffinityTable::lines(clients)).unwrap())
                .unwrap();
        assert!(resident() <= 4, "{} KiB", resident());
        let client = Address::from_v4(0x0a00_0001);
        table.keep(ServiceId(1), client, 7, Ticks(1));
        assert_eq!(table.find(ServiceId(1), client, Ticks(1), 1), Some(7));
        assert!((4..=256).contains(&resident()), "{} KiB", resident());
    }
}
