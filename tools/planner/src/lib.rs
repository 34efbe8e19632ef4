//! The capacity planner: what hardware an audience needs, which part of it is full first, and what more of it buys.
//!
//! ```text
//!  scenario.toml --> scenario --> demand: streams, their viewers in each domain, what each kind of sender sends
//!                                    |           ^
//!                                    |           '--- offload: a table of the simulator's runs
//!                                    v
//!  calibration --> node: what one cache, index, route server is asked for, of each resource  --> plan: how many
//!   (the operator's own node)        ^                                                            |
//!                                    '--- sizes: the servers' own, from cache-core                v
//!                                                                            report: text, JSON, HTML
//! ```
//! | module | its one job |
//! |---|---|
//! | [`scenario`] | the input, and a sentence for each value that cannot be |
//! | [`sizes`] | what a chunk, a link, a stream's ring takes: computed by cache-core |
//! | [`offload`] | what peers take off the caches, from simulated runs |
//! | [`calibration`] | what a core of a node does, as measured |
//! | [`cost`] | what sending a chunk costs, between the rates that were measured |
//! | [`trust`] | how far it can be trusted: the scatter of its rounds, rates that nothing was measured near |
//! | [`demand`] | who watches what where, and the traffic of it |
//! | [`node`] | what one server of each kind needs of each resource |
//! | [`plan`] | the least number of each that carries the demand, also after the failure |
//! | `explain` | a plan in sentences: warnings, settings, the working |
//! | [`report`] | the plan as text, JSON and HTML |
//! | [`calibrate`] | runs `weircast-cache` and `weircast-load` to measure a node |
//! | [`simulate`] | runs the simulator to make a table of offload |
//! | [`check`] | predictions against what was measured or simulated apart from them |
//!
//! Everything but `calibrate` and `simulate` is arithmetic on its arguments.

pub mod calibrate;
pub mod calibration;
pub mod check;
pub mod cost;
pub mod demand;
mod explain;
pub mod node;
pub mod offload;
pub mod plan;
pub mod report;
pub mod scenario;
pub mod simulate;
pub mod sizes;
pub mod trust;
