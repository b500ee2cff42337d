//! The files of a project: compose files and `.env`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::{env, io};

use crate::failure::Failure;
use crate::files;
use crate::yaml::{self, Fault, Node, SIZE_MAX};

/// The names that are looked for, in this order, and what is laid over the one that is found.
const NAMES: [(&str, &str); 4] = [
    ("compose.yaml", "compose.override.yaml"),
    ("compose.yml", "compose.override.yml"),
    ("docker-compose.yml", "docker-compose.override.yml"),
    ("docker-compose.yaml", "docker-compose.override.yaml"),
];

/// The documents of a project, and the variables of its directory.
#[derive(Debug, Default)]
pub struct Sources {
    /// The directory, whose name is the project's when nothing else is.
    pub dir: PathBuf,
    /// The files, in the order in which they are laid over each other.
    pub files: Vec<PathBuf>,
    /// Their documents.
    pub documents: Vec<Rc<Node>>,
    /// The variables of `.env`.
    pub variables: BTreeMap<String, String>,
}

impl Sources {
    /// Reads these files, or those of the current directory.
    pub fn read(given: &[PathBuf]) -> Result<Self, Failure> {
        let current = env::current_dir()
            .map_err(|error| Failure::incomplete(format!("find the current directory: {error}")))?;
        let files = if given.is_empty() { usual(&current)? } else { given.to_vec() };
        let first = files.first().map(|file| current.join(file));
        let dir = first.as_deref().and_then(Path::parent).unwrap_or(&current).to_owned();
        let mut sources = Self { variables: variables(&dir.join(".env"))?, dir, ..Self::default() };
        for (number, file) in files.iter().enumerate() {
            let bytes = files::read(file, SIZE_MAX as u64)
                .map_err(|error| Failure::refused(format!("read {}: {error}", file.display())))?;
            sources.files.push(file.clone());
            let document = yaml::load(&bytes, number).map_err(|fault| sources.fault(&fault))?;
            sources.documents.push(document);
        }
        Ok(sources)
    }

    /// The value of a variable: the environment's, else that of `.env`.
    pub fn variable(&self, name: &str) -> Option<String> {
        env::var(name).ok().or_else(|| self.variables.get(name).cloned())
    }

    /// The place of a fault as an editor takes it.
    pub fn place(&self, at: yaml::Place) -> String {
        let file = self.files.get(at.file).map(|file| file.display().to_string()).unwrap_or_default();
        format!("{file}:{}:{}", at.line, at.column)
    }

    /// The fault with its file.
    pub fn fault(&self, fault: &Fault) -> Failure {
        Failure::refused(format!("{}: {}", self.place(fault.at), fault.what))
    }
}

fn usual(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let is_there = |name: &str| dir.join(name).exists();
    let Some((name, over)) = NAMES.into_iter().find(|(name, _)| is_there(name)) else {
        return Err(Failure::refused(format!("no compose.yaml in {}", dir.display()))
            .hint("name the file with -f, or go to its directory"));
    };
    Ok([name, over].into_iter().filter(|name| is_there(name)).map(PathBuf::from).collect())
}

fn variables(file: &Path) -> Result<BTreeMap<String, String>, Failure> {
    match files::read(file, SIZE_MAX as u64) {
        Ok(bytes) => parse_env(&String::from_utf8_lossy(&bytes))
            .map_err(|(line, what)| Failure::refused(format!("{}:{line}: {what}", file.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(Failure::refused(format!("read {}: {error}", file.display()))),
    }
}

/// Lines of `NAME=value`, with `export` or without; quotes hold what is in them, and a comment
/// follows a blank.
fn parse_env(text: &str) -> Result<BTreeMap<String, String>, (usize, String)> {
    let mut found = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        let name = name.trim_end();
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err((number + 1, format!("{name:?} is no name of a variable")));
        }
        found.insert(name.to_owned(), value_of(value.trim()).map_err(|what| (number + 1, what))?);
    }
    Ok(found)
}

fn value_of(text: &str) -> Result<String, String> {
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote) {
            let end = inner.find(quote).ok_or_else(|| format!("the quote {quote} does not end"))?;
            return Ok(inner[..end].to_owned());
        }
    }
    let end = text.find(" #").unwrap_or(text.len());
    Ok(text[..end].trim_end().to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;

    #[test]
    fn lines_of_env_are_variables() {
        let text = "# c\nA=1\nexport B = two # c\nC=\"x # y\" # c\nD='$A'\nE\n";
        let read = parse_env(text).unwrap();
        let all: Vec<_> = read.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(all, ["A=1", "B=two", "C=x # y", "D=$A", "E="]);
        assert_eq!(parse_env("A=1\nA B=2\n").unwrap_err().0, 2);
        assert!(parse_env("A='1\n").is_err());
    }
}
