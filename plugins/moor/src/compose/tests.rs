#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::network::create::Suite;

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/tool/compose")
}

fn variable(name: &str) -> Option<String> {
    (name == "TAG").then(|| "1".to_owned())
}

/// The plan of files of the test's directory, whose names stand in it without a path.
fn plan(names: &[&str], given: Option<&str>) -> Result<Plan, String> {
    let mut documents = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let bytes = fs::read(dir().join(name)).unwrap();
        documents.push(crate::yaml::load(&bytes, number).map_err(|fault| fault.to_string())?);
    }
    let naming = Naming { given, dir: Path::new("/home/me/Shop.1") };
    let project = Project::read(&documents, &variable, naming).map_err(|fault| fault.to_string())?;
    let files: Vec<PathBuf> = names.iter().map(PathBuf::from).collect();
    Ok(Plan::new(&project, &files, Suite { firewall: true, dns: true }))
}

/// Compares with a file, or writes it anew with `BLESS=1`.
fn golden(name: &str, text: &str) {
    let file = dir().join(name);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&file, text).unwrap();
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(text, expected, "{}: BLESS=1 writes it anew", file.display());
}

/// T-080: the plans of files of several kinds.
#[test]
fn plans_are_as_recorded() {
    for (name, files, given) in [
        ("web", &["web.yaml"][..], None),
        ("apart", &["apart.yaml"], None),
        ("between", &["between.yaml"], Some("between")),
        ("master", &["master.yaml"], None),
        ("slave", &["slave.yaml"], Some("slave2")),
        ("addresses", &["addresses.yaml"], None),
        ("modes", &["modes.yaml"], None),
        ("layered", &["layered.yaml", "layered.override.yaml"], None),
    ] {
        let plan = plan(files, given).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        let text = serde_json::to_string_pretty(&plan).unwrap() + "\n";
        golden(&format!("{name}.plan.json"), &text);
    }
}

/// T-080: every fault has its line and column.
#[test]
fn faults_are_as_recorded() {
    let mut found = String::new();
    let mut files: Vec<_> =
        fs::read_dir(dir().join("faulty")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert!(files.len() >= 20);
    for file in files {
        let name = file.to_string_lossy();
        let fault = plan(&[&format!("faulty/{name}")], None).map(|_| ()).expect_err(&name);
        let place: Vec<_> = fault.splitn(3, ':').collect();
        assert!(place[0].parse::<usize>().is_ok_and(|line| line > 0), "{name}: {fault}");
        assert!(place[1].parse::<usize>().is_ok_and(|column| column > 0), "{name}: {fault}");
        found += &format!("{name}:{fault}\n");
    }
    golden("faults.txt", &found);
}

#[test]
fn a_project_is_named_by_option_then_file_then_directory() {
    let read = |text: &str, given| {
        let document = crate::yaml::load(text.as_bytes(), 0).unwrap();
        let naming = Naming { given, dir: Path::new("/srv/_My Shop.2") };
        Project::read(&[document], &variable, naming).map(|project| project.name)
    };
    let named = "name: from-${TAG}\nservices: {}\n";
    assert_eq!(read(named, Some("given")).unwrap(), "given");
    assert_eq!(read(named, None).unwrap(), "from-1");
    assert_eq!(read("services: {}\n", None).unwrap(), "myshop2");
    assert!(read(named, Some("Given")).is_err());
    assert_eq!(read("name: A\n", None).unwrap_err().at.column, 7);
}

#[test]
fn a_variable_that_only_an_image_needs_may_be_missing() {
    let text =
        "services: {web: {image: \"x:${NO:?tag}\", networks: [\"${N:-front}\"]}}\nnetworks: {front: }\n";
    let document = crate::yaml::load(text.as_bytes(), 0).unwrap();
    let naming = Naming { given: Some("p"), dir: Path::new("/") };
    let project = Project::read(&[document], &variable, naming).unwrap();
    assert_eq!(project.services[0].members[0].network, "front");
    assert!(project.unset.is_empty());
}
