//! The report for a person; the verdict comes first.

use std::fmt::Write;

use super::{Quantiles, Report};
use crate::soak::{Part, Verdict};

impl Report {
    /// For a person.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // String's Write cannot fail.
        let _ = self.write(&mut text);
        text
    }

    /// PASS, or FAIL with every reason.
    pub(crate) fn verdict(&self) -> String {
        let bottleneck = if self.tool.is_bottleneck { " (the tool itself was slow: no measurement)" } else { "" };
        match self.passed {
            true => format!("PASS: every viewer was served{bottleneck}"),
            false => format!("FAIL: {}", self.why.join("; ")),
        }
    }

    fn write(&self, f: &mut String) -> std::fmt::Result {
        writeln!(f, "{}", self.verdict())?;
        let many = if self.streams > 1 { format!(" ({} streams)", self.streams) } else { String::new() };
        let (viewers, mode, stream) = (self.viewers, &self.mode, &self.stream);
        writeln!(f, "{viewers} {mode} viewers of {stream}{many}, measured for {:.1} s", self.seconds)?;
        writeln!(f, "served     {} of {viewers}", self.served)?;
        let gbit = self.bytes as f64 * 8.0 / 1e9;
        writeln!(f, "chunks     {} ({} due to each), {gbit:.2} Gbit", self.chunks, self.chunks_due)?;
        writeln!(f, "           {} wrong, {} missed, {} skipped by the cache", self.wrong, self.missed, self.skipped)?;
        let measured = self.bytes_measured as f64 / f64::from(1 << 30);
        writeln!(f, "measured   {measured:.2} GiB, {:.3} Gbit/s", self.gbit_per_s)?;
        writeln!(f, "{}", row("lateness", &self.lateness_ms))?;
        if let Some(late) = &self.lateness_from_upload_ms {
            writeln!(f, "{}", row(" of upload", late))?;
        }
        writeln!(f, "{}", row("first byte", &self.first_byte_ms))?;
        writeln!(f, "{}", row("join", &self.join_ms))?;
        let v = &self.verified;
        writeln!(
            f,
            "verified   {} by signature, {} by hash alone, {} by payload alone, {} by comparison with one of these, \
             {} not at all",
            v.by_signature, v.by_hash, v.by_payload, v.by_comparison, v.not
        )?;
        writeln!(f, "           {} bytes read, {} discarded", v.bytes_read, v.bytes_discarded)?;
        self.write_others(f)?;
        writeln!(f, "{}  busy {:.0} %", row("tool lag", &self.tool.lag_ms), 100.0 * self.tool.busy)?;
        if let Some(late) = &self.tool.publish_lateness_ms {
            writeln!(f, "{}", row("published", late))?;
        }
        if let Some(took) = &self.tool.upload_ms {
            writeln!(f, "{}", row("upload", took))?;
        }
        for (why, count) in &self.not_served {
            writeln!(f, "NOT SERVED {count}: {why}")?;
        }
        if self.sent_elsewhere > 0 {
            writeln!(
                f,
                "{} were sent elsewhere, {} times somebody went",
                self.sent_elsewhere, self.redirects_followed
            )?;
        }
        if self.tool.is_bottleneck {
            writeln!(
                f,
                "THE LOAD TOOL ITSELF IS A BOTTLENECK: {}. The server may be better than these numbers. Use more --threads \
                 or --processes, fewer viewers, --verify none, or a quieter machine.",
                self.tool.limits.join("; ")
            )?;
        }
        Ok(())
    }

    /// Bad viewers, the server's process, a soak and a ramp.
    fn write_others(&self, f: &mut String) -> std::fmt::Result {
        if let Some(bad) = &self.bad {
            let joins: Vec<String> = bad.joins.iter().map(|(temper, count)| format!("{count} {temper}")).collect();
            let (chunks, wrong, skipped) = (bad.chunks, bad.wrong, bad.skipped);
            writeln!(f, "bad        {}: {chunks} chunks, {wrong} wrong, {skipped} skipped", joins.join(", "))?;
            writeln!(f, "{}", row(" lateness", &bad.lateness_ms))?;
            for (why, count) in &bad.ended {
                writeln!(f, "           {count} ended: {why}")?;
            }
        }
        if let Some(s) = &self.server {
            writeln!(
                f,
                "server     {:.2} CPU-s, {:.3} CPU-s per GiB, {} threads",
                s.cpu_s, s.cpu_s_per_gib, s.threads
            )?;
            writeln!(
                f,
                "           resident {} -> {} -> {} KiB, its own {} -> {} -> {} KiB (idle, span's beginning, end)",
                s.rss_kib_idle, s.rss_kib_before, s.rss_kib_after, s.anon_kib_idle, s.anon_kib_before, s.anon_kib_after
            )?;
        }
        if let Some(soak) = &self.soak {
            writeln!(f, "soak       {} samples, judged from {:.0} s on", soak.samples.len(), soak.judged_from_s)?;
            for (what, trend) in [("memory, KiB", soak.anon_kib), ("descriptors", soak.descriptors)] {
                match trend {
                    Some(t) => {
                        writeln!(
                            f,
                            "           {what}: median {:.0}, {:+.1} in the judged span, trend {:+.1} sigma",
                            t.median, t.growth, t.trend
                        )?;
                        for (part, third) in [("third before the last", t.before), ("last third", t.last)] {
                            let Part { growth, slope_per_hour, trend } = third;
                            writeln!(
                                f,
                                "             {part}: {growth:+.1}, {slope_per_hour:+.1} an hour, trend {trend:+.1} sigma"
                            )?;
                        }
                        let verdict = match t.verdict {
                            Verdict::Level => "level",
                            Verdict::Slower => "GROWS, slower in the last third",
                            Verdict::Grows => "GROWS",
                        };
                        writeln!(f, "             {verdict}")?;
                    }
                    None => writeln!(f, "           {what}: too few samples to say")?,
                }
            }
        }
        if let Some(ramp) = &self.ramp {
            for level in &ramp.levels {
                let verdict = if level.passed { "in time".to_owned() } else { level.why.join("; ") };
                let (viewers, served, p99) = (level.viewers, level.served, level.lateness_p99_ms);
                writeln!(f, "ramp       {viewers:>7} viewers: {served:>7} served, p99 {p99:>8.1} ms  {verdict}")?;
            }
            match ramp.largest {
                Some(largest) => writeln!(f, "largest    {largest} viewers were served in time")?,
                None => writeln!(f, "largest    none: not even the first level was served in time")?,
            }
        }
        Ok(())
    }
}

fn row(name: &str, q: &Quantiles) -> String {
    format!("{name:<10} p50 {:>9.1}  p95 {:>9.1}  p99 {:>9.1}  max {:>9.1}  ms", q.p50, q.p95, q.p99, q.max)
}
