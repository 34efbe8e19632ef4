//! A network of its own for each program: hosts with an address, an uplink and a downlink, on this machine.
//!
//! ```text
//!   host 0                      router                       host 1            each box a network namespace
//!  +--------+  up: tbf         +--------------+         up: tbf  +--------+
//!  | eth0 --|----------------->|-- h0    h1 --|<-----------------|-- eth0 |    each line a veth pair
//!  +--------+<-----------------|  forwards    |----------------->+--------+
//!               down: tbf      +--------------+   down: tbf
//! ```
//! | module | its one job |
//! |---|---|
//! | this | hosts, what runs in them, how they are cut off and slowed |
//! | [`shape`] | a rate as the kernel's token bucket |
//! | `tools` | `ip` and `tc`, many commands at a time |
//! | `leftovers` | names that say whose they are; what a killed owner left is removed |
//! | [`probe`] | the rate and the delay that are really there |
//!
//! A router and not a bridge: the neighbour table is one for the whole machine and bounded (1 024 entries by default), and
//! a hundred hosts that know each other would overflow it. Needs root; [`permitted`] says what is missing. Everything is
//! taken down when the [`Network`] is dropped; what a killed process leaves, the next one removes.

mod leftovers;
pub mod probe;
pub mod shape;
mod tools;

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::ffmpeg::host_program;
use crate::process::Process;
use crate::programs::Programs;
use crate::workdir::Workdir;
use leftovers::Family;
use shape::Shape;

/// Hosts of one network (our guess: more processes than one machine carries).
pub const HOSTS_MAX: usize = 2_000;

/// The router's address in every link; no host may have it. From the block for tests between networks.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// The ends of every link: nobody has to ask for them, so that no packet waits for an answer.
const ROUTER_MAC: &str = "02:00:00:00:00:01";
const HOST_MAC: &str = "02:00:00:00:00:02";

/// Threads that set hosts up: the tools wait for the kernel more than they compute.
const SET_UP_THREADS: usize = 4;

/// A host to be made.
#[derive(Clone, Copy, Debug)]
pub struct HostPlan {
    /// Its one address, unlike all others'.
    pub addr: Ipv4Addr,
    /// What it sends; `None`: as fast as the machine can.
    pub up: Option<Shape>,
    /// What is sent to it.
    pub down: Option<Shape>,
}

/// A host that is there.
#[derive(Debug)]
pub struct Host {
    /// Its address.
    pub addr: Ipv4Addr,
    /// Its namespace's name, as `ip netns` knows it.
    name: String,
    /// The router's end of its link.
    port: String,
    router: String,
}

/// Hosts and the router between them. Dropped, all of it is gone; drop the programs that run in it first.
#[derive(Debug)]
pub struct Network {
    hosts: Vec<Host>,
    router: String,
}

/// Whether networks can be made here; the error says what is missing.
pub fn permitted() -> Result<()> {
    for (program, package) in [("ip", "iproute2"), ("tc", "iproute2"), ("nsenter", "util-linux")] {
        if host_program(program).is_none() {
            bail!("no `{program}` on this host (Debian package: {package})");
        }
    }
    if !rustix::process::geteuid().is_root() {
        bail!("network namespaces need root");
    }
    // What a container withholds is only known by trying: a namespace, a pair, a token bucket.
    let plan = HostPlan { addr: Ipv4Addr::new(198, 18, 0, 2), up: Some(Shape::kbps(1_000)), down: None };
    Network::new(&[plan]).map(drop).context("this kernel or container does not let us make network namespaces")
}

/// For tests: whether to go on; else a line that says why not has been printed.
pub fn permitted_or_skip() -> bool {
    permitted().map_err(|error| println!("SKIP: {error:#}")).is_ok()
}

impl Network {
    /// Makes the hosts of `plan`. On an error nothing is left.
    pub fn new(plan: &[HostPlan]) -> Result<Network> {
        if plan.len() > HOSTS_MAX {
            bail!("{} hosts are more than the {HOSTS_MAX} that one network may have", plan.len());
        }
        let mut addrs: Vec<Ipv4Addr> = plan.iter().map(|host| host.addr).chain([ROUTER]).collect();
        addrs.sort();
        if let Some(twice) = addrs.windows(2).find(|pair| pair[0] == pair[1]) {
            bail!("{} is the address of two hosts (the router has {ROUTER})", twice[0]);
        }
        leftovers::remove();
        let family = Family::new()?;
        let router = family.member("router");
        let host = |(at, plan): (usize, &HostPlan)| Host {
            addr: plan.addr,
            name: family.member(&format!("h{at}")),
            port: format!("h{at}"),
            router: router.clone(),
        };
        // From here on a drop removes whatever has been made.
        let network = Network { hosts: plan.iter().enumerate().map(host).collect(), router };
        network.set_up(plan)?;
        Ok(network)
    }

    /// The hosts, in the plan's order.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    fn set_up(&self, plan: &[HostPlan]) -> Result<()> {
        let (mut spaces, mut links) = (format!("netns add {}\n", self.router), String::new());
        let mut ports = format!("link set lo up\naddr add {ROUTER}/32 dev lo\nroute add blackhole default\n");
        for host in &self.hosts {
            let Host { name, port, router, addr } = host;
            // String's Write cannot fail.
            let _ = writeln!(spaces, "netns add {name}");
            let _ = writeln!(
                links,
                "link add {port} address {ROUTER_MAC} netns {router} type veth peer name eth0 address {HOST_MAC} netns {name}"
            );
            let _ = writeln!(ports, "link set {port} addrgenmode none\nlink set {port} up");
            let _ = writeln!(ports, "route add {addr}/32 dev {port}\nneigh add {addr} lladdr {HOST_MAC} dev {port}");
        }
        tools::ip(None, &spaces)?;
        tools::ip(None, &links)?;
        tools::ip(Some(&self.router), &ports)?;
        // Forwards, and takes from a link only what comes from the host behind it.
        let switches = ["ip_forward", "conf/all/rp_filter"];
        let switch_on =
            || switches.iter().try_for_each(|name| std::fs::write(format!("/proc/sys/net/ipv4/{name}"), "1"));
        within(&self.router, switch_on)?.context("the router cannot be told to forward: is /proc/sys writable?")?;
        let each = plan.len().div_ceil(SET_UP_THREADS).max(1);
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for (hosts, plans) in self.hosts.chunks(each).zip(plan.chunks(each)) {
                let set_up = move || hosts.iter().zip(plans).try_for_each(|(host, plan)| host.set_up(plan));
                threads.push(scope.spawn(set_up));
            }
            threads.into_iter().try_for_each(|thread| thread.join().expect("the tools do not panic"))
        })?;
        // The router's ends, all in one call.
        let down = self.hosts.iter().zip(plan).filter_map(|(host, plan)| Some((host, plan.down?)));
        let down: String = down.map(|(host, shape)| shape.qdisc("add", &host.port) + "\n").collect();
        tools::tc(&self.router, &down)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let names = self.hosts.iter().map(|host| host.name.as_str()).chain([self.router.as_str()]);
        leftovers::delete(names);
    }
}

impl Host {
    fn set_up(&self, plan: &HostPlan) -> Result<()> {
        let addr = self.addr;
        let lines = format!(
            "link set lo up\nlink set eth0 addrgenmode none\naddr add {addr}/32 dev eth0\nlink set eth0 up\n\
             route add default via {ROUTER} dev eth0 onlink\nneigh add {ROUTER} lladdr {ROUTER_MAC} dev eth0\n"
        );
        tools::ip(Some(&self.name), &lines)?;
        match plan.up {
            Some(shape) => tools::tc(&self.name, &shape.qdisc("add", "eth0")),
            None => Ok(()),
        }
    }

    /// Starts a program in this host; otherwise as [`Process::spawn_path`].
    pub fn spawn(
        &self,
        dir: &Arc<Workdir>,
        programs: &Programs,
        name: &str,
        path: &Path,
        args: &[String],
    ) -> Result<Process> {
        let nsenter = host_program("nsenter").context("nsenter (Debian package util-linux) has gone")?;
        let net = format!("--net={}", leftovers::place(&self.name).display());
        // nsenter does not fork: it becomes the program, which keeps its process id and its guard.
        let mut all = vec![net, "--".to_owned(), path.display().to_string()];
        all.extend_from_slice(args);
        Process::spawn_path(dir, programs, name, &nsenter, &all)
    }

    /// Runs `work` in a thread of this host: the sockets that it opens are the host's, wherever they are used later.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        within(&self.name, work)
    }

    /// Changes the uplink; `None` takes the limit away.
    pub fn set_up_rate(&self, shape: Option<Shape>) -> Result<()> {
        reshape(&self.name, "eth0", shape)
    }

    /// Changes the downlink; `None` takes the limit away.
    pub fn set_down_rate(&self, shape: Option<Shape>) -> Result<()> {
        reshape(&self.router, &self.port, shape)
    }

    /// Cuts the host off: nothing comes or goes, and nobody is told.
    pub fn cut(&self) -> Result<()> {
        // What is sent to it meets the blackhole; what it sends comes from where no route leads, and the router's filter
        // drops it. The link stays up: routes and sockets at both ends are as before.
        tools::ip(Some(&self.router), &format!("route replace blackhole {}/32\n", self.addr))
    }

    /// Undoes [`Host::cut`].
    pub fn heal(&self) -> Result<()> {
        let (addr, port) = (self.addr, &self.port);
        tools::ip(Some(&self.router), &format!("route replace {addr}/32 dev {port}\n"))
    }
}

fn reshape(namespace: &str, device: &str, shape: Option<Shape>) -> Result<()> {
    match shape {
        Some(shape) => tools::tc(namespace, &shape.qdisc("replace", device)),
        None => tools::tc(namespace, &format!("qdisc del dev {device} root\n")),
    }
}

/// Runs `work` in a thread that has moved into the namespace and ends with it.
fn within<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
    let place = leftovers::place(namespace);
    let space = std::fs::File::open(&place).with_context(|| format!("cannot open {}", place.display()))?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))
                .with_context(|| format!("cannot enter {namespace}"))?;
            Ok(work())
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
