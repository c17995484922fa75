//! What is counted because there is a limit to it.

mod limits;
mod reservations;
