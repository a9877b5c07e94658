//! The parts of `lateness`: what is measured, on what, and how it is shown.

pub(crate) mod cost;
pub(crate) mod pod;
pub(crate) mod series;
pub(crate) mod table;
pub(crate) mod watch;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
