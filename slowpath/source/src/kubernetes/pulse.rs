//! Whether the server answers: asked now and then, since a watch on which nothing happens tells nothing.

use super::client::chain;
use crate::liveness::Liveness;
use kube::Client;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Time between two questions, and for an answer.
const INTERVAL: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks for ever. When an answer comes again after none did, `restarts` is raised.
pub(super) async fn feel(client: Client, liveness: Liveness, restarts: watch::Sender<u64>) {
    let mut was_silent = false;
    loop {
        let mut is_unknown = false;
        let answer = timeout(PATIENCE, client.apiserver_version()).await;
        let failure = match answer {
            Ok(Ok(_)) => None,
            // Who refuses is there.
            Ok(Err(kube::Error::Api(status))) if status.code < 500 => {
                is_unknown = status.code == 401;
                None
            }
            Ok(Err(error)) => Some(chain(&error)),
            Err(_) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        match failure {
            None => {
                liveness.note_word();
                if std::mem::take(&mut was_silent) {
                    tracing::info!("the API server answers again");
                    restarts.send_modify(|count| *count += 1);
                }
            }
            Some(reason) => {
                if !was_silent {
                    tracing::warn!(
                        reason,
                        "the API server does not answer: what it last said stays in force"
                    );
                }
                was_silent = true;
                liveness.change(|heard| heard.silence = Some(reason));
            }
        }
        // Soon after a failure: the node is to notice within seconds that the server is back, or that it has other credentials,
        // for which every request looks.
        sleep(if was_silent || is_unknown { INTERVAL / 5 } else { INTERVAL }).await;
    }
}
