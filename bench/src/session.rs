//! From the command line to a run: who publishes what where, what viewers do, and the report at the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cache_core::sign::PublisherKey;
use cache_core::units::{CHUNK_SPAN, Epoch};
use cache_core::wire::StreamName;

use crate::options::url::Url;
use crate::options::{self, Arrivals, Load, Mode, Ramp, Server, Stream, VIEWERS_MAX, Watch};
use crate::publish::{self, Ledger, Source, Target, Upload, names};
use crate::report::{self, Level, RampFound, Report, Terms};
use crate::server::Observer;
use crate::timetable::Timetable;
use crate::viewers::{self, Extent, Plan, Schedule, Shares, Way};
use crate::{descriptors, measure, ramp, soak};

/// Between the levels of a ramp, so that the server gets rid of the last one's viewers.
const BETWEEN_LEVELS: Duration = Duration::from_secs(1);

/// Joins are late by this much, so that every worker is there when the first is due.
const LEAD_US: u64 = 200_000;

/// A viewer over HTTP begins so many chunks behind the newest at most: twice `http_back_chunks` as a cache has it by
/// default. Those of a run before this one are not this stream's.
const BEHIND_CHUNKS: u64 = 10;

/// Chunks that a viewer's account has room for from the start: a quarter of an hour's. Longer ones grow.
const ROOM_CHUNKS_MAX: u64 = 4_500;

/// A server, its streams and how they are watched.
pub(crate) struct Session {
    plan: Plan,
    watch: Watch,
    mode: Mode,
    stream: String,
    /// What this run publishes itself.
    publication: Option<(Target, Stream)>,
}

/// One run's size and terms.
pub(crate) struct Trial {
    viewers: usize,
    span: Duration,
    joins_per_second: u64,
    arrivals: Arrivals,
    /// Joins are what is measured: the span begins with the first, each stays for so long.
    hold: Option<Duration>,
    shares: Shares,
    churn: f64,
    follow: bool,
    refusals_pass: bool,
    limit_p99_ms: Option<f64>,
    /// The server's memory is judged, by samples at this distance.
    sample_every: Option<Duration>,
}

impl Trial {
    pub(crate) fn of_load(load: &Load, limit_p99_ms: Option<f64>, shares: Shares) -> Trial {
        Trial {
            viewers: load.viewers,
            span: Duration::from_secs(load.seconds),
            joins_per_second: load.joins_per_second,
            arrivals: Arrivals::Even,
            hold: None,
            shares,
            churn: 0.0,
            follow: false,
            refusals_pass: false,
            limit_p99_ms,
            sample_every: None,
        }
    }

    pub(crate) fn of_joins(joins: &options::Joins) -> Result<Trial> {
        let viewers = joins.rate.saturating_mul(joins.seconds) as usize;
        if viewers > VIEWERS_MAX {
            bail!(
                "--rate {} for --seconds {} are {viewers} joins, and a run has {VIEWERS_MAX} at the most: lower one of them",
                joins.rate,
                joins.seconds
            );
        }
        Ok(Trial {
            viewers,
            span: Duration::from_secs(joins.seconds),
            joins_per_second: joins.rate,
            arrivals: joins.arrivals,
            hold: Some(Duration::from_millis(joins.hold_ms)),
            shares: Shares::default(),
            churn: 0.0,
            follow: joins.follow,
            refusals_pass: joins.refusals_pass,
            limit_p99_ms: None,
            sample_every: None,
        })
    }

    pub(crate) fn of_soak(soak: &options::Soak) -> Result<Trial> {
        if soak.watch.server_pid.is_none() {
            bail!("a soak looks at the server's memory: --server-pid PID says whose");
        }
        let span_s = soak.minutes * 60.0;
        let every_s = soak.sample_every_s.unwrap_or((span_s / 100.0).clamp(1.0, 5.0));
        Ok(Trial {
            viewers: soak.viewers,
            span: Duration::from_secs_f64(span_s),
            joins_per_second: soak.joins_per_second,
            arrivals: Arrivals::Even,
            hold: None,
            shares: soak.shares.shares()?,
            churn: soak.churn,
            follow: false,
            refusals_pass: false,
            limit_p99_ms: None,
            sample_every: Some(Duration::from_secs_f64(every_s)),
        })
    }
}

impl Session {
    /// A session that publishes what it watches.
    pub(crate) fn publishing(server: &Server, stream: &Stream, watch: &Watch) -> Result<Session> {
        server.check(watch, stream.input.is_none())?;
        let mode = server.mode(watch);
        if mode == Mode::Get && server.url.is_some() {
            bail!("files that are there already need no publisher: `weircast-load viewers --mode get --url ...`");
        }
        let url = stream.publish_url.as_ref().or(server.url.as_ref());
        let (target, key) = target(server.cache, url, stream)?;
        let mut plan = plan(server, watch, &stream.stream, stream.streams)?;
        plan.keys = key.map(|(epoch, key)| (epoch.0, key)).into_iter().collect();
        plan.generated = stream.input.is_none();
        plan.kbps = stream.kbps;
        let publication = Some((target, stream.clone()));
        Ok(Session { plan, watch: watch.clone(), mode, stream: stream.stream.to_string(), publication })
    }

    /// A session that watches what somebody else publishes.
    pub(crate) fn watching(options: &options::Viewers) -> Result<Session> {
        let (server, watch) = (&options.server, &options.load.watch);
        server.check(watch, options.generated)?;
        let mut plan = plan(server, watch, &options.stream, options.streams)?;
        plan.keys = options.key.clone();
        plan.generated = options.generated;
        plan.kbps = options.kbps;
        // Opened here once, so that a wrong file is told before anything begins.
        plan.times = options.times.as_deref().map(Timetable::open).transpose()?.map(|times| times.path().to_owned());
        let (mode, stream) = (server.mode(watch), options.stream.to_string());
        Ok(Session { plan, watch: watch.clone(), mode, stream, publication: None })
    }

    /// Runs to the end, and tells; whether the run passes.
    pub(crate) fn run(&self, trial: &Trial, ramp: Option<Ramp>, stopped: &dyn Fn() -> bool) -> Result<bool> {
        for path in self.watch.json.iter().chain(&self.watch.html) {
            report::files::can_be_written(path)?;
        }
        let most = ramp.map_or(trial.viewers, |ramp| ramp.to);
        if trial.hold.is_none() {
            descriptors::make_room(most.div_ceil(self.watch.processes) + self.plan.names.len())?;
        } else {
            // Not all joins are there at once; those that find no room say so.
            descriptors::make_what_room_there_is()?;
        }
        let Some((target, stream)) = &self.publication else {
            let report = self.levels(&self.plan, trial, ramp, None, stopped)?;
            return self.tell(&report);
        };
        let times = Timetable::in_memory()?;
        let ledger = Arc::new(Ledger::default());
        let mut plan = self.plan.clone();
        plan.times = Some(times.path().to_owned());
        let over = Arc::new(AtomicBool::new(false));
        let (begun, has_begun) = mpsc::channel();
        let publisher = {
            let (over, target, source, ledger) = (over.clone(), target.clone(), source(stream)?, ledger.clone());
            // The receiver waits for it, or is gone together with the run.
            let begun = move || {
                let _ = begun.send(());
            };
            let done = move || over.load(Ordering::Relaxed);
            let publish = move || publish::publish(&target, source, &times, &ledger, begun, done);
            std::thread::Builder::new().name("publisher".to_owned()).spawn(publish).context("cannot start a thread")?
        };
        // Nothing comes when the publisher was refused.
        let report = has_begun.recv().ok().map(|()| {
            let interrupted = || stopped() || publisher.is_finished();
            if self.may_meet_an_earlier_run(&plan) {
                eprintln!("the cache may hold this stream from before: viewers join in {BEHIND_CHUNKS} chunks");
                std::thread::sleep(Duration::from_micros(BEHIND_CHUNKS * CHUNK_SPAN.micros()));
            }
            self.levels(&plan, trial, ramp, Some(&ledger), &interrupted)
        });
        over.store(true, Ordering::Relaxed);
        let published = publisher.join().map_err(|_| anyhow::anyhow!("the publisher's thread panicked"))?;
        // What was seen is told even when the publisher has failed; that the run has failed is told too.
        let passed = match report.transpose()? {
            Some(mut report) => {
                if published.is_err() {
                    report.publishing_failed();
                }
                self.tell(&report)?
            }
            None => false,
        };
        published.context("publishing failed")?;
        Ok(passed)
    }

    /// Whether viewers could begin in what an earlier publisher left: over HTTP nothing tells it from this one's. Its
    /// own first number tells a publisher whether there is something; over HTTP it has none.
    fn may_meet_an_earlier_run(&self, plan: &Plan) -> bool {
        let times = plan.times.as_deref().and_then(|path| Timetable::open(path).ok());
        let is_first = |stream| times.as_ref().and_then(|times| times.began(stream)?.first_seq) == Some(0);
        let over_http = matches!(self.mode, Mode::Http | Mode::Get);
        let at_a_cache = !matches!(&self.publication, Some((Target { upload: Upload::Foreign(_), .. }, _)));
        over_http && at_a_cache && !(0..plan.names.len()).all(is_first)
    }

    /// One run, or one after the other.
    fn levels(
        &self,
        plan: &Plan,
        trial: &Trial,
        ramp: Option<Ramp>,
        ledger: Option<&Arc<Ledger>>,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Report> {
        let Some(ramp) = ramp else {
            return self.level(plan, trial, trial.viewers, ledger, stopped);
        };
        let (mut levels, mut best, mut last) = (Vec::new(), None, None);
        let largest = ramp::climb(ramp, |viewers| {
            if !levels.is_empty() {
                std::thread::sleep(BETWEEN_LEVELS);
            }
            let report = self.level(plan, trial, viewers, ledger, stopped)?;
            if stopped() {
                bail!("interrupted in the middle of a ramp");
            }
            eprintln!("{viewers} viewers: {}", report.verdict());
            levels.push(Level {
                viewers,
                served: report.served,
                lateness_p99_ms: report.lateness_ms.p99,
                busy: report.tool.busy,
                passed: report.passed,
                why: report.why.clone(),
            });
            let passed = report.passed;
            *(if passed { &mut best } else { &mut last }) = Some(report);
            Ok(passed)
        })?;
        let mut report = best.or(last).context("a ramp without a level")?;
        report.ramp = Some(RampFound { largest, levels });
        Ok(report)
    }

    /// `viewers` viewers, to the end of the span.
    fn level(
        &self,
        plan: &Plan,
        trial: &Trial,
        viewers: usize,
        ledger: Option<&Arc<Ledger>>,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Report> {
        let mut plan = plan.clone();
        plan.joins = Schedule {
            first_us: measure::wall_us() + LEAD_US,
            per_second: trial.joins_per_second,
            arrivals: trial.arrivals,
        };
        plan.shares = trial.shares;
        plan.hold_us = trial.hold.map(|hold| hold.as_micros() as u64);
        plan.churn = trial.churn;
        plan.follow = trial.follow;
        let joining = Duration::from_secs(viewers as u64 / trial.joins_per_second);
        let stay = trial.hold.unwrap_or(trial.span + joining + Duration::from_secs(10));
        plan.chunks = (stay.as_micros() as u64 / CHUNK_SPAN.micros()).min(ROOM_CHUNKS_MAX);
        let extent = Extent {
            viewers,
            threads: self.watch.threads,
            processes: self.watch.processes,
            span: trial.span,
            from_first_join: trial.hold.is_some(),
        };
        let mut observer = Observer::new(self.watch.server_pid, trial.sample_every, ledger.cloned())?;
        let seen = viewers::watch(&plan, extent, &mut observer, stopped)?;
        let span_s = (seen.span.end_us - seen.span.start_us) as f64 / 1e6;
        let terms = Terms {
            mode: self.mode.name(),
            stream: &self.stream,
            viewers,
            observer: &observer,
            soak: trial.sample_every.map(|_| soak::judge(&observer.samples, span_s)),
            planned_s: trial.span.as_secs_f64(),
            limit_p99_ms: trial.limit_p99_ms,
            joins: trial.hold.is_some(),
            refusals_pass: trial.refusals_pass,
            correctness_only: self.watch.correctness_only,
            closed_loop: self.watch.closed_loop,
        };
        Ok(report::report(&seen, &terms))
    }

    /// Prints and writes the report; whether the run passes.
    fn tell(&self, report: &Report) -> Result<bool> {
        print!("{}", report.text());
        if let Some(path) = &self.watch.json {
            report::files::write(path, &(serde_json::to_string_pretty(report)? + "\n"))?;
        }
        if let Some(path) = &self.watch.html {
            report::files::write(path, &report::page(report))?;
        }
        Ok(report.passed)
    }
}

/// What viewers do, but for what differs from level to level.
fn plan(server: &Server, watch: &Watch, base: &StreamName, streams: usize) -> Result<Plan> {
    let way = server.way(watch);
    let (address, host, path) = match (&server.url, server.cache) {
        (Some(url), _) => (url.address, url.host.clone(), url.path.clone()),
        (None, Some(cache)) => {
            let path = if matches!(way, Way::Get { .. }) { "/live/{stream}/{seq}.ts" } else { "/live/{stream}.ts" };
            (cache, cache.to_string(), path.to_owned())
        }
        (None, None) => bail!("--cache or --url says what is put under load"),
    };
    Ok(Plan {
        server: address,
        host,
        path,
        tables: server.url.is_none(),
        names: names(base, streams)?.iter().map(ToString::to_string).collect(),
        way,
        verify: watch.verify,
        spin: watch.spin,
        keys: Vec::new(),
        generated: true,
        kbps: 0,
        times: None,
        joins: Schedule { first_us: 0, per_second: 1, arrivals: Arrivals::Even },
        shares: Shares::default(),
        hold_us: None,
        churn: 0.0,
        follow: false,
        chunks: 0,
    })
}

/// A publisher's term and public key.
pub(crate) type Key = (Epoch, [u8; 32]);

/// What is published where, and under which key if this side signs.
pub(crate) fn target(cache: Option<SocketAddr>, url: Option<&Url>, options: &Stream) -> Result<(Target, Option<Key>)> {
    let names = names(&options.stream, options.streams)?;
    if let (None, Some(url)) = (cache, url) {
        return Ok((Target { cache: url.address, names, upload: Upload::Foreign(url.clone()) }, None));
    }
    let cache = cache.context("where to publish: a cache's address, or a URL")?;
    if options.http {
        let upload = Upload::Http { secret: options.secret.clone() };
        return Ok((Target { cache, names, upload }, None));
    }
    let mut seed = [0; 32];
    rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())
        .context("the kernel gives no random bytes")?;
    let key = PublisherKey::from_seed(&seed);
    // A stand-alone cache takes a greater term than the last publisher's; the clock in seconds is one.
    let epoch = Epoch(measure::wall_us() / 1_000_000);
    let public = key.public();
    Ok((Target { cache, names, upload: Upload::Native { key: Box::new(key), epoch } }, Some((epoch, public))))
}

pub(crate) fn source(options: &Stream) -> Result<Source> {
    match &options.input {
        Some(path) => Source::file(path),
        None => Ok(Source::generated(options.kbps)),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::options::{Arguments, Task};

    #[test]
    fn more_joins_than_a_run_has_are_refused_before_it_begins() {
        let trial = |line: &str| match Arguments::try_parse_from(line.split(' ')).expect("a good line").command {
            Task::Joins(joins) => Trial::of_joins(&joins),
            other => panic!("{other:?}"),
        };
        assert!(trial("weircast-load joins --cache 127.0.0.1:1 --rate 1000 --seconds 1000").is_ok());
        let said = trial("weircast-load joins --cache 127.0.0.1:1 --rate 100000 --seconds 86400").map(drop);
        assert!(said.is_err_and(|error| error.to_string().contains("8640000000 joins")));
    }
}
