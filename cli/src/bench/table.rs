//! What all tables of results have in common.

use std::collections::BTreeMap;

/// What the process that makes the load is called in the results.
pub(crate) const LOAD: &str = "load";

/// To three digits behind the point.
pub(super) fn ratio(one: f64, other: f64) -> f64 {
    (one / other.max(f64::EPSILON) * 1_000.0).round() / 1_000.0
}

/// What all processes but the load have used together, if it is known of each.
pub(super) fn cpu_us_of_all(cpu_us: &BTreeMap<String, Option<f64>>) -> Option<f64> {
    let ours = cpu_us.iter().filter(|(process, _)| *process != LOAD);
    ours.map(|(_, us)| *us).sum()
}

/// What each process has used, in one line.
pub(super) fn cpu_columns(cpu_us: &BTreeMap<String, Option<f64>>) -> String {
    let each = cpu_us.iter().map(|(process, us)| match us {
        Some(us) => format!("{process} {us:.1}"),
        None => format!("{process} -"),
    });
    each.collect::<Vec<_>>().join(", ")
}
