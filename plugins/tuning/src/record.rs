//! What the host keeps of an attachment: what its link and its parameters were before.
//!
//! The record is there before anything is changed, and goes after everything is set back. So a DEL
//! or GC finishes what a killed process began, and a second ADD keeps the first one's record.
//!
//! A parameter of the whole namespace may be set by several attachments of a container. The latest
//! one's value counts. While an attachment goes, the parameter gets the value of the latest that
//! remains, and after the last one what it was before all of them.

use std::path::PathBuf;

use host::piece::{LinkSettings, is_same_value};
use host::{Namespace, Owner};

use crate::parameter::{Parameter, is_of_link};
use crate::plan::Facts;

/// The record of one attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The attachment.
    pub owner: Owner,
    /// Where its namespace is.
    pub netns: Option<Namespace>,
    /// The namespace's name, which no other has until the next boot.
    pub space: String,
    /// The index of its link; 0 if it has none.
    pub index: u32,
    /// When ADD was called, in nanoseconds since boot.
    pub at: u64,
    /// The backup in the reference's format, if there is one.
    pub backup: Option<PathBuf>,
    /// What the link had before.
    pub link: LinkSettings,
    /// The parameters, in the order in which they were set.
    pub parameters: Vec<Kept>,
}

/// A parameter on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its path below `/proc/sys`.
    pub key: String,
    /// What it was before; `None` if the kernel does not print it.
    pub before: Option<String>,
    /// What it was set to.
    pub value: String,
    /// How the kernel prints that, if it prints another value than was written.
    pub printed: Option<String>,
}

impl Record {
    /// Whether it describes this link of this namespace, and not those of an earlier container of
    /// the same name.
    pub fn is_about(&self, space: &str, index: u32) -> bool {
        self.space == space && self.index == index
    }

    /// Adds what an ADD is about to change. What is on record already stays: here it is what an
    /// earlier ADD of the attachment found, with `siblings` what the first attachment found.
    pub fn keep(&mut self, parameters: &[Parameter], facts: &Facts, siblings: &[Self]) {
        self.link = self.link.or(facts.link);
        for (parameter, now) in parameters.iter().zip(&facts.parameters) {
            let own = self.kept(&parameter.key).map(|kept| kept.before.clone());
            let of_sibling = || siblings.iter().find_map(|it| Some(it.kept(&parameter.key)?.before.clone()));
            let before = own.or_else(of_sibling).unwrap_or_else(|| now.clone());
            let kept =
                Kept { key: parameter.key.clone(), before, value: parameter.value.clone(), printed: None };
            match self.parameters.iter_mut().find(|earlier| earlier.key == kept.key) {
                Some(earlier) => *earlier = kept,
                None => self.parameters.push(kept),
            }
        }
    }

    /// Notes what the kernel prints for a parameter that was set, if it is another value. Returns
    /// whether it is.
    pub fn note(&mut self, key: &str, printed: String) -> bool {
        match self.parameters.iter_mut().find(|kept| kept.key == key) {
            Some(kept) if !is_same_value(&kept.value, &printed) => {
                kept.printed = Some(printed);
                true
            }
            _ => false,
        }
    }

    /// A parameter on record.
    pub fn kept(&self, key: &str) -> Option<&Kept> {
        self.parameters.iter().find(|kept| kept.key == key)
    }

    /// The values that the parameters get when the attachment goes, in the order in which they were
    /// set. `name` is its link's now: a container can rename it. Those of a link that is gone need
    /// nothing.
    pub fn set_back(&self, siblings: &[Self], name: Option<&str>) -> Vec<(String, String)> {
        let back = |kept: &Kept| {
            let own = &self.owner.ifname;
            let key = match name {
                _ if self.index == 0 || !is_of_link(&kept.key, own) => kept.key.clone(),
                Some(name) => renamed(&kept.key, own, name),
                None => return None,
            };
            let value = latest(siblings, &kept.key).map(|sibling| sibling.value.clone());
            Some((key, value.or_else(|| kept.before.clone())?))
        };
        self.parameters.iter().filter_map(back).collect()
    }
}

impl Kept {
    /// How the kernel prints it.
    pub fn expected(&self) -> &str {
        self.printed.as_ref().unwrap_or(&self.value)
    }
}

/// The latest of several attachments that set a parameter.
pub fn latest<'r>(records: &'r [Record], key: &str) -> Option<&'r Kept> {
    let setting = records.iter().filter_map(|record| Some((record.at, record.kept(key)?)));
    setting.max_by_key(|(at, _)| *at).map(|(_, kept)| kept)
}

fn renamed(key: &str, link: &str, name: &str) -> String {
    let parts: Vec<&str> = key.split('/').map(|part| if part == link { name } else { part }).collect();
    parts.join("/")
}
