//! Typed configuration of Millrace
