//! A fake plugin, run by the main loop.

use std::cell::RefCell;
use std::io;

use proptest::prelude::*;

use crate::{AddResult, Code, Command, Env, Error, IpConfig, Json, Plugin, Request, parse_cidr, run};

/// Records its calls, and returns the given error or result.
struct Fake {
    asked: RefCell<Vec<(&'static str, Command)>>,
    error: Option<Error>,
    result: AddResult,
}

impl Fake {
    fn new() -> Self {
        let address = parse_cidr("10.0.0.2/24").unwrap();
        let ips = vec![IpConfig { interface: None, address, gateway: None }];
        Self { asked: RefCell::default(), error: None, result: AddResult { ips, ..AddResult::default() } }
    }

    fn failing(error: Error) -> Self {
        Self { error: Some(error), ..Self::new() }
    }

    fn note(&self, verb: &'static str, request: &Request) -> Result<(), Error> {
        self.asked.borrow_mut().push((verb, request.command));
        self.error.clone().map_or(Ok(()), Err)
    }

    fn verbs(&self) -> Vec<&'static str> {
        self.asked.borrow().iter().map(|(verb, _)| *verb).collect()
    }
}

impl Plugin for Fake {
    const NAME: &'static str = "fake";
    const ABOUT: &'static str = "returns what a test wants";
    const COMMANDS: &'static [(&'static str, &'static str)] = &[("repeat", "prints nothing")];

    fn command(&self, name: &str, arguments: &[std::ffi::OsString]) -> Result<(), Error> {
        match arguments {
            [] => self.error.clone().map_or(Ok(()), Err),
            [one, ..] => Err(Error::internal(format!("{name}: {}", one.display()))),
        }
    }

    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        self.note("add", request).map(|()| self.result.clone())
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        self.note("check", request)
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        self.note("del", request)
    }

    fn gc(&self, request: &Request) -> Result<(), Error> {
        self.note("gc", request)
    }

    fn status(&self, request: &Request) -> Result<(), Error> {
        self.note("status", request)
    }
}

const CONF: &str = r#"{"cniVersion":"1.1.0","name":"net","type":"fake"}"#;

fn env(command: &str) -> Env {
    with(command, "CNI_ARGS", "")
}

fn with(command: &str, name: &str, value: &str) -> Env {
    let good = [
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/none"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/none"),
    ];
    good.into_iter().chain([(name, value)]).collect()
}

/// Exit status, standard output and standard error.
fn out(plugin: &Fake, env: &Env, stdin: &[u8]) -> (u8, String, String) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let status = run(plugin, env, &mut &*stdin, &mut stdout, &mut stderr);
    (status, String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// The error object on standard output: version, code, msg, details.
fn failure(plugin: &Fake, env: &Env, stdin: &[u8]) -> (String, u64, String, String) {
    let (status, stdout, _) = out(plugin, env, stdin);
    assert_eq!(status, 1);
    assert!(!stdout.ends_with('\n') && stdout.starts_with("{\n    \"cniVersion\""), "{stdout}");
    let tree = Json::parse(stdout.as_bytes()).unwrap();
    let text = |key| tree.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
    let Some(Json::Number(code)) = tree.get("code") else { panic!("no code in {stdout}") };
    (text("cniVersion"), code.as_u64().unwrap(), text("msg"), text("details"))
}

fn code_and_msg(env: &Env, stdin: &[u8]) -> (u64, String) {
    let fake = Fake::new();
    let (_, code, msg, _) = failure(&fake, env, stdin);
    assert_eq!(fake.verbs(), [""; 0], "the plugin was called");
    (code, msg)
}

/// A stream on which every operation fails.
struct Broken;

impl io::Read for Broken {
    fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::from_raw_os_error(5))
    }
}

impl io::Write for Broken {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::Error::from_raw_os_error(32))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// C-008, C-010
#[test]
fn without_a_command_the_about_text_goes_to_stderr() {
    let fake = Fake::new();
    for env in [Env::default(), with("", "CNI_ARGS", "")] {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        assert_eq!(run(&fake, &env, &mut Broken, &mut stdout, &mut stderr), 0);
        let about = String::from_utf8(stderr).unwrap();
        assert!(about.starts_with("CNI fake plugin v"));
        let versions = "CNI protocol versions supported: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n";
        assert!(about.ends_with(versions), "{about}");
        assert_eq!(stdout, b"");
    }
}

/// C-001: arguments count only when CNI_COMMAND is not set.
#[test]
fn a_plugins_own_command_reports_its_error_on_stderr() {
    let run = |fake: &Fake, env: &Env, arguments: &[&str]| {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut streams = super::Streams { stdin: &mut Broken, stdout: &mut stdout, stderr: &mut stderr };
        let status = super::main(fake, env, &mut arguments.iter().map(Into::into), &mut streams);
        assert!(stdout.is_empty());
        (status, String::from_utf8(stderr).unwrap())
    };
    let none = env("");
    assert_eq!(run(&Fake::new(), &none, &["repeat"]), (0, String::new()));
    assert_eq!(run(&Fake::new(), &none, &["repeat", "x"]), (1, "fake: repeat: x\n".to_owned()));
    let failing = Fake::failing(Error::internal("no").details("why"));
    assert_eq!(run(&failing, &none, &["repeat"]), (1, "fake: no\n  why\n".to_owned()));
    assert!(run(&Fake::new(), &none, &["other"]).1.starts_with("CNI fake plugin"));
}

#[test]
fn help_and_version_go_to_stdout() {
    let stdout_of = |env: &Env, argument: &str| {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut streams = super::Streams { stdin: &mut Broken, stdout: &mut stdout, stderr: &mut stderr };
        let mut arguments = [argument.into()].into_iter();
        assert_eq!(super::main(&Fake::new(), env, &mut arguments, &mut streams), 0);
        (String::from_utf8(stdout).unwrap(), stderr.len())
    };
    let none = Env::default();
    assert_eq!(stdout_of(&none, "--version"), (format!("fake {}{}\n", crate::RELEASE, crate::C_LIBRARY), 0));
    let (help, _) = stdout_of(&none, "--help");
    for text in ["fake", "returns what a test wants", "CNI_COMMAND", "CNI_NETNS", "STATUS", "README"] {
        assert!(help.contains(text), "{help}");
    }
    assert_eq!(stdout_of(&none, "daemon").0, "");
    assert!(stdout_of(&env("VERSION"), "--help").0.starts_with("{\"cniVersion\""));
}

/// C-004, C-020, C-037
#[test]
fn version_is_one_line_and_reads_nothing() {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let env: Env = [("CNI_COMMAND", "VERSION"), ("CNI_IFNAME", "a/b")].into_iter().collect();
    assert_eq!(run(&Fake::new(), &env, &mut Broken, &mut stdout, &mut stderr), 0);
    assert_eq!(
        String::from_utf8(stdout).unwrap(),
        "{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"0.1.0\",\"0.2.0\",\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}\n"
    );
    assert_eq!(run(&Fake::new(), &env, &mut Broken, &mut Broken, &mut stderr), 1);
}

/// C-002..C-005
#[test]
fn only_add_prints() {
    for (command, verb) in
        [("ADD", "add"), ("CHECK", "check"), ("DEL", "del"), ("GC", "gc"), ("STATUS", "status")]
    {
        let fake = Fake::new();
        let (status, stdout, stderr) = out(&fake, &env(command), CONF.as_bytes());
        assert_eq!((status, stderr.as_str()), (0, ""));
        assert_eq!(fake.verbs(), [verb]);
        if command == "ADD" {
            let result = "{\n    \"cniVersion\": \"1.1.0\",\n    \"ips\": [\n        {\n            \
                          \"address\": \"10.0.0.2/24\"\n        }\n    ]\n}";
            assert_eq!(stdout, result);
        } else {
            assert_eq!(stdout, "");
        }
    }
}

/// C-014, C-030: environment, then JSON and name, then the command, then the version, then the
/// namespace.
#[test]
fn errors_are_found_in_the_order_of_the_protocol() {
    let own = "/proc/self/ns/net";
    let (code, msg) = code_and_msg(&with("ADD", "CNI_NETNS", ""), b"{");
    assert_eq!((code, msg.as_str()), (4, "required env variables [CNI_NETNS] missing"));
    let (code, msg) = code_and_msg(&with("ADD", "CNI_NETNS", own), b"{");
    assert_eq!(code, 6);
    assert!(msg.starts_with("error unmarshall network config: "), "{msg}");
    // An unknown command needs no other variable, but all of stdin is read (C-020).
    let unknown: Env = [("CNI_COMMAND", "add")].into_iter().collect();
    assert_eq!(code_and_msg(&unknown, b"{").0, 6);
    assert_eq!(code_and_msg(&unknown, b"{}"), (7, "missing network name".into()));
    let odd = br#"{"name":"n","cniVersion":5}"#;
    assert_eq!(code_and_msg(&unknown, odd), (4, "unknown CNI_COMMAND: add".into()));
    let (code, msg) = code_and_msg(&with("ADD", "CNI_NETNS", own), odd);
    assert_eq!(code, 6);
    assert!(msg.starts_with("decoding version from network config: "), "{msg}");
    let (code, _) = code_and_msg(&with("ADD", "CNI_NETNS", own), br#"{"name":"n","cniVersion":"0.9.0"}"#);
    assert_eq!(code, 1);
    assert_eq!(code_and_msg(&with("ADD", "CNI_NETNS", own), CONF.as_bytes()).0, 8);
}

/// C-021
#[test]
fn stdin_must_be_one_object() {
    let deep = "[".repeat(1 << 20);
    let truncated = &CONF[..CONF.len() - 1];
    for stdin in
        ["", " ", truncated, "[]", "5", "\"a\"", &format!("{CONF}x"), &format!("{CONF}{CONF}"), &deep]
    {
        for command in ["ADD", "DEL", "CHECK", "GC", "STATUS", "odd"] {
            let (code, msg) = code_and_msg(&env(command), stdin.as_bytes());
            assert_eq!(code, 6);
            assert!(msg.starts_with("error unmarshall network config: "), "{msg}");
        }
    }
    assert_eq!(code_and_msg(&env("ADD"), b"{\"name\":\"\xff\"}").0, 6);
    assert!(Request::parse(&env("ADD"), format!(" {CONF}\n")).is_ok());
}

/// At most one byte past the limit is read.
#[test]
fn stdin_has_a_limit() {
    let mut huge = io::repeat(b' ');
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    assert_eq!(run(&Fake::new(), &env("ADD"), &mut huge, &mut stdout, &mut stderr), 1);
    let text = String::from_utf8(stdout).unwrap();
    assert!(text.contains("error unmarshall network config: larger than 8388608 bytes"), "{text}");
    let mut fits = CONF.as_bytes().to_vec();
    fits.resize(8 << 20, b' ');
    assert_eq!(out(&Fake::new(), &env("DEL"), &fits).0, 0);
}

/// C-022
#[test]
fn a_configuration_needs_a_valid_name() {
    for stdin in ["null", "{}", r#"{"name":null}"#, r#"{"name":""}"#, r#"{"name":"a","NAME":""}"#] {
        assert_eq!(code_and_msg(&env("ADD"), stdin.as_bytes()), (7, "missing network name".into()));
    }
    for name in ["../x", "a b", "-a", "a/b", "ä", "a\\n", "a\\u0000"] {
        let stdin = format!(r#"{{"name":"{name}"}}"#);
        let (_, code, msg, details) = failure(&Fake::new(), &env("DEL"), stdin.as_bytes());
        assert_eq!((code, msg.as_str()), (7, "invalid characters found in network name"));
        assert_eq!(details, name.replace("\\n", "\n").replace("\\u0000", "\0"));
    }
    assert_eq!(code_and_msg(&env("ADD"), br#"{"name":5}"#).0, 6);
}

/// C-023
#[test]
fn an_unreadable_stdin_is_an_io_error() {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    assert_eq!(run(&Fake::new(), &env("ADD"), &mut Broken, &mut stdout, &mut stderr), 1);
    let text = String::from_utf8(stdout).unwrap();
    // The words for EIO are the C library's.
    assert!(
        text.contains("\"code\": 5")
            && text.contains("error reading from stdin: ")
            && text.contains("errno=EIO"),
        "{text}"
    );
}

/// C-024, C-070
#[test]
fn a_missing_version_means_the_oldest() {
    for stdin in [r#"{"name":"n"}"#, r#"{"name":"n","cniVersion":""}"#, r#"{"name":"n","cniVersion":null}"#] {
        let (status, stdout, _) = out(&Fake::new(), &env("ADD"), stdin.as_bytes());
        assert_eq!(status, 0);
        assert!(stdout.contains("\"cniVersion\": \"0.1.0\"") && stdout.contains("\"ip4\""), "{stdout}");
    }
    // An error has a version too: the configuration's if it is known, otherwise the newest.
    let fake = Fake::failing(Error::internal("no"));
    assert_eq!(failure(&fake, &env("ADD"), br#"{"name":"n","cniVersion":"0.3.1"}"#).0, "0.3.1");
    assert_eq!(failure(&fake, &env("CHECK"), br#"{"name":"n"}"#).0, "0.1.0");
    assert_eq!(failure(&fake, &env("ADD"), br#"{"name":"n","cniVersion":"7.0.0"}"#).0, "1.1.0");
}

/// C-071, C-002: the exit status is 1 for every code.
#[test]
fn a_plugins_error_is_printed_unchanged() {
    let error = Error { code: 107, msg: "a \"b\" <c>".into(), details: "d".into() };
    let printed = failure(&Fake::failing(error), &env("STATUS"), CONF.as_bytes());
    assert_eq!(printed, ("1.1.0".into(), 107, "a \"b\" <c>".into(), "d".into()));
    let bare = Fake::failing(Error::new(Code::NotAvailable, "full"));
    let (_, stdout, _) = out(&bare, &env("STATUS"), CONF.as_bytes());
    assert_eq!(stdout, "{\n    \"cniVersion\": \"1.1.0\",\n    \"code\": 50,\n    \"msg\": \"full\"\n}");
}

/// C-110..C-112
#[test]
fn the_plugins_own_namespace_is_refused_first() {
    for command in ["ADD", "DEL"] {
        let own = with(command, "CNI_NETNS", "/proc/thread-self/ns/net");
        let msg = "plugin's netns and netns from CNI_NETNS should not be the same";
        assert_eq!(code_and_msg(&own, CONF.as_bytes()), (8, msg.into()));
    }
    let own = with("CHECK", "CNI_NETNS", "/proc/self/ns/net");
    assert_eq!(out(&Fake::new(), &own, CONF.as_bytes()).0, 0);
    let odd = ["/none", "/dev/null", "/", "a\nb", &"/x".repeat(5000), "\u{0}"];
    for netns in odd {
        for command in ["ADD", "DEL", "CHECK"] {
            let env = with(command, "CNI_NETNS", netns);
            assert_eq!(out(&Fake::new(), &env, CONF.as_bytes()).0, 0);
        }
    }
    let allowed = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/proc/self/ns/net"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/none"),
        ("CNI_NETNS_OVERRIDE", "TRUE"),
    ];
    assert_eq!(out(&Fake::new(), &Env::from_iter(allowed), CONF.as_bytes()).0, 0);
}

/// C-065: the main loop undoes an ADD for a plugin that did not check this first.
#[test]
fn an_add_is_undone_if_its_result_cannot_be_printed() {
    // The version cannot hold the result: the error is the only document.
    let mut fake = Fake::new();
    fake.result.ips.clear();
    let (_, code, msg, _) = failure(&fake, &env("ADD"), br#"{"name":"n","cniVersion":"0.2.0"}"#);
    assert_eq!((code, msg.as_str()), (999, "cannot convert: no valid IP addresses"));
    assert_eq!(*fake.asked.borrow(), [("add", Command::Add), ("del", Command::Del)]);

    // Standard output is closed.
    let fake = Fake::new();
    let mut stderr = Vec::new();
    assert_eq!(run(&fake, &env("ADD"), &mut CONF.as_bytes(), &mut Broken, &mut stderr), 1);
    assert_eq!(*fake.asked.borrow(), [("add", Command::Add), ("del", Command::Del)]);
    let text = String::from_utf8(stderr).unwrap();
    assert!(text.contains("write to stdout: Broken pipe"), "{text}");
}

proptest! {
    /// C-006
    #[test]
    fn any_input_gets_at_most_one_document(
        command in "ADD|DEL|CHECK|GC|STATUS|VERSION|add|", id in "[a-z./\n]{0,3}", netns in "/?[a-z\n]{0,3}",
        ifname in "[a-z./:]{0,17}", args in "[A-Z=;]{0,5}", path in "[a-z:]{0,3}",
        name in "[a-z./]{0,3}", version in "0.4.0|1.1.0|0.1.0|1|[0-9.]{0,9}", rest in "[]{}\",:a-z0-9 ]{0,12}",
    ) {
        let pairs = [
            ("CNI_COMMAND", command), ("CNI_CONTAINERID", id), ("CNI_NETNS", netns), ("CNI_IFNAME", ifname),
            ("CNI_ARGS", args), ("CNI_PATH", path),
        ];
        for end in ["}", &rest] {
            let stdin = format!(r#"{{"name":"{name}","cniVersion":"{version}"{end}"#);
            let env = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let (status, stdout, _) = out(&Fake::new(), &env, stdin.as_bytes());
            prop_assert!(stdout.is_empty() && status == 0 || Json::parse(stdout.as_bytes()).is_ok(), "{stdout}");
        }
    }
}
