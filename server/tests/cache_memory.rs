//! The cache's memory: who loses when it is short, how long streams are kept, huge pages, and what is said when there is
//! too little. Tests that mount something say SKIP where that is not allowed.

mod cache_rig;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cache_rig::native::{Publisher, acked};
use cache_rig::*;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// Two of these fill a segment of 2 MiB.
const HEAVY: usize = 1_000_000;

fn publish(publisher: &mut Publisher, chunks: std::ops::Range<u64>, len: usize) {
    for seq in chunks {
        assert_eq!(acked(publisher.publish(seq, &vec![seq as u8; len])), seq);
    }
}

#[test]
fn with_too_little_memory_watched_streams_stay_whole_and_idle_ones_lose() {
    let cache = Cache::start("memory_mib = 24\nstreams_max = 8\n");
    let [mut watched, mut idle, mut other] =
        ["watched", "idle", "other"].map(|name| Publisher::taken(&cache, name, 7, 1).0);
    publish(&mut watched, 0..2, HEAVY);
    let _viewer = cache.request("GET /live/watched.ts HTTP/1.1\r\n\r\n");
    until("it is watched", || (cache.stream("watched")["viewers"] == 1).then_some(()));
    publish(&mut watched, 2..8, HEAVY);
    publish(&mut idle, 0..20, HEAVY);
    publish(&mut other, 0..20, HEAVY);
    let stats = cache.stats();
    assert!(stats["ring"]["evicted"].as_u64() > Some(5), "{stats:#}");
    assert_eq!(cache.stream("watched")["oldest"], 0, "whole");
    for name in ["idle", "other"] {
        assert!(cache.stream(name)["oldest"].as_u64() > Some(5), "{:#}", cache.stream(name));
    }
    assert_eq!(stats["control"]["chunks_without_memory"], 0);
}

#[test]
fn a_stream_is_kept_for_the_window_or_as_long_as_its_rule_says() {
    let cache = Cache::start("window_chunks = 25\n[[time_shift]]\nname = \"news*\"\nminutes = 1\n");
    for (name, oldest) in [("news24", 20), ("sports", 295)] {
        let (mut publisher, _) = Publisher::taken(&cache, name, 7, 1);
        publish(&mut publisher, 0..320, 188);
        assert_eq!(cache.stream(name)["oldest"], oldest, "of 300 and of 25 chunks up to 319");
    }
}

#[test]
fn a_wrong_list_of_cpus_is_refused_with_the_cure() {
    let (status, said) = Cache::refused("cpus = \"900-901\"\n");
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("cpus: \"900-901\"") && said.contains("CPU 900-901") && said.contains("lscpu"), "{said}");
    // One that there is does not make up for one that there is not.
    let (status, said) = Cache::refused(&format!("cpus = \"{},900\"\n", first_cpu()));
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("cannot run on CPU 900; it can on "), "{said}");
}

fn allowed(pid: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).map(str::trim);
    line.expect("the kernel says").to_owned()
}

fn first_cpu() -> String {
    allowed("self").chars().take_while(char::is_ascii_digit).collect()
}

#[test]
fn a_cache_runs_on_the_cpus_that_it_was_given() {
    let first = first_cpu();
    let cache = Cache::start(&format!("cpus = \"{first}\"\n"));
    assert_eq!(allowed(&cache.pid().to_string()), first);
}

/// A directory that is unmounted and removed at the end.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("slabs")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = unmount(self.path(), UnmountFlags::DETACH);
    }
}

fn prepare(place: &Path, memory_mib: u64, more: &[&str]) -> Output {
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("cache.toml");
    std::fs::write(&config, format!("memory_mib = {memory_mib}\nhuge_pages_at = \"{}\"\n", place.display()))
        .expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_weircast-cache"));
    command.arg("prepare").arg("--config").arg(&config).args(more).output().expect("run")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

#[test]
fn huge_pages_are_prepared_used_resized_and_removed() {
    let place = Place::new();
    let first = prepare(&place.path(), 64, &[]);
    if !first.status.success() {
        println!("SKIP: {}", said(&first));
        return;
    }
    assert!(said(&first).contains("was mounted: huge pages for up to 84 MiB"), "{}", said(&first));
    assert!(said(&prepare(&place.path(), 64, &[])).contains("is ready"));
    let start = |listen: &str| {
        Cache::start(&format!("listen = \"{listen}\"\nhuge_pages_at = \"{}\"\n", place.path().display()))
    };
    let mut cache = start("127.99.3.1:0");
    let stats = cache.stats();
    let slab = &stats["slab"];
    assert!(slab["place"].as_str().is_some_and(|file| Path::new(file).starts_with(place.path())), "{slab}");
    assert_eq!(slab["bytes"], slab["allocated_bytes"], "all of it is there");
    match slab["huge_bytes"].as_u64() {
        Some(0) | None => println!("SKIP: this kernel has no huge page left: {slab}"),
        Some(huge) => assert_eq!((slab["kind"].as_str(), huge.is_multiple_of(2 << 20)), (Some("huge_file"), true)),
    }
    // Filled again several times, it still gives right bytes: huge pages are punched whole.
    let (mut publisher, _) = Publisher::taken(&cache, "news", 7, 1);
    publish(&mut publisher, 0..120, HEAVY);
    let busy = prepare(&place.path(), 64, &["--remove"]);
    assert!(!busy.status.success() && said(&busy).contains("still running"), "{}", said(&busy));
    // The next process has the same pages, whoever looks at which of them.
    cache.signal(rustix::process::Signal::KILL);
    cache.wait();
    let next = start(&cache.listen.to_string());
    assert!(next.log().contains("took over a chunk ring"), "{}", next.log());
    let (slab, same) = (&next.stats()["slab"], slab);
    assert_eq!((&slab["kind"], &slab["huge_bytes"]), (&same["kind"], &same["huge_bytes"]));
    drop((publisher, cache, next));
    assert!(said(&prepare(&place.path(), 128, &[])).contains("was resized"));
    assert!(said(&prepare(&place.path(), 128, &["--remove"])).contains("was unmounted"));
    assert!(said(&prepare(&place.path(), 128, &["--remove"])).contains("nothing is mounted"));
    assert!(!place.path().exists());
}

#[test]
fn a_tmpfs_that_somebody_else_mounted_is_left_as_it_is() {
    let place = Place::new();
    std::fs::create_dir(place.path()).expect("made");
    if let Err(error) = mount("elsewhere", place.path(), "tmpfs", MountFlags::empty(), c"size=8m,mode=1777") {
        println!("SKIP: a tmpfs cannot be mounted: {error}");
        return;
    }
    let size = || rustix::fs::statfs(place.path()).map(|stat| stat.f_blocks).expect("mounted");
    let mode = || std::fs::metadata(place.path()).map(|meta| meta.permissions().mode() & 0o7777).expect("mounted");
    let before = (size(), mode());
    for more in [&[][..], &["--remove"]] {
        let refused = prepare(&place.path(), 64, more);
        assert!(!refused.status.success(), "{}", said(&refused));
        assert_eq!((size(), mode()), before, "{more:?}: {}", said(&refused));
    }
}

#[test]
fn a_full_tmpfs_is_refused_at_the_start_with_the_bytes_that_are_missing() {
    let place = Place::new();
    std::fs::create_dir(place.path()).expect("made");
    if let Err(error) = mount("weircast", place.path(), "tmpfs", MountFlags::empty(), c"size=40m") {
        println!("SKIP: a tmpfs cannot be mounted: {error}");
        return;
    }
    std::fs::write(place.path().join("other"), vec![1; 16 << 20]).expect("room");
    let slab = place.path().join("ring");
    let (status, said) = Cache::refused(&format!("memory_mib = 32\nslab = \"{}\"\n", slab.display()));
    assert_eq!(status.code(), Some(1));
    let missing = 8 << 20;
    assert!(said.contains(&format!("{missing} bytes are missing")) && said.contains("memory_mib"), "{said}");
    assert!(!slab.exists(), "nothing is left behind");
}

#[test]
fn a_hugetlbfs_that_sendfile_cannot_read_is_refused_with_the_way_out() {
    let place = Place::new();
    std::fs::create_dir(place.path()).expect("made");
    if let Err(error) = mount("weircast", place.path(), "hugetlbfs", MountFlags::empty(), c"pagesize=2M") {
        println!("SKIP: a hugetlbfs cannot be mounted: {error}");
        return;
    }
    let slab = place.path().join("ring");
    for send in ["sendfile", "auto"] {
        let (status, said) = Cache::refused(&format!("send = \"{send}\"\nslab = \"{}\"\n", slab.display()));
        assert_eq!(status.code(), Some(1), "{said}");
        for word in ["slab: ", "hugetlbfs", "send = \"copy\"", "prepare"] {
            assert!(said.contains(word), "{word} is not in {said}");
        }
    }
    assert!(!slab.exists(), "nothing is left behind");
}
