//! The directory of a vhost-user attachment: its socket, and a file that tells the application what it needs to know.

use super::Lasting;
use super::store::{StoreError, failed, replace};
use crate::plumbing::Site;
use millrace_config::{Gateway, PortName};
use serde::Serialize;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// The socket's name in the directory.
const SOCKET: &str = "vhost-user.sock";
/// The other file's name.
const FILE: &str = "network.json";

/// The socket of a port.
pub(super) fn socket(directory: &Path, port: &PortName) -> PathBuf {
    directory.join(port.as_str()).join(SOCKET)
}

/// The file beside a socket.
pub(super) fn file(socket: &Path) -> PathBuf {
    socket.with_file_name(FILE)
}

/// What an application has to know to use its socket. Fields are only added.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Network<'a> {
    version: u32,
    /// The file that the application connects to, by its name in this directory: the directory may be mounted elsewhere.
    socket: &'static str,
    /// What the application is to be: the daemon listens.
    mode: &'static str,
    /// Pairs of rings that are served by queues of their own.
    queues: u16,
    mac: String,
    mtu: u16,
    addresses: Vec<Address>,
    gateways: Vec<Router>,
    interface: &'a str,
    network: &'a str,
    container_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<&'a millrace_api::PodIdentity>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Address {
    address: IpAddr,
    prefix_length: u8,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Router {
    address: IpAddr,
    mac: String,
}

/// Makes the directory, for its owner only.
pub(crate) fn make_directory(socket: &Path, uid: Option<u32>) -> Result<(), StoreError> {
    let directory = socket.parent().unwrap_or(socket);
    if let Some(above) = directory.parent() {
        fs::create_dir_all(above).map_err(failed(above, "making it"))?;
    }
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made.map_err(failed(directory, "making it"))?,
    }
    // What was there already may have been made by another.
    fs::set_permissions(directory, Permissions::from_mode(0o700))
        .map_err(failed(directory, "setting its mode"))?;
    chown(directory, Some(uid.unwrap_or(0)), None).map_err(failed(directory, "giving it to its owner"))
}

/// Gives the socket, which is there now, to its owner and writes the file.
pub(crate) fn finish(
    socket: &Path,
    site: &Site<'_>,
    lasting: &Lasting,
    gateway: &Gateway,
) -> Result<(), StoreError> {
    let owner = Some(lasting.uid.unwrap_or(0));
    fs::set_permissions(socket, Permissions::from_mode(0o600)).map_err(failed(socket, "setting its mode"))?;
    chown(socket, owner, None).map_err(failed(socket, "giving it to its owner"))?;
    let file = file(socket);
    let bytes = serde_json::to_vec_pretty(&network(site, lasting, gateway))
        .map_err(|error| failed(&file, "writing it")(io::Error::other(error)))?;
    replace(&file, &bytes, false)?;
    fs::set_permissions(&file, Permissions::from_mode(0o600)).map_err(failed(&file, "setting its mode"))?;
    chown(&file, owner, None).map_err(failed(&file, "giving it to its owner"))
}

fn network<'a>(site: &Site<'a>, lasting: &'a Lasting, gateway: &Gateway) -> Network<'a> {
    let addresses: Vec<Address> = site
        .addresses
        .iter()
        .map(|net| Address { address: net.addr(), prefix_length: net.prefix_len() })
        .collect();
    let routers = [IpAddr::from(gateway.ipv4), gateway.ipv6.into()].into_iter();
    let serves = |router: &IpAddr| addresses.iter().any(|own| own.address.is_ipv4() == router.is_ipv4());
    Network {
        version: 1,
        socket: SOCKET,
        mode: "client",
        queues: site.config.queues.get(),
        mac: site.config.peer_mac().to_string(),
        mtu: site.mtu,
        gateways: routers
            .filter(serves)
            .map(|address| Router { address, mac: gateway.mac.to_string() })
            .collect(),
        addresses,
        interface: lasting.id.if_name.as_str(),
        network: &lasting.network,
        container_id: lasting.id.container_id.as_str(),
        pod: lasting.pod.as_ref(),
    }
}

/// Removes the file and the directory. What others have put there is removed with it; it being gone is fine.
pub(crate) fn remove_directory(socket: &Path) -> Result<(), StoreError> {
    let directory = socket.parent().unwrap_or(socket);
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(directory, "removing it")(error)),
        _ => Ok(()),
    }
}

/// Refuses if socket or file are not there.
pub(crate) fn check(socket: &Path) -> Result<(), StoreError> {
    for path in [socket.to_owned(), file(socket)] {
        fs::symlink_metadata(&path).map_err(failed(&path, "looking for it"))?;
    }
    Ok(())
}
