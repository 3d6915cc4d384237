//! Files in memory by which tables outlive the daemon: where they are, whose they are, and which are nobody's any more.
//!
//! A file has its name from the API socket, which no two daemons have in common, and from the network namespace, outside of
//! which its contents mean nothing. Whoever uses it has it locked.

use millrace_config::Config;
use millrace_fastpath::conntrack::Line;
use millrace_fastpath::sync::Region;
use millrace_ffi::flow_memory::{self, FlowMemory};
use millrace_ffi::netns;
use nix::unistd::Uid;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The directory for all daemons in a file system of hugepages.
const IN_HUGEPAGES: &str = "millrace";
/// The longest name of a file (`NAME_MAX`).
const LONGEST_NAME: usize = 255;
/// Kinds of files beside the socket.
const FLOWS: &str = "flows";
const AFFINITY: &str = "affinity";

/// The files of one daemon.
pub(crate) struct Kept {
    /// The API socket, with all directories.
    socket: PathBuf,
    /// The network namespace's number; 0 where the kernel gives none.
    namespace: u64,
    /// The directory in hugepages, whether it is there or not.
    huge: Option<PathBuf>,
}

impl Kept {
    /// Of the daemon with this configuration in this network namespace.
    pub(crate) fn of(config: &Config) -> Kept {
        let socket = &config.api.socket;
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        Kept {
            socket: std::path::absolute(socket).unwrap_or_else(|_| socket.clone()),
            namespace: netns::cookie().unwrap_or(0),
            huge: hugepage_mount(&mounts).map(|mount| mount.join(IN_HUGEPAGES)),
        }
    }

    /// MiB of hugepages that the flow table has already.
    pub(crate) fn huge_mib(&self) -> u64 {
        let file = self.in_hugepages().and_then(|file| fs::metadata(file).ok());
        // What is there is as long as it says: its pages came with it.
        file.map_or(0, |file| file.len() >> 20)
    }

    /// The memory of the flow table, and its file: in hugepages if there are any for it and they are wanted.
    pub(crate) fn flows(&self, lines: usize, hugepages: bool) -> Option<(FlowMemory, PathBuf)> {
        let in_file = |file: PathBuf, hugepages| {
            map(&file, lines, true).map(|region| (FlowMemory { region, hugepages }, file))
        };
        let huge = self.in_hugepages().filter(|_| hugepages);
        let made = huge.and_then(|file| {
            let directory = file.parent()?;
            // If it cannot be made, the file cannot.
            let _ = DirBuilder::new().mode(0o700).recursive(true).create(directory);
            if !is_ours_alone(directory) {
                tracing::warn!(directory = %directory.display(), "not used: others may write to it");
                return None;
            }
            in_file(file, true)
        });
        let kept = made.or_else(|| in_file(self.beside(FLOWS), false));
        // What is in another one would come back later as if nothing had happened.
        self.remove(|file| file != self.beside(AFFINITY));
        kept
    }

    /// The memory of session affinity.
    pub(crate) fn affinity(&self, lines: usize) -> Option<Region<Line>> {
        map(&self.beside(AFFINITY), lines, false)
    }

    /// Removes all files of daemons with this socket, but for those in use.
    pub(crate) fn remove_all(&self) {
        self.remove(|_| true);
        // It stays while others have files there.
        if let Some(directory) = &self.huge {
            let _ = fs::remove_dir(directory);
        }
    }

    fn remove(&self, chosen: impl Fn(&Path) -> bool) {
        let escaped = escape(&self.socket);
        let in_hugepages = files(self.huge.as_deref()).filter(|(_, name)| owner(name) == Some(&escaped));
        let socket = self.socket.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let beside = files(self.socket.parent()).filter(|(_, name)| {
            let numbered = name.strip_suffix(FLOWS).or_else(|| name.strip_suffix(AFFINITY));
            numbered.and_then(|name| owner(name.strip_suffix('.')?)) == Some(&socket)
        });
        in_hugepages
            .chain(beside)
            .filter(|(file, _)| chosen(file))
            .for_each(|(file, _)| remove_unused(&file));
    }

    /// Removes what daemons have left whose socket has not even a directory any more: none of them comes back.
    pub(crate) fn remove_orphans(&self) {
        for (file, name) in files(self.huge.as_deref()) {
            let socket = owner(&name).and_then(unescape);
            let home = socket.as_ref().and_then(|socket| socket.parent());
            if home.is_some_and(|home| matches!(home.try_exists(), Ok(false))) {
                remove_unused(&file);
            }
        }
    }

    fn in_hugepages(&self) -> Option<PathBuf> {
        let name = format!("{}.{}", escape(&self.socket), self.namespace);
        self.huge.as_ref().filter(|_| name.len() <= LONGEST_NAME).map(|directory| directory.join(name))
    }

    fn beside(&self, kind: &str) -> PathBuf {
        let mut name = self.socket.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.{kind}", self.namespace));
        self.socket.with_file_name(name)
    }
}

/// Whether nobody else can put anything into a directory.
fn is_ours_alone(directory: &Path) -> bool {
    let ours = Uid::effective().as_raw();
    fs::symlink_metadata(directory)
        .is_ok_and(|found| found.is_dir() && found.uid() == ours && found.mode() & 0o022 == 0)
}

fn map(file: &Path, lines: usize, reserve: bool) -> Option<Region<Line>> {
    let told = |error: &_| tracing::info!(file = %file.display(), %error, "not kept for a next daemon here");
    flow_memory::kept(file, lines, reserve).inspect_err(told).ok()
}

/// The files of a directory that have readable names, with these.
fn files(directory: Option<&Path>) -> impl Iterator<Item = (PathBuf, String)> {
    let entries = directory.and_then(|directory| fs::read_dir(directory).ok());
    entries.into_iter().flatten().filter_map(|entry| {
        let entry = entry.ok()?;
        Some((entry.path(), entry.file_name().into_string().ok()?))
    })
}

/// Whose a file is, by its name: what stands before the number.
fn owner(name: &str) -> Option<&str> {
    let (owner, number) = name.rsplit_once('.')?;
    number.parse::<u64>().is_ok().then_some(owner)
}

/// Removes a file unless a process has it.
fn remove_unused(file: &Path) {
    let remove = || -> io::Result<()> {
        match File::open(file)?.try_lock() {
            Ok(()) => fs::remove_file(file),
            Err(TryLockError::WouldBlock) => Ok(()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    };
    if let Err(error) = remove() {
        tracing::warn!(file = %file.display(), %error, "left over and not removed");
    }
}

/// A path as the name of a file, as systemd does it (systemd.unit(5), "String Escaping").
fn escape(path: &Path) -> String {
    let text = path.as_os_str().as_encoded_bytes();
    let text = text.strip_prefix(b"/").unwrap_or(text);
    text.iter().fold(String::new(), |mut escaped, &byte| {
        match byte {
            b'/' => escaped.push('-'),
            b'.' | b':' | b'_' => escaped.push(byte.into()),
            _ if byte.is_ascii_alphanumeric() => escaped.push(byte.into()),
            _ => escaped += &format!("\\x{byte:02x}"),
        }
        escaped
    })
}

/// The path that was escaped; `None` for what is no such name.
fn unescape(name: &str) -> Option<PathBuf> {
    let mut path = String::from("/");
    let mut rest = name;
    while let Some(next) = rest.chars().next() {
        if let Some(code) = rest.strip_prefix("\\x") {
            path.push(u8::from_str_radix(code.get(..2)?, 16).ok().filter(u8::is_ascii)?.into());
            rest = &code[2..];
        } else {
            path.push(if next == '-' { '/' } else { next });
            rest = &rest[next.len_utf8()..];
        }
    }
    Some(path.into())
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

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: usize = 1000;

    /// Of a daemon with its socket in a directory.
    fn kept(directory: &Path) -> Kept {
        let mut config = Config::default();
        config.api.socket = directory.join("api.sock");
        Kept::of(&config)
    }

    fn in_memory() -> tempfile::TempDir {
        tempfile::Builder::new().prefix("mr-t").tempdir_in("/dev/shm").unwrap()
    }

    /// Whether each of both places has the flow table.
    fn places(kept: &Kept) -> [bool; 2] {
        [kept.in_hugepages().is_some_and(|file| file.exists()), kept.beside(FLOWS).exists()]
    }

    #[test]
    fn the_flow_table_is_in_one_place_and_of_one_namespace() {
        let directory = in_memory();
        let here = kept(directory.path());
        let has_huge = here.huge.is_some();
        for hugepages in [false, true, false, true] {
            let (memory, file) = here.flows(LINES, hugepages).unwrap();
            assert_eq!((memory.hugepages, file.exists()), (hugepages && has_huge, true));
            assert_eq!(places(&here), [memory.hugepages, !memory.hugepages]);
        }
        // The same socket elsewhere: what is in use is left alone.
        let elsewhere = Kept { namespace: here.namespace + 1, ..kept(directory.path()) };
        let used = here.flows(LINES, true).unwrap();
        let other = elsewhere.flows(LINES, true).unwrap();
        assert!(used.1.exists() && other.1.exists() && used.1 != other.1);
        drop(used);
        drop(other);
        drop(elsewhere.flows(LINES, false).unwrap());
        assert_eq!((places(&here), places(&elsewhere)), ([false, false], [false, true]));
        here.remove_all();
        assert_eq!(places(&elsewhere), [false, false]);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn affinity_stays_when_the_flow_table_moves_and_goes_at_the_end() {
        let directory = in_memory();
        let here = kept(directory.path());
        drop(here.affinity(LINES).unwrap());
        drop(here.flows(LINES, true).unwrap());
        assert!(here.beside(AFFINITY).exists());
        // A directory's other files are nobody's business.
        let others = ["api.sock", "api.sock.flows", "api.sock.x.flows", "other.sock.1.flows", "api.sock.1"];
        others.iter().for_each(|name| fs::write(directory.path().join(name), "").unwrap());
        here.remove_all();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), others.len());
    }

    #[test]
    fn hugepages_of_a_daemon_whose_directory_is_gone_are_given_back_by_the_next() {
        let (gone, stays, next) = (in_memory(), in_memory(), in_memory());
        let [left, waits] = [&gone, &stays].map(|directory| kept(directory.path()));
        let Some(file) = left.in_hugepages() else { return };
        drop((left.flows(LINES, true), waits.flows(LINES, true)));
        assert_eq!(left.huge_mib(), 2);
        drop(gone);
        kept(next.path()).remove_orphans();
        assert_eq!((file.exists(), places(&waits)), (false, [true, false]));
        waits.remove_all();
        assert_eq!(left.huge_mib(), 0);
    }

    #[test]
    fn a_path_is_a_name_and_can_be_told_from_it() {
        for (path, name) in
            [("/run/millrace/millrace.sock", "run-millrace-millrace.sock"), ("/a-b/c d", "a\\x2db-c\\x20d")]
        {
            assert_eq!(escape(Path::new(path)), name);
            assert_eq!(unescape(name), Some(path.into()));
        }
        for none in ["\\x2", "\\xzz", "\\xff"] {
            assert_eq!(unescape(none), None, "{none}");
        }
        assert_eq!((owner("a.b.17"), owner("a.b"), owner("17")), (Some("a.b"), None, None));
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
