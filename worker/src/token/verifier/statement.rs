//! What an issuer has signed that is no access token: an event, or a request in its own name.
//!
//! It is read as strictly, and by the same keys. Whom it is meant for, for how long it counts and what it says is for
//! its reader; it lets no one in.

use serde_json::{Map, Value};

use super::{Verifier, signers};
use crate::auth::identity::Issuer;
use crate::token::claims::members::Members;
use crate::token::compact::Compact;
use crate::token::header::Header;
use crate::token::{Reason, Rejection};

/// Something that an issuer has signed.
#[derive(Debug)]
pub(crate) struct Statement {
    /// The issuer that signed it.
    pub(crate) issuer: Issuer,
    /// The header member `typ`, as it was written.
    pub(crate) typ: Option<String>,
    /// What it says.
    pub(crate) claims: Map<String, Value>,
}

impl Verifier {
    /// What one of these issuers has signed.
    ///
    /// An issuer that is unknown is refused before its key is looked for, so that no one has our servers asked for it.
    pub(crate) fn statement(&self, text: &str, issuers: &[Issuer]) -> Result<Statement, Rejection> {
        let compact = Compact::parse(text)?;
        let (header, typ) = Header::with_type(&compact.header)?;
        let claims = Members::parse(&compact.payload).ok_or(Reason::Claims)?.0;
        let iss = claims.get("iss").ok_or(Reason::MissingClaim("iss"))?;
        let iss = iss.as_str().ok_or(Reason::MalformedClaim("iss"))?;
        if !issuers.iter().any(|issuer| issuer.is_of(iss, &claims)) {
            return Err(Reason::Issuer.into());
        }
        // In this order, as with tokens.
        let answered = self.refresh_signal.answered();
        let (_, keys) = self.current_keys();
        let signer = signers(&compact, &header, &keys)
            .and_then(|mut signers| signers.find(|key| key.issuer.is_of(iss, &claims)).ok_or(Reason::Issuer));
        let issuer = match signer {
            Ok(key) => key.issuer.called(iss),
            Err(reason) => return Err(self.rejection(reason, &header, &keys, answered)),
        };
        Ok(Statement { issuer, typ, claims })
    }
}
