//! The command line of the harness.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use bench::attachments::part::Part;
use cases::dns_strangers::Stranger;
use clap::{Args, Parser, Subcommand, ValueEnum};
use harness::job::Job;
use harness::options::Common;
use harness::world::World;
use harness::{judge, vm};

/// The version: the tag that the build was made from, otherwise the package's own version.
const RELEASE: &str = match option_env!("MOOR_VERSION") {
    Some(tag) if !tag.is_empty() => tag,
    _ => env!("CARGO_PKG_VERSION"),
};

/// Test a directory of CNI plugins, without risk to the machine.
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
        after_help = "Cases declare the kernel features that they need, and these are probed. With --lane auto, cases that this \
                            kernel cannot run go to one virtual machine (see 'conformance vm --help'); without one they are \
                            listed as not run. With CI=true in the environment, a case that does not run fails the run.\n\n\
                            A suite with known deviations fails only for new ones: see --baseline and testdata/baseline.\n\n\
                            A world is a kind of host: busy (namespaces come and go, load), hostile (a local user's locks, umask 0, \
                            unsolicited frames), odd (an administrator's bridges, addresses, rules, sysctls). Cases that cannot \
                            pass there are in testdata/worlds.\n\n\
                            Examples:\n  conformance run --cni-path /opt/cni/bin --filter bridge/\n  \
                            conformance run --report text --report junit=report.xml --report json=report.json\n  \
                            conformance run --cni-path /usr/lib/cni --lane native --baseline none\n  \
                            conformance run --world busy --filter portmap"
    )]
    Run(judge::RunArgs),
    /// Print which clauses have a case, and which of those passed in a run.
    #[command(
        after_help = "The exit status is 1 when a clause has no case, or one of its cases failed in the \
                            given run.

\
                            Examples:\n  conformance coverage --all\n  \
                            conformance run --report json=run.json; conformance coverage --run run.json"
    )]
    Coverage {
        /// The JSON report of a run.
        #[arg(long, value_name = "FILE")]
        run: Option<PathBuf>,
        /// Print every clause with its cases, not only those without one.
        #[arg(long)]
        all: bool,
        /// The output format.
        #[arg(long, value_enum, default_value_t = Report::Text)]
        report: Report,
    },
    /// Run working plugins with one added defect each: the named case must fail.
    #[command(after_help = "Example: conformance seeded --filter leak")]
    Seeded {
        #[command(flatten)]
        common: Common,
        /// Only the defects with this text in their name.
        #[arg(long, value_name = "SUBSTR", default_value = "")]
        filter: String,
    },
    /// Send the same requests to two suites and print how their answers and the resulting state
    /// differ.
    #[command(
        after_help = "Every conflist in every version: ADD, DEL, and an ADD with an invalid value; after each, the answer \
                      and the links, addresses, routes, rules, neighbours, sysctls, packet rules and files, of the host and \
                      in the container. Names and MAC addresses that differ in every run are replaced by their owners.\n\n\
                      Known differences are summarized at the end, with the numbers from the lines above: see \
                      testdata/diff. The exit status is 1 when something else differs.\n\n\
                      Conflists that this kernel cannot run go to a virtual machine, in the newest versions; with --lane vm all go \
                      there. With CI=true a conflist that is not compared because there is no machine is a failure.\n\n\
                      Examples:\n  conformance diff --against /usr/lib/cni\n  \
                      conformance diff --against /usr/lib/cni --filter macvlan --full"
    )]
    Diff {
        #[command(flatten)]
        common: Common,
        /// The other suite.
        #[arg(long, value_name = "DIR")]
        against: PathBuf,
        /// Only the conflists with this text in their name.
        #[arg(long, value_name = "SUBSTR", default_value = "")]
        filter: String,
        /// Print every known difference, not only examples.
        #[arg(long)]
        full: bool,
        /// Where to run the requests.
        #[arg(long, value_enum, default_value_t = vm::lane::Lane::Auto)]
        lane: vm::lane::Lane,
        #[command(flatten)]
        vm: vm::VmArgs,
    },
    /// Interrupt every system call that changes state, by SIGKILL and by an error; nothing may be
    /// left over.
    #[command(
        after_help = "If this kernel lacks ipvlan or VLAN links, the targets with the most system calls (host-access) go to a \
                      virtual machine, where only messages to the kernel are interrupted; with --lane vm all targets \
                      go there and every call is interrupted, which takes long. With CI=true a target that cannot run \
                      is a failure.\n\n\
                      Examples:\n  conformance faults --filter bridge/ADD\n  \
                      conformance faults --lane vm --filter ipvlan/"
    )]
    Faults {
        #[command(flatten)]
        common: Common,
        /// Only the targets with this text in their name: <plugin>/<verb>/itself,
        /// <plugin>/<verb>/delegate and so on.
        #[arg(long, value_name = "SUBSTR", default_value = "")]
        filter: String,
        /// Where to run them.
        #[arg(long, value_enum, default_value_t = vm::lane::Lane::Auto)]
        lane: vm::lane::Lane,
        #[command(flatten)]
        vm: vm::VmArgs,
    },
    /// Measure the cost of attachments: ours, another suite's, and the kernel's own, interleaved.
    #[command(after_help = "Examples:\n  conformance bench --against /usr/lib/cni --filter host-local\n  \
                            conformance bench --filter none --before DIR")]
    Bench(BenchArgs),
    /// Measure DNS beside dnsmasq, aardvark-dns and dnsname from Debian's packages; takes some
    /// minutes.
    #[command(
        after_help = "The parts are churn, load, names, repeated and speed.\n\nExample: conformance dns --filter speed"
    )]
    Dns {
        #[command(flatten)]
        common: Common,
        /// Only the parts with this text in their name.
        #[arg(long, value_name = "SUBSTR", default_value = "")]
        filter: String,
    },
    /// Run podman and containerd from Debian's packages, and CRI-O's calls, with the plugins:
    /// ports, restarts, removal; and an overlay network on two hosts.
    #[command(after_help = "Example: conformance clients --filter podman")]
    Clients {
        #[command(flatten)]
        common: Common,
        /// Only the clients with this text in their name.
        #[arg(long, value_name = "SUBSTR", default_value = "")]
        filter: String,
    },
    /// Run many concurrent attachments of two suites on one store, and kill some; then load on five
    /// hosts of a cluster while agents and members of etcd are killed and paused. A seed determines
    /// the calls.
    #[command(after_help = "Examples:\n  conformance stress --seed 17 --seeds 1\n  \
                            conformance stress --seeds 0 --seed 17 --cluster 600")]
    Stress {
        #[command(flatten)]
        common: Common,
        /// The first seed.
        #[arg(long, value_name = "N", default_value_t = 1)]
        seed: u64,
        /// The number of seeds.
        #[arg(long, value_name = "N", default_value_t = 4)]
        seeds: u64,
        /// Load for this many seconds in a cluster; 0 is no cluster.
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        cluster: u64,
    },
    /// Attach containers by one release and let another take its place under them, and give it back;
    /// then the same with the two exchanged. Connections through published ports and questions for
    /// names go on meanwhile.
    #[command(after_help = "Example: conformance upgrade --from /opt/cni/bin.old --cni-path bin")]
    Upgrade {
        #[command(flatten)]
        common: Common,
        /// The other release's executables.
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
        /// How many containers there are when the release changes.
        #[arg(long, value_name = "N", default_value_t = 100)]
        attachments: usize,
    },
    /// Attach two containers on one host, measure who reaches whom, detach them, and show that
    /// nothing is left.
    #[command(after_help = "Example: conformance demo --cni-path /opt/cni/bin")]
    Demo {
        #[command(flatten)]
        common: Common,
        /// Three hosts that share an etcd, and a network over all of them.
        #[arg(long)]
        cluster: bool,
    },
    /// Run a command as root under another kernel, in a virtual machine with this machine's own
    /// files.
    #[command(
        after_help = "Changes to files go to an overlay that is discarded; /run is empty, the only network link is lo. Output, \
                      standard error included, and exit status are the command's.\n\n\
                      Example: conformance vm -- ip -d link add br0 type bridge vlan_filtering 1"
    )]
    Vm(vm::CommandArgs),
    /// Run a command, and show that this machine's links, addresses, routes, rules, sysctls and the
    /// plugins' directories are unchanged.
    #[command(after_help = "Example: conformance untouched -- cargo test --workspace")]
    Untouched {
        /// The command.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Run jobs inside the virtual machine; started by the harness itself.
    #[command(name = "__guest", hide = true)]
    Guest {
        #[command(flatten)]
        common: Common,
        #[arg(long)]
        world: Option<World>,
        work: Work,
        names: Vec<String>,
    },
    /// Execute a program that is traced; started by the benchmark itself.
    #[command(name = "__traced", hide = true)]
    Traced {
        program: PathBuf,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Send a message to a dns responder, as another user; started by a case.
    #[command(name = "__knock", hide = true)]
    Knock {
        /// Its control socket.
        socket: PathBuf,
    },
    /// Serve as a DNS server with a defective cache; started by a defect.
    #[command(name = "__hoard", hide = true)]
    Hoard {
        /// Where it listens.
        at: SocketAddr,
        /// The server that it asks.
        server: SocketAddr,
    },
    /// Attach to a TAP device as a virtual machine; started by a case.
    #[command(name = "__queue", hide = true)]
    Queue {
        /// The device.
        device: String,
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
        /// Whether the device takes several queues.
        #[arg(long)]
        multi_queue: bool,
    },
    /// Act as root of a container on the host's network; started by a case.
    #[command(name = "__stranger", hide = true)]
    Stranger {
        /// The action.
        stranger: Stranger,
        /// The abstract name of a dns responder.
        name: String,
    },
    /// Run one job inside a room; started by the harness itself.
    #[command(name = "__room", hide = true)]
    Room(Job),
}

/// The kind of jobs for the virtual machine.
#[derive(Clone, Copy, ValueEnum)]
pub enum Work {
    /// Cases of a run.
    Cases,
    /// Faults at every system call that changes state.
    Faults,
    /// Faults at messages to the kernel.
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
    /// Only the scenarios, and points of --scale, with this text in their name.
    #[arg(long, value_name = "SUBSTR", default_value = "")]
    pub filter: String,
    /// The maximum number of rounds of every scenario.
    #[arg(long, value_name = "N", default_value_t = 40)]
    pub rounds: usize,
    /// Start no new round of a scenario after this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 8)]
    pub seconds: u64,
    /// Also measure among up to 4,000 attachments, 60,000 leases and 10,000 published ports.
    #[arg(long)]
    pub scale: bool,
    /// Also measure 1, 10 and 100 concurrent attachments.
    #[arg(long)]
    pub parallel: bool,
    /// Also measure connections through the last of 10,000 published ports, and through masquerade.
    #[arg(long)]
    pub data_path: bool,
    /// Also measure: start (VERSION beside the smallest executable), chain (on a host of its own,
    /// and its instructions), gc (of 20 stale attachments), herd (200 at once), wait (until the
    /// first answers of a published port and a name), engine (what a network adds to a container
    /// engine's commands), rates (the bytes that pass a shaper), networks (a firewall among 1,000
    /// networks with policies), tool (moor on a full host), cluster (overlay on three hosts), crowd
    /// (on fifty), flow (fastPath, in a virtual machine).
    #[arg(long, value_name = "PART,...", value_delimiter = ',')]
    pub also: Vec<Part>,
    /// Another build of the plugins under test, to compare with in these parts [default parts: all].
    #[arg(long, value_name = "DIR")]
    pub before: Option<PathBuf>,
    /// Write a page with the numbers as bars.
    #[arg(long, value_name = "FILE")]
    pub page: Option<PathBuf>,
    /// The output format.
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
