//! The millrace command
