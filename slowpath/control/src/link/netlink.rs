//! Conversations with the kernel's routing netlink, in a namespace of one's choice.

use super::{LinkError, Namespace, Step};
use futures_util::TryStreamExt;
use rtnetlink::Handle;
use rtnetlink::packet_route::link::LinkMessage;
use std::io;

/// Runs `work` in `namespace` if one is given and else in the caller's, with a netlink connection to that namespace. Blocks
/// until it is done; not to be called where a runtime runs already.
pub(super) fn converse<T>(
    namespace: Option<&Namespace>,
    work: impl AsyncFnOnce(&Handle) -> Result<T, LinkError>,
) -> Result<T, LinkError> {
    let failed = |source: io::Error| LinkError::kernel("-", Step::Netlink, "NETLINK_ROUTE", source);
    let talk = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().map_err(failed)?;
            tokio::spawn(connection);
            work(&handle).await
        })
    };
    match namespace {
        Some(namespace) => namespace.within(talk)?,
        None => talk(),
    }
}

/// The interface with this name.
pub(super) async fn find(handle: &Handle, name: &str) -> Result<LinkMessage, LinkError> {
    let mut links = handle.link().get().match_name(name).execute();
    match links.try_next().await {
        Ok(Some(link)) => Ok(link),
        Ok(None) => Err(LinkError::kernel(name, Step::Find, name, nix::errno::Errno::ENODEV)),
        Err(error) => Err(LinkError::netlink(name, Step::Find, name, &error)),
    }
}
