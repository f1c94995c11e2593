//! Files of certificates: loaded once per configuration, looked at again while it serves, and examined by `narthex check`.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use narthex_config::model::{self, CertificateSource, Config, HostPattern, Origin};
use narthex_net::tls::Problem;
use narthex_net::tls::server::{Certificate, CertificateFiles, ClientCa};
use narthex_upstream::{Encryption, Fleet};

use super::shared::unix_now;
use crate::runtime::BuildError;

/// Something that is wrong with the files that a configuration names.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Where the site or upstream was written.
    pub origin: Origin,
    /// What, and what to do.
    pub problem: Problem,
    /// Nothing can be served with it; else it is worth a warning.
    pub fatal: bool,
}

/// Everything that is wrong with the files of certificates and keys of a configuration. Reads them.
pub fn examine(config: &Config) -> Vec<Finding> {
    let mut loader = Loader::default();
    let mut found = Vec::new();
    for site in &config.sites {
        let Some(tls) = &site.tls else { continue };
        let mut add = |problem, fatal| {
            found.push(Finding {
                origin: site.origin.clone(),
                problem,
                fatal,
            });
        };
        if let CertificateSource::Files(pairs) = &tls.source {
            for pair in pairs {
                match loader.certificate(pair) {
                    Ok(certificate) => {
                        let now = i64::try_from(unix_now()).unwrap_or(i64::MAX);
                        if let Some(problem) = certificate.problem_at(now, Some(&pair.certificate))
                        {
                            add(problem, false);
                        }
                    }
                    Err(problem) => add(problem, true),
                }
            }
        }
        if let Some(client) = &tls.client
            && let Err(problem) = loader.client_ca(client)
        {
            add(problem, true);
        }
    }
    for upstream in &config.upstreams {
        if let Some(tls) = &upstream.tls
            && let Err(problem) = Encryption::new(tls, upstream.protocol, None)
        {
            found.push(Finding {
                origin: upstream.origin.clone(),
                problem,
                fatal: true,
            });
        }
    }
    found
}

/// How the servers of each upstream are spoken to.
pub(crate) fn encryptions(
    config: &Config,
    fleet: &Fleet,
) -> Result<HashMap<String, Encryption>, BuildError> {
    let mut all = HashMap::new();
    for upstream in &config.upstreams {
        let Some(tls) = &upstream.tls else { continue };
        let before = fleet.encryption(&upstream.name);
        let encryption =
            Encryption::new(tls, upstream.protocol, before.as_ref()).map_err(|problem| {
                BuildError::Tls {
                    origin: upstream.origin.clone(),
                    problem,
                }
            })?;
        all.insert(upstream.name.clone(), encryption);
    }
    Ok(all)
}

fn files(pair: &model::CertificateFiles) -> CertificateFiles {
    CertificateFiles {
        cert: pair.certificate.clone(),
        key: pair.key.clone(),
        ocsp: pair.ocsp.clone(),
    }
}

/// A bundle of CAs and a list of what they revoked, by their files.
type ClientCas = HashMap<(PathBuf, Option<PathBuf>), ClientCa>;

/// A certificate and what its files looked like.
pub(super) struct Loaded {
    pub(super) certificate: Arc<Certificate>,
    pub(super) stamp: Stamp,
    /// What the files look like that could not be used.
    pub(super) failed: Option<Stamp>,
}

/// Loads each file once.
#[derive(Default)]
pub(super) struct Loader {
    pub(super) certificates: HashMap<CertificateFiles, Loaded>,
    client_cas: ClientCas,
}

impl Loader {
    pub(super) fn certificate(
        &mut self,
        pair: &model::CertificateFiles,
    ) -> Result<Arc<Certificate>, Problem> {
        let files = files(pair);
        if let Some(known) = self.certificates.get(&files) {
            return Ok(Arc::clone(&known.certificate));
        }
        // Before the content: what changes in between is seen as a change.
        let stamp = Stamp::of(&files);
        let certificate = Arc::new(Certificate::load(&files)?);
        let loaded = Loaded {
            certificate: Arc::clone(&certificate),
            stamp,
            failed: None,
        };
        self.certificates.insert(files, loaded);
        Ok(certificate)
    }

    pub(super) fn client_ca(
        &mut self,
        client: &model::ClientCertificates,
    ) -> Result<ClientCa, Problem> {
        let key = (client.ca.clone(), client.crl.clone());
        if let Some(known) = self.client_cas.get(&key) {
            return Ok(known.clone());
        }
        let ca = ClientCa::load(&client.ca, client.crl.as_deref())?;
        self.client_cas.insert(key, ca.clone());
        Ok(ca)
    }

    /// What has been loaded for these files.
    pub(super) fn known(&self, pair: &model::CertificateFiles) -> Option<Arc<Certificate>> {
        self.certificates
            .get(&files(pair))
            .map(|l| Arc::clone(&l.certificate))
    }
}

/// What tells that files have changed: name, size and times of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp([Option<(u64, u64, SystemTime)>; 3]);

impl Stamp {
    pub(super) fn of(files: &CertificateFiles) -> Self {
        let of = |path: &Path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.ino(), metadata.len(), metadata.modified().ok()?))
        };
        Self([
            of(&files.cert),
            of(&files.key),
            files.ocsp.as_deref().and_then(of),
        ])
    }
}

/// Is a certificate with these names for this host?
pub(super) fn covers(names: &[String], host: &HostPattern) -> bool {
    let wildcard_of = |name: &str, zone: &str| name.strip_prefix("*.") == Some(zone);
    match host {
        HostPattern::Any => true,
        HostPattern::Wildcard(zone) => names.iter().any(|n| wildcard_of(n, zone)),
        HostPattern::Exact(host) => {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            let zone = host.split_once('.').map(|(_, zone)| zone);
            names.iter().any(|n| {
                n.eq_ignore_ascii_case(bare) || zone.is_some_and(|zone| wildcard_of(n, zone))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_covers_its_names() {
        let names = ["a.example", "*.b.example", "192.0.2.1"].map(str::to_owned);
        let exact = |host: &str| covers(&names, &HostPattern::Exact(host.to_owned()));
        assert!(exact("a.example") && exact("x.b.example") && exact("192.0.2.1"));
        assert!(!exact("b.example") && !exact("y.x.b.example") && !exact("x.a.example"));
        let wildcard = |zone: &str| covers(&names, &HostPattern::Wildcard(zone.to_owned()));
        assert!(wildcard("b.example") && !wildcard("a.example"));
        assert!(covers(&[], &HostPattern::Any));
    }
}
