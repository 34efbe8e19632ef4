//! The rivals: Debian's nginx, icecast2 and varnish, each with the settings that serve it best here.
//!
//! Each runs in the foreground with files of this run's directory alone. The settings are told in `perf/README.md`;
//! whoever changes them here changes them there.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use weircast_testbed::ffmpeg::host_program;

use super::stage::{Server, Stage, free_port};
use crate::host::is_root;

/// Programs and the Debian packages that have them.
pub(crate) const PROGRAMS: &[(&str, &str)] = &[
    ("nginx", "nginx-light"),
    ("icecast2", "icecast2"),
    ("varnishd", "varnish"),
    ("taskset", "util-linux"),
    ("setpriv", "util-linux"),
];

/// Password of icecast's one source.
const PASSWORD: &str = "perf";

/// Where a rival's program is; servers stand in `sbin`, which an ordinary user's PATH may lack.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    host_program(program).or_else(|| Some(Path::new("/usr/sbin").join(program)).filter(|path| path.is_file()))
}

/// nginx with the files of `root`; one worker, which is the process itself.
pub(crate) fn nginx(stage: &Stage, root: &Path) -> Result<Option<Server>> {
    let Some(program) = find("nginx") else { return Ok(None) };
    let port = free_port()?;
    let dir = stage.fresh("nginx");
    std::fs::create_dir(&dir)?;
    let config = dir.join("nginx.conf");
    let (here, root) = (dir.display(), root.display());
    let text = format!(
        "daemon off; master_process off; worker_processes 1; worker_rlimit_nofile 20000;\n\
         pid {here}/pid; error_log stderr warn;\n\
         events {{ worker_connections 19000; use epoll; multi_accept on; }}\n\
         http {{\n\
           access_log off; server_tokens off; etag off;\n\
           sendfile on; tcp_nopush off; tcp_nodelay on; sendfile_max_chunk 0;\n\
           keepalive_timeout 1h; keepalive_requests 1000000000; reset_timedout_connection on;\n\
           open_file_cache max=10000 inactive=1h; open_file_cache_valid 1h; open_file_cache_min_uses 1;\n\
           client_body_temp_path {here}/b; proxy_temp_path {here}/p; fastcgi_temp_path {here}/f;\n\
           uwsgi_temp_path {here}/u; scgi_temp_path {here}/s; default_type video/mp2t;\n\
           server {{ listen 127.0.0.1:{port} backlog=4096; root {root}; }}\n\
         }}\n"
    );
    std::fs::write(&config, text)?;
    let args = ["-e", "stderr", "-p", &here.to_string(), "-c", &config.display().to_string()].map(str::to_owned);
    stage.rival("nginx", &program, &args, port).map(Some)
}

/// icecast2 with one source at `/live.ts`, whose login [`icecast_source`] gives.
pub(crate) fn icecast(stage: &Stage) -> Result<Option<Server>> {
    let Some(program) = find("icecast2") else { return Ok(None) };
    let port = free_port()?;
    let dir = stage.fresh("icecast");
    std::fs::create_dir(&dir)?;
    let config = dir.join("icecast.xml");
    let here = dir.display();
    let text = format!(
        "<icecast><hostname>127.0.0.1</hostname>\n\
         <limits><clients>19000</clients><sources>2</sources><queue-size>8388608</queue-size>\n\
         <client-timeout>30</client-timeout><header-timeout>15</header-timeout><source-timeout>10</source-timeout>\n\
         <burst-on-connect>0</burst-on-connect><burst-size>0</burst-size></limits>\n\
         <authentication><source-password>{PASSWORD}</source-password><relay-password>{PASSWORD}</relay-password>\n\
         <admin-user>admin</admin-user><admin-password>{PASSWORD}</admin-password></authentication>\n\
         <listen-socket><port>{port}</port><bind-address>127.0.0.1</bind-address></listen-socket>\n\
         <fileserve>0</fileserve><paths><basedir>{here}</basedir><logdir>{here}</logdir>\n\
         <webroot>/usr/share/icecast2/web</webroot><adminroot>/usr/share/icecast2/admin</adminroot></paths>\n\
         <logging><accesslog>access.log</accesslog><errorlog>error.log</errorlog><loglevel>1</loglevel></logging>\n\
         <security><chroot>0</chroot></security></icecast>\n"
    );
    std::fs::write(&config, text)?;
    let mut args = vec!["-c".to_owned(), config.display().to_string()];
    if !is_root() {
        return stage.rival("icecast2", &program, &args, port).map(Some);
    }
    // It refuses to be root. The way down to its files must be open to whom it is then.
    let setpriv = find("setpriv").context("icecast2 refuses to run as root, and setpriv (util-linux) is missing")?;
    for (path, mode) in [(stage.dir.path(), 0o711), (dir.as_path(), 0o777), (config.as_path(), 0o644)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    let who = ["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--pdeathsig=KILL", "--"];
    args = who.into_iter().map(str::to_owned).chain([program.display().to_string()]).chain(args).collect();
    stage.rival("icecast2", &setpriv, &args, port).map(Some)
}

/// Where and as whom icecast's source uploads.
pub(crate) fn icecast_source(server: &Server) -> String {
    format!("http://source:{PASSWORD}@{}/live.ts", server.address)
}

/// varnish in front of `backend`, everything kept in memory.
pub(crate) fn varnish(stage: &Stage, backend: &Server) -> Result<Option<Server>> {
    let Some(program) = find("varnishd") else { return Ok(None) };
    let port = free_port()?;
    let dir = stage.fresh("varnish");
    std::fs::create_dir(&dir)?;
    let config = dir.join("perf.vcl");
    let (host, backend) = (backend.address.ip(), backend.address.port());
    let text = format!(
        "vcl 4.1;\nbackend files {{ .host = \"{host}\"; .port = \"{backend}\"; }}\n\
         sub vcl_backend_response {{ set beresp.ttl = 1h; set beresp.grace = 1h; unset beresp.http.set-cookie; }}\n"
    );
    std::fs::write(&config, text)?;
    let mut args = vec!["-F".to_owned(), "-n".to_owned(), dir.display().to_string()];
    args.extend(["-a".to_owned(), format!("127.0.0.1:{port}"), "-f".to_owned(), config.display().to_string()]);
    args.extend(["-j", "none", "-s", "malloc,1g"].map(str::to_owned));
    let parameters =
        ["thread_pools=1", "thread_pool_min=200", "thread_pool_max=5000", "timeout_idle=3600", "listen_depth=4096"];
    args.extend(parameters.iter().flat_map(|parameter| ["-p".to_owned(), (*parameter).to_owned()]));
    stage.rival("varnish", &program, &args, port).map(Some)
}
