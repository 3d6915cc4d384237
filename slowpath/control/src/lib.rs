//! Ports, workers and publication: the control thread's work
