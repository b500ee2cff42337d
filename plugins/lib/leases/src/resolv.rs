//! `resolvConf`: reads a resolver configuration file for the result's `dns`.

use std::path::Path;

use cni::Dns;

/// The largest accepted file, in bytes.
const LIMIT: usize = 64 * 1024;

/// Reads and parses the file. Unlike most files of this crate, a missing one is an error: the
/// configuration names it.
pub fn read(path: &Path) -> Result<Dns, cni::Error> {
    match sys::file::read(path, LIMIT)? {
        Some(bytes) => Ok(parse(&String::from_utf8_lossy(&bytes))),
        None => Err(cni::Error::internal(format!("open {}: no such file or directory", path.display()))),
    }
}

/// Parses the keywords of resolv.conf(5) for which a result has a key: `search` and `options`
/// accumulate, the last `domain` wins. Skips comments, unknown keywords and keywords without a
/// value.
pub fn parse(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines().map(str::trim) {
        if line.starts_with(['#', ';']) {
            continue;
        }
        let mut words = line.split_whitespace();
        let (Some(keyword), Some(first)) = (words.next(), words.next()) else { continue };
        let values = std::iter::once(first).chain(words).map(str::to_owned);
        match keyword {
            "nameserver" => dns.nameservers.push(first.to_owned()),
            "domain" => first.clone_into(&mut dns.domain),
            "search" => dns.search.extend(values),
            "options" => dns.options.extend(values),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_the_references() {
        let text = "# no\n; no\n\nnameserver 192.0.2.1 192.0.2.9\n  nameserver\t2001:db8::1\nnameserver\n\
                    domain a.example\ndomain b.example c\nsearch x y\nsearch z\noptions ndots:5\n\
                    options edns0 trust-ad\nsortlist 192.0.2.0\nlookup file\n";
        let dns = parse(text);
        assert_eq!(dns.nameservers, ["192.0.2.1", "2001:db8::1"]);
        assert_eq!(dns.domain, "b.example");
        assert_eq!(dns.search, ["x", "y", "z"]);
        assert_eq!(dns.options, ["ndots:5", "edns0", "trust-ad"]);
    }

    #[test]
    fn a_too_large_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 192.0.2.1\n".repeat(10)).unwrap();
        assert_eq!(read(&path).unwrap().nameservers.len(), 10);
        std::fs::write(&path, vec![b'#'; LIMIT + 1]).unwrap();
        assert!(sys::file::read(&path, LIMIT).is_err());
    }
}
