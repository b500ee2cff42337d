//! Access to etcd: certificates made by openssl, and what hosts and `etcdctl` present.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::host::Host;
use crate::ip;

/// A certificate authority, and the certificates that it has signed.
#[derive(Clone, Debug)]
pub struct Authority(PathBuf);

/// What a certificate is for (extendedKeyUsage).
#[derive(Clone, Copy, Debug)]
pub enum Usage {
    /// Members: etcd's JSON gateway dials etcd with it.
    Both,
    /// Members without the right to be a client.
    Server,
    /// Hosts.
    Client,
}

impl Authority {
    /// A new one, with its files in this directory.
    pub fn new(dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir)?;
        let authority = Self(dir);
        authority.key("ca", &["-x509", "-days", "30", "-subj", "/CN=authority"])?;
        Ok(authority)
    }

    /// Signs a certificate. `name` is that of its files, `subject` may be `/CN=...`.
    pub fn issue(&self, name: &str, subject: &str, alternative: &str, usage: Usage) -> Result<()> {
        let usage = match usage {
            Usage::Both => "serverAuth,clientAuth",
            Usage::Server => "serverAuth",
            Usage::Client => "clientAuth",
        };
        self.key(name, &["-subj", subject])?;
        let extensions = format!("subjectAltName={alternative}\nextendedKeyUsage={usage}");
        let at = |kind: &str| self.path(&format!("{name}.{kind}"));
        fs::write(at("ext"), extensions)?;
        let (request, signed, extensions) = (at("csr"), at("pem"), at("ext"));
        let (ca, key) = (self.path("ca.pem"), self.path("ca.key"));
        let args = ["x509", "-req", "-days", "30", "-in", &request, "-out", &signed, "-extfile", &extensions];
        let signer = ["-CA", &ca, "-CAkey", &key, "-CAcreateserial"];
        ip::output("openssl", &[&args[..], &signer[..]].concat()).map(drop)
    }

    /// The path of a file, as `ca.pem`.
    pub fn path(&self, file: &str) -> String {
        self.0.join(file).display().to_string()
    }

    /// Makes a key, with a request or, for an authority, a certificate.
    fn key(&self, name: &str, more: &[&str]) -> Result<()> {
        let (key, out) = (self.path(&format!("{name}.key")), self.path(&format!("{name}.csr")));
        let out = if name == "ca" { self.path("ca.pem") } else { out };
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let files = ["-keyout", &key, "-out", &out];
        ip::output("openssl", &[&["req"], &curve[..], &files[..], more].concat()).map(drop)
    }
}

/// The directory of a host's credentials.
const DIR: &str = "/etc/moor";

impl Host<'_> {
    /// Gives the host the certificates of an authority with this name, as its files `ca.pem`,
    /// `host.pem` and `host.key`, each replaced by rename. Returns their keys of `cluster.json`.
    pub fn certify(&self, authority: &Authority, name: &str) -> Result<Value> {
        let files = [
            ("ca.pem", "ca.pem".into()),
            ("host.pem", format!("{name}.pem")),
            ("host.key", format!("{name}.key")),
        ];
        for (file, from) in &files {
            let bytes = fs::read(authority.path(from)).with_context(|| format!("read {from}"))?;
            self.credential(file, &bytes)?;
        }
        let [ca, cert, key] = files.map(|(file, _)| format!("{DIR}/{file}"));
        Ok(json!({"ca": ca, "cert": cert, "key": key, "insecure": false}))
    }

    /// Replaces a file of credentials, which only root may read.
    pub fn credential(&self, file: &str, content: &[u8]) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        self.inside(|| {
            let to = Path::new(DIR).join(file);
            let new = to.with_extension("new");
            fs::write(&new, content)?;
            fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
            fs::rename(&new, &to).with_context(|| format!("replace {}", to.display()))
        })
    }
}
