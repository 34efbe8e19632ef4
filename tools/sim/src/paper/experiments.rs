//! One setting varied, all others as they ship: what the paper leaves open, answered at one size.

use cache_core::proto::peer::{Profile, RequestControl, Sliding, Tuning, UrgentZone};

use super::cell::Setting;
use crate::cycle::mesh::Answer;

/// A variant of the setting.
#[derive(Clone, Debug)]
pub struct Variant {
    /// What question it belongs to.
    pub question: &'static str,
    /// What is different.
    pub name: String,
    /// The setting.
    pub setting: Setting,
}

/// All variants; the first is the setting itself.
pub fn variants(base: &Setting) -> Vec<Variant> {
    let mut all = Vec::new();
    let mut add = |question, name: String, change: &dyn Fn(&mut Setting)| {
        let mut setting = base.clone();
        change(&mut setting);
        all.push(Variant { question, name, setting });
    };
    add("as shipped", "as shipped".to_owned(), &|_| ());
    add("request control", "paper".to_owned(), &|s| s.tuning.request_control = RequestControl::Paper);
    // Nearer to the live edge than 7.4 s there is nothing behind the urgent zone in any reading.
    for (zone, name) in [
        (UrgentZone::ThirdOfWindow, "24 s behind, 48/85/123"),
        (UrgentZone::ThirdOfRest, "24 s behind, 48/69/139"),
        (UrgentZone::FirstThird, "24 s behind, 48/37/171"),
    ] {
        add("urgent third", name.to_owned(), &move |s| (s.tuning.urgent_zone, s.tuning.play_delay_ms) = (zone, 24_000));
    }
    add("sliding", "strict".to_owned(), &|s| s.tuning.sliding = Sliding::Strict);
    for c in [1.0, 4.0] {
        add("c", format!("members_c = {c}"), &move |s| s.tuning.members_c = c);
    }
    for k in [0.0, 0.4] {
        add("k", format!("exchange_share = {k}"), &move |s| s.tuning.exchange_share = k);
    }
    for k in [1.2, 4.0] {
        add("k of eq. (4)", format!("request_share = {k}"), &move |s| s.tuning.request_share = k);
    }
    for p in [0.3, 0.95] {
        add("p", format!("download_weight = {p}"), &move |s| s.tuning.download_weight = p);
    }
    for base in [2.0, 10.0] {
        add("base of the logarithm", format!("log_base = {base}"), &move |s| s.tuning.log_base = base);
    }
    add("index answers", "at random".to_owned(), &|s| (s.random_answers, s.answer) = (true, Answer::Random));
    for (profile, name) in [(Profile::Mid, "profile = mid"), (Profile::Low, "profile = low")] {
        add("window profile", name.to_owned(), &move |s| s.tuning = profile.tuning());
    }
    for delay_ms in [3_000, 12_000, 36_000] {
        add("window", format!("play_delay_ms = {delay_ms}"), &move |s| s.tuning.play_delay_ms = delay_ms);
    }
    all
}

/// Whether the reduced model has what `question` varies.
pub fn reduced_model_has(question: &str) -> bool {
    !matches!(question, "request control" | "sliding" | "window profile" | "k" | "k of eq. (4)" | "p")
}

/// Checks that every variant is a permitted one.
pub fn check(variants: &[Variant]) -> Result<(), String> {
    let wrong = |v: &Variant| Tuning::check(&v.setting.tuning).err().map(|e| format!("{}: {e}", v.name));
    variants.iter().find_map(wrong).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variant_is_permitted_and_different() {
        let all = variants(&Setting::default());
        assert_eq!(check(&all), Ok(()));
        let marks: std::collections::BTreeSet<String> = all.iter().map(|v| v.setting.mark()).collect();
        assert_eq!(marks.len(), all.len());
    }
}
