//! The paper's section 4: figures 5 to 8, regenerated, with bands over seeds and lines of theory.
//!
//! ```text
//!  cells: nodes x regions x with / without the CDN x seed --engine--> one record each, in DIR/runs.jsonl
//!                                                                       |  kept: a run that is there is not run again
//!  DIR/fig5.csv .. fig8.csv, DIR/figures.html <--bands, plot------------+
//! ```
//! | module | its one job |
//! |---|---|
//! | [`cell`] | what is run: a cell of the experiment, by the whole protocol or by the reduced model |
//! | [`store`] | the records of DIR |
//! | [`figures`] | which records make which curve; means and confidence bands |
//! | [`theory`] | lines of theory, and the static check of who is whose partner |
//! | [`plot`] | curves as SVG, the page |
//! | [`experiments`] | one setting varied at one size: request control, urgent third, c, k, p, log base, index answers, windows |
//! | [`cli`] | `weircast-sim paper` |

pub mod cell;
pub mod cli;
pub mod experiments;
pub mod figures;
pub mod plot;
pub mod store;
pub mod theory;
