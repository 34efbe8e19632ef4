//! `weircast-sim averaging` and `weircast-sim swarm`.

use anyhow::{Context, bail, ensure};
use cache_core::proto::peer::Tuning;
use clap::Args;

use super::averaging::{Averaged, Averaging};
use super::averaging_events::{self, CYCLE_TICKS, Delays};
use super::mesh::{Answer, NEAREST_NODES_MAX};
use super::peak_rss;
use super::places::{FINER_MAX, side_of};
use super::swarm::{self, SwarmPlan};

/// Gossip averaging over a random overlay, PeerSim's example: events per second and bytes per node, cycle-driven and
/// event-driven.
#[derive(Clone, Debug, Args)]
pub struct AveragingArgs {
    /// Nodes.
    #[arg(long, default_value_t = 100_000)]
    nodes: u32,
    /// Cycles.
    #[arg(long, default_value_t = 50)]
    cycles: u32,
    /// Neighbours of each node.
    #[arg(long, default_value_t = 20)]
    degree: u32,
    /// Seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Event-driven: least delay of a message, in ticks of which a cycle has 1024.
    #[arg(long, default_value_t = 1)]
    delay_min: u64,
    /// Event-driven: greatest delay.
    #[arg(long, default_value_t = 512)]
    delay_max: u64,
    /// Print the variance after each cycle too.
    #[arg(long)]
    variance: bool,
}

/// Streaming in the reduced cycle model, for sizes beyond the whole protocol.
#[derive(Clone, Debug, Args)]
pub struct SwarmArgs {
    /// Peers.
    #[arg(long, default_value_t = 1_000_000)]
    peers: u32,
    /// Regions of the unit square; a square number.
    #[arg(long, default_value_t = 16)]
    regions: u32,
    /// Cities along a region's side, areas along a city's: how finely a PeerID says where a peer is; 1: the region alone.
    #[arg(long, default_value_t = 4)]
    finer: u32,
    /// How the index answers.
    #[arg(long, value_enum, default_value = "tiers")]
    answer: Answer,
    /// Simulated seconds.
    #[arg(long, default_value_t = 30)]
    duration_s: u32,
    /// Of these left out of the metrics.
    #[arg(long, default_value_t = 20)]
    warmup_s: u32,
    /// Mean uplink over the stream's rate.
    #[arg(long, default_value_t = 1.3)]
    uplink: f32,
    /// Share of peers that upload nothing.
    #[arg(long, default_value_t = 0.0)]
    free_riders: f32,
    /// What the cache can send, in viewers' streams; 0: unlimited.
    #[arg(long, default_value_t = 0)]
    cache_streams: u32,
    /// Share of all peers replaced per second. Sessions log-normal with 4.29 and 1.28 are 166 s in the mean: 0.006.
    #[arg(long, default_value_t = 0.006)]
    replaced_per_s: f64,
    /// Seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads; the outcome does not depend on them.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// The outcome as JSON.
    #[arg(long)]
    json: bool,
}

impl AveragingArgs {
    /// Runs both forms and prints what they cost.
    pub fn run(&self) -> anyhow::Result<()> {
        ensure!(self.nodes >= 2, "--nodes {}: at least 2, so that there is somebody to average with", self.nodes);
        ensure!((1..=256).contains(&self.degree), "--degree {}: must be 1 to 256", self.degree);
        ensure!(self.cycles > 0, "--cycles 0: at least 1");
        let delays = Delays { min: self.delay_min, max: self.delay_max };
        ensure!(
            1 <= delays.min && delays.min <= delays.max && delays.max <= 2 * CYCLE_TICKS,
            "--delay-min {} --delay-max {}: ticks from 1 to {}, the least not above the greatest",
            delays.min,
            delays.max,
            2 * CYCLE_TICKS
        );
        let example = Averaging { nodes: self.nodes, degree: self.degree, cycles: self.cycles, seed: self.seed };
        println!("{} nodes, degree {}, {} cycles, seed {}", self.nodes, self.degree, self.cycles, self.seed);
        self.print("cycle-driven (an event is one node's action)", &example.run());
        self.print("event-driven (an event is one timer or message)", &averaging_events::run(&example, delays));
        println!("process: {:.1} MiB at most", peak_rss() as f64 / f64::from(1 << 20));
        Ok(())
    }

    fn print(&self, what: &str, out: &Averaged) {
        println!("{what}");
        println!(
            "  {} events in {:.3} s: {:.2} M events/s",
            out.events,
            out.seconds,
            out.events as f64 / out.seconds / 1e6
        );
        println!(
            "  {:.1} bytes per node, of which {} the overlay",
            out.bytes as f64 / f64::from(self.nodes),
            4 * self.degree
        );
        let (first, last) = (out.variance[0], out.variance[out.variance.len() - 1]);
        println!("  mean {:.6}, variance {first:.3e} -> {last:.3e}, digest {:016x}", out.mean, out.digest);
        if self.variance {
            out.variance.iter().enumerate().for_each(|(cycle, v)| println!("  {cycle:4} {v:.6e}"));
        }
    }
}

impl SwarmArgs {
    /// Runs it and prints the outcome and its cost.
    pub fn run(&self) -> anyhow::Result<()> {
        let plan = self.plan()?;
        let told = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let mut progress = |second| {
            if told {
                eprint!("\r{second} of {} s simulated", plan.duration_s);
            }
        };
        let (out, cost) = swarm::run(&plan, self.seed, self.threads, &mut progress);
        if told {
            eprintln!();
        }
        if self.json {
            println!("{}", serde_json::to_string_pretty(&out).context("the outcome as JSON")?);
            return Ok(());
        }
        println!("{} peers, {} regions, seed {}, {} threads", self.peers, self.regions, self.seed, self.threads);
        println!("  continuity          {:.5}", out.continuity);
        println!("  offload             {:.4}", out.offload);
        println!("  inter-region share  {:.4} of what peers send each other", out.inter_region_share);
        println!(
            "  inter-region traffic{:8.4} of what is played, the cache's {:.4}",
            out.inter_region_traffic, out.cache_inter_region
        );
        println!("  delay factor        {:.4} over links, {:.4} over chunks", out.delay_factor, out.delay_factor_used);
        println!("  from the cache      {:.4} for others, {:.4} as the last resort", out.seeded, out.last_resort);
        println!("  partners            {:.1}; requests refused {:.3}", out.partners, out.refused_share);
        println!("  digest              {:016x}", out.digest);
        let speed = out.events as f64 / cost.run_s / 1e6;
        println!(
            "cost: {:.1} s to build, {:.1} s to run; {speed:.2} M peer actions/s, {:.2} of real time",
            cost.build_s,
            cost.run_s,
            f64::from(plan.duration_s) / cost.run_s
        );
        println!(
            "      {:.0} bytes per peer in arrays; process {:.0} MiB at most",
            out.bytes as f64 / f64::from(self.peers),
            cost.peak_rss as f64 / f64::from(1 << 20)
        );
        Ok(())
    }

    fn plan(&self) -> anyhow::Result<SwarmPlan> {
        ensure!((2..=20_000_000).contains(&self.peers), "--peers {}: must be 2 to 20 000 000", self.peers);
        let Some(side) = side_of(self.regions) else {
            bail!("--regions {}: must be a square number, 1 to 225 (1, 4, 9, 16, ...)", self.regions);
        };
        if self.answer == Answer::Nearest && self.peers > NEAREST_NODES_MAX {
            bail!("--answer nearest looks at all pairs: --peers {} must be at most {NEAREST_NODES_MAX}", self.peers);
        }
        ensure!((1..=FINER_MAX).contains(&self.finer), "--finer {}: must be 1 to {FINER_MAX}", self.finer);
        let share = |key: &str, value: f64, most: f64| {
            ensure!((0.0..=most).contains(&value), "--{key} {value}: must be 0 to {most}");
            Ok(())
        };
        share("uplink", f64::from(self.uplink), 100.0)?;
        share("free-riders", f64::from(self.free_riders), 1.0)?;
        share("replaced-per-s", self.replaced_per_s, 1.0)?;
        ensure!(
            self.warmup_s < self.duration_s,
            "--warmup-s {} must be below --duration-s {}",
            self.warmup_s,
            self.duration_s
        );
        ensure!(self.duration_s <= 86_400, "--duration-s {}: at most a day, 86400", self.duration_s);
        Ok(SwarmPlan {
            peers: self.peers,
            side,
            finer: self.finer,
            answer: self.answer,
            duration_s: self.duration_s,
            warmup_s: self.warmup_s,
            uplink: self.uplink,
            free_riders: self.free_riders,
            cache_streams: self.cache_streams,
            cdn: true,
            replaced_per_s: self.replaced_per_s,
            tuning: Tuning::default(),
        })
    }
}
