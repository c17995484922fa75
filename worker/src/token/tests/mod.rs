//! What the token modules promise together; what one module promises alone is tested in its file.

mod discovering;
mod fetching;
mod keeping;
mod loading;
mod real_files;
mod signer;
mod verifying;
