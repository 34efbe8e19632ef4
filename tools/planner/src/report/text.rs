//! The plan as text.

use std::fmt::Write;

use crate::plan::Plan;

/// The whole plan; `working` adds the lines it follows from.
pub fn text(plan: &Plan, working: bool) -> String {
    let mut out = String::new();
    let scenario = &plan.scenario;
    for warning in &plan.warnings {
        line(&mut out, format!("! {warning}"));
    }
    line(&mut out, format!("{}: {} viewers, {} latency", scenario.name, scenario.viewers, scenario.latency));
    line(
        &mut out,
        format!(
            "  survives: {}; head-room {:.0} %; offload {:.1} %",
            scenario.survive,
            100.0 * scenario.headroom,
            100.0 * plan.offload
        ),
    );
    line(&mut out, String::new());
    line(&mut out, format!("{} nodes in {} domains", plan.nodes, plan.domains.len()));
    for (at, domain) in plan.domains.iter().enumerate() {
        line(
            &mut out,
            format!(
                "  domain {:<3} {:>10.0} viewers   {:>3} caches   {} index servers",
                at + 1,
                domain.viewers,
                domain.caches,
                domain.indexes
            ),
        );
    }
    line(&mut out, format!("  {} route servers", plan.routes));
    line(&mut out, String::new());
    line(&mut out, "full first (after the failure)".to_owned());
    for full in &plan.bottlenecks {
        line(&mut out, format!("  {:<6} {:<16} {:>5.1} %", full.server, full.resource.text(), 100.0 * full.share));
    }
    line(&mut out, String::new());
    line(&mut out, "traffic, Mbit/s".to_owned());
    for (kind, mbps) in plan.traffic.kinds() {
        line(&mut out, format!("  {kind:<32} {mbps:>12.1}"));
    }
    line(&mut out, String::new());
    line(&mut out, format!("these nodes carry {:.0} viewers with the same head-room", plan.viewers_max));
    for buy in &plan.buys {
        line(
            &mut out,
            format!(
                "  {}: {:.0} viewers ({:+.0}); caches send {:.1} Mbit/s ({:+.1}); this audience needs {} nodes",
                buy.what,
                buy.viewers_max,
                buy.viewers_max - plan.viewers_max,
                buy.from_caches_mbps,
                buy.from_caches_mbps - plan.traffic.from_caches(),
                buy.nodes
            ),
        );
    }
    line(&mut out, String::new());
    line(&mut out, "to be configured".to_owned());
    for setting in &plan.settings {
        line(&mut out, format!("  {setting}"));
    }
    if working {
        line(&mut out, String::new());
        line(&mut out, "working".to_owned());
        for shown in &plan.working {
            line(&mut out, format!("  {shown}"));
        }
    }
    out
}

fn line(out: &mut String, text: String) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{}", text.trim_end());
}
