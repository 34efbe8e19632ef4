//! Whose figures a plan is made with, and what a calibration is added to.

mod kit;

use std::path::{Path, PathBuf};
use std::process::Command;

use kit::{ENDLESS, costs, players, table};
use weircast_planner::calibrate::host;
use weircast_planner::calibration::Calibration;
use weircast_planner::plan::plan;

#[test]
fn a_plan_says_which_figures_are_another_machines() {
    let said = |calibration: &Calibration| {
        let plan = plan(&players(1_000, 2_000.0, ENDLESS), calibration, &table()).expect("there is a plan");
        (plan.warnings.into_iter().filter(|line| line.starts_with("NOT YOUR NODE")).collect::<Vec<_>>(), plan.working)
    };
    let of = |costs: Calibration| {
        Calibration::of_capacities("a run".into(), "today".into(), "mine".into(), costs.capacities, 600.0)
    };
    let partial = of(costs());
    let (warnings, working) = said(&partial);
    let recorded = Calibration::recorded().host;
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(warning.contains("taking chunks in, index and route servers") && warning.contains(&recorded), "{warning}");
    assert!(working[0].contains("mine") && working[0].contains(&recorded), "{}", working[0]);
    let (warnings, working) = said(&Calibration { constants_from: None, ..partial });
    assert_eq!(warnings, [""; 0]);
    assert!(!working[0].contains(&recorded), "{}", working[0]);
}

/// A calibration's file of this test run; removed with this value.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> File {
        let name = format!("calibrations-{}-{name}.json", std::process::id());
        File(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
    }

    /// The same file holds a calibration of `host`.
    fn of(self, host: &str) -> File {
        let calibration = Calibration { host: host.into(), ..costs() };
        std::fs::write(&self.0, serde_json::to_string(&calibration).expect("JSON")).expect("written");
        self
    }

    /// Why `calibrate --add` fails in a folder without the programs: it gets no further than to measuring.
    fn add(&self) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weircast-plan"));
        command.args(["calibrate", "--add", "--programs", "no-such-folder", "--out"]).arg(&self.0);
        let output = command.output().expect("run");
        assert!(!output.status.success());
        String::from_utf8(output.stderr).expect("text")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // Not every test writes it.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn another_machines_file_is_refused_before_anything_is_measured() {
    let said = File::new("other").of("another machine").add();
    assert!(said.contains("was measured on \"another machine\""), "{said}");
}

#[test]
fn adding_begins_a_file_that_is_not_there_and_goes_on_with_ones_own() {
    // Where nothing can be measured, both say why as a run without --add does.
    let (none, own) = (File::new("none").add(), File::new("own").of(&host()).add());
    assert_eq!(none, own);
    assert!(!none.contains("calibrations-"), "nothing is wrong with the file: {none}");
    let broken = File::new("broken");
    std::fs::write(&broken.0, "{").expect("written");
    assert!(broken.add().contains("calibrations-"), "what cannot be read is not begun anew");
}
