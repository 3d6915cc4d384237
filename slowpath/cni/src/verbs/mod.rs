//! What each verb does.

mod add;
mod check;
mod del;
mod gc;
mod status;
mod version;

pub(crate) use add::add;
pub(crate) use check::check;
pub(crate) use del::del;
pub(crate) use gc::gc;
pub(crate) use status::status;
pub(crate) use version::version;

use crate::error::CniError;

/// Nothing, or what went wrong.
fn together(outcomes: impl IntoIterator<Item = Result<(), CniError>>) -> Result<(), CniError> {
    let mut errors: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0)),
        _ => Err(CniError::Several(errors)),
    }
}
