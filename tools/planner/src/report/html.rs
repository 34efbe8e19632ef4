//! The plan as one page that needs nothing else: no script, no font, no picture from elsewhere.

use std::fmt::Write;

use crate::node::Usage;
use crate::plan::Plan;

const STYLE: &str = "body{font:15px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}\
table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{padding:.2rem .8rem;text-align:left;border-bottom:1px solid #ddd}\
td.n{text-align:right;font-variant-numeric:tabular-nums}.warn{background:#fff3cd;padding:.5rem .8rem;margin:.3rem 0}\
.bar{display:inline-block;width:12rem;background:#eee;height:.8rem}.bar i{display:block;background:#4878a8;height:100%}\
.bar i.full{background:#b5533c}pre{white-space:pre-wrap;background:#f6f6f6;padding:1rem}";

/// The page.
pub fn html(plan: &Plan) -> String {
    let scenario = &plan.scenario;
    let mut out = String::new();
    let name = escaped(&scenario.name);
    put(
        &mut out,
        format!("<!doctype html><meta charset=\"utf-8\"><title>{name}: capacity</title><style>{STYLE}</style>"),
    );
    put(&mut out, format!("<h1>{name}</h1>"));
    for warning in &plan.warnings {
        put(&mut out, format!("<p class=\"warn\">{}</p>", escaped(warning)));
    }
    put(
        &mut out,
        format!(
            "<p>{} viewers, {} latency, survives {}, head-room {:.0} %: <b>{} nodes in {} domains</b>, {} of them route \
             servers. Peers get {:.1} % of their chunks from peers.</p>",
            scenario.viewers,
            scenario.latency,
            scenario.survive,
            100.0 * scenario.headroom,
            plan.nodes,
            plan.domains.len(),
            plan.routes,
            100.0 * plan.offload
        ),
    );
    put(&mut out, "<table><tr><th>domain<th>viewers<th>caches<th>index servers<th>a cache's ring".to_owned());
    for (at, domain) in plan.domains.iter().enumerate() {
        let (viewers, ring) = (domain.viewers, domain.ring_mib);
        put(
            &mut out,
            format!(
                "<tr><td>{}<td class=n>{viewers:.0}<td class=n>{}<td class=n>{}<td class=n>{ring:.0} MiB",
                at + 1,
                domain.caches,
                domain.indexes
            ),
        );
    }
    put(&mut out, "</table><h2>How full, after the failure</h2><table>".to_owned());
    for (at, domain) in plan.domains.iter().enumerate() {
        usages(&mut out, &format!("cache of domain {}", at + 1), &domain.cache, scenario.headroom);
        usages(&mut out, &format!("index of domain {}", at + 1), &domain.index, scenario.headroom);
    }
    usages(&mut out, "route", &plan.route, scenario.headroom);
    put(&mut out, "</table><h2>Traffic</h2><table>".to_owned());
    let most = plan.traffic.kinds().into_iter().map(|(_, mbps)| mbps).fold(f64::MIN_POSITIVE, f64::max);
    for (kind, mbps) in plan.traffic.kinds() {
        let bar = bar(mbps / most, false);
        put(&mut out, format!("<tr><td>{}<td class=n>{mbps:.1} Mbit/s<td>{bar}", escaped(kind)));
    }
    put(&mut out, "</table><h2>What more buys</h2><table>".to_owned());
    put(&mut out, "<tr><th><th>viewers at the most<th>caches send, Mbit/s<th>nodes for this audience".to_owned());
    let mut row = |what: &str, viewers: f64, mbps: f64, nodes: u32| {
        put(
            &mut out,
            format!("<tr><td>{}<td class=n>{viewers:.0}<td class=n>{mbps:.1}<td class=n>{nodes}", escaped(what)),
        );
    };
    row("as planned", plan.viewers_max, plan.traffic.from_caches(), plan.nodes);
    for buy in &plan.buys {
        row(&buy.what, buy.viewers_max, buy.from_caches_mbps, buy.nodes);
    }
    put(&mut out, format!("</table><h2>To be configured</h2><pre>{}</pre>", escaped(&plan.settings.join("\n"))));
    put(&mut out, format!("<h2>Working</h2><pre>{}</pre>", escaped(&plan.working.join("\n"))));
    out
}

fn usages(out: &mut String, server: &str, usages: &[Usage], headroom: f64) {
    for usage in usages {
        let share = usage.share();
        put(
            out,
            format!(
                "<tr><td>{}<td>{}<td class=n>{:.1} %<td>{}",
                escaped(server),
                usage.resource.text(),
                100.0 * share,
                bar(share, share > 1.0 - headroom)
            ),
        );
    }
}

fn bar(share: f64, full: bool) -> String {
    let class = if full { " class=full" } else { "" };
    format!("<span class=bar><i{class} style=\"width:{:.1}%\"></i></span>", 100.0 * share.clamp(0.0, 1.0))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn put(out: &mut String, text: String) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}
