//! A network of another tool, as a description of ours, with what is lost on the way.

use std::collections::BTreeMap;

use crate::failure::Failure;
use crate::network::create::{Spec, check};

/// What a file holds.
#[derive(Debug)]
pub enum Found {
    /// A network.
    Network(Box<Imported>),
    /// One that is not imported.
    Skipped {
        /// Its name.
        name: String,
        /// Why.
        reason: &'static str,
    },
}

/// A network, described.
#[derive(Debug, Default)]
pub struct Imported {
    /// The description.
    pub spec: Spec,
    /// What has no counterpart.
    pub lost: Vec<Lost>,
}

/// A key that has no counterpart.
#[derive(Debug, PartialEq)]
pub struct Lost {
    /// The key.
    pub key: String,
    /// Why.
    pub reason: String,
}

impl Imported {
    /// Notes a key that has no counterpart.
    pub fn lose(&mut self, key: impl Into<String>, reason: impl Into<String>) {
        self.lost.push(Lost { key: key.into(), reason: reason.into() });
    }

    /// Takes the driver's options: those that a conflist can have become the description's.
    pub fn options(&mut self, options: BTreeMap<String, String>) {
        let honoured = honoured(&self.spec, options);
        self.spec.options.extend(honoured.kept);
        self.lost.extend(honoured.lost);
    }

    /// Takes the options of the IPAM driver alike.
    pub fn ipam_options(&mut self, options: BTreeMap<String, String>) {
        for (key, value) in options {
            let one = Spec { ipam_options: vec![(key.clone(), value.clone())], ..self.spec.clone() };
            match refusal(&self.spec, &one) {
                None => self.spec.ipam_options.push((key, value)),
                Some(failure) => self.lose(key, failure.text),
            }
        }
    }
}

/// Options, by whether a conflist can have them.
#[derive(Debug, Default)]
pub struct Honoured {
    /// Those that it can have.
    pub kept: Vec<(String, String)>,
    /// The others.
    pub lost: Vec<Lost>,
}

/// Which options of the driver a conflist of the description can have.
pub fn honoured(spec: &Spec, options: BTreeMap<String, String>) -> Honoured {
    let mut honoured = Honoured::default();
    for (key, value) in options {
        let mut one = spec.clone();
        one.options.push((key.clone(), value.clone()));
        match refusal(spec, &one) {
            None => honoured.kept.push((key, value)),
            Some(failure) => honoured.lost.push(Lost { key, reason: failure.text }),
        }
    }
    honoured
}

/// Why a description is refused that was not before: of an unsound one, nothing is refused.
fn refusal(before: &Spec, after: &Spec) -> Option<Failure> {
    check(before).ok()?;
    check(after).err()
}
