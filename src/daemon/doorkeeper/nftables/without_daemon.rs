//! The kernel's firewall without a daemon: sets up and removes the guard, and looks for known sets.

use crate::config::Config;
use crate::daemon::doorkeeper::nftables::firewall::Firewall;
use crate::daemon::doorkeeper::nftables::guard_lock::lock_guard;
use crate::daemon::doorkeeper::nftables::socket::Nftables;
use crate::door::open::{Family, Sets};
use crate::door::ports::Ports;
use crate::firewall::guard::{self, Guard};
use crate::firewall::refusal::Refusal;
use crate::firewall::set::Description;

/// Sets up the guard of a configuration, and returns its ports. The guard outlives this process, without an
/// owner.
///
/// # Errors
/// A sentence that says why it cannot be set up.
pub(in crate::daemon) fn guard(config: &Config) -> Result<Vec<Ports>, String> {
    let Some(guard) = Guard::of(&config.doors, config.options.guard_except.prefixes()) else {
        return Ok(Vec::new());
    };
    Firewall::open()?.install_guard(config, &mut Vec::new())?;
    Ok(guard.ports())
}

/// Removes the guard of a daemon that no longer runs; returns whether there was one.
///
/// # Errors
/// A sentence that says why it cannot be removed.
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
    let _lock = lock_guard().map_err(could_not)?;
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

/// The sets that our own rulesets define: `contrib/nftables.conf` and the one for OpenWrt.
const KNOWN_SETS: [&str; 4] =
    ["inet filter knockd4 knockd6", "inet fw4 knockd4 knockd6", "inet filter knockd4", "inet fw4 knockd4"];

/// The value of `Nft_Set` for the sets of our own rulesets, if the firewall has them.
///
/// # Errors
/// The kernel has no nftables, or we may not use it.
pub(in crate::daemon) fn known_sets() -> Result<Option<&'static str>, Refusal> {
    let mut nft = Nftables::open()?;
    for text in KNOWN_SETS {
        let mut are_there = true;
        for (name, is_v6) in Sets::default().with(text).iter().flat_map(Sets::iter) {
            let fits = nft.set(name, |attributes| Description::read(attributes, is_v6).is_ok())?;
            are_there &= fits.unwrap_or_default();
        }
        if are_there {
            return Ok(Some(text));
        }
    }
    Ok(None)
}
