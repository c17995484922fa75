//! What clients send is sealed on its way through the broker, where it rests on disks with live tokens in it.
//!
//! A terminator seals the bytes of each message, token and payload, and a worker opens them. All else (who sends back what to
//! whom, runs, batches, retries) goes by what is around them. Sealed bytes say so themselves:
//!
//! ```text
//! sealed = magic (4)  key (8)  salt (16)  number (8)  ciphertext  tag (16)
//! ```
//!
//! - **Key.** AES-256-GCM of the TLS that is linked, by a key that is derived (HKDF-SHA-256, RFC 5869) from one of `seal-keys`,
//!   the namespace, and the salt.
//! - **Nonces.** GCM is broken by one nonce that comes twice. So no nonce is drawn by lot: each process draws a salt of 128
//!   bits when it takes up a key, which makes the derived key its own, and numbers what it seals.
//! - **Bound.** The message id is authenticated with the bytes: moved to another connection, or to another place in its order, they
//!   cannot be opened.
//!
//! The first byte is none that UTF-8 has, and clients' messages are UTF-8, so that neither can be taken for the other.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};

use crate::credentials::{Credential, CredentialError, Credentials, Made, Place, Source, line_in};
use crate::wire::id::MessageId;

/// The media type of sealed bytes that stand alone, as in a dead letter.
pub const SEALED: &str = "application/vnd.countersign.sealed";

/// 0xFF is in no UTF-8 (RFC 3629 §1); the last byte is the version.
const MAGIC: [u8; 4] = [0xff, b'c', b's', 1];
const KEY_BYTES: usize = 32;
const SALT_BYTES: usize = 16;
const HEAD_BYTES: usize = MAGIC.len() + size_of::<KeyId>() + SALT_BYTES + size_of::<u64>();
const TAG_BYTES: usize = 16;

/// How many bytes sealed ones have more than open ones.
pub const OVERHEAD_BYTES: usize = HEAD_BYTES + TAG_BYTES;

/// Derived keys that are kept. There is one for each terminator that runs; more come only of what cannot be opened.
const MOST_DERIVED: usize = 4_096;

type KeyId = [u8; 8];
type ProcessSalt = [u8; SALT_BYTES];

/// Why sealed bytes cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsealable {
    /// They end too early.
    #[error("sealed bytes that were cut")]
    Cut,
    /// None of our keys has that name.
    #[error("sealed with a key that is not among seal-keys")]
    UnknownKey,
    /// Someone touched them, or put them where they do not belong.
    #[error("sealed bytes that were changed, or are another message's")]
    Changed,
    /// A newer program wrote them.
    #[error("sealed bytes of a version that is not known")]
    Version,
    /// They are open, and must not be.
    #[error("not sealed, and seal is `required`")]
    Open,
}

/// Whether these bytes are sealed, of whatever version.
pub fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC[..3])
}

/// Seals and opens by whatever keys are in force; none if there are none.
#[derive(Clone)]
pub struct Sealer(Option<Credential<Seals>>);

impl Sealer {
    /// One that seals nothing, and opens nothing.
    pub const NONE: Self = Self(None);

    /// By the keys in these files, the first of which seals.
    ///
    /// # Errors
    /// A file that has no key in it.
    pub fn load(files: &[PathBuf], namespace: &str, credentials: &mut Credentials) -> Result<Self, CredentialError> {
        if files.is_empty() {
            return Ok(Self::NONE);
        }
        let namespace = namespace.to_owned();
        let source = Source {
            places: files.iter().map(|path| Place::file("seal-keys", path)).collect(),
            make: Box::new(move |contents| {
                let keys = contents.iter().enumerate().map(|(place, content)| {
                    let key = key_in(content);
                    key.map_err(|why| format!("file {} {why}", place + 1))
                });
                let keys = keys.collect::<Result<Vec<_>, _>>()?;
                Ok(Made {
                    kinds: vec![("seal key", None); keys.len()],
                    value: Seals::new(&keys, &namespace)?,
                    doubt: None,
                })
            }),
        };
        credentials.load(source).map(|seals| Self(Some(seals)))
    }

    /// By keys that no one replaces.
    ///
    /// # Errors
    /// That there are none.
    pub fn of(keys: &[[u8; KEY_BYTES]], namespace: &str) -> Result<Self, String> {
        let seals = Seals::new(keys, namespace)?;
        Ok(Self(Some(Credential::fixed(seals))))
    }

    /// The bytes of the message with this message id as they go through the broker.
    pub fn seal(&self, message_id: MessageId, open: Bytes) -> Bytes {
        match &self.0 {
            Some(seals) => seals.current().seal(message_id, &open),
            None => open,
        }
    }

    /// What was sealed under this message id; what is open, as it is.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub fn open(&self, message_id: MessageId, bytes: &Bytes) -> Result<Bytes, Unsealable> {
        if !is_sealed(bytes) {
            return Ok(bytes.clone());
        }
        match &self.0 {
            Some(seals) => seals.current().open(message_id, bytes),
            None => Err(Unsealable::UnknownKey),
        }
    }
}

/// The key in a file: 32 random bytes in Base64, one line, as `openssl rand -base64 32` prints it.
fn key_in(content: &[u8]) -> Result<[u8; KEY_BYTES], String> {
    let wanted = || "has no seal key in it: want 32 random bytes in Base64, as of `openssl rand -base64 32`".to_owned();
    let line = line_in(content).map_err(|_| wanted())?;
    let key: [u8; KEY_BYTES] = STANDARD
        .decode(line)
        .ok()
        .and_then(|key| key.try_into().ok())
        .ok_or_else(wanted)?;
    // 32 random bytes practically always have far more than 16 that differ: what has fewer was typed by someone.
    let mut letters = key;
    letters.sort_unstable();
    let distinct = letters.chunk_by(|a, b| a == b).count();
    if distinct < 16 {
        return Err("has a key that was not drawn at random: `openssl rand -base64 32` prints one".to_owned());
    }
    Ok(key)
}

/// What a file says of keys, and what was derived of them.
pub struct Seals {
    keys: Vec<(KeyId, Prk)>,
    info: Vec<u8>,
    id: KeyId,
    salt: ProcessSalt,
    sealing: LessSafeKey,
    number: AtomicU64,
    derived: Mutex<BTreeMap<(KeyId, ProcessSalt), Arc<LessSafeKey>>>,
}

impl Seals {
    fn new(keys: &[[u8; KEY_BYTES]], namespace: &str) -> Result<Self, String> {
        let info = [b"countersign seal 1 ", namespace.as_bytes()].concat();
        let keys: Vec<_> = keys.iter().map(|key| named(key)).collect::<Result<_, _>>()?;
        let (id, prk) = keys.first().ok_or("there is no key")?;
        let mut salt = ProcessSalt::default();
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| "there is no randomness on this machine")?;
        let sealing = derive(prk, &salt, &info).ok_or("no key can be derived")?;
        Ok(Self {
            id: *id,
            salt,
            sealing,
            number: AtomicU64::new(0),
            derived: Mutex::default(),
            info,
            keys,
        })
    }

    fn seal(&self, message_id: MessageId, open: &[u8]) -> Bytes {
        // No process seals so many that the numbers begin anew.
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let mut sealed = BytesMut::with_capacity(open.len() + OVERHEAD_BYTES);
        sealed.put_slice(&MAGIC);
        sealed.put_slice(&self.id);
        sealed.put_slice(&self.salt);
        sealed.put_u64(number);
        sealed.put_slice(open);
        let tag = sealed.split_first_chunk_mut().and_then(|(head, body)| {
            let aad = Aad::from(aad(head, message_id));
            self.sealing.seal_in_place_separate_tag(nonce(number), aad, body).ok()
        });
        // Only what has gigabytes cannot be sealed, and it does not leave as it is.
        let Some(tag) = tag else { return Bytes::new() };
        sealed.put_slice(tag.as_ref());
        sealed.freeze()
    }

    fn open(&self, message_id: MessageId, bytes: &[u8]) -> Result<Bytes, Unsealable> {
        if bytes.get(3).is_some_and(|version| *version != MAGIC[3]) {
            return Err(Unsealable::Version);
        }
        let (head, body) = bytes.split_first_chunk().ok_or(Unsealable::Cut)?;
        let (ciphertext, tag) = body.split_last_chunk::<TAG_BYTES>().ok_or(Unsealable::Cut)?;
        let (id, rest) = head[MAGIC.len()..].split_first_chunk().ok_or(Unsealable::Cut)?;
        let (salt, rest) = rest.split_first_chunk().ok_or(Unsealable::Cut)?;
        let number = u64::from_be_bytes(*rest.first_chunk().ok_or(Unsealable::Cut)?);
        let key = self.key(*id, *salt).ok_or(Unsealable::UnknownKey)?;
        let mut opened = vec![0; ciphertext.len()];
        let aad = Aad::from(aad(head, message_id));
        key.open_separate_gather(nonce(number), aad, ciphertext, tag, &mut opened)
            .map_err(|_| Unsealable::Changed)?;
        Ok(opened.into())
    }

    fn key(&self, id: KeyId, salt: ProcessSalt) -> Option<Arc<LessSafeKey>> {
        let mut derived = self.derived.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = derived.get(&(id, salt)) {
            return Some(key.clone());
        }
        let (_, prk) = self.keys.iter().find(|(other, _)| *other == id)?;
        let key = Arc::new(derive(prk, &salt, &self.info)?);
        if derived.len() >= MOST_DERIVED {
            derived.clear();
        }
        derived.insert((id, salt), key.clone());
        Some(key)
    }
}

/// A key, and by what it is known: that says nothing of the key.
fn named(key: &[u8; KEY_BYTES]) -> Result<(KeyId, Prk), &'static str> {
    let prk = Salt::new(HKDF_SHA256, b"countersign seal").extract(key);
    let mut id = KeyId::default();
    let info = [b"name of the key".as_slice()];
    let named = prk.expand(&info, Length(id.len())).and_then(|okm| okm.fill(&mut id));
    named.map_err(|_| "no key can be derived")?;
    Ok((id, prk))
}

fn derive(prk: &Prk, salt: &ProcessSalt, info: &[u8]) -> Option<LessSafeKey> {
    let info = [info, salt.as_slice()];
    let okm = prk.expand(&info, &AES_256_GCM).ok()?;
    Some(LessSafeKey::new(UnboundKey::from(okm)))
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn nonce(number: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[NONCE_LEN - size_of::<u64>()..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// What is authenticated beside the bytes: all that stands before them, and whose they are. The message id is there as numbers:
/// to write it as a text costs as much as the cipher.
fn aad(head: &[u8; HEAD_BYTES], message_id: MessageId) -> [u8; HEAD_BYTES + 24] {
    let connection = message_id.connection;
    let mut aad = [0; HEAD_BYTES + 24];
    let (before, numbers) = aad.split_at_mut(HEAD_BYTES);
    before.copy_from_slice(head);
    let (chunks, _) = numbers.as_chunks_mut();
    for (chunk, number) in chunks.iter_mut().zip([
        connection.terminator.get(),
        connection.number,
        message_id.sequence.get(),
    ]) {
        *chunk = number.to_be_bytes();
    }
    aad
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(seed: u8) -> [u8; KEY_BYTES] {
        std::array::from_fn(|place| seed.wrapping_add(place as u8 * 7))
    }

    fn sealer(seeds: &[u8]) -> Sealer {
        let keys: Vec<_> = seeds.iter().map(|seed| key(*seed)).collect();
        Sealer::of(&keys, "ns").unwrap()
    }

    fn message_id(text: &str) -> MessageId {
        text.parse().unwrap()
    }

    const HERE: &str = "00000000000000ff.a.7";

    proptest! {
        #[test]
        fn what_is_sealed_is_opened_under_its_message_id_alone(open in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            let (terminator, worker) = (sealer(&[1]), sealer(&[2, 1]));
            let sealed = terminator.seal(message_id(HERE), Bytes::from(open.clone()));
            prop_assert!(is_sealed(&sealed));
            prop_assert_eq!(sealed.len(), open.len() + OVERHEAD_BYTES);
            if open.len() > 8 {
                prop_assert!(!sealed.windows(open.len()).any(|part| part == open));
            }
            let opened = worker.open(message_id(HERE), &sealed);
            prop_assert_eq!(opened.as_deref(), Ok(open.as_slice()));
            for other in ["00000000000000ff.a.8", "00000000000000ff.b.7", "00000000000000fe.a.7"] {
                prop_assert_eq!(worker.open(message_id(other), &sealed), Err(Unsealable::Changed));
            }
        }

        #[test]
        fn whatever_is_cut_or_changed_is_refused(open in proptest::collection::vec(any::<u8>(), 0..60), bit in 0..8_u8) {
            let sealer = sealer(&[1]);
            let sealed = sealer.seal(message_id(HERE), Bytes::from(open));
            for place in 3..sealed.len() {
                prop_assert!(sealer.open(message_id(HERE), &sealed.slice(..place)).is_err());
                let mut changed = sealed.to_vec();
                changed[place] ^= 1_u8 << bit;
                prop_assert!(sealer.open(message_id(HERE), &changed.into()).is_err());
            }
        }

        #[test]
        fn whatever_bytes_come_are_opened_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = Bytes::from([&MAGIC[..], &bytes].concat());
            prop_assert!(sealer(&[1]).open(message_id(HERE), &bytes).is_err());
        }
    }

    #[test]
    fn what_is_open_stays_so_and_no_text_passes_for_sealed() {
        for open in ["{}", "", "\u{ff}cs"] {
            let open = Bytes::from(open);
            assert_eq!(sealer(&[1]).open(message_id(HERE), &open), Ok(open.clone()));
            assert_eq!(Sealer::NONE.seal(message_id(HERE), open.clone()), open);
        }
        let sealed = sealer(&[1]).seal(message_id(HERE), Bytes::from("x"));
        assert_eq!(
            Sealer::NONE.open(message_id(HERE), &sealed),
            Err(Unsealable::UnknownKey)
        );
    }

    #[test]
    fn the_first_key_seals_and_one_that_is_gone_opens_nothing() {
        let (old, both, new) = (sealer(&[1]), sealer(&[2, 1]), sealer(&[2]));
        let of_old = old.seal(message_id(HERE), Bytes::from("x"));
        let of_both = both.seal(message_id(HERE), Bytes::from("x"));
        assert!(both.open(message_id(HERE), &of_old).is_ok() && new.open(message_id(HERE), &of_both).is_ok());
        assert_eq!(new.open(message_id(HERE), &of_old), Err(Unsealable::UnknownKey));
        assert_eq!(old.open(message_id(HERE), &of_both), Err(Unsealable::UnknownKey));
        let elsewhere = Sealer::of(&[key(2)], "another").unwrap();
        assert_eq!(elsewhere.open(message_id(HERE), &of_both), Err(Unsealable::Changed));
    }

    #[test]
    fn no_nonce_comes_twice_with_a_key_however_many_processes_seal_with_it() {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..20 {
            let process = sealer(&[1]);
            for _ in 0..100 {
                let sealed = process.seal(message_id(HERE), Bytes::from("x"));
                // The salt makes the key, the number the nonce.
                assert!(seen.insert(sealed[MAGIC.len()..HEAD_BYTES].to_vec()));
            }
        }
    }

    #[test]
    fn a_seal_key_is_32_random_bytes_in_base64_and_nothing_else() {
        let good = STANDARD.encode(key(3));
        assert_eq!(key_in(good.as_bytes()), Ok(key(3)));
        assert_eq!(key_in(format!("{good}\n").as_bytes()), Ok(key(3)));
        for wrong in [
            "",
            "secret",
            &good[..40],
            &format!("{good}{good}"),
            &STANDARD.encode([0; 32]),
            &STANDARD.encode(*b"abababababababababababababababab"),
            &STANDARD.encode([1; 33]),
            "-----BEGIN PRIVATE KEY-----",
            "{\"keys\":[]}",
        ] {
            assert!(key_in(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(key_in(&key(3)).is_err(), "not as raw bytes: they may be anything");
    }
}
