//! What the token rooms promise together; what one room promises alone stands in its file.

mod loading;
mod signer;
mod verifying;
