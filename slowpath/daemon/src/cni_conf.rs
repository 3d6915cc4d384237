//! The CNI network configuration: the sign for container runtimes that this node has a network.
//!
//! It is put where they look last of all, when everything serves, and stays over the end of the daemon, since containers
//! keep their network. Runtimes take the first file by name, and none that begins with a dot (`libcni/conf.go` looks at
//! the ending only, so the ending of an unfinished file is another one).

use crate::StartError;
use millrace_config::{Config, DEFAULT_SOCKET};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// The name of the plugin, and so of its file in the runtimes' directory.
const PLUGIN: &str = "millrace-cni";

/// The network configuration list for this daemon. What is as the plugin has it by default is not said.
pub(crate) fn network(config: &Config) -> String {
    let mut plugin = json!({
        "type": PLUGIN,
        "ipam": {"type": "millrace"},
        "capabilities": {"portMappings": true, "bandwidth": true, "ips": true, "mac": true},
    });
    if config.api.socket != Path::new(DEFAULT_SOCKET) {
        plugin["socket"] = json!(config.api.socket);
    }
    if config.state_directory != Config::default().state_directory {
        plugin["stateDirectory"] = json!(config.state_directory);
    }
    let list = json!({
        "cniVersion": "1.0.0",
        "cniVersions": ["0.4.0", "1.0.0", "1.1.0"],
        "name": "millrace",
        "plugins": [plugin],
    });
    format!("{list:#}\n")
}

/// Puts the file in its place, whole or not at all. One that says the same is left alone: runtimes read it anew otherwise.
pub(crate) fn put(config: &Config) -> io::Result<()> {
    let Some(file) = &config.cni.conf_file else { return Ok(()) };
    let text = network(config);
    if fs::read_to_string(file).is_ok_and(|found| found == text) {
        return Ok(());
    }
    let directory = file.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory)?;
    let mut name = std::ffi::OsString::from(".");
    name.push(file.file_name().unwrap_or_default());
    name.push(".new");
    let unfinished = directory.join(name);
    let mut written = File::create(&unfinished)?;
    written.write_all(text.as_bytes())?;
    written.sync_all()?;
    fs::rename(&unfinished, file)?;
    File::open(directory)?.sync_all()
}

/// Removes the file, if it is Millrace's: the node promises no network any more.
pub(crate) fn remove(config: &Config) -> Result<(), StartError> {
    let Some(file) = &config.cni.conf_file else { return Ok(()) };
    let failed = |source| StartError::CniConfiguration { file: file.clone(), source };
    match fs::read_to_string(file) {
        Ok(text) if is_ours(&text) => fs::remove_file(file).map_err(failed),
        Ok(_) => Err(failed(io::Error::other("it is not Millrace's and is left alone"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn is_ours(text: &str) -> bool {
    let list: Value = serde_json::from_str(text).unwrap_or_default();
    list["plugins"].as_array().is_some_and(|plugins| plugins.iter().any(|plugin| plugin["type"] == PLUGIN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn config(directory: &Path) -> Config {
        let mut config = Config::default();
        config.cni.conf_file = Some(directory.join("net.d/10-millrace.conflist"));
        config
    }

    #[test]
    fn by_default_it_says_what_the_sample_says() {
        let sample = include_str!("../../../config/deploy/10-millrace.conflist");
        let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(parsed(&network(&Config::default())), parsed(sample));
    }

    #[test]
    fn it_names_what_is_not_where_the_plugin_looks() {
        let mut other = Config::default();
        other.api.socket = "/run/other.sock".into();
        other.state_directory = "/var/lib/other".into();
        let list: Value = serde_json::from_str(&network(&other)).unwrap();
        assert_eq!(list["plugins"][0]["socket"], "/run/other.sock");
        assert_eq!(list["plugins"][0]["stateDirectory"], "/var/lib/other");
    }

    #[test]
    fn it_is_whole_alone_in_its_place_and_not_written_twice() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        put(&config).unwrap();
        let file = config.cni.conf_file.clone().unwrap();
        let first = fs::metadata(&file).unwrap().ino();
        put(&config).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().ino(), first);
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
        fs::write(&file, "{}").unwrap();
        put(&config).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), network(&config));
    }

    #[test]
    fn it_is_removed_once_or_twice_and_somebody_elses_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        put(&config).unwrap();
        remove(&config).unwrap();
        remove(&config).unwrap();
        let file = config.cni.conf_file.clone().unwrap();
        assert!(!file.exists());
        fs::write(&file, r#"{"plugins": [{"type": "bridge"}]}"#).unwrap();
        let error = remove(&config).unwrap_err().to_string();
        assert!(error.contains("10-millrace.conflist") && error.contains("not Millrace's"), "{error}");
        assert!(file.exists());
    }
}
