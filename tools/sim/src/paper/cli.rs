//! `weircast-sim paper`.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;

use super::cell::{Cell, Engine, Gave, Setting};
use super::experiments;
use super::figures::{self, Records, band};
use super::plot;
use super::store::Store;
use super::theory;
use crate::cycle::mesh::Answer;
use crate::cycle::places::{FINER_MAX, side_of};

/// The paper's section 4: figures 5 to 8 as CSV and plots. Runs are kept in DIR; a second call goes on where the first
/// one stopped.
#[derive(Clone, Debug, Args)]
pub struct PaperArgs {
    /// Seeds of every cell: 1 to this.
    #[arg(long, default_value_t = 10)]
    seeds: u64,
    /// Numbers of nodes: `A..B step C`, or a list with commas.
    #[arg(long, default_value = "500..5000 step 500")]
    nodes: String,
    /// Numbers of regions, each a square.
    #[arg(long, value_delimiter = ',', default_value = "4,16,36,64,100")]
    regions: Vec<u32>,
    /// Runs at a time.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Where records and figures go.
    #[arg(long, default_value = "paper")]
    out: PathBuf,
    /// `full`: the production machines; `cycle`: the reduced model.
    #[arg(long, value_enum, default_value = "full")]
    engine: Engine,
    /// Simulated seconds of a run.
    #[arg(long, default_value_t = 40)]
    duration_s: u32,
    /// Of these left out.
    #[arg(long, default_value_t = 25)]
    warmup_s: u32,
    /// Cities along a region's side, areas along a city's: how finely a PeerID says where a peer is; 1: the region alone.
    #[arg(long, default_value_t = 4)]
    finer: u32,
    /// Whole protocol without the CDN: the source's uplink in streams, for each peer.
    #[arg(long, default_value_t = Setting::default().source)]
    source: f64,
    /// Begin no run after so many seconds; figures are drawn from what is there.
    #[arg(long)]
    budget_s: Option<u64>,
    /// Instead of the figures: vary one setting at a time, at the first of --nodes and of --regions.
    #[arg(long, conflicts_with = "static_check")]
    experiments: bool,
    /// Instead of the figures: who becomes whose partner under each way of answering, without streaming.
    #[arg(long)]
    static_check: bool,
}

/// `500..5000 step 500` or `500,1000`.
fn nodes_of(text: &str) -> anyhow::Result<Vec<u32>> {
    let wrong = || format!("--nodes {text}: write 500..5000 step 500, or 500,1000,2000");
    let number = |part: &str| part.trim().parse::<u32>().with_context(wrong);
    let nodes = if let Some((low, rest)) = text.split_once("..") {
        let (high, step) = rest.split_once("step").unwrap_or((rest, "500"));
        let (low, high, step) = (number(low)?, number(high)?, number(step)?);
        ensure!(step > 0 && low <= high, "{}: the step above 0, the first not above the last", wrong());
        (low..=high).step_by(step as usize).collect()
    } else {
        text.split(',').map(number).collect::<anyhow::Result<Vec<u32>>>()?
    };
    ensure!(nodes.len() <= 1_000, "--nodes {text}: at most 1000 sizes");
    match nodes.iter().find(|n| !(2..=1_000_000).contains(*n)) {
        Some(n) => bail!("--nodes {text}: {n} is not between 2 and 1 000 000"),
        None => Ok(nodes),
    }
}

impl PaperArgs {
    /// Runs what is missing and writes the figures.
    pub fn run(&self) -> anyhow::Result<()> {
        let nodes = nodes_of(&self.nodes)?;
        if let Some(wrong) = self.regions.iter().find(|r| side_of(**r).is_none()) {
            bail!("--regions {wrong}: must be a square number, 1 to 225 (4, 16, 36, 64, 100)");
        }
        ensure!((1..=1_000).contains(&self.seeds), "--seeds {}: must be 1 to 1000", self.seeds);
        ensure!(
            self.warmup_s < self.duration_s,
            "--warmup-s {} must be below --duration-s {}",
            self.warmup_s,
            self.duration_s
        );
        ensure!((1..=256).contains(&self.threads), "--threads {}: must be 1 to 256", self.threads);
        let finer = self.finer;
        ensure!((1..=FINER_MAX).contains(&finer), "--finer {finer}: must be 1 to {FINER_MAX}; 1: the region alone");
        ensure!((0.0..=100.0).contains(&self.source), "--source {}: must be 0 to 100 streams a peer", self.source);
        let Self { duration_s, warmup_s, source, .. } = *self;
        let setting = Setting { duration_s, warmup_s, finer, source, ..Setting::default() };
        if self.static_check {
            self.print_static_check(&nodes)
        } else if self.experiments {
            self.run_experiments(nodes[0], &setting)
        } else {
            self.draw_figures(&nodes, &setting)
        }
    }

    fn budget(&self) -> Duration {
        self.budget_s.map_or(Duration::MAX, Duration::from_secs)
    }

    /// All cells, the first seed's first, small ones before large ones.
    fn cells(&self, nodes: &[u32]) -> Vec<Cell> {
        let mut cells = Vec::new();
        for seed in 1..=self.seeds {
            for nodes in nodes {
                for regions in &self.regions {
                    for cdn in [true, false] {
                        // Without the CDN the paper shows 4 and 16 regions only.
                        if cdn || matches!(regions, 4 | 16) {
                            cells.push(Cell { nodes: *nodes, regions: *regions, cdn, seed, engine: self.engine });
                        }
                    }
                }
            }
        }
        cells
    }

    fn draw_figures(&self, nodes: &[u32], setting: &Setting) -> anyhow::Result<()> {
        let cells = self.cells(nodes);
        let mut store = Store::open(&self.out, setting)?;
        let missing = store.fill(&cells, setting, self.threads, self.budget(), &told)?;
        let records = Records { known: store.known(), engine: self.engine, nodes };
        let drawn = figures::all(&records, &self.regions);
        for figure in &drawn {
            write(&self.out, &format!("{}.csv", figure.key), &figures::csv(figure))?;
            write(&self.out, &format!("{}.svg", figure.key), &plot::svg(figure))?;
        }
        let note = format!(
            "{} of {} runs. Engine {:?}, {} s simulated of which {} s left out, uplink {} times the stream's rate, seeds 1 to {}. Bands: 95 % confidence over seeds.",
            cells.len() - missing,
            cells.len(),
            self.engine,
            setting.duration_s,
            setting.warmup_s,
            setting.uplink,
            self.seeds
        );
        write(&self.out, "figures.html", &plot::page(&drawn, std::slice::from_ref(&note)))?;
        println!("{note}\nWritten to {}", self.out.display());
        if missing > 0 {
            println!("{missing} runs are missing: call again with the same --out.");
        }
        Ok(())
    }

    fn run_experiments(&self, nodes: u32, base: &Setting) -> anyhow::Result<()> {
        let regions = *self.regions.first().context("--regions: at least one")?;
        let all = experiments::variants(base);
        if let Err(wrong) = experiments::check(&all) {
            bail!("{wrong}");
        }
        let began = std::time::Instant::now();
        println!(
            "{nodes} nodes, {regions} regions, {:?}, seeds 1 to {}: mean and 95 % half width",
            self.engine, self.seeds
        );
        println!(
            "{:<22} {:<30} {:>16} {:>16} {:>16} {:>16}",
            "question", "variant", "continuity", "offload", "between regions", "delay factor"
        );
        let mut table =
            String::from("question,variant,seeds,continuity,offload,between regions,delay factor,start-up p95 ms\n");
        for v in all.iter().filter(|v| self.engine == Engine::Full || experiments::reduced_model_has(v.question)) {
            let cells: Vec<Cell> =
                (1..=self.seeds).map(|seed| Cell { nodes, regions, cdn: true, seed, engine: self.engine }).collect();
            let mut store = Store::open(&self.out, &v.setting)?;
            let left = self.budget().saturating_sub(began.elapsed());
            store.fill(&cells, &v.setting, self.threads, left, &|_, _, _| ())?;
            let values = |of: fn(&Gave) -> f64| -> Vec<f64> {
                cells.iter().filter_map(|cell| store.known().get(cell)).map(of).collect()
            };
            let column = |of: fn(&Gave) -> f64| {
                band(&values(of)).map_or("-".to_owned(), |b| format!("{:.4} ±{:.4}", b.mean, b.half))
            };
            let _ = write!(table, "\"{}\",\"{}\",{}", v.question, v.name, values(|g| g.offload).len());
            let told: [fn(&Gave) -> f64; 5] =
                [|g| g.continuity, |g| g.offload, |g| g.inter_region_traffic, |g| g.delay_factor, |g| g.startup_p95_ms];
            for of in told {
                let _ = write!(table, ",{}", band(&values(of)).map_or(String::new(), |b| format!("{:.6}", b.mean)));
            }
            table.push('\n');
            println!(
                "{:<22} {:<30} {:>16} {:>16} {:>16} {:>16}",
                v.question,
                v.name,
                column(|g| g.continuity),
                column(|g| g.offload),
                column(|g| g.inter_region_traffic),
                column(|g| g.delay_factor)
            );
        }
        write(&self.out, "experiments.csv", &table)
    }

    fn print_static_check(&self, nodes: &[u32]) -> anyhow::Result<()> {
        println!("random partners: {:.4}; seeds 1 to {}", theory::RANDOM_DISTANCE, self.seeds);
        println!(
            "{:>6} {:>8} {:<22} {:>16} {:>22}",
            "nodes", "regions", "index answers", "delay factor", "links between regions"
        );
        let ways = [
            (Answer::Random, 1, "at random"),
            (Answer::Tiers, 1, "by region"),
            (Answer::Tiers, 4, "by region, city, area"),
            (Answer::Nearest, 4, "sorted by location"),
        ];
        for n in nodes {
            for regions in &self.regions {
                for (answer, finer, name) in ways {
                    let Some(row) = theory::static_check(*n, *regions, answer, finer, self.seeds) else { continue };
                    let (d, l) = (row.delay_factor, row.links);
                    println!(
                        "{n:>6} {regions:>8} {name:<22} {:>8.4} ±{:.4} {:>14.4} ±{:.4}",
                        d.mean, d.half, l.mean, l.half
                    );
                }
            }
        }
        Ok(())
    }
}

fn told(cell: Cell, gave: &Gave, left: usize) {
    let with = if cell.cdn { "with" } else { "without" };
    eprintln!(
        "{} nodes, {} regions, {with}, seed {}: delay {:.4}, between regions {:.4}, continuity {:.4}, {:.1} s; {left} left",
        cell.nodes, cell.regions, cell.seed, gave.delay_factor, gave.inter_region_traffic, gave.continuity, gave.wall_s
    );
}

fn write(dir: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path = dir.join(name);
    std::fs::write(&path, text).with_context(|| format!("{}: cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_a_range_or_a_list() {
        assert_eq!(nodes_of("500..1500 step 500").expect("a range"), [500, 1_000, 1_500]);
        assert_eq!(nodes_of("60, 70").expect("a list"), [60, 70]);
        for wrong in ["", "1", "5..2", "5..9 step 0", "x", "500..900 steps 3"] {
            let said = nodes_of(wrong).expect_err(wrong).to_string();
            assert!(said.starts_with("--nodes"), "{said}");
        }
    }
}
