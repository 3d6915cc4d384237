//! Address management by another plugin (specification, section 4).

use crate::arguments::{BadVariable, Environment, Verb};
use crate::error::{CniError, ErrorObject, own_code};
use crate::result::NetworkResult;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

/// How often a plugin is tried that is just being written.
const BUSY_TRIES: u32 = 5;

/// A plugin that gives addresses.
#[derive(Debug)]
pub(crate) struct Delegate {
    name: String,
    /// Where to look for it.
    directories: Result<Vec<PathBuf>, BadVariable>,
    /// Our own input: it gets the same.
    input: Vec<u8>,
}

impl Delegate {
    /// The plugin of this name. It is looked for when it is needed: a deletion without it still has a part of its
    /// own to do.
    pub(crate) fn new(name: String, environment: &Environment, input: Vec<u8>) -> Result<Self, CniError> {
        if name.contains('/') || [".", ".."].contains(&name.as_str()) {
            return Err(CniError::config("ipam.type", format!("`{name}` is not the name of a file")));
        }
        Ok(Delegate { name, directories: environment.plugin_directories(), input })
    }

    /// Looks for the plugin in the directories of `CNI_PATH`.
    fn path(&self) -> Result<PathBuf, CniError> {
        let directories =
            self.directories.as_ref().map_err(|wrong| CniError::Environment(vec![wrong.clone()]))?;
        let mut paths = directories.iter().map(|directory| directory.join(&self.name));
        paths.find(|path| path.is_file()).ok_or_else(|| {
            let places: Vec<_> = directories.iter().map(|place| place.display().to_string()).collect();
            let reason = format!("there is no plugin `{}` in {}", self.name, places.join(", "));
            CniError::config("ipam.type", reason)
        })
    }

    /// Gets addresses. When the plugin fails, it is asked to undo what it did before it failed.
    pub(crate) fn add(&self) -> Result<NetworkResult, CniError> {
        let outcome = self.run(Verb::Add).and_then(|output| {
            serde_json::from_slice(&output).map_err(|error| self.failure(format!("its result: {error}")))
        });
        if outcome.is_err() {
            // The first failure is what matters.
            let _ = self.run(Verb::Del);
        }
        outcome
    }

    /// Passes on any other verb.
    pub(crate) fn pass_on(&self, verb: Verb) -> Result<(), CniError> {
        self.run(verb).map(drop)
    }

    fn run(&self, verb: Verb) -> Result<Vec<u8>, CniError> {
        let path = self.path()?;
        let output =
            self.execute(&path, verb).map_err(|source| CniError::Run { path: path.clone(), source })?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        match serde_json::from_slice::<ErrorObject>(&output.stdout) {
            Ok(object) if object.code != 0 => Err(CniError::Delegated { plugin: self.name.clone(), object }),
            _ => Err(self.failure(format!("it ended with {}", output.status))),
        }
    }

    /// The environment is our own, but for the verb: undoing an `ADD` is a `DEL`.
    fn execute(&self, path: &Path, verb: Verb) -> io::Result<Output> {
        let mut tries = 0;
        let mut child = loop {
            let mut command = Command::new(path);
            command.env("CNI_COMMAND", verb.name()).stdin(Stdio::piped()).stdout(Stdio::piped());
            match command.spawn() {
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES => {
                    tries += 1;
                    thread::sleep(Duration::from_millis(200));
                }
                outcome => break outcome?,
            }
        };
        let input = child.stdin.take();
        thread::scope(|scope| {
            scope.spawn(|| {
                // A plugin need not read all of it, or anything.
                input.map(|mut pipe| pipe.write_all(&self.input)).transpose().unwrap_or_default()
            });
            child.wait_with_output()
        })
    }

    fn failure(&self, what: String) -> CniError {
        let msg = "no valid answer".to_owned();
        let object = ErrorObject { code: own_code::DELEGATED, msg, details: what, ..ErrorObject::default() };
        CniError::Delegated { plugin: self.name.clone(), object }
    }

    /// The plugin's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}
