//! All kinds together, told as changes.

use super::node_status::OwnNode;
use super::pulse::feel;
use super::renewal::Renewal;
use super::told::Told;
use super::watch::{Heard, Watch, Word};
use super::watched::watched;
use crate::change::{Change, News, Problem};
use crate::liveness::Liveness;
use millrace_model::Kind;
use std::sync::mpsc::Sender;
use std::time::Instant;
use tokio::sync::{mpsc, watch as state};
use tokio::task::JoinSet;

/// What was heard at once and waits to be looked at, of as many times: the server is not read faster than that.
const WAITING: usize = 16;

/// Follows the server until nobody listens.
pub(super) async fn follow(
    renewal: &Renewal,
    node: &str,
    server: &str,
    own: OwnNode,
    liveness: Liveness,
    changes: Sender<News>,
) {
    let (tell, mut heard) = mpsc::channel(WAITING);
    let restarts = state::Sender::new(0);
    let client = renewal.client();
    let mut tasks = JoinSet::new();
    let mut all = Vec::new();
    for (position, watched) in watched(node).into_iter().enumerate() {
        all.push(Told::new(watched.kind, server));
        liveness.note_kind(watched.kind, |_| ());
        let (client, restarts) = (client.clone(), restarts.subscribe());
        let (liveness, tell) = (liveness.clone(), tell.clone());
        let watch = Watch::new(client, watched, renewal.renewals(), liveness, tell, position);
        tasks.spawn(watch.run(restarts));
    }
    tasks.spawn(feel(client, liveness.clone(), restarts));
    let mut teller = Teller { all, own, changes, liveness, is_synced: false };
    while let Some(word) = heard.recv().await {
        if teller.take(word).is_err() {
            return;
        }
    }
}

/// Nobody listens any more.
struct Unheard;

struct Teller {
    all: Vec<Told>,
    own: OwnNode,
    changes: Sender<News>,
    liveness: Liveness,
    is_synced: bool,
}

impl Teller {
    fn take(&mut self, word: Word) -> Result<(), Unheard> {
        let Word { position, at, heard } = word;
        let Some(told) = self.all.get_mut(position) else { return Ok(()) };
        let (mut changes, mut lists) = (Vec::new(), 0);
        for heard in heard {
            match heard {
                Heard::ListBegins => told.begin_list(),
                Heard::Applied(read) => changes.extend(told.apply(read)),
                Heard::Deleted(name) => changes.extend(told.delete(name)),
                Heard::ListEnds => {
                    changes.extend(told.end_list());
                    lists += 1;
                }
            }
        }
        let (kind, objects, has_other_problems) =
            (told.kind(), told.len() as u64, told.take_other_problems());
        self.liveness.note_kind(kind, |kind| {
            kind.objects = objects;
            kind.lists += lists;
        });
        for change in changes {
            self.own.look(&change);
            self.tell(change, at)?;
        }
        if has_other_problems {
            self.tell_problems(at)?;
        }
        // Nothing waits for policies, which nothing enforces: a role that may not read them must not keep a node from serving.
        let mut awaited = self.all.iter().filter(|told| told.kind() != Kind::NetworkPolicy);
        if lists > 0 && !self.is_synced && awaited.all(Told::is_complete) {
            self.is_synced = true;
            self.tell(Change::Synced, at)?;
        }
        Ok(())
    }

    fn tell_problems(&self, heard: Instant) -> Result<(), Unheard> {
        let mut problems: Vec<Problem> = self.all.iter().flat_map(Told::problems).cloned().collect();
        problems.sort();
        self.tell(Change::Problems(problems), heard)
    }

    fn tell(&self, change: Change, heard: Instant) -> Result<(), Unheard> {
        self.changes.send(News { change, heard }).map_err(|_| Unheard)
    }
}
