//! rustls configurations. They take DER: whoever parses PEM, and says what is wrong with it, is the program.

use super::judge::{Judge, Verifier};
use crate::error::Error;
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CipherSuite, ClientConfig, ServerConfig};
use std::sync::{Arc, OnceLock};

/// ring's, with AES-128 first: half the rounds of AES-256, and as good for as long as anybody can say.
pub fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        let mut provider = rustls::crypto::ring::default_provider();
        provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
        Arc::new(provider)
    })
}

fn unusable(what: &'static str) -> impl Fn(rustls::Error) -> Error {
    move |error| Error::Unusable { what, reason: error.to_string() }
}

/// A chain and its key, whose belonging together the program has checked.
fn certified(chain: Vec<Vec<u8>>, key: Vec<u8>, what: &'static str) -> Result<Arc<SingleCertAndKey>, Error> {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key));
    let key = provider().key_provider.load_private_key(key).map_err(unusable(what))?;
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    Ok(Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key))))
}

/// What a server presents under one name, and who judges its clients.
///
/// # Errors
/// A key that can't be used.
pub fn server_config(
    chain: Vec<Vec<u8>>,
    key: Vec<u8>,
    alpn: Vec<Vec<u8>>,
    judge: Arc<dyn Judge>,
) -> Result<Arc<QuicServerConfig>, Error> {
    let mut config = ServerConfig::builder_with_provider(provider().clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable("TLS 1.3"))?
        .with_client_cert_verifier(Arc::new(Verifier::new(judge, provider())))
        .with_cert_resolver(certified(chain, key, "server key")?);
    config.alpn_protocols = alpn;
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    let config = QuicServerConfig::try_from(config);
    config.map(Arc::new).map_err(|error| Error::Unusable { what: "TLS", reason: error.to_string() })
}

/// What a client presents, and who judges its server.
///
/// # Errors
/// A key that can't be used.
pub fn client_config(
    chain: Vec<Vec<u8>>,
    key: Vec<u8>,
    alpn: Vec<Vec<u8>>,
    judge: Arc<dyn Judge>,
) -> Result<Arc<QuicClientConfig>, Error> {
    let mut config = ClientConfig::builder_with_provider(provider().clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable("TLS 1.3"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier::new(judge, provider())))
        .with_client_cert_resolver(certified(chain, key, "certificate key")?);
    config.alpn_protocols = alpn;
    config.resumption = rustls::client::Resumption::disabled();
    let config = QuicClientConfig::try_from(config);
    config.map(Arc::new).map_err(|error| Error::Unusable { what: "TLS", reason: error.to_string() })
}
