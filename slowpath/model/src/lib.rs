//! The cluster as this node needs it, compiled to the fast path's tables
