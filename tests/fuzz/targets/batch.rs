//! Whatever somebody puts into one of our queues as a batch: it is read or refused, and so is each message in it.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use shared::bus::batch;
use shared::wire::envelope::undelivered::Undelivered;
use shared::wire::envelope::{ForwardedMessage, Return};

fuzz_target!(|bytes: &[u8]| {
    let Ok(messages) = batch::read(&Bytes::copy_from_slice(bytes)) else { return };
    for message in &messages {
        // What they come to is for claims to say; here they only have to come to something.
        let _ = Return::read(message);
        let _ = Undelivered::read(message);
        let _ = ForwardedMessage::read(&message.properties);
    }
});
