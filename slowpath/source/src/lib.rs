//! Where the model's objects come from
