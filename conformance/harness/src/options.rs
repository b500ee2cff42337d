//! The options of every verb, and the working environment they describe.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::runner::Grounds;
use crate::world::World;

/// The options of every verb.
#[derive(Args, Clone)]
pub struct Common {
    /// The directory of plugins to judge [default: bin/ beside the executable, else ./bin].
    #[arg(long, value_name = "DIR")]
    cni_path: Option<PathBuf>,
    /// The reference plugins, for the cases that mix two suites.
    #[arg(long, value_name = "DIR", default_value = "/usr/lib/cni")]
    reference: PathBuf,
    /// The conflists to load [default: testdata/net.d beside the executable or in the working
    /// directory].
    #[arg(long, value_name = "DIR")]
    net_d: Option<PathBuf>,
    /// Number of parallel rooms [default: the number of processors].
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Time limit of one room, in seconds. The longest cases take 15 on an idle machine, and ten
    /// times that beside others.
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    timeout: u64,
}

impl Common {
    /// As [`Common::grounds`], for rooms inside a world, where everything takes longer.
    pub fn grounds_in(&self, world: Option<World>) -> Result<Grounds> {
        let grounds = self.grounds()?;
        let timeout = if world.is_some() { grounds.timeout * 3 } else { grounds.timeout };
        Ok(Grounds { world, timeout, ..grounds })
    }

    /// The working environment.
    ///
    /// # Errors
    /// There is no suite to test, or it is in a directory that rooms replace.
    pub fn grounds(&self) -> Result<Grounds> {
        let exe = std::env::current_exe().context("find the harness's own executable")?;
        let suite = match &self.cni_path {
            Some(dir) => dir.clone(),
            None => {
                let home = exe.parent().unwrap_or(Path::new("/"));
                let own = Some(home.to_owned()).filter(|dir| dir.ends_with("bin"));
                let mut places = [Some(home.join("bin")), own, Some("bin".into())].into_iter().flatten();
                let found = places.find(|dir| dir.is_dir());
                found
                    .context("no bin/ beside the executable or here: name the plugins with --cni-path DIR")?
            }
        };
        let near = |leaf: &str| exe.ancestors().skip(1).map(|dir| dir.join(leaf)).find(|dir| dir.is_dir());
        let net_d =
            self.net_d.clone().or_else(|| Some("testdata/net.d".into()).filter(|d: &PathBuf| d.is_dir()));
        let net_d = net_d.or_else(|| near("testdata/net.d")).unwrap_or_else(|| "testdata/net.d".into());
        let absolute = |dir: &PathBuf| dir.canonicalize().with_context(|| format!("open {}", dir.display()));
        let suite = absolute(&suite)?;
        for hidden in ["/run", "/var/lib/cni", "/etc/cni", "/proc", "/sys"] {
            if suite.starts_with(hidden) {
                bail!("{}: a room has its own {hidden}, so the plugins cannot lie there", suite.display());
            }
        }
        Ok(Grounds {
            exe,
            suite,
            reference: self.reference.clone(),
            net_d: absolute(&net_d).unwrap_or(net_d),
            jobs: self
                .jobs
                .unwrap_or_else(|| std::thread::available_parallelism().map_or(2, usize::from))
                .max(1),
            timeout: Duration::from_secs(self.timeout),
            world: None,
        })
    }
}
