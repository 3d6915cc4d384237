//! The way from the web's side to the control thread and back.

use millrace_control::{Control, ControlHandle};
use millrace_ffi::mbuf::Mbuf;
use thiserror::Error;
use tokio::sync::oneshot;

/// Asks the control thread. Clones ask the same one.
#[derive(Clone)]
pub(crate) struct ControlEnd(ControlHandle<Mbuf>);

/// The control thread did not answer: it is overloaded, or ending.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the daemon is ending, or has too many requests waiting")]
pub(crate) struct NoAnswer;

impl ControlEnd {
    pub(crate) fn new(handle: ControlHandle<Mbuf>) -> Self {
        ControlEnd(handle)
    }

    /// Has the control thread answer a question, and waits for it without blocking this thread.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Control<Mbuf>) -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let (answer, answered) = oneshot::channel();
        self.0
            .request(move |control| {
                // Who asked may have hung up meanwhile.
                let _ = answer.send(question(control));
            })
            .map_err(|_| NoAnswer)?;
        answered.await.map_err(|_| NoAnswer)
    }
}
