//! What the environment variables say.

use crate::error::CniError;
use crate::extra::Extra;
use crate::version::Version;
use millrace_api::{AttachmentId, ContainerId};
use millrace_config::InterfaceName;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The environment variables of a call.
#[derive(Clone, Debug, Default)]
pub struct Environment(HashMap<OsString, OsString>);

impl Environment {
    /// Those of this process.
    pub fn of_process() -> Self {
        std::env::vars_os().collect()
    }

    /// The value; `None` if it is missing or empty, which means the same to CNI.
    fn text(&self, name: &'static str) -> Result<Option<&str>, BadVariable> {
        match self.0.get(&OsString::from(name)).map(|value| value.to_str()) {
            None | Some(Some("")) => Ok(None),
            Some(Some(text)) => Ok(Some(text)),
            Some(None) => Err(BadVariable::wrong(name, "it is not UTF-8")),
        }
    }

    fn required(&self, name: &'static str) -> Result<&str, BadVariable> {
        self.text(name)?.ok_or(BadVariable { name, problem: Problem::Missing })
    }

    /// The directories with plugins.
    pub(crate) fn plugin_directories(&self) -> Result<Vec<PathBuf>, BadVariable> {
        let path = self.required("CNI_PATH")?;
        Ok(std::env::split_paths(path).filter(|directory| !directory.as_os_str().is_empty()).collect())
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Environment(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// A variable that is missing or wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadVariable {
    pub(crate) name: &'static str,
    problem: Problem,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Problem {
    Missing,
    Wrong(String),
}

impl BadVariable {
    fn wrong(name: &'static str, reason: impl ToString) -> Self {
        BadVariable { name, problem: Problem::Wrong(reason.to_string()) }
    }
}

impl fmt::Display for BadVariable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            Problem::Missing => write!(out, "{} is not set", self.name),
            Problem::Wrong(reason) => write!(out, "{}: {reason}", self.name),
        }
    }
}

/// What the runtime wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// An interface.
    Add,
    /// No interface any more.
    Del,
    /// To know whether the interface is as it was.
    Check,
    /// Removal of what it no longer knows.
    Gc,
    /// To know whether `ADD` would work.
    Status,
    /// To know the versions.
    Version,
}

impl Verb {
    const ALL: [Verb; 6] = [Verb::Add, Verb::Del, Verb::Check, Verb::Gc, Verb::Status, Verb::Version];

    /// As `CNI_COMMAND` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Verb::Add => "ADD",
            Verb::Del => "DEL",
            Verb::Check => "CHECK",
            Verb::Gc => "GC",
            Verb::Status => "STATUS",
            Verb::Version => "VERSION",
        }
    }

    /// Whether a version has the verb.
    pub(crate) fn check_version(self, version: Version) -> Result<(), CniError> {
        let since = match self {
            Verb::Add | Verb::Del | Verb::Version => Version::V0_3_1,
            Verb::Check => Version::V0_4_0,
            Verb::Gc | Verb::Status => Version::V1_1_0,
        };
        if version >= since { Ok(()) } else { Err(CniError::VerbTooNew { verb: self, version }) }
    }
}

impl FromStr for Verb {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Verb::ALL.into_iter().find(|verb| verb.name() == text).ok_or_else(|| {
            let known = Verb::ALL.map(Verb::name).join(", ");
            format!("`{}` is none of {known}", text.chars().take(40).collect::<String>())
        })
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// A checked call.
#[derive(Debug)]
pub(crate) enum Arguments {
    Add(AddCall),
    Del(DelCall),
    Check(CheckCall),
    Gc,
    Status,
    Version,
}

#[derive(Debug)]
pub(crate) struct AddCall {
    pub(crate) id: AttachmentId,
    pub(crate) netns: PathBuf,
    pub(crate) extra: Extra,
}

#[derive(Debug)]
pub(crate) struct DelCall {
    pub(crate) id: AttachmentId,
}

#[derive(Debug)]
pub(crate) struct CheckCall {
    pub(crate) id: AttachmentId,
    pub(crate) netns: PathBuf,
}

impl Arguments {
    /// Checks every variable that the verb needs, and tells all that is wrong at once.
    pub(crate) fn read(environment: &Environment) -> Result<Self, CniError> {
        let one = |wrong| CniError::Environment(vec![wrong]);
        let command = environment.required("CNI_COMMAND").map_err(one)?;
        let verb: Verb = command.parse().map_err(|reason| one(BadVariable::wrong("CNI_COMMAND", reason)))?;
        let mut wrong = Vec::new();
        let arguments = match verb {
            Verb::Add => {
                let id = id(environment, &mut wrong);
                let netns = keep(netns(environment), &mut wrong);
                let extra = keep(extra(environment), &mut wrong);
                all3(id, netns, extra).map(|(id, netns, extra)| Arguments::Add(AddCall { id, netns, extra }))
            }
            // A deletion needs no namespace, and must not fail for details that only an addition would use.
            Verb::Del => id(environment, &mut wrong).map(|id| Arguments::Del(DelCall { id })),
            Verb::Check => {
                let id = id(environment, &mut wrong);
                let netns = keep(netns(environment), &mut wrong);
                id.zip(netns).map(|(id, netns)| Arguments::Check(CheckCall { id, netns }))
            }
            Verb::Gc => Some(Arguments::Gc),
            Verb::Status => Some(Arguments::Status),
            Verb::Version => Some(Arguments::Version),
        };
        arguments.ok_or(CniError::Environment(wrong))
    }

    pub(crate) fn verb(&self) -> Verb {
        match self {
            Arguments::Add(_) => Verb::Add,
            Arguments::Del(_) => Verb::Del,
            Arguments::Check(_) => Verb::Check,
            Arguments::Gc => Verb::Gc,
            Arguments::Status => Verb::Status,
            Arguments::Version => Verb::Version,
        }
    }
}

fn all3<A, B, C>(a: Option<A>, b: Option<B>, c: Option<C>) -> Option<(A, B, C)> {
    Some((a?, b?, c?))
}

fn keep<T>(outcome: Result<T, BadVariable>, wrong: &mut Vec<BadVariable>) -> Option<T> {
    outcome.map_err(|variable| wrong.push(variable)).ok()
}

fn id(environment: &Environment, wrong: &mut Vec<BadVariable>) -> Option<AttachmentId> {
    let container_id = keep(parsed::<ContainerId>(environment, "CNI_CONTAINERID"), wrong);
    let if_name = keep(parsed::<InterfaceName>(environment, "CNI_IFNAME"), wrong);
    container_id.zip(if_name).map(|(container_id, if_name)| AttachmentId { container_id, if_name })
}

fn parsed<T: FromStr<Err: fmt::Display>>(
    environment: &Environment,
    name: &'static str,
) -> Result<T, BadVariable> {
    environment.required(name)?.parse().map_err(|reason| BadVariable::wrong(name, reason))
}

fn extra(environment: &Environment) -> Result<Extra, BadVariable> {
    let text = environment.text("CNI_ARGS")?.unwrap_or_default();
    text.parse().map_err(|reason| BadVariable::wrong("CNI_ARGS", reason))
}

/// The container's namespace: a file that exists and does not stand for the node's own namespace, whose interfaces
/// are not ours to touch.
fn netns(environment: &Environment) -> Result<PathBuf, BadVariable> {
    let path = PathBuf::from(environment.required("CNI_NETNS")?);
    let wrong = |reason: &dyn fmt::Display| {
        BadVariable::wrong("CNI_NETNS", format!("`{}`: {reason}", path.display()))
    };
    if !path.is_absolute() {
        return Err(wrong(&"not an absolute path"));
    }
    let there = identity(&path).map_err(|error| wrong(&error))?;
    if identity(Path::new("/proc/self/ns/net")).is_ok_and(|own| own == there) {
        return Err(wrong(&"this is the node's own namespace"));
    }
    Ok(path)
}

/// Device and inode: two paths with the same lead to the same namespace (namespaces(7)).
pub(crate) fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    std::fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests;
