//! What the broker delivers, made readable before lapin reads it.
//!
//! RabbitMQ hands on what a publisher wrote around a message nearly as it came: short
//! strings that are not UTF-8, types of values that lapin does not know, tables in
//! tables by the ten thousand, more than a frame may hold once the broker has added
//! something of its own. lapin ends the connection over each of them, or, with a
//! stack that is used up, the process; and the broker delivers it again to the next.
//! So nothing of it gets as far: what cannot be read is left out here, and the
//! message says so in the header [`UNREADABLE`], by which it is refused like any other
//! that is none.
//!
//! Pure: bytes in, bytes out, in pieces of any size. Frames are those of AMQP 0-9-1 §4.2.3, content headers those
//! of §4.2.6.1, tables those of §4.2.5.5 with the types that RabbitMQ has
//! (<https://www.rabbitmq.com/amqp-0-9-1-errata#section_3>).

mod properties;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use bytes::{Buf, BufMut, BytesMut};

#[cfg(doc)]
use crate::bus::UNREADABLE;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
const FRAME_END: u8 = 0xce;

/// Type, channel and size.
const FRAME_HEAD: usize = 7;
/// What stands around the payload of a frame.
const FRAME_EXTRA: usize = FRAME_HEAD + 1;
/// No method and no content header that a broker sends is larger; one that is would be the sign that this is not AMQP.
const LARGEST_FRAME: usize = 64 * 1_024 * 1_024;

/// How much of a delivery is let pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mesh {
    /// How large the frame with its properties may be. Of what has more, headers are left out.
    pub(super) properties: usize,
    /// How many bytes of its body are let pass; the rest is cut off.
    pub(super) body: u64,
}

impl Mesh {
    /// All that lapin can read.
    pub(super) const ALL: Self = Self {
        properties: usize::MAX,
        body: u64::MAX,
    };
}

/// One direction of one connection.
#[derive(Default)]
pub(super) struct Sieve {
    /// What has come and cannot be judged yet.
    waiting: BytesMut,
    state: State,
    /// By channel: how much of the body that comes there may still pass.
    bodies: HashMap<u16, u64>,
}

#[derive(Default)]
enum State {
    /// A frame begins.
    #[default]
    Between,
    /// A frame of a body: so much of it is let pass, perhaps an end is put there, and so much is not.
    InBody { pass: usize, end: bool, drop: usize },
    /// This is not AMQP, and anyone who reads it will say so.
    Through,
}

impl Sieve {
    /// Takes what has come, and adds to `out` what may be read.
    pub(super) fn push(&mut self, input: &[u8], mesh: Mesh, out: &mut BytesMut) {
        self.waiting.extend_from_slice(input);
        while self.step(mesh, out) {}
    }

    /// Whether there is more to do.
    fn step(&mut self, mesh: Mesh, out: &mut BytesMut) -> bool {
        match self.state {
            State::Through => {
                out.extend_from_slice(&self.waiting.split());
                false
            }
            State::InBody { pass, end, drop } => self.walk_through_body(pass, end, drop, out),
            State::Between => self.begin_frame(mesh, out),
        }
    }

    fn walk_through_body(&mut self, pass: usize, end: bool, drop: usize, out: &mut BytesMut) -> bool {
        let passed = pass.min(self.waiting.len());
        out.extend_from_slice(&self.waiting.split_to(passed));
        let pass = pass - passed;
        if pass == 0 && end {
            out.put_u8(FRAME_END);
        }
        let dropped = if pass == 0 { drop.min(self.waiting.len()) } else { 0 };
        self.waiting.advance(dropped);
        let (end, drop) = (end && pass > 0, drop - dropped);
        let over = pass == 0 && drop == 0;
        self.state = if over {
            State::Between
        } else {
            State::InBody { pass, end, drop }
        };
        over
    }

    fn begin_frame(&mut self, mesh: Mesh, out: &mut BytesMut) -> bool {
        let Some(&[kind, channel_1, channel_0, size_3, size_2, size_1, size_0]) =
            self.waiting.first_chunk::<FRAME_HEAD>()
        else {
            return false;
        };
        let channel = u16::from_be_bytes([channel_1, channel_0]);
        let size = u32::from_be_bytes([size_3, size_2, size_1, size_0]) as usize;
        match kind {
            BODY => self.begin_body(channel, size, out),
            METHOD | HEADER | HEARTBEAT if size <= LARGEST_FRAME => {
                if self.waiting.len() < size + FRAME_EXTRA {
                    return false;
                }
                let mut frame = self.waiting.split_to(size + FRAME_EXTRA);
                let payload = frame.get_mut(FRAME_HEAD..FRAME_HEAD + size).unwrap_or_default();
                match kind {
                    HEADER => self.sift_header(channel, payload, mesh, out),
                    _ => {
                        properties::repair_delivery(payload);
                        out.extend_from_slice(&frame);
                    }
                }
            }
            _ => self.state = State::Through,
        }
        true
    }

    /// The content header (§2.3.5.2): the class, a weight, the size of the body, and the properties.
    fn sift_header(&mut self, channel: u16, payload: &[u8], mesh: Mesh, out: &mut BytesMut) {
        let Some((&[class_1, class_0, weight_1, weight_0, ref body @ ..], of_message)) =
            payload.split_first_chunk::<12>()
        else {
            // Anyone who reads it will say that it is none.
            put_frame(HEADER, channel, payload, out);
            return;
        };
        let body = u64::from_be_bytes(*body);
        let pass = body.min(mesh.body);
        self.bodies.insert(channel, pass);
        let room = mesh.properties.saturating_sub(FRAME_EXTRA + 12);
        let mut sifted = BytesMut::with_capacity(payload.len().min(mesh.properties));
        sifted.extend_from_slice(&[class_1, class_0, weight_1, weight_0]);
        sifted.put_u64(pass);
        properties::sift(of_message, room, &mut sifted);
        put_frame(HEADER, channel, &sifted, out);
    }

    /// The head of a frame of a body, as large as what is let pass of it.
    fn begin_body(&mut self, channel: u16, size: usize, out: &mut BytesMut) {
        self.waiting.advance(FRAME_HEAD);
        let left = self.bodies.entry(channel).or_insert(u64::MAX);
        let pass = usize::try_from(*left).unwrap_or(usize::MAX).min(size);
        *left -= pass as u64;
        let end = pass > 0;
        if end {
            out.put_u8(BODY);
            out.put_u16(channel);
            out.put_u32(u32::try_from(pass).unwrap_or(u32::MAX));
        }
        self.state = State::InBody {
            pass,
            end,
            drop: size - pass + 1,
        };
    }
}

fn put_frame(kind: u8, channel: u16, payload: &[u8], out: &mut BytesMut) {
    out.put_u8(kind);
    out.put_u16(channel);
    out.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(payload);
    out.put_u8(FRAME_END);
}
