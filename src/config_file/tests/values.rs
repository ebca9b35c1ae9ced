//! What comes of a file that is right.

use std::num::{NonZeroU32, NonZeroUsize};

use super::*;
use crate::config::upstream::{ActiveCheck, UpstreamConfig};
use crate::config::{Frontend, HttpConfig, Protocol, ProxyConfig, RingSizes};

/// An upstream that nobody uses is no error.
#[test]
fn upstreams_without_a_frontend_are_warned_of() {
    let folder = Folder::new();
    let text = "[frontend.p]\nlisten = ':1'\nservice = 'proxy'\nupstream = 'a'\nroutes = { 'x.y' = 'b' }\n\
        [upstream.a]\nbackends = ['10.0.0.1:1']\n[upstream.b]\nbackends = ['10.0.0.1:1']\n\
        [upstream.c]\nbackends = ['10.0.0.1:1']\n";
    let path = folder.write("main.toml", text);
    let warnings = folder.load(&empty).unwrap().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let place = format!("{}:10:11: upstream.c: no frontend uses it", path.display());
    assert!(warnings[0].to_string().starts_with(&place), "{}", warnings[0]);
}

fn plain(name: &str, protocol: Protocol) -> Frontend {
    let mut frontend = Frontend::new(name, protocol);
    frontend.listen = vec!["127.0.0.1:7000".parse().unwrap()];
    frontend
}

#[test]
fn what_is_left_out_is_the_default() {
    for protocol in [Protocol::Echo, Protocol::Discard, Protocol::Http(HttpConfig::default())] {
        let service = protocol.name();
        let text = format!("[frontend.x]\nlisten = '127.0.0.1:7000'\nservice = '{service}'\n");
        let config = Config::of(plain("x", protocol), Vec::new());
        assert_eq!(loaded(&text).unwrap(), RunSettings { config, ..RunSettings::default() });
    }
}

#[test]
fn a_proxy_among_the_frontends_makes_all_buffers_large() {
    let text = "[frontend.e]\nlisten = '127.0.0.1:7000'\nservice = 'echo'\n\
                [upstream.u]\nbackends = ['10.0.0.1:80']\n\
                [frontend.p]\nlisten = '127.0.0.1:7001'\nservice = 'proxy'\nupstream = 'u'\n";
    let config = loaded(text).unwrap().config;
    assert_eq!(config.process.ring.buffer_bytes, *RingSizes::BUFFER_BYTES.end());
    let mut upstream = UpstreamConfig::new(vec!["10.0.0.1:80".parse().unwrap()]);
    upstream.name = "u".to_owned();
    assert_eq!(config.upstreams, [upstream]);
    let proxy = Protocol::Proxy(Box::new(ProxyConfig::new("u")));
    assert_eq!(config.frontends[1].protocol, proxy);
    let small = format!("[process]\nbuffer_size = 4096\n{text}");
    assert_eq!(loaded(&small).unwrap().config.process.ring.buffer_bytes, 4096);
}

#[test]
fn frontends_keep_the_order_of_the_file() {
    let table = |name: &str, port: u16| {
        format!("[frontend.{name}]\nlisten = ':{port}'\nservice = 'echo'\n")
    };
    let text = [table("z", 1), table("a", 2), table("m", 3)].concat();
    let config = loaded(&text).unwrap().config;
    let names: Vec<_> = config.frontends.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["z", "a", "m"]);
}

#[test]
fn defaults_hold_where_a_frontend_says_nothing_else() {
    let text = "[defaults]\nidle_timeout = '5m'\nretries = 7\naccess_log = 'a.log'\n\
                [frontend.e]\nlisten = ':1'\nservice = 'echo'\n\
                [frontend.f]\nlisten = ':2'\nservice = 'echo'\nidle_timeout = '1s'\n\
                [frontend.p]\nlisten = ':3'\nservice = 'proxy'\nupstream = 'u'\n\
                [upstream.u]\nbackends = ['10.0.0.1:80']\n";
    let config = loaded(text).unwrap().config;
    let idle: Vec<_> = config.frontends.iter().map(|f| f.timeouts.idle.as_secs()).collect();
    assert_eq!(idle, [300, 1, 300]);
    let Protocol::Proxy(proxy) = &config.frontends[2].protocol else { panic!("it is a proxy") };
    assert_eq!(proxy.retries, 7);
    let logs = config.access_logs().map(|log| log.target.to_string());
    assert_eq!(logs.collect::<Vec<_>>(), ["a.log"; 3]);
}

#[test]
fn variables_stand_in_any_value() {
    let environment = |name: &str| match name {
        "PORT" => Some("7001".to_owned()),
        "EMPTY" => Some(String::new()),
        "TRUE" => Some("true".to_owned()),
        _ => None,
    };
    let text = "[process]\nworkers = '${WORKERS:-3}'\n[frontend.h]\n\
                listen = ['127.0.0.1:${PORT}', '127.0.0.1:7${EMPTY:-00}2']\n\
                service = 'http'\nnagle = '${TRUE}'\nbody = '$$${PORT}$${EMPTY}${EMPTY}'\n";
    let config = loaded_with(text, &environment).unwrap().config;
    let frontend = &config.frontends[0];
    let listen: Vec<_> = frontend.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["127.0.0.1:7001", "127.0.0.1:7002"]);
    assert_eq!(config.process.threads.workers, NonZeroUsize::new(3));
    assert!(!frontend.socket.nodelay);
    assert_eq!(
        frontend.protocol,
        Protocol::Http(HttpConfig { body: b"$7001${EMPTY}".to_vec(), ..HttpConfig::default() })
    );
}

#[test]
fn bodies_come_from_the_file_or_from_one_beside_it() {
    let folder = Folder::new();
    let body = |key: &str| {
        let text = format!("[frontend.h]\nlisten = ':1'\nservice = 'http'\n{key}\n");
        folder.write("main.toml", text);
        let loaded = folder.load(&empty).unwrap();
        match &loaded.settings.config.frontends[0].protocol {
            Protocol::Http(http) => (http.body.clone(), loaded.files.len()),
            other => panic!("{other:?}"),
        }
    };
    folder.write("pages/a.html", b"\xff\0bytes");
    assert_eq!(body(""), (b"hello\n".to_vec(), 1));
    assert_eq!(body("body = ''"), (b"".to_vec(), 1));
    assert_eq!(body("body_size = 3"), (b"xxx".to_vec(), 1));
    assert_eq!(body("body_file = 'pages/a.html'"), (b"\xff\0bytes".to_vec(), 2));
}

#[test]
fn backends_with_and_without_a_table_and_their_checks() {
    let text = "[upstream.u]\n\
                backends = ['10.0.0.1:80,weight=3', { address = 'unix:/x', weight = 2 }]\n\
                check_interval = '5s'\ncheck_send = 'a\\r\\n'\ncheck_expect = '\\x00'\neject_after = 0\n\
                [frontend.e]\nlisten = ':1'\nservice = 'echo'\n";
    let upstream = &loaded(text).unwrap().config.upstreams[0];
    let expected = ["10.0.0.1:80,weight=3", "unix:/x,weight=2"].map(|text| text.parse().unwrap());
    assert_eq!(upstream.backends, expected);
    let (send, expect) = ("a\\r\\n".parse().unwrap(), "\\x00".parse().unwrap());
    assert_eq!(upstream.active.check, ActiveCheck::SendExpect { send, expect });
    assert_eq!(upstream.passive.failures, None);
    assert_eq!(upstream.active.rise, NonZeroU32::new(2).unwrap());
}

#[test]
fn names_that_are_looked_up_are_told_with_their_place() {
    let environment = |name: &str| (name == "HOST").then(|| "db.secret".to_owned());
    let folder = Folder::new();
    let text = "[upstream.u]\nbackends = ['10.0.0.1:80', '${HOST}:81']\n\
                [frontend.p]\nlisten = 'localhost:1'\nservice = 'proxy'\nupstream = 'u'\n";
    folder.write("main.toml", text);
    let loaded = folder.load(&environment).unwrap();
    let names: Vec<_> = loaded.lookups.iter().map(|l| (l.name.as_str(), l.port)).collect();
    assert_eq!(names, [("db.secret", 81), ("localhost", 1)]);
    let told = loaded.lookups[0].failed("no").to_string();
    assert!(told.contains("main.toml:2:28: upstream.u.backends[1] = '${HOST}:81': "), "{told}");
    assert!(!told.contains("secret"), "{told}");
}
