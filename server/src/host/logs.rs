//! Logs: one line per event on stderr; stdout belongs to the ready line (or to `check`).

use tracing_subscriber::EnvFilter;

/// Begins logging. `level` is what `--log` gave (a level, or a filter such as `info,weircast_server::index=trace`); else
/// `RUST_LOG` decides; else warnings and errors are shown. A second call changes nothing.
///
/// Fails, having changed nothing, when `level` is no filter.
pub fn begin(level: Option<&str>) -> Result<(), String> {
    let filter = match level {
        Some(level) => EnvFilter::try_new(level)
            .map_err(|e| format!("--log {level}: {e}; give error, warn, info, debug, trace or off"))?,
        None => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn")),
    };
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).try_init();
    Ok(())
}
