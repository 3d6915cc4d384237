//! In-memory benchmarks of the pipeline
