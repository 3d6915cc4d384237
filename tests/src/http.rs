//! One HTTP request, by curl; and a server of files.

use crate::netns::Netns;
use crate::network::eventually;
use crate::process::Child;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// What a server says.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    /// The status code.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl HttpAnswer {
    /// A header by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| &**value)
    }

    /// The body, which must be JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Asks for a URL from within a namespace; nothing if nobody listens there.
pub fn http_get(netns: &Netns, url: &str) -> Option<HttpAnswer> {
    let output = netns.run(&["curl", "-s", "-g", "-i", "-m3", url]);
    if !output.success {
        return None;
    }
    let (head, body) = output.stdout.split_once("\r\n\r\n").expect("a head and a body");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let headers = lines.filter_map(|line| line.split_once(": "));
    Some(HttpAnswer {
        status: status.expect("a status line"),
        headers: headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect(),
        body: body.to_owned(),
    })
}

/// Serves the files of a directory at a port of all addresses of a namespace, and listens when this returns.
pub fn serve_files(netns: &Netns, directory: &Path, port: u16) -> Child {
    let mut command = Command::new("ip");
    command.args([
        "netns",
        "exec",
        netns.name(),
        "busybox",
        "httpd",
        "-f",
        "-p",
        &format!("[::]:{port}"),
        "-h",
    ]);
    let server = Child::spawn(command.arg(directory));
    eventually("the server of files listens", Duration::from_secs(20), || {
        !netns.must(&["ss", "-Hltn", "sport", "=", &format!(":{port}")]).is_empty()
    });
    server
}
