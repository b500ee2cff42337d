//! Who this host is to etcd: certificates and the password, from files, read again when they changed.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cluster::settings::Settings;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore};

use super::error::Error;
use super::tls::AnyName;

/// The longest file, in bytes.
const FILE_MAX: u64 = 1 << 20;
/// The longest password, in bytes.
const PASSWORD_MAX: u64 = 4 << 10;
/// Modes that open a file to others than its owner.
const OTHERS: u32 = 0o077;

/// What tells that a file is no longer the one that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// The stamps of the certificates' files; none for a file that cannot be examined.
pub(super) fn stamps(settings: &Settings) -> Vec<Option<Stamp>> {
    let files = [&settings.ca, &settings.cert, &settings.key];
    files.into_iter().map(|path| path.as_deref().and_then(stamp)).collect()
}

/// The stamp of a file; none if it cannot be examined.
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(path).ok()?;
    let modified = (meta.mtime(), meta.mtime_nsec());
    Some(Stamp { device: meta.dev(), inode: meta.ino(), size: meta.size(), modified })
}

/// What TLS needs, from the files. Without an authority every certificate is refused.
pub(super) fn tls(settings: &Settings) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    if let Some(path) = &settings.ca {
        for one in certificates(path)? {
            roots.add(one).map_err(|error| bad(path, &error))?;
        }
    }
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(Path::new("TLS"), &error))?;
    let builder = if settings.insecure {
        let verifier: Arc<dyn ServerCertVerifier> = Arc::new(AnyName { roots, provider: provider.clone() });
        builder.dangerous().with_custom_certificate_verifier(verifier)
    } else {
        builder.with_root_certificates(roots)
    };
    Ok(Arc::new(match (&settings.cert, &settings.key) {
        (Some(cert), Some(key)) => {
            let (chain, private) = client(cert, key, &provider)?;
            builder.with_client_auth_cert(chain, private).map_err(|error| bad(cert, &error))?
        }
        _ => builder.with_no_client_auth(),
    }))
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn client(cert: &Path, key: &Path, provider: &CryptoProvider) -> Result<Identity, Error> {
    let chain = certificates(cert)?;
    // What the parser says of a key could have a part of it.
    let private = PrivateKeyDer::from_pem_slice(&content(key, FILE_MAX)?.1)
        .map_err(|_| bad(key, &"there is no private key in it, in PEM"))?;
    let signer =
        provider.key_provider.load_private_key(private.clone_key()).map_err(|error| bad(key, &error))?;
    match CertifiedKey::new(chain.clone(), signer).keys_match() {
        Ok(()) => Ok((chain, private)),
        Err(error) => Err(bad(key, &format!("it is not the key of {} ({error})", cert.display()))),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&content(path, FILE_MAX)?.1).collect();
    let found = found.map_err(|error| bad(path, &error))?;
    if found.is_empty() { Err(bad(path, &"there is no certificate in it, in PEM")) } else { Ok(found) }
}

/// The password, without the end of its line.
pub(super) fn password(path: &Path) -> Result<String, Error> {
    let (file, bytes) = content(path, PASSWORD_MAX)?;
    let meta = file.metadata().map_err(|error| bad(path, &error))?;
    if meta.mode() & OTHERS != 0 {
        return Err(bad(path, &"others can read or write it: chmod 0600"));
    }
    if ![0, nix::unistd::geteuid().as_raw()].contains(&meta.uid()) {
        return Err(bad(path, &"its owner is neither root nor the user of this program"));
    }
    let text = String::from_utf8(bytes).map_err(|_| bad(path, &"it is not in UTF-8"))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn content(path: &Path, most: u64) -> Result<(File, Vec<u8>), Error> {
    let file = File::open(path).map_err(|error| bad(path, &error))?;
    if !file.metadata().is_ok_and(|meta| meta.is_file()) {
        return Err(bad(path, &"it is no file"));
    }
    let mut bytes = Vec::new();
    (&file).take(most + 1).read_to_end(&mut bytes).map_err(|error| bad(path, &error))?;
    if bytes.len() as u64 > most {
        return Err(bad(path, &format!("it is longer than {most} bytes")));
    }
    Ok((file, bytes))
}

fn bad(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::File { path: PathBuf::from(path), why: why.to_string() }
}
