//! The CNI plugin, called as a container runtime calls it.

use crate::daemon::{Daemon, binary};
use crate::netns::Netns;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Child, Command, Stdio};

/// The network's name in calls.
pub const CNI_NETWORK: &str = "pods";

/// What the plugin says is wrong (CNI specification, section 5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CniError {
    /// Its number.
    pub code: u64,
    /// All text.
    pub text: String,
}

/// One call; it can be made often.
#[derive(Clone, Debug)]
pub struct CniCall {
    variables: Vec<(&'static str, String)>,
    config: Value,
    input: Option<Vec<u8>>,
}

impl CniCall {
    /// A call for `eth0` of a container that is called as its namespace, in version 1.1.0.
    pub fn new(daemon: &Daemon, verb: &str, netns: &Netns) -> Self {
        let config = json!({
            "cniVersion": "1.1.0", "name": CNI_NETWORK, "type": "millrace-cni",
            "socket": daemon.room().join("api.sock"), "stateDirectory": daemon.room().join("state"),
        });
        let variables = vec![
            ("CNI_COMMAND", verb.to_owned()),
            ("CNI_CONTAINERID", netns.name().to_owned()),
            ("CNI_IFNAME", "eth0".to_owned()),
            ("CNI_NETNS", format!("/run/netns/{}", netns.name())),
            ("CNI_PATH", "/usr/lib/cni".to_owned()),
        ];
        CniCall { variables, config, input: None }
    }

    /// With another value of a variable.
    #[must_use]
    pub fn variable(mut self, name: &'static str, value: &str) -> Self {
        self.variables.retain(|(other, _)| *other != name);
        self.variables.push((name, value.to_owned()));
        self
    }

    /// With these fields of the configuration.
    #[must_use]
    pub fn with(mut self, fields: Value) -> Self {
        if let (Value::Object(config), Value::Object(fields)) = (&mut self.config, fields) {
            config.extend(fields);
        }
        self
    }

    /// In another version.
    #[must_use]
    pub fn version(self, version: &str) -> Self {
        self.with(json!({"cniVersion": version}))
    }

    /// With these bytes in place of the configuration.
    #[must_use]
    pub fn input(mut self, bytes: &[u8]) -> Self {
        self.input = Some(bytes.to_vec());
        self
    }

    /// Starts the plugin.
    pub fn start(&self) -> Started {
        let mut child = Command::new(binary("millrace-cni"))
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the plugin starts");
        let input = self.input.clone().unwrap_or_else(|| self.config.to_string().into_bytes());
        // It may end without having read it.
        let _ = child.stdin.take().expect("it is piped").write_all(&input);
        Started(child)
    }

    /// Runs the plugin; its result, which is null for most verbs.
    pub fn run(&self) -> Result<Value, CniError> {
        self.start().wait()
    }

    /// The result of a call that must succeed.
    pub fn must(&self) -> Value {
        self.run().unwrap_or_else(|error| panic!("{self:?}: {error:?}"))
    }

    /// The error's number of a call that must fail.
    pub fn code(&self) -> u64 {
        match self.run() {
            Err(error) => error.code,
            Ok(result) => panic!("{self:?} succeeds: {result}"),
        }
    }
}

/// A plugin that runs.
#[derive(Debug)]
pub struct Started(Child);

impl Started {
    /// Waits until it ends.
    pub fn wait(self) -> Result<Value, CniError> {
        let output = self.0.wait_with_output().expect("our own child can be waited for");
        let parsed: Value = if output.stdout.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&output.stdout).expect("the plugin prints JSON and nothing else")
        };
        if output.status.success() {
            return Ok(parsed);
        }
        let code = parsed["code"].as_u64();
        let code =
            code.unwrap_or_else(|| panic!("no code: {parsed} {:?}", String::from_utf8_lossy(&output.stderr)));
        Err(CniError { code, text: parsed.to_string() })
    }

    /// Ends it at once, wherever it is.
    pub fn kill(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).expect("pids fit"));
        let _ = kill(pid, Signal::SIGKILL);
        let _ = self.0.wait();
    }
}
