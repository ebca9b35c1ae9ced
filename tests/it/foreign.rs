//! Programs of others that tests run, where they are installed.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::folder::Folder;
use crate::harness::{SOON, eventually, skipped};

/// A program that runs in the foreground. Killed, by its own pid, when this is dropped.
pub(crate) struct Foreign(Child);

impl Foreign {
    /// Starts it and waits until `address` accepts. `None`, said loudly, where it is not installed.
    #[track_caller]
    pub(crate) fn start(name: &str, arguments: &[&str], address: SocketAddr) -> Option<Self> {
        let mut command = Command::new(name);
        // nginx and haproxy are installed where only root looks by default.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/usr/local/sbin")).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
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
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address that nobody has now.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound")
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

pub(crate) fn haproxy(folder: &Folder, text: &str, address: SocketAddr) -> Option<Foreign> {
    let common = "defaults\n timeout connect 5s\n timeout client 10s\n timeout server 10s\n";
    let path = folder.write("haproxy.cfg", &format!("{common}{text}"));
    Foreign::start("haproxy", &["-db", "-f", &path], address)
}
