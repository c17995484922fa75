//! What the token rooms promise together; what one room promises alone stands in its file.

mod discovering;
mod fetching;
mod keeping;
mod loading;
mod real_files;
mod signer;
mod verifying;
