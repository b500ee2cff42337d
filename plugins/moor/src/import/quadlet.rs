//! Quadlet's `.network` files.

use std::collections::BTreeMap;

use super::found::{Found, Imported};
use super::podman::interface_key;

/// Reads a file; `stem` is its name without `.network`.
pub fn read(text: &str, stem: &str) -> Result<Vec<Found>, String> {
    let mut unit =
        Unit { imported: Imported::default(), options: BTreeMap::new(), interface: None, has_section: false };
    unit.imported.spec.name = format!("systemd-{stem}");
    let mut section = "";
    for (number, line) in lines(text) {
        let fault = |what: &str| format!("line {number}: {what}");
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            let name = name.strip_suffix(']').ok_or_else(|| fault("the section has no \"]\""))?;
            section = if name == "Network" { "Network" } else { "" };
            unit.has_section |= name == "Network";
            continue;
        }
        let (key, value) = line.split_once('=').ok_or_else(|| fault("expected KEY=VALUE"))?;
        if section == "Network" {
            unit.take(key.trim_end(), value.trim_start()).map_err(|what| fault(&what))?;
        }
    }
    if unit.has_section {
        Ok(vec![Found::Network(Box::new(unit.finish()))])
    } else {
        Err("there is no [Network]".into())
    }
}

/// The lines with their numbers; a backslash at the end continues a line.
fn lines(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        let (number, mut whole) = open.take().unwrap_or((index + 1, String::new()));
        match line.strip_suffix('\\') {
            Some(part) => {
                whole += part;
                whole.push(' ');
                open = Some((number, whole));
            }
            None => found.push((number, whole + line)),
        }
    }
    found.extend(open);
    found
}

struct Unit {
    imported: Imported,
    options: BTreeMap<String, String>,
    interface: Option<String>,
    has_section: bool,
}

impl Unit {
    fn take(&mut self, key: &str, value: &str) -> Result<(), String> {
        if value.replace("%%", "").contains('%') {
            return Err(format!("{key}: what \"%\" stands for is known to systemd alone"));
        }
        let value = value.replace("%%", "%");
        let spec = &mut self.imported.spec;
        match key {
            "DNS" => spec.dns.push(value),
            "DisableDNS" => spec.disable_dns = flag(key, &value)?,
            "Driver" => spec.driver = value,
            "Gateway" => spec.gateways.push(value),
            "IPAMDriver" => spec.ipam_driver = value,
            "IPRange" => spec.ip_ranges.push(value),
            "IPv6" => spec.ipv6 = flag(key, &value)?.then_some(true),
            "InterfaceName" => self.interface = Some(value),
            "Internal" => spec.internal = flag(key, &value)?,
            "Label" => spec.labels.extend(words(&value)?.iter().map(|word| pair(word))),
            "NetworkName" => spec.name = value,
            "Options" => self.options.extend(words(&value)?.iter().map(|word| pair(word))),
            "Subnet" => spec.subnets.push(value),
            "NetworkDeleteOnStop" => {
                if flag(key, &value)? {
                    self.imported.lose(key, "no unit makes or deletes the network");
                }
            }
            // The name of the unit, which there is none of.
            "ServiceName" => {}
            _ => self.imported.lose(key, "no counterpart"),
        }
        Ok(())
    }

    fn finish(mut self) -> Imported {
        if let Some(interface) = self.interface {
            self.options.entry(interface_key(&self.imported.spec.driver).into()).or_insert(interface);
        }
        self.imported.options(self.options);
        self.imported
    }
}

fn pair(word: &str) -> (String, String) {
    let (key, value) = word.split_once('=').unwrap_or((word, ""));
    (key.to_owned(), value.to_owned())
}

fn flag(key: &str, value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "yes" | "true" | "on" => Ok(true),
        "0" | "no" | "false" | "off" => Ok(false),
        _ => Err(format!("{key}: {value:?} is neither true nor false")),
    }
}

/// Words between blanks; quotes hold blanks.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in text.chars() {
        match quote {
            Some(end) if c == end => quote = None,
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if quote.is_some() { Err("a quote does not end".into()) } else { Ok(words) }
}
