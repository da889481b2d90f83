//! Whether a certificate chain is to be believed is the program's to say: one rule, in one place, for every engine.
//! rustls asks here, and checks by itself only that the peer has the key.
//!
//! rustls has its own idea of which errors there are, and tells neither reasons nor what was presented when it refuses.
//! Both are kept here for the session that reads at the moment ([`judged`]).

use super::der;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, PeerMisbehaved, SignatureScheme,
};
use std::cell::RefCell;
use std::fmt::Debug;
use std::sync::Arc;

/// A chain isn't believed.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The TLS alert to send (RFC 8446 section 6.2).
    pub alert: u8,
    /// In words, for both sides.
    pub reason: String,
}

/// Says whether a chain, DER, leaf first, is to be believed now.
pub trait Judge: Debug + Send + Sync {
    /// Judge it.
    ///
    /// # Errors
    /// It isn't.
    fn judge(&self, chain: &[&[u8]]) -> Result<(), Refusal>;
}

/// What a session that was read has brought up.
#[derive(Default)]
pub struct Judged {
    /// The leaf that was presented, believed or not.
    pub leaf: Option<Vec<u8>>,
    /// Why it wasn't.
    pub refusal: Option<Refusal>,
}

thread_local! {
    static JUDGED: RefCell<Judged> = RefCell::default();
}

/// Read a session; what was judged meanwhile.
pub fn judged<T>(read: impl FnOnce() -> T) -> (T, Judged) {
    JUDGED.take();
    let result = read();
    (result, JUDGED.take())
}

/// Asks a [`Judge`]; both sides use it.
#[derive(Debug)]
pub struct Verifier {
    judge: Arc<dyn Judge>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub fn new(judge: Arc<dyn Judge>, provider: &CryptoProvider) -> Self {
        Self { judge, algorithms: provider.signature_verification_algorithms }
    }

    fn judge(&self, leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), Error> {
        let chain: Vec<&[u8]> = std::iter::once(leaf).chain(others).map(AsRef::as_ref).collect();
        let answer = self.judge.judge(&chain);
        JUDGED.with_borrow_mut(|judged| {
            judged.leaf = Some(leaf.to_vec());
            judged.refusal = answer.as_ref().err().cloned();
        });
        answer.map_err(|refusal| Error::InvalidCertificate(as_rustls(refusal.alert)))
    }

    fn check_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // By the key alone: webpki reads no certificates of version 1, which are in use.
        let key = der::public_key(certificate).ok_or(CertificateError::BadEncoding)?;
        verify_tls13_signature_with_raw_key(message, &SubjectPublicKeyInfoDer::from(key), signed, &self.algorithms)
    }
}

/// The error for which rustls sends the alert.
fn as_rustls(alert: u8) -> CertificateError {
    match alert {
        42 => CertificateError::BadEncoding,
        43 => CertificateError::InvalidPurpose,
        44 => CertificateError::Revoked,
        45 => CertificateError::Expired,
        48 => CertificateError::UnknownIssuer,
        _ => CertificateError::Other(OtherError(Arc::new(Unspecific))),
    }
}

#[derive(Debug)]
struct Unspecific;

impl std::fmt::Display for Unspecific {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("certificate not accepted")
    }
}

impl std::error::Error for Unspecific {}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(leaf, others).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(leaf, others).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
