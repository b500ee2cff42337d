//! Who this host is to etcd: certificates and the password, from files, read again when they changed.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cluster::settings::Settings;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use super::error::Error;

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

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(path).ok()?;
    let modified = (meta.mtime(), meta.mtime_nsec());
    Some(Stamp { device: meta.dev(), inode: meta.ino(), size: meta.size(), modified })
}

/// What TLS needs, from the files.
///
/// ureq would end the process over a key that is not the certificate's: the two are compared here.
pub(super) fn tls(settings: &Settings) -> Result<TlsConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = Vec::new();
    if let Some(path) = &settings.ca {
        roots = certificates(path)?;
    }
    let client = match (&settings.cert, &settings.key) {
        (Some(cert), Some(key)) => Some(client(cert, key, &provider)?),
        _ => None,
    };
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .client_cert(client)
        .disable_verification(settings.insecure)
        .unversioned_rustls_crypto_provider(provider)
        .build())
}

fn client(cert: &Path, key: &Path, provider: &CryptoProvider) -> Result<ClientCert, Error> {
    let chain = certificates(cert)?;
    let private = private_key(key)?;
    let der = PrivateKeyDer::try_from(private.der().to_vec()).map_err(|why| bad(key, &why))?;
    let signer = provider.key_provider.load_private_key(der).map_err(|error| bad(key, &error))?;
    let owned = chain.iter().map(|one| CertificateDer::from(one.der().to_vec())).collect();
    match CertifiedKey::new(owned, signer).keys_match() {
        Ok(()) => Ok(ClientCert::new_with_certs(&chain, private)),
        Err(error) => Err(bad(key, &format!("it is not the key of {} ({error})", cert.display()))),
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, Error> {
    let mut found = Vec::new();
    for item in parse_pem(&content(path, FILE_MAX)?.1) {
        if let PemItem::Certificate(one) = item.map_err(|error| bad(path, &error))? {
            found.push(one);
        }
    }
    if found.is_empty() { Err(bad(path, &"there is no certificate in it, in PEM")) } else { Ok(found) }
}

fn private_key(path: &Path) -> Result<PrivateKey<'static>, Error> {
    for item in parse_pem(&content(path, FILE_MAX)?.1) {
        // What the parser says of a key could have a part of it.
        match item {
            Ok(PemItem::PrivateKey(key)) => return Ok(key),
            Ok(_) => {}
            Err(_) => return Err(bad(path, &"it is not in PEM")),
        }
    }
    Err(bad(path, &"there is no private key in it, in PEM"))
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
