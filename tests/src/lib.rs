//! Tests that run Millrace as its users do
