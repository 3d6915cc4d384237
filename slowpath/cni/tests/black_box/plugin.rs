//! One call of the plugin.

use crate::daemon::parsed;
use millrace_cni::ErrorObject;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// The places of a test: a socket, a state directory, a namespace, a directory for plugins.
pub(crate) struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Place {
        let directory = tempfile::tempdir().unwrap();
        // The plugin asks of a namespace only that it is there and not its own.
        std::fs::write(directory.path().join("netns"), "").unwrap();
        std::fs::create_dir(directory.path().join("plugins")).unwrap();
        Place { directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("millrace.sock")
    }

    /// The names of kept deletions.
    pub(crate) fn kept(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path("state/deletions")) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A call for `c1/eth0` of the network `pods` in version 1.1.0.
    pub(crate) fn call(&self, verb: &str) -> Call {
        let config = json!({
            "cniVersion": "1.1.0", "name": "pods", "type": "millrace-cni", "socket": self.socket(),
            "stateDirectory": self.path("state"), "waitSeconds": 5,
        });
        let mut call = Call { variables: Vec::new(), config, input: None };
        call.set("CNI_COMMAND", verb);
        call.set("CNI_CONTAINERID", "c1");
        call.set("CNI_IFNAME", "eth0");
        call.set("CNI_NETNS", text(&self.path("netns")));
        call.set("CNI_PATH", text(&self.path("plugins")));
        call
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[derive(Clone)]
pub(crate) struct Call {
    variables: Vec<(String, String)>,
    config: Value,
    input: Option<Vec<u8>>,
}

impl Call {
    fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(other, _)| other != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Call {
        self.set(name, value);
        self
    }

    pub(crate) fn container(self, id: &str) -> Call {
        self.variable("CNI_CONTAINERID", id)
    }

    pub(crate) fn without(mut self, name: &str) -> Call {
        self.variables.retain(|(other, _)| other != name);
        self
    }

    /// Sets fields of the configuration.
    pub(crate) fn with(mut self, fields: Value) -> Call {
        let (Value::Object(config), Value::Object(fields)) = (&mut self.config, fields) else {
            panic!("not objects")
        };
        config.extend(fields);
        self
    }

    pub(crate) fn version(self, version: &str) -> Call {
        self.with(json!({ "cniVersion": version }))
    }

    /// Replaces the configuration by these bytes.
    pub(crate) fn input(mut self, bytes: &[u8]) -> Call {
        self.input = Some(bytes.to_vec());
        self
    }

    pub(crate) fn start(&self) -> Child {
        let mut child = Command::new(env!("CARGO_BIN_EXE_millrace-cni"))
            .env_clear()
            .envs(self.variables.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let input = self.input.clone().unwrap_or_else(|| serde_json::to_vec(&self.config).unwrap());
        // It may end without having read it.
        let _ = child.stdin.take().unwrap().write_all(&input);
        child
    }

    pub(crate) fn run(&self) -> Output {
        self.start().wait_with_output().unwrap()
    }

    /// The result of a call that must succeed.
    pub(crate) fn result(&self) -> Value {
        let output = self.run();
        assert!(output.status.success(), "{output:?}");
        parsed(&output.stdout)
    }

    /// A call that must succeed without a word.
    pub(crate) fn succeeds(&self) {
        let output = self.run();
        assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    }

    /// The error of a call that must fail: the only thing on its standard output.
    pub(crate) fn error(&self) -> ErrorObject {
        let output = self.run();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        serde_json::from_value(parsed(&output.stdout)).unwrap()
    }

    pub(crate) fn code(&self) -> u32 {
        self.error().code
    }
}
