//! A member with TLS, of this process. The certificates in `tests/tls` are for a hundred years; the
//! keys are for these tests alone.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread;

use cluster::settings::Settings;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ServerConfig, ServerConnection};
use serde_json::json;

use super::*;
use crate::etcd::{Client, Error as Failed, Refusal};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

fn certificate(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(file(name)).unwrap()
}

/// A member with this certificate, which gives a lease to whoever asks anything; its URL.
fn member(name: &str, wants_certificate: bool) -> String {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(certificate("ca.pem")).unwrap();
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = match wants_certificate {
        true => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
            builder.unwrap().with_client_cert_verifier(verifier.unwrap())
        }
        false => builder.unwrap().with_no_client_auth(),
    };
    let key = PrivateKeyDer::from_pem_file(file(&format!("{name}.key"))).unwrap();
    let config = builder.with_single_cert(vec![certificate(&format!("{name}.pem"))], key).unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        while let Ok((socket, _)) = listener.accept() {
            let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), socket);
            let mut request = [0; 4096];
            // A refused handshake ends here.
            let Ok(1..) = stream.read(&mut request) else { continue };
            let body = r#"{"header":{"cluster_id":"7","member_id":"8","revision":"9"},"ID":"5","TTL":"6"}"#;
            let head =
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())));
            stream.conn.send_close_notify();
            drop(stream.flush());
        }
    });
    url
}

fn client(url: &str, keys: serde_json::Value) -> Client {
    let mut text = json!({"endpoints": [url]});
    text.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    Client::new(&Settings::parse(Path::new("/cluster.json"), Some(text.to_string().as_bytes())).unwrap())
}

fn refusal(client: &Client) -> Refusal {
    match client.grant(5) {
        Err(Failed::Refused(refusal, _)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn in_own_network(name: &str, body: impl FnOnce()) {
    sys::testing::in_own_network(&format!("etcd::tls::tests::{name}"), || {
        sys::testing::run("ip link set lo up");
        body();
    });
}

/// O-075: a member's certificate is checked, also with `insecure`, but for its name.
#[test]
fn insecure_leaves_out_the_check_of_the_name_and_no_other() {
    in_own_network("insecure_leaves_out_the_check_of_the_name_and_no_other", || {
        let (here, elsewhere) = (member("here", false), member("elsewhere", false));
        let with = |url: &str, ca: Option<&str>, insecure: bool| {
            client(url, json!({"ca": ca.map(file), "insecure": insecure}))
        };
        assert_eq!(with(&here, Some("ca.pem"), false).grant(5).unwrap().value, 5);
        assert_eq!(refusal(&with(&elsewhere, Some("ca.pem"), false)), Refusal::ServerCertificate);
        assert_eq!(with(&elsewhere, Some("ca.pem"), true).grant(5).unwrap().value, 5);
        for insecure in [false, true] {
            for ca in [Some("other.pem"), None] {
                assert_eq!(refusal(&with(&here, ca, insecure)), Refusal::ServerCertificate, "{ca:?}");
            }
        }
        // A certificate for clients is none of a member.
        assert_eq!(
            refusal(&with(&member("client", false), Some("ca.pem"), true)),
            Refusal::ServerCertificate
        );
    });
}

/// O-075: certificates are used as they are replaced; halves of a pair are not.
#[test]
fn files_are_read_again_when_they_change_and_a_torn_pair_is_not_used() {
    in_own_network("files_are_read_again_when_they_change_and_a_torn_pair_is_not_used", || {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let copy = |from: &str, to: &Path| assert!(fs::copy(file(from), to).is_ok());
        copy("here.pem", &cert);
        copy("here.key", &key);
        let client = client(&member("here", true), json!({"ca": file("ca.pem"), "cert": cert, "key": key}));
        // Not for clients.
        assert_eq!(refusal(&client), Refusal::ClientCertificate);
        assert!(!client.has_new_files());
        copy("client.pem", &cert);
        assert!(client.has_new_files() && !client.has_new_files());
        assert_eq!(refusal(&client), Refusal::ClientCertificate);
        copy("client.key", &key);
        assert_eq!(client.grant(5).unwrap().value, 5);
        fs::remove_file(&cert).unwrap();
        assert_eq!(client.grant(5).unwrap().value, 5);
    });
}
