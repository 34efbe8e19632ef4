//! What a result must be read with: the machine and the programs.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::rivals;
use super::stage::Stage;

/// Facts of this host at the start of an experiment.
pub(crate) fn of(stage: &Stage) -> Value {
    let mut facts = machine();
    let more = json!({
        "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "shmem_enabled": read("/sys/kernel/mm/transparent_hugepage/shmem_enabled"),
        "tmpfs_huge_always": stage.dirs.huge.is_some(),
        "server_cpus": stage.cpus.server,
        "load_cpus": stage.cpus.load,
        "quick": stage.quick,
        "pairs": stage.pairs,
        "nginx": rivals::find("nginx").and_then(|path| output(&path, &["-v"])),
        "icecast2": rivals::find("icecast2").and_then(|path| output(&path, &["-v"])),
        "varnish": rivals::find("varnishd").and_then(|path| output(&path, &["-V"])),
    });
    if let (Some(facts), Value::Object(more)) = (facts.as_object_mut(), more) {
        facts.extend(more);
    }
    facts
}

/// Facts of this host and tree that any experiment is read with.
pub(crate) fn machine() -> Value {
    json!({
        "kernel": read("/proc/sys/kernel/osrelease"),
        "cpu": field("/proc/cpuinfo", "model name"),
        "cpus": std::thread::available_parallelism().map_or(0, |count| count.get()),
        "hypervisor": field("/proc/cpuinfo", "flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
        "memory": field("/proc/meminfo", "MemTotal"),
        "load_average": read("/proc/loadavg"),
        "congestion_control": read("/proc/sys/net/ipv4/tcp_congestion_control"),
        "tcp_wmem": read("/proc/sys/net/ipv4/tcp_wmem"),
        "tcp_rmem": read("/proc/sys/net/ipv4/tcp_rmem"),
        "open_files": std::fs::read_to_string("/proc/self/limits").ok().and_then(|limits| {
            limits.lines().find_map(|line| line.strip_prefix("Max open files")).map(|rest| rest.trim().to_owned())
        }),
        "commit": output(Path::new("git"), &["rev-parse", "--short", "HEAD"]),
        "rustc": output(Path::new("rustc"), &["--version"]),
    })
}

/// One line for a person.
pub(crate) fn line(facts: &Value) -> String {
    let text = |key: &str| facts[key].as_str().unwrap_or("?").to_owned();
    let huge = match facts["tmpfs_huge_always"].as_bool() {
        Some(true) => "huge pages, ",
        Some(false) => "no huge pages, ",
        None => "",
    };
    format!(
        "{} x {}{}, Linux {}, {huge}{}, load average at the start {}",
        facts["cpus"],
        text("cpu"),
        if facts["hypervisor"] == true { " (virtual)" } else { "" },
        text("kernel"),
        text("congestion_control"),
        text("load_average").split(' ').next().unwrap_or("?")
    )
}

/// Today, in UTC.
pub(crate) fn today() -> String {
    output(Path::new("date"), &["--utc", "+%F"]).unwrap_or_else(|| "undated".to_owned())
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

/// The first line that a program says, wherever it says it.
fn output(program: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&text).lines().next().map(|line| line.trim().to_owned())
}
