//! Atomics and locks: the standard library's, or loom's when it checks a protocol.

pub(crate) use std::sync::Arc;

#[cfg(not(loom))]
pub(crate) use std::{
    hint::spin_loop,
    sync::Mutex,
    sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence},
};

#[cfg(loom)]
pub(crate) use loom::{
    hint::spin_loop,
    sync::Mutex,
    sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence},
};
