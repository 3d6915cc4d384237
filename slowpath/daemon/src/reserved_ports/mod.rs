//! Ports that the host's programs must not take by chance.
//!
//! A masqueraded connection has a port of the node's own address. While the daemon runs, the kernel gives none of these
//! ports to a program that asks for any port: they are in `net.ipv4.ip_local_reserved_ports` of the daemon's network
//! namespace, together with what others have put there. A program that asks for one of them by number still gets it
//! (Documentation/networking/ip-sysctl.rst).

mod port_set;

use millrace_config::PortRange;
use millrace_control::sysctl;
use port_set::{NotPorts, PortSet};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The kernel's list. Every network namespace has its own.
const LIST: &str = "ipv4/ip_local_reserved_ports";
/// What tells one life of a namespace from another.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
const NAMESPACE: &str = "/proc/self/ns/net";
/// Name of the record in the state directory.
const RECORD: &str = "reserved-ports.json";

/// Why ports cannot be reserved or given back.
#[derive(Debug, Error)]
pub(crate) enum ReserveError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file holds something else than it should.
    #[error("{path}: {source}")]
    List {
        /// The file.
        path: PathBuf,
        /// What it holds.
        source: NotPorts,
    },
    /// The record is not what an earlier instance wrote.
    #[error("{path}: not a record of reserved ports: {source}")]
    Record {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        source: serde_json::Error,
    },
}

/// Which ports an instance has added to the list, and to which one.
#[derive(PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Record {
    /// The kernel's boot and the namespace: another list is none of the record's business.
    list: String,
    /// The ports, in the kernel's notation.
    added: String,
}

/// Reserved ports; given back when dropped.
#[derive(Debug)]
pub(crate) struct ReservedPorts {
    files: Files,
    added: PortSet,
}

impl ReservedPorts {
    /// Reserves `range` in the namespace of the calling thread. What an instance that was killed had reserved is taken
    /// over, or given back if it is not in the range any more.
    pub(crate) fn take(range: PortRange, state_directory: &Path) -> Result<Self, ReserveError> {
        ReservedPorts::take_in(Files::of_this_namespace(state_directory)?, range)
    }

    fn take_in(files: Files, range: PortRange) -> Result<Self, ReserveError> {
        let former = files.recorded()?;
        let listed = files.listed()?;
        let others = listed.difference(&former);
        let wanted = PortSet::from(range.first()..=range.last());
        let added = wanted.difference(&others);
        // Killed at any point in between, the record still names all that is ours, and nothing else.
        files.record(&former.union(&added))?;
        let list = others.union(&wanted);
        if list != listed {
            files.list(&list)?;
        }
        files.record(&added)?;
        Ok(ReservedPorts { files, added })
    }

    fn give_back(&self) -> Result<(), ReserveError> {
        let listed = self.files.listed()?;
        let left = listed.difference(&self.added);
        if left != listed {
            self.files.list(&left)?;
        }
        self.files.record(&PortSet::default())
    }
}

impl Drop for ReservedPorts {
    fn drop(&mut self) {
        if let Err(error) = self.give_back() {
            tracing::warn!(ports = %self.added, %error, "reserved ports are not given back");
        }
    }
}

/// The kernel's list, and the record of what is ours in it.
#[derive(Debug)]
struct Files {
    list: PathBuf,
    record: PathBuf,
    /// See [`Record::list`].
    id: String,
}

impl Files {
    fn of_this_namespace(state_directory: &Path) -> Result<Self, ReserveError> {
        let boot = read(Path::new(BOOT))?;
        let namespace = std::fs::metadata(NAMESPACE).map_err(failed(Path::new(NAMESPACE)))?.ino();
        Ok(Files {
            list: sysctl::file(LIST),
            record: state_directory.join(RECORD),
            id: format!("boot {} net:[{namespace}]", boot.trim()),
        })
    }

    fn listed(&self) -> Result<PortSet, ReserveError> {
        let text = read(&self.list)?;
        text.parse().map_err(|source| ReserveError::List { path: self.list.clone(), source })
    }

    fn list(&self, ports: &PortSet) -> Result<(), ReserveError> {
        // An empty write would change nothing.
        std::fs::write(&self.list, format!("{ports}\n")).map_err(failed(&self.list))
    }

    /// What an earlier instance has left in the list; nothing if it was another list.
    fn recorded(&self) -> Result<PortSet, ReserveError> {
        let path = &self.record;
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(PortSet::default()),
            Err(source) => return Err(failed(path)(source)),
        };
        let record: Record = serde_json::from_slice(&bytes)
            .map_err(|source| ReserveError::Record { path: path.clone(), source })?;
        if record.list != self.id {
            return Ok(PortSet::default());
        }
        record.added.parse().map_err(|source| ReserveError::List { path: path.clone(), source })
    }

    /// Replaces the record in one step; without ports there is none. Not forced to disk: the list does not survive the
    /// kernel either.
    fn record(&self, added: &PortSet) -> Result<(), ReserveError> {
        if added.is_empty() {
            return match std::fs::remove_file(&self.record) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&self.record)(error)),
                _ => Ok(()),
            };
        }
        let record = Record { list: self.id.clone(), added: added.to_string() };
        let bytes = serde_json::to_vec(&record)
            .map_err(|source| ReserveError::Record { path: self.record.clone(), source })?;
        let next = self.record.with_extension("json.new");
        std::fs::write(&next, bytes).map_err(failed(&next))?;
        std::fs::rename(&next, &self.record).map_err(failed(&self.record))
    }
}

fn read(path: &Path) -> Result<String, ReserveError> {
    std::fs::read_to_string(path).map_err(failed(path))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> ReserveError + '_ {
    move |source| ReserveError::File { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// A list and a record in ordinary files.
    struct Host(TempDir);

    impl Host {
        fn with(listed: &str) -> Self {
            let host = Host(tempfile::tempdir().unwrap());
            std::fs::write(host.0.path().join("list"), listed).unwrap();
            host
        }

        fn files(&self, id: &str) -> Files {
            let path = |name| self.0.path().join(name);
            Files { list: path("list"), record: path(RECORD), id: id.to_owned() }
        }

        fn take(&self, range: &str) -> ReservedPorts {
            ReservedPorts::take_in(self.files("here"), range.parse().unwrap()).unwrap()
        }

        fn listed(&self) -> String {
            std::fs::read_to_string(self.0.path().join("list")).unwrap().trim().to_owned()
        }

        fn is_recorded(&self) -> bool {
            self.0.path().join(RECORD).exists()
        }
    }

    #[test]
    fn a_range_is_reserved_beside_that_of_others_and_given_back() {
        let host = Host::with("8080,50000\n");
        let reserved = host.take("49152-65535");
        assert_eq!(host.listed(), "8080,49152-65535");
        drop(reserved);
        assert_eq!(host.listed(), "8080,50000");
        assert!(!host.is_recorded());
    }

    #[test]
    fn what_others_reserve_meanwhile_stays() {
        let host = Host::with("\n");
        let reserved = host.take("49152-65535");
        std::fs::write(host.0.path().join("list"), "9148,49152-65535").unwrap();
        drop(reserved);
        assert_eq!(host.listed(), "9148");
    }

    #[test]
    fn the_next_instance_gives_back_what_a_killed_one_had_added() {
        let host = Host::with("50000-50010");
        std::mem::forget(host.take("49152-60000"));
        let reserved = host.take("55000-65000");
        assert_eq!(host.listed(), "50000-50010,55000-65000");
        std::mem::forget(reserved);
        drop(host.take("50000-51000"));
        assert_eq!(host.listed(), "50000-50010");
        assert!(!host.is_recorded());
    }

    #[test]
    fn a_record_of_another_boot_or_namespace_means_nothing() {
        let host = Host::with("");
        std::mem::forget(host.take("49152-65535"));
        // The administrator has reserved the same ports for good by now.
        let elsewhere = ReservedPorts::take_in(host.files("there"), "49152-65535".parse().unwrap()).unwrap();
        drop(elsewhere);
        assert_eq!(host.listed(), "49152-65535");
        assert!(!host.is_recorded());
    }

    #[test]
    fn a_list_that_cannot_be_written_is_named_and_what_was_recorded_stays() {
        let host = Host::with("");
        std::mem::forget(host.take("49152-65535"));
        let absent = Files { list: host.0.path().join("absent/list"), ..host.files("here") };
        let error = ReservedPorts::take_in(absent, "49152-65535".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("absent/list"), "{error}");
        assert!(host.is_recorded());
        std::fs::write(host.0.path().join(RECORD), "[]").unwrap();
        let error = ReservedPorts::take_in(host.files("here"), "49152-65535".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains(RECORD), "{error}");
    }
}
