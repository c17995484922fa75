//! The exit statuses of all programs.

/// The exit status of a process that failed while it ran, or did not end its work before it had to go.
pub const EXIT_FAILURE: u8 = 1;

/// The exit status of a process whose configuration is wrong.
pub const EXIT_CONFIG: u8 = 2;
