//! The plugin's binary as a runtime runs it, against a daemon that is not one.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod add;
mod check;
mod concurrent;
mod daemon;
mod del;
mod delegation;
mod install;
mod node;
mod plugin;
mod reference;
