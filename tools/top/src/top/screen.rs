//! A report as lines of text: on the screen in colours, for a script without.

use super::report::{Report, Shard, Stream};
use super::trouble::{self, Level};

/// How a piece of a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Plain,
    Dim,
    /// A table's head.
    Head,
    /// Trouble.
    Bad,
    /// Nearly.
    Watch,
}

/// One line: its pieces from left to right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line(pub(super) Vec<(Look, String)>);

impl Line {
    fn of(look: Look, text: impl Into<String>) -> Line {
        Line(vec![(look, text.into())])
    }

    /// The text alone.
    pub(super) fn plain(&self) -> String {
        let text: String = self.0.iter().map(|(_, text)| text.as_str()).collect();
        text.trim_end().to_owned()
    }
}

/// The column by which streams are sorted, the greatest first (names: the least).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Viewers,
    Bitrate,
    Age,
    Name,
}

impl Sort {
    /// The next column.
    pub(super) fn next(self) -> Sort {
        match self {
            Sort::Viewers => Sort::Bitrate,
            Sort::Bitrate => Sort::Age,
            Sort::Age => Sort::Name,
            Sort::Name => Sort::Viewers,
        }
    }

    fn order(self, streams: &mut [&Stream]) {
        streams.sort_by(|a, b| {
            let by = match self {
                Sort::Viewers => b.viewers.cmp(&a.viewers),
                Sort::Bitrate => b.in_bits_per_s.unwrap_or(0.0).total_cmp(&a.in_bits_per_s.unwrap_or(0.0)),
                Sort::Age => b.age_s.unwrap_or(0.0).total_cmp(&a.age_s.unwrap_or(0.0)),
                Sort::Name => std::cmp::Ordering::Equal,
            };
            by.then_with(|| (&a.name, &a.id).cmp(&(&b.name, &b.id)))
        });
    }
}

/// The whole report. What does not fit the screen is cut off at the right and at the bottom: what is wrong stands on top.
pub(super) fn draw(report: &Report, sort: Sort, paused: bool) -> Vec<Line> {
    let mut lines = node(report, paused);
    for trouble in &report.troubles {
        let look = match trouble.level {
            Level::Bad => Look::Bad,
            Level::Watch => Look::Watch,
        };
        let mark = if trouble.level == Level::Bad { "!! " } else { "!  " };
        lines
            .push(Line(vec![(look, format!("{mark}{}", trouble.whose)), (Look::Plain, format!("  {}", trouble.what))]));
    }
    lines.push(Line::default());
    lines.push(Line::of(
        Look::Head,
        "shard  connections  viewers   chunks/s     Mbit/s  blocked/s    skips/s      cut    turns/s   busy",
    ));
    lines.extend(report.shards.iter().map(|one| marked(report, &format!("shard {}", one.index), shard(one))));
    lines.push(Line::default());
    let mark = |column: Sort, title: &str| if column == sort { format!("{title}*") } else { title.to_owned() };
    lines.push(Line::of(
        Look::Head,
        format!(
            "{:<24} {:<9} {:>8} {:>9} {:>10} {:>8} {:>8} {:>9}",
            mark(Sort::Name, "stream"),
            "state",
            mark(Sort::Viewers, "viewers"),
            mark(Sort::Bitrate, "kbit/s"),
            "newest",
            mark(Sort::Age, "age s"),
            "kept s",
            "missing"
        ),
    ));
    let mut streams: Vec<&Stream> = report.streams.iter().collect();
    sort.order(&mut streams);
    lines.extend(streams.iter().map(|one| marked(report, &format!("stream {}", one.name), stream(one))));
    lines
}

/// The node's lines.
fn node(report: &Report, paused: bool) -> Vec<Line> {
    let (node, ring) = (&report.node, &report.ring);
    let count = |name: &str| ring.counts.get(name);
    let segments = format!(
        "segments {} in use, {} free, {} quarantined, {} retired",
        count("segments_in_use"),
        count("segments_free"),
        count("segments_quarantined"),
        count("segments_retired")
    );
    let huge =
        ring.huge_bytes.map_or_else(|| "huge pages unknown".to_owned(), |bytes| format!("huge {} MiB", bytes >> 20));
    vec![
        Line(vec![
            (Look::Head, format!("weircast-cache {}", node.version)),
            (Look::Watch, if paused { "  PAUSED".to_owned() } else { String::new() }),
            (
                if trouble::is_silent(node) { Look::Bad } else { Look::Dim },
                format!("  last sign of life {} ago", age(node.silent_s)),
            ),
            (
                Look::Plain,
                format!("  up {}  {}  pid {}  send {}", span(node.uptime_s), node.listen, node.pid, node.backend),
            ),
        ]),
        Line::of(
            Look::Plain,
            format!(
                "connections {} of {}  viewers {}  caches {}  out {} Gbit/s  in {} Mbit/s  streams {}",
                node.connections,
                node.connections_max,
                node.viewers,
                node.caches,
                number(node.out_bits_per_s.map(|bits| bits / 1e9), 3),
                number(node.in_bits_per_s.map(|bits| bits / 1e6), 2),
                report.streams.len()
            ),
        ),
        Line::of(
            Look::Plain,
            format!(
                "ring {} MiB  {segments}  {huge}  chunks in {}/s",
                ring.bytes >> 20,
                number(ring.counts.rate("published"), 1)
            ),
        ),
    ]
}

fn shard(shard: &Shard) -> String {
    format!(
        "{:>5}  {:>11}  {:>7}  {:>9}  {:>9}  {:>9}  {:>9}  {:>7}  {:>9}  {:>5}",
        shard.index,
        shard.connections,
        shard.viewers,
        number(shard.chunks_per_s, 1),
        number(shard.out_bits_per_s.map(|bits| bits / 1e6), 2),
        number(shard.blocked_per_s, 1),
        number(shard.skips_per_s, 1),
        shard.cut,
        number(shard.turns_per_s, 0),
        shard.busy.map_or_else(|| "-".to_owned(), |busy| format!("{:.0} %", busy * 100.0)),
    )
}

fn stream(stream: &Stream) -> String {
    let name = if stream.name.is_empty() { &stream.id } else { &stream.name };
    format!(
        "{:<24} {:<9} {:>8} {:>9} {:>10} {:>8} {:>8.1} {:>9}",
        name,
        stream.state,
        stream.viewers,
        number(stream.in_bits_per_s.map(|bits| bits / 1e3), 0),
        stream.head.map_or_else(|| "-".to_owned(), |head| head.to_string()),
        number(stream.age_s, 1),
        stream.kept_s,
        stream.missing
    )
}

/// A line in the colour of the worst trouble of whom it is about.
fn marked(report: &Report, whose: &str, text: String) -> Line {
    let worst = report.troubles.iter().filter(|trouble| trouble.whose == whose).map(|trouble| trouble.level).min();
    let look = match worst {
        Some(Level::Bad) => Look::Bad,
        Some(Level::Watch) => Look::Watch,
        None => Look::Plain,
    };
    Line::of(look, text)
}

fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"))
}

/// A short time to a tenth of a second, a long one as [`span`].
pub(super) fn age(seconds: f64) -> String {
    if seconds < 60.0 { format!("{seconds:.1} s") } else { span(seconds) }
}

/// A length of time in its two greatest units.
fn span(seconds: f64) -> String {
    let seconds = seconds as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}
