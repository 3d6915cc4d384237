//! The Millrace daemon
