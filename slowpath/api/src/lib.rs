//! The admin API: types, and a small client
