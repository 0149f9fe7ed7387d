//! The guard without a daemon: set up, and taken away.

use crate::config::Config;
use crate::daemon::clock::now;
use crate::daemon::doorkeeper::nftables::firewall::Firewall;
use crate::daemon::doorkeeper::nftables::socket::Nftables;
use crate::door::open::Family;
use crate::door::ports::Ports;
use crate::firewall::guard::{self, Guard};
use crate::firewall::refusal::Refusal;

/// Sets the guard of a configuration up, and tells its ports; without an owner it stays.
///
/// # Errors
/// Why it cannot be set up.
pub(in crate::daemon) fn guard(config: &Config) -> Result<Vec<Ports>, String> {
    let Some(guard) = Guard::of(&config.doors, config.options.guard_except.prefixes()) else {
        return Ok(Vec::new());
    };
    Firewall::open()?.stand(config, now(), &mut Vec::new())?;
    Ok(guard.ports())
}

/// Takes the guard away, for a daemon that does not run any more; says whether there was one.
///
/// # Errors
/// Why it cannot be taken away.
pub(in crate::daemon) fn unguard() -> Result<bool, String> {
    let could_not = |refusal: Refusal| match refusal {
        Refusal::Owned => "the guard belongs to a knockd that runs; stop it first".to_owned(),
        refusal => format!("could not take the guard away: {refusal}"),
    };
    let mut nft = match Nftables::open() {
        Err(Refusal::NoNftables) => return Ok(false),
        nft => nft.map_err(could_not)?,
    };
    let table = match nft.table(Family::Inet, guard::TABLE) {
        Err(Refusal::NoNftables) => return Ok(false),
        table => table.map_err(could_not)?,
    };
    let Some(table) = table else { return Ok(false) };
    if table.owner.is_some() {
        return Err(could_not(Refusal::Owned));
    }
    let mut batch = nft.batch();
    let first = batch.first();
    guard::remove(&mut batch);
    match nft.commit(batch).map_err(could_not)?.first() {
        None => Ok(true),
        Some(refused) => match Refusal::of(*refused, first) {
            Refusal::Missing => Ok(false),
            refusal => Err(could_not(refusal)),
        },
    }
}
