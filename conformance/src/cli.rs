//! What the harness is asked: its command line.

use std::ffi::OsString;
use std::path::PathBuf;

use cases::dns_strangers::Stranger;
use clap::{Args, Parser, Subcommand, ValueEnum};
use harness::job::Job;
use harness::options::Common;
use harness::world::World;
use harness::{judge, vm};

/// The release: what the build says of its tag, else the package's own version.
const RELEASE: &str = match option_env!("MOOR_VERSION") {
    Some(tag) if !tag.is_empty() => tag,
    _ => env!("CARGO_PKG_VERSION"),
};

/// Judge a directory of CNI plugins, without endangering the machine.
#[derive(Parser)]
#[command(name = "conformance", version = RELEASE, about)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Subcommand)]
pub enum Verb {
    /// Run the cases, each in a room of its own.
    #[command(
        after_help = "Cases declare what they need of the kernel, and the needs are probed. With --lane auto, what this kernel lacks \
                            goes to one virtual machine for all such cases (see 'conformance vm --help'); without one it is \
                            listed as not run. With CI=true in the environment, a case that is not run fails the run.\n\n\
                            A suite that is known for its deviations fails only for others: see --baseline and testdata/baseline.\n\n\
                            A world is a kind of host: busy (namespaces come and go, load), hostile (a local user's locks, umask 0, \
                            frames that nobody asked for), odd (an administrator's bridges, addresses, rules, sysctls). What cannot \
                            hold there is in testdata/worlds.\n\n\
                            Examples:\n  conformance run --cni-path /opt/cni/bin --filter bridge/\n  \
                            conformance run --report text --report junit=report.xml --report json=report.json\n  \
                            conformance run --cni-path /usr/lib/cni --lane native --baseline none\n  \
                            conformance run --world busy --filter portmap"
    )]
    Run(judge::RunArgs),
    /// Which clauses have a case, and which of those have passed in a run.
    #[command(
        after_help = "The exit status is 1 when a clause of the protocol has no case, or one of its cases has failed in \
                            the run that is given.\n\n\
                            Examples:\n  conformance coverage --all\n  \
                            conformance run --report json=run.json; conformance coverage --run run.json"
    )]
    Coverage {
        /// The JSON report of a run.
        #[arg(long, value_name = "FILE")]
        run: Option<PathBuf>,
        /// Every clause with its cases, not only those without one.
        #[arg(long)]
        all: bool,
        /// How to print it.
        #[arg(long, value_enum, default_value_t = Report::Text)]
        report: Report,
    },
    /// Plugins with one defect each, made from sound ones: the case that must catch it has to.
    #[command(after_help = "Example: conformance seeded --filter leak")]
    Seeded {
        #[command(flatten)]
        common: Common,
        /// Only the defects whose name holds this text.
        #[arg(long, value_name = "SUBSTR", default_value = "")]
        filter: String,
    },
    /// Ask two suites the same and print how their answers and what they leave differ.
    #[command(
        after_help = "Every conflist in every version: ADD, DEL, and an ADD with a value that cannot be; after each, what was said \
                      and the links, addresses, routes, rules, neighbours, sysctls, packet rules and files, of the host and \
                      in the container. Names and MAC addresses that are others in every run stand as whose they are.\n\n\
                      What is meant is summed up in the end, with the number that stands in the lines above: see \
                      testdata/diff. The exit status is 1 when something else differs.\n\n\
                      What this kernel lacks goes to a virtual machine, in the newest versions; with --lane vm all goes \
                      there. With CI=true a conflist that cannot be compared for want of one is a failure.\n\n\
                      Examples:\n  conformance diff --against /usr/lib/cni\n  \
                      conformance diff --against /usr/lib/cni --filter macvlan --full"
    )]
    Diff {
        #[command(flatten)]
        common: Common,
        /// The other suite.
        #[arg(long, value_name = "DIR")]
        against: PathBuf,
        /// Only the conflists whose name holds this text.
        #[arg(long, value_name = "SUBSTR", default_value = "")]
        filter: String,
        /// Every known difference, not only examples.
        #[arg(long)]
        full: bool,
        /// Where to ask.
        #[arg(long, value_enum, default_value_t = vm::lane::Lane::Auto)]
        lane: vm::lane::Lane,
        #[command(flatten)]
        vm: vm::VmArgs,
    },
    /// Hit every system call that changes something with a SIGKILL and with an error; then nothing may be left.
    #[command(
        after_help = "For what this kernel lacks (ipvlan, VLAN links), the targets that make most (host-access) go to a \
                      virtual machine, where they are hit at their messages to the kernel; with --lane vm all targets \
                      go there and are hit at everything, which takes long. With CI=true a target that cannot be run \
                      is a failure.\n\n\
                      Examples:\n  conformance faults --filter bridge/ADD\n  \
                      conformance faults --lane vm --filter ipvlan/"
    )]
    Faults {
        #[command(flatten)]
        common: Common,
        /// Only the targets whose name holds this text: <plugin>/<verb>/itself, <plugin>/<verb>/delegate and the like.
        #[arg(long, value_name = "SUBSTR", default_value = "")]
        filter: String,
        /// Where to run them.
        #[arg(long, value_enum, default_value_t = vm::lane::Lane::Auto)]
        lane: vm::lane::Lane,
        #[command(flatten)]
        vm: vm::VmArgs,
    },
    /// Measure what attachments cost: ours, another suite's, and the kernel alone, in turns.
    #[command(after_help = "Example: conformance bench --against /usr/lib/cni --filter host-local")]
    Bench(BenchArgs),
    /// Names, beside dnsmasq, aardvark-dns and dnsname from Debian's packages, in turns; some minutes.
    #[command(
        after_help = "The parts are churn, load, names and speed.\n\nExample: conformance dns --filter speed"
    )]
    Dns {
        #[command(flatten)]
        common: Common,
        /// Only the parts whose name holds this text.
        #[arg(long, value_name = "SUBSTR", default_value = "")]
        filter: String,
    },
    /// podman and containerd from Debian's packages, and what CRI-O does, over the plugins: ports, restarts, removal.
    #[command(after_help = "Example: conformance clients --filter podman")]
    Clients {
        #[command(flatten)]
        common: Common,
        /// Only the clients whose name holds this text.
        #[arg(long, value_name = "SUBSTR", default_value = "")]
        filter: String,
    },
    /// Many attachments at once by two suites on one store, some killed on the way; what is done comes from a seed.
    #[command(after_help = "Example: conformance stress --seed 17 --seeds 1")]
    Stress {
        #[command(flatten)]
        common: Common,
        /// The first seed.
        #[arg(long, value_name = "N", default_value_t = 1)]
        seed: u64,
        /// How many seeds.
        #[arg(long, value_name = "N", default_value_t = 4)]
        seeds: u64,
    },
    /// Two containers on one host, attached, measured, detached, seen.
    #[command(after_help = "Example: conformance demo --cni-path /opt/cni/bin")]
    Demo(Common),
    /// Run a command as root under another kernel, in a virtual machine on this machine's own files.
    #[command(
        after_help = "The files are seen through a layer that is thrown away; /run is empty, there is no network but lo. Output, \
                      standard error included, and exit status are the command's.\n\n\
                      Example: conformance vm -- ip -d link add br0 type bridge vlan_filtering 1"
    )]
    Vm(vm::CommandArgs),
    /// Run a command, and show that this machine's links, addresses, routes, rules, sysctls and the plugins' directories are
    /// as they were before.
    #[command(after_help = "Example: conformance untouched -- cargo test --workspace")]
    Untouched {
        /// The command.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// What is for the virtual machine, inside it; started by the harness itself.
    #[command(name = "__guest", hide = true)]
    Guest {
        #[command(flatten)]
        common: Common,
        #[arg(long)]
        world: Option<World>,
        work: Work,
        names: Vec<String>,
    },
    /// Becomes a program that is traced; started by the benchmark itself.
    #[command(name = "__traced", hide = true)]
    Traced {
        /// The program.
        program: PathBuf,
    },
    /// Says something to a responder of names, as another user; started by a case.
    #[command(name = "__knock", hide = true)]
    Knock {
        /// Its control socket.
        socket: PathBuf,
    },
    /// Root of a container on the host's network; started by a case.
    #[command(name = "__stranger", hide = true)]
    Stranger {
        /// What it does.
        stranger: Stranger,
        /// The abstract name of a responder of names.
        name: String,
    },
    /// One job inside a room; started by the harness itself.
    #[command(name = "__room", hide = true)]
    Room(Job),
}

/// What the virtual machine is for.
#[derive(Clone, Copy, ValueEnum)]
pub enum Work {
    /// Cases of a run.
    Cases,
    /// Faults at every system call that changes something.
    Faults,
    /// Faults at messages.
    Messages,
    /// Requests to two suites.
    Diff,
}

#[derive(Args)]
pub struct BenchArgs {
    #[command(flatten)]
    pub common: Common,
    /// The other suite.
    #[arg(long, value_name = "DIR", default_value = "/usr/lib/cni")]
    pub against: PathBuf,
    /// Only the scenarios, and points of --scale, whose name holds this text.
    #[arg(long, value_name = "SUBSTR", default_value = "")]
    pub filter: String,
    /// How often every scenario is run by everybody, at most.
    #[arg(long, value_name = "N", default_value_t = 40)]
    pub rounds: usize,
    /// No new round of a scenario after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 12)]
    pub seconds: u64,
    /// Also among up to 4,000 attachments, 60,000 leases and 10,000 published ports.
    #[arg(long)]
    pub scale: bool,
    /// Also 1, 10 and 100 at once.
    #[arg(long)]
    pub parallel: bool,
    /// Also connections through the last of 10,000 published ports, and out through masquerade.
    #[arg(long)]
    pub data_path: bool,
    /// Write a page with the numbers as bars.
    #[arg(long, value_name = "FILE")]
    pub page: Option<PathBuf>,
    /// How to print the outcomes.
    #[arg(long, value_enum, default_value_t = Report::Text)]
    pub report: Report,
    #[command(flatten)]
    pub vm: vm::VmArgs,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Report {
    Text,
    Json,
}
