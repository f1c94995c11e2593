//! How certificate authorities are asked: HTTPS with bounds on time and size, and roots that can be named.

use std::error::Error as StdError;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use http_body_util::Limited;
use hyper::Request;
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// One request, its answer read to the end.
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// Until a connection stands.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Bytes of an answer. Chains are some 10 KiB.
const BODY_MAX: usize = 1 << 20;
/// How long a connection waits for the next request of an order.
const IDLE_MAX: Duration = Duration::from_secs(20);

/// Why an authority's own certificate cannot be verified.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// A file that was named.
    #[error("{0}: {1}; it must hold the certificates (PEM) of the authority's own HTTPS")]
    File(String, String),
    /// Nothing on this system.
    #[error(
        "this system has no root certificates ({0}); install `ca-certificates`, or name a file"
    )]
    System(String),
}

/// A client for one authority. Cheap to clone.
#[derive(Clone)]
pub struct Https(Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>);

impl Https {
    /// Believes the roots in `file`, or the system's.
    pub fn new(file: Option<&Path>) -> Result<Self, RootsError> {
        let roots = match file {
            Some(file) => from_file(file)?,
            None => from_system()?,
        };
        let config = tls(roots)?;
        Ok(Self(client(config, false)))
    }
}

/// `plain`: `http://` is good enough.
fn client(
    config: ClientConfig,
    plain: bool,
) -> Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT_MAX));
    let builder = HttpsConnectorBuilder::new().with_tls_config(config);
    let builder = if plain {
        builder.https_or_http()
    } else {
        builder.https_only()
    };
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_MAX)
        .pool_max_idle_per_host(2)
        .build(builder.enable_http1().wrap_connector(tcp))
}

/// Somebody of the operator's who answers questions, with a status. Connections are kept.
pub struct Hook(Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>);

impl Hook {
    /// For this URL, and others at the same place.
    pub fn new(url: &str) -> Result<Self, String> {
        hook(url).map(Self)
    }

    /// The status of the answer to a GET. Redirections are not followed.
    pub async fn get(&self, url: &str, within: Duration) -> Result<u16, String> {
        let request = Request::get(url)
            .body(BodyWrapper::from(Vec::new()))
            .map_err(|error| error.to_string())?;
        let asked = tokio::time::timeout(within, self.0.request(request)).await;
        let response = asked
            .map_err(|_| format!("no answer within {} s", within.as_secs()))?
            .map_err(|error| whole(&error))?;
        Ok(response.status().as_u16())
    }
}

/// A client for a hook of the operator's, with the system's roots if it needs any.
fn hook(url: &str) -> Result<Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>, String> {
    let roots = if url.starts_with("https:") {
        from_system().map_err(|error| error.to_string())?
    } else {
        RootCertStore::empty()
    };
    let config = tls(roots).map_err(|error| error.to_string())?;
    Ok(client(config, true))
}

/// Posts JSON to a hook of the operator's; an error says why it was not taken.
pub async fn post(url: &str, token: Option<&str>, json: String) -> Result<(), String> {
    let client = hook(url)?;
    let mut request = Request::post(url).header("content-type", "application/json");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request
        .body(BodyWrapper::from(json.into_bytes()))
        .map_err(|error| error.to_string())?;
    let asked = tokio::time::timeout(REQUEST_MAX, client.request(request)).await;
    let response = asked
        .map_err(|_| format!("no answer within {} s", REQUEST_MAX.as_secs()))?
        .map_err(|error| whole(&error))?;
    if response.status().is_success() {
        Ok(())
    } else {
        Err(format!("answers {}", response.status()))
    }
}

fn tls(roots: RootCertStore) -> Result<ClientConfig, RootsError> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    Ok(ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .map_err(|error| RootsError::System(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn from_file(file: &Path) -> Result<RootCertStore, RootsError> {
    let wrong = |why: String| RootsError::File(file.display().to_string(), why);
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))?;
    for certificate in found {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("no certificate is in it".to_owned()));
    }
    Ok(roots)
}

fn from_system() -> Result<RootCertStore, RootsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A store of a hundred and fifty has one that is odd, everywhere.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(ToString::to_string);
        return Err(RootsError::System(
            why.unwrap_or_else(|| "none found".to_owned()),
        ));
    }
    Ok(roots)
}

impl HttpClient for Https {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            let asked = async {
                let response = client
                    .request(request)
                    .await
                    .map_err(|e| Error::Other(e.into()))?;
                let (parts, body) = response.into_parts();
                // Read here, so that the time is for all of it.
                let body = http_body_util::BodyExt::collect(Limited::new(body, BODY_MAX));
                let body = body.await.map_err(Error::Other)?.to_bytes();
                Ok(BytesResponse {
                    parts,
                    body: Box::new(body),
                })
            };
            match tokio::time::timeout(REQUEST_MAX, asked).await {
                Ok(answer) => answer,
                Err(_) => Err(Error::Other(
                    format!("no answer within {} s", REQUEST_MAX.as_secs()).into(),
                )),
            }
        })
    }
}

/// An error with everything below it: hyper says "client error (Connect)" and keeps the reason to itself.
pub fn whole(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        below = error.source();
    }
    text
}
