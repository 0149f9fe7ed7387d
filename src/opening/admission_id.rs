//! Identifies doors that are open in the kernel, and keeps values by them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::door::ports::Ports;

/// Identifies an admission.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AdmissionId {
    /// The door's name.
    pub door: Arc<str>,
    /// The knocker.
    pub knocker: IpAddr,
    /// The ports that the door opens.
    pub ports: Arc<[Ports]>,
}

/// Values by admission. Boxed, so that all such maps share their code.
pub type ByAdmission<T> = HashMap<AdmissionId, Box<T>>;

/// The values in order of door and knocker.
#[must_use]
pub fn in_order<T>(values: &ByAdmission<T>) -> Vec<&T> {
    let mut sorted: Vec<_> = values.iter().collect();
    sorted.sort_unstable_by_key(|(id, _)| *id);
    sorted.into_iter().map(|(_, value)| &**value).collect()
}
