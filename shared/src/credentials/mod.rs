//! Passwords, keys and certificates in files, which are replaced while a program runs.
//!
//! Anyone who rotates a credential writes a file, or turns a link to another, as Kubernetes and certbot do, and nothing is
//! restarted for it. So the files are looked at every two seconds (`watch`), and a change counts when two looks
//! in a row see the same. What is new but not fit for use is told, counted and not taken: the last good content stays in
//! force. SIGHUP has everything looked at once more, at once.
//!
//! What is in force, of what kind, since when and until when stands in a [`Register`], for `/metrics` and for people; what
//! it *is* stands nowhere.

mod certificate;
mod file;
mod line;
mod register;
mod tls;
mod watch;

pub use certificate::{Validity, chain, doubt, ends, private_key, validity};
pub use file::{FileFault, MOST_BYTES, read, shown, why_unreadable};
pub use line::line_in;
pub use register::{Entry, Register, Row};
pub use tls::{ClientTls, ClientTlsFiles, certified};
pub use watch::{Credential, CredentialError, Credentials, Keeping, MOST_UNSTEADY, Made, Place, Source};
