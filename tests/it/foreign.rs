//! Programs of others that tests run, where they are installed.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::folder::Folder;
use crate::harness::{SOON, eventually, skipped};
use crate::process;

/// A program that runs in the foreground. Killed, by its own pid, when this is dropped.
pub(crate) struct Foreign(Child);

impl Foreign {
    /// Starts it and waits until `address` accepts. `None`, said loudly, where it is not installed.
    #[track_caller]
    pub(crate) fn start(name: &str, arguments: &[&str], address: SocketAddr) -> Option<Self> {
        Self::spawn(name, arguments, address, [Stdio::null(), Stdio::null()])
    }

    /// The same, with all that it prints in this file.
    #[track_caller]
    pub(crate) fn start_into(
        log: &str,
        name: &str,
        arguments: &[&str],
        address: SocketAddr,
    ) -> Option<Self> {
        let log = File::create(log).expect("the folder is there");
        let again = log.try_clone().expect("a descriptor is free");
        Self::spawn(name, arguments, address, [log.into(), again.into()])
    }

    #[track_caller]
    fn spawn(
        name: &str,
        arguments: &[&str],
        address: SocketAddr,
        [stdout, stderr]: [Stdio; 2],
    ) -> Option<Self> {
        let mut command = Command::new(name);
        // nginx and haproxy are installed where only root looks by default.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/usr/local/sbin")).args(arguments);
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let Ok(child) = command.spawn() else {
            skipped(&format!("{name} is not installed"));
            return None;
        };
        let mut this = Self(child);
        eventually(SOON, "it accepts", || {
            let ended = this.0.try_wait().expect("it is our child");
            assert!(ended.is_none(), "{name} {arguments:?} ended: {ended:?}");
            TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
        });
        Some(this)
    }

    /// Asks it by this signal to end, and waits for that: its log is complete then.
    #[track_caller]
    pub(crate) fn end(mut self, signal: i32) {
        process::kill(self.0.id(), signal);
        eventually(SOON, "it has ended", || self.0.try_wait().expect("it is our child").is_some());
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address that nobody has now.
pub(crate) fn free_address() -> SocketAddr {
    free_address_on(Ipv4Addr::LOCALHOST.into()).expect("a port is free")
}

/// The same on another address of this machine; `None` where it has not got that.
pub(crate) fn free_address_on(ip: IpAddr) -> Option<SocketAddr> {
    TcpListener::bind((ip, 0)).ok()?.local_addr().ok()
}

/// nginx with this in its `http` block.
pub(crate) fn nginx(folder: &Folder, http: &str, address: SocketAddr) -> Option<Foreign> {
    let home = folder.0.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {home}/{name};\n"))
        .concat();
    start_nginx(folder, &format!("http {{\naccess_log off;\n{temporary}{http}\n}}\n"), address)
}

/// nginx with this in its `stream` block. `None`, said loudly, without the module for it.
pub(crate) fn nginx_stream(folder: &Folder, stream: &str, address: SocketAddr) -> Option<Foreign> {
    const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
    if !Path::new(MODULE).exists() {
        skipped(&format!("nginx has no stream module: {MODULE} is not there"));
        return None;
    }
    start_nginx(folder, &format!("load_module {MODULE};\nstream {{\n{stream}\n}}\n"), address)
}

fn start_nginx(folder: &Folder, blocks: &str, address: SocketAddr) -> Option<Foreign> {
    let home = folder.0.display();
    // A module has to be loaded before the first block.
    let text = format!(
        "daemon off;\nmaster_process off;\npid {home}/nginx.pid;\nerror_log {home}/error.log;\n\
         {blocks}events {{ worker_connections 512; }}\n"
    );
    let path = folder.write("nginx.conf", &text);
    let log = folder.file("error.log");
    Foreign::start("nginx", &["-c", &path, "-e", &log], address)
}

/// HAProxy with this behind defaults; what it logs to stdout is in `haproxy.log`.
pub(crate) fn haproxy(folder: &Folder, text: &str, address: SocketAddr) -> Option<Foreign> {
    // Of threads that write at the same time, all but one drop their line.
    let common = "global\n nbthread 1\ndefaults\n timeout connect 5s\n timeout client 10s\n timeout server 10s\n";
    let path = folder.write("haproxy.cfg", &format!("{common}{text}"));
    Foreign::start_into(&folder.file("haproxy.log"), "haproxy", &["-db", "-f", &path], address)
}
