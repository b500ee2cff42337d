//! CHECK: the plan again, with what is on record.

use cni::{Error, Request};
use host::Owner;
use host::piece::{self, Kernel};
use sys::NetNs;

use crate::config::Config;
use crate::parameter::is_of_link;
use crate::plan::{self, Facts};
use crate::record::latest;
use crate::store::{Store, siblings};

/// Verifies what is configured; the error names every difference.
///
/// # Errors
/// There are differences, or the kernel could not be asked.
pub fn check(request: &Request, mut config: Config) -> Result<(), Error> {
    let mut kernel = Kernel::open(NetNs::open(&request.netns)?)?;
    let owner = attach::owner(request);
    as_on_record(&mut config, &owner)?;
    let plan = plan::plan(&config, &request.ifname, &Facts::default());
    attach::refuse_drift(&owner, &piece::verify(&plan, &mut kernel)?)
}

/// Replaces values by what the kernel prints for them, and by those of a later attachment of the
/// container that has set them since.
fn as_on_record(config: &mut Config, owner: &Owner) -> Result<(), Error> {
    if config.parameters.is_empty() {
        return Ok(());
    }
    let Some(store) = Store::open_if_any()? else { return Ok(()) };
    let Some(own) = store.read(owner) else { return Ok(()) };
    let mut later = match config.parameters.iter().any(|it| !is_of_link(&it.key, &owner.ifname)) {
        true => siblings(&store, owner, &own.space)?,
        false => Vec::new(),
    };
    later.retain(|sibling| sibling.at > own.at);
    for parameter in &mut config.parameters {
        let own = own.kept(&parameter.key).filter(|kept| kept.value == parameter.value);
        if let Some(kept) = latest(&later, &parameter.key).or(own) {
            parameter.value = kept.expected().to_owned();
        }
    }
    Ok(())
}
